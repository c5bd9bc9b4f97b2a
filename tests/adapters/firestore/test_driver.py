"""What lies in Firestore, and how many requests it took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from perdure.adapters.firestore.driver import FirestoreDriver
from perdure.adapters.firestore.messages import TTL_GRACE
from perdure.core.environment import SystemClock
from perdure.errors import Invalid
from perdure.ports.documents import SCAN_BYTES_MAX, Expect, ExpectationFailed, Put, Remove, Require, Write
from perdure.ports.secrets import Secret
from tests.adapters.firestore.conftest import OpenDriver
from tests.support.firestore import FirestoreServer
from tests.support.firestore_fake import FirestoreFake

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def a_put(
    sort: str = "a",
    *,
    version: int = 1,
    expect: Expect | int = Expect.ANY,
    token: object = None,
    expires_at: datetime | None = None,
    body: bytes = b'{"n":1}',
) -> Put:
    return Put(sort=sort, version=version, body=body, expect=expect, token=token, expires_at=expires_at)


async def commit(driver: FirestoreDriver, *writes: Write) -> object:
    return (await driver.commit("p", writes, commit_id="c1", timeout_s=30))[0]


async def test_a_document_lies_where_the_page_says_with_the_fields_it_says(
    fake: FirestoreFake, open_driver: OpenDriver
) -> None:
    driver = await open_driver(fake.endpoint, project="my-project", collection="acme")
    await commit(driver, a_put(version=7))
    stored = fake.stored("projects/my-project/databases/(default)/documents/acme/p/d/a")
    assert {name: value.WhichOneof("value_type") for name, value in stored.fields.items()} == {
        "k": "string_value",
        "v": "integer_value",
        "b": "bytes_value",
        "c": "string_value",
    }
    assert (stored.fields["k"].string_value, stored.fields["v"].integer_value) == ("a", 7)
    assert (stored.fields["b"].bytes_value, stored.fields["c"].string_value) == (b'{"n":1}', "c1")


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 3, 1, 12, 30, 15, 999_999, tzinfo=UTC),
        datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC) - TTL_GRACE + timedelta(microseconds=1),
    ],
    ids=str,
)
async def test_expiry_is_exact_and_the_engine_waits_a_day_longer(
    driver: FirestoreDriver, fake: FirestoreFake, moment: datetime
) -> None:
    await commit(driver, a_put(expires_at=moment))
    assert (await driver.get("p", ["a"], timeout_s=30))["a"].expires_at == moment
    removal = fake.stored("/p/d/a").fields["t"].timestamp_value
    removed_at = EPOCH + timedelta(seconds=removal.seconds, microseconds=removal.nanos // 1_000)
    assert removed_at - moment == min(TTL_GRACE, datetime.max.replace(tzinfo=UTC) - moment)


async def test_a_put_without_expiry_takes_it_from_the_document(driver: FirestoreDriver, fake: FirestoreFake) -> None:
    await commit(driver, a_put(expires_at=datetime(2026, 1, 1, tzinfo=UTC)))
    await commit(driver, a_put(version=2, expect=1))
    assert not {"x", "t"} & set(fake.stored("/p/d/a").fields)


async def test_a_commit_is_one_request(driver: FirestoreDriver, fake: FirestoreFake) -> None:
    token = await commit(driver, a_put(expect=Expect.ABSENT), a_put("b"), a_put("c"))
    fake.requests.clear()
    writes = (a_put(version=2, expect=1, token=token), Require(sort="b"), Remove(sort="c", expect=Expect.PRESENT))
    await commit(driver, *writes)
    assert fake.requests == {"Commit": 1}


async def test_versions_without_tokens_are_read_in_one_more_request(
    driver: FirestoreDriver, fake: FirestoreFake
) -> None:
    token = await commit(driver, a_put("a"), a_put("b"), a_put("c"))
    fake.requests.clear()
    await commit(
        driver,
        a_put("a", version=2, expect=1, token=token),
        a_put("b", version=2, expect=1),
        Remove(sort="c", expect=1),
        a_put("d", expect=Expect.ABSENT),
    )
    assert fake.requests == {"BatchGetDocuments": 1, "Commit": 1}


async def test_another_version_is_seen_before_anything_is_sent(driver: FirestoreDriver, fake: FirestoreFake) -> None:
    await commit(driver, a_put(version=3))
    fake.requests.clear()
    with pytest.raises(ExpectationFailed) as caught:
        await commit(driver, a_put(version=2, expect=1))
    assert caught.value.found is not None
    assert (caught.value.sort, caught.value.found.version) == ("a", 3)
    assert fake.requests == {"BatchGetDocuments": 1}


async def test_what_failed_is_looked_up_in_one_request(driver: FirestoreDriver, fake: FirestoreFake) -> None:
    await commit(driver, a_put("b", version=5))
    fake.requests.clear()
    with pytest.raises(ExpectationFailed) as caught:
        await commit(driver, a_put("x"), a_put("a", expect=Expect.ABSENT), a_put("b", expect=Expect.ABSENT))
    assert caught.value.found is not None
    assert (caught.value.sort, caught.value.found.version) == ("b", 5)
    assert fake.requests == {"BatchGetDocuments": 1, "Commit": 1}


async def test_reads_are_one_request(driver: FirestoreDriver, fake: FirestoreFake) -> None:
    await driver.get("p", [f"k{number}" for number in range(100)], timeout_s=30)
    assert fake.requests == {"BatchGetDocuments": 1}
    await driver.scan("p", start="A", end="~", limit=1_000, reverse=True, timeout_s=30)
    await driver.probe(timeout_s=30)
    assert fake.requests == {"BatchGetDocuments": 1, "RunQuery": 2}
    assert await driver.get("p", [], timeout_s=30) == {}
    assert fake.requests.total() == 3


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_ends_where_its_bodies_reach_the_limit(driver: FirestoreDriver, *, reverse: bool) -> None:
    body = b'"' + b"x" * (SCAN_BYTES_MAX // 16 - 2) + b'"'
    for number in range(16):
        await commit(driver, a_put(f"k{number:02}", body=body))
    page = await driver.scan("p", start="A", end="~", limit=100, reverse=reverse, timeout_s=30)
    assert (len(page.documents), page.more) == (16, False)
    await commit(driver, a_put("zz" if not reverse else "aa"))
    page = await driver.scan("p", start="A", end="~", limit=100, reverse=reverse, timeout_s=30)
    assert (len(page.documents), page.more) == (16, True)


@pytest.mark.parametrize("bounds", [(".", "~"), ("-", "~~~"), ("0", "z"), ("A", "A"), ("0", "9"), (".", "..")])
@pytest.mark.parametrize("reverse", [False, True])
async def test_bounds_that_are_no_ids_bound_all_the_same(
    driver: FirestoreDriver, bounds: tuple[str, str], *, reverse: bool
) -> None:
    await commit(driver, a_put("A"), a_put("m"))
    page = await driver.scan("p", start=bounds[0], end=bounds[1], limit=10, reverse=reverse, timeout_s=30)
    expected = ["A", "m"] if bounds[1] > "m" else []
    assert [document.sort for document in page.documents] == (expected[::-1] if reverse else expected)


@pytest.fixture(params=["firestore_server", "firestore_emulator"])
def server(request: pytest.FixtureRequest) -> FirestoreServer:
    found: FirestoreServer = request.getfixturevalue(request.param)
    return found


async def test_a_requirement_leaves_content_and_update_time_on_both_engines(
    server: FirestoreServer, open_driver: OpenDriver
) -> None:
    driver = await open_driver(server.endpoint, project=server.new_project())
    expires_at = datetime(2030, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
    token = await commit(driver, a_put(version=7, expires_at=expires_at))
    before = await driver.get("p", ["a"], timeout_s=30)
    assert await commit(driver, Require(sort="a"), a_put("b")) is None
    after = await driver.get("p", ["a"], timeout_s=30)
    assert after == before
    assert after["a"].token == before["a"].token == token
    assert (after["a"].body, after["a"].expires_at) == (b'{"n":1}', expires_at)


def test_a_driver_shows_where_it_writes_and_no_secret() -> None:
    driver = FirestoreDriver(project="my-project", credentials=Secret("hunter2"), clock=SystemClock())
    assert repr(driver) == (
        "FirestoreDriver(project='my-project', database='(default)', collection='perdure', endpoint=None)"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"project": ""},
        {"project": "a/b"},
        {"project": "tests", "database": "a/b"},
        {"project": "tests", "database": ""},
        {"project": "tests", "collection": "a/b"},
        {"project": "tests", "collection": "__x__"},
        {"project": "tests", "endpoint": "http://127.0.0.1:8080"},
        {"project": "tests", "endpoint": "dns:///somewhere"},
        {"project": "tests", "endpoint": ""},
    ],
    ids=str,
)
def test_a_name_that_cannot_be_one_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="expected something like"):
        FirestoreDriver(**arguments, clock=SystemClock())


def test_credentials_do_not_travel_in_plaintext() -> None:
    with pytest.raises(Invalid, match="plaintext") as caught:
        FirestoreDriver(project="tests", endpoint="127.0.0.1:1", credentials=Secret("hunter2"), clock=SystemClock())
    assert "hunter2" not in str(caught.value)
