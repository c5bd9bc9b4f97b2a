"""How the driver uses the container: how often it asks, what it keeps, and which containers it takes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.adapters.cosmos.driver import PAGE_ITEMS_MAX, REMOVAL_ATTEMPTS_MAX, REQUEST_BYTES_MAX, CosmosDriver
from perdure.adapters.cosmos.items import TTL_GRACE_S
from perdure.core.environment import SystemClock
from perdure.errors import BackendDown, Corrupt, Invalid, Throttled
from perdure.ports.document_rules import commit_bytes
from perdure.ports.documents import (
    COMMIT_BYTES_MAX,
    COMMIT_WRITES_MAX,
    DOCUMENT_BYTES_MAX,
    Expect,
    Expectation,
    ExpectationFailed,
    Put,
    Remove,
    Require,
    Write,
)
from perdure.ports.secrets import Secret
from perdure.testing.faults import FaultProxy
from tests.support.cosmos import KEY, LARGE_BODIES, CosmosServer

TIMEOUT_S = 60.0
EVERY_CHARACTER = "".join(chr(number) for number in (9, 10, 13, *range(0x20, 0x7F)))


@pytest.fixture
def database(cosmos: CosmosServer) -> str:
    return cosmos.new_database()


@pytest.fixture
async def driver(cosmos: CosmosServer, database: str) -> AsyncIterator[CosmosDriver]:
    driver = cosmos.driver(database)
    await driver.open()
    cosmos.requests()
    yield driver
    await driver.close()


def put(sort: str, version: int = 1, body: bytes = b"{}", *, expect: Expectation = Expect.ANY, **more: Any) -> Put:
    return Put(sort=sort, version=version, body=body, expect=expect, **more)


async def commit(driver: CosmosDriver, *writes: Write) -> list[object]:
    return list(await driver.commit("p", writes, commit_id="c", timeout_s=TIMEOUT_S))


def asked(cosmos: CosmosServer) -> dict[str, int]:
    return {kind: number for kind, number in cosmos.requests().items() if kind in {"batch", "query", "read", "meta"}}


async def test_a_commit_that_knows_its_tokens_is_one_request(cosmos: CosmosServer, driver: CosmosDriver):
    a, b = await commit(driver, put("a", expect=Expect.ABSENT), put("b"))
    assert asked(cosmos) == {"batch": 1}
    await commit(
        driver,
        put("a", 2, expect=1, token=a),
        Remove(sort="b", expect=1, token=b),
        put("c", expect=Expect.ABSENT),
    )
    await commit(driver, Require(sort="a"), put("c", 2, expect=Expect.PRESENT), put("d"))
    await commit(driver, Remove(sort="c", expect=Expect.PRESENT), Remove(sort="d", expect=Expect.ANY))
    assert asked(cosmos) == {"batch": 3}


async def test_versions_without_tokens_cost_one_read_for_all_of_them(cosmos: CosmosServer, driver: CosmosDriver):
    await commit(driver, put("a"), put("b"), put("c"))
    cosmos.requests()
    await commit(driver, put("a", 2, expect=1))
    assert asked(cosmos) == {"read": 1, "batch": 1}
    await commit(driver, put("a", 3, expect=2), put("b", 2, expect=1), Remove(sort="c", expect=1))
    assert asked(cosmos) == {"query": 1, "batch": 1}


async def test_a_get_is_one_request_and_of_nothing_none(cosmos: CosmosServer, driver: CosmosDriver):
    await commit(driver, put("a"), put("b"))
    cosmos.requests()
    await driver.get("p", ["a"], timeout_s=TIMEOUT_S)
    assert asked(cosmos) == {"read": 1}
    await driver.get("p", ["a", "b", "c"], timeout_s=TIMEOUT_S)
    assert asked(cosmos) == {"query": 1}
    await driver.get("p", [], timeout_s=TIMEOUT_S)
    assert asked(cosmos) == {}


async def test_the_last_of_many_documents_is_one_request(cosmos: CosmosServer, driver: CosmosDriver):
    await commit(driver, *(put(f"k{number:03}") for number in range(100)))
    cosmos.requests()
    page = await driver.scan("p", start="A", end="~", limit=1, reverse=True, timeout_s=TIMEOUT_S)
    assert ([document.sort for document in page.documents], page.more) == (["k099"], True)
    assert asked(cosmos) == {"query": 1}


async def test_a_scan_of_more_than_one_answer_holds_goes_on_by_itself(cosmos: CosmosServer, driver: CosmosDriver):
    for start in range(0, PAGE_ITEMS_MAX + 1, COMMIT_WRITES_MAX):
        await commit(driver, *(put(f"k{number:04}") for number in range(start, min(start + 100, PAGE_ITEMS_MAX + 1))))
    cosmos.requests()
    page = await driver.scan("p", start="A", end="~", limit=PAGE_ITEMS_MAX, timeout_s=TIMEOUT_S)
    assert [document.sort for document in page.documents] == [f"k{number:04}" for number in range(PAGE_ITEMS_MAX)]
    assert page.more
    assert asked(cosmos) == {"query": 2}


@pytest.mark.parametrize("stale", [0, 1, 2])
async def test_one_stale_etag_in_a_batch_leaves_nothing_written(driver: CosmosDriver, stale: int):
    sorts = ["a", "b", "c"]
    old = await commit(driver, *(put(sort) for sort in sorts))
    fresh = await commit(driver, *(put(sort, 2, expect=Expect.PRESENT) for sort in sorts))
    tokens = [old[n] if n == stale else fresh[n] for n in range(3)]
    before = await driver.get("p", sorts, timeout_s=TIMEOUT_S)
    with pytest.raises(ExpectationFailed) as caught:
        await commit(driver, *(put(sort, 3, expect=2, token=token) for sort, token in zip(sorts, tokens, strict=True)))
    assert (caught.value.sort, caught.value.found) == (sorts[stale], before[sorts[stale]])
    assert await driver.get("p", sorts, timeout_s=TIMEOUT_S) == before


async def test_removals_of_what_is_not_there_cost_one_more_try(cosmos: CosmosServer, driver: CosmosDriver):
    await commit(driver, put("b"))
    cosmos.requests()
    removals = [Remove(sort=sort, expect=Expect.ANY) for sort in ("a", "b", "c")]
    tokens = await commit(driver, *removals, put("d"))
    assert asked(cosmos) == {"batch": 2, "query": 1}
    assert tokens[:3] == [None, None, None]
    assert tokens[3] == (await driver.get("p", ["d"], timeout_s=TIMEOUT_S))["d"].token
    assert (await driver.get("p", ["b", "d"], timeout_s=TIMEOUT_S)).keys() == {"d"}


async def test_a_removal_that_others_always_make_first_gives_up_and_writes_nothing(
    cosmos: CosmosServer, driver: CosmosDriver
):
    await commit(driver, put("a"))
    cosmos.fail(404, on="batch", operation=0, times=REMOVAL_ATTEMPTS_MAX)
    with pytest.raises(Throttled):
        await commit(driver, Remove(sort="a", expect=Expect.ANY), put("b"))
    assert (await driver.get("p", ["a", "b"], timeout_s=TIMEOUT_S)).keys() == {"a"}


@LARGE_BODIES
@pytest.mark.parametrize("unit", ['"', "\\", '\\"', "\\u0001", "\n", "\u00e9", "\U0001f600", '\\\\\\"\t'])
async def test_a_commit_of_the_worst_bodies_fits_into_one_request(
    cosmos: CosmosServer, driver: CosmosDriver, unit: str
):
    body = unit.encode() * (DOCUMENT_BYTES_MAX // len(unit.encode()))
    writes = [put(f"k{number}", body=body, expect=Expect.ABSENT) for number in range(5)]
    while commit_bytes("p", writes) > COMMIT_BYTES_MAX:
        writes[-1] = put("k4", body=writes[-1].body[: -len(unit.encode())], expect=Expect.ABSENT)
    await commit(driver, *writes)
    found = await driver.get("p", [write.sort for write in writes], timeout_s=TIMEOUT_S)
    assert [found[write.sort].body for write in writes] == [write.body for write in writes]
    assert COMMIT_BYTES_MAX * 0.99 < cosmos.requests()["bytes"] <= REQUEST_BYTES_MAX


@LARGE_BODIES
@pytest.mark.parametrize("unit", ['{"key":"a \\"value\\""},\n', EVERY_CHARACTER], ids=["json", "every character"])
async def test_a_full_commit_with_long_names_fits_into_one_request(
    cosmos: CosmosServer, driver: CosmosDriver, unit: str
):
    partition = "p" * 500
    sorts = [f"k{number:03}" + "s" * 496 for number in range(COMMIT_WRITES_MAX)]
    room = COMMIT_BYTES_MAX // COMMIT_WRITES_MAX - len(partition) - len(sorts[0])
    body = (unit * room).encode()[:room]
    commit_id = "c" * 36
    soon = SystemClock().now() + timedelta(days=1_000)
    first = [put(sort, body=body, expect=Expect.ABSENT, expires_at=soon) for sort in sorts]
    tokens = await driver.commit(partition, first, commit_id=commit_id, timeout_s=TIMEOUT_S)
    second = [
        put(sort, 2, body, expect=1, token=token, expires_at=soon) for sort, token in zip(sorts, tokens, strict=True)
    ]
    await driver.commit(partition, second, commit_id=commit_id, timeout_s=TIMEOUT_S)
    assert COMMIT_BYTES_MAX < cosmos.requests()["bytes"] <= REQUEST_BYTES_MAX


async def test_an_item_is_kept_as_documented(cosmos: CosmosServer, database: str, driver: CosmosDriver):
    expires_at = datetime(2060, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
    await commit(driver, put("a", 7, b'{"n":1}', expires_at=expires_at))
    item = cosmos.item(database, "p", "a").body
    kept = {name: value for name, value in item.items() if not name.startswith("_") and name != "ttl"}
    assert kept == {"id": "a", "p": "p", "v": 7, "b": "{~n~:1}", "s": '~"', "c": "c", "x": "2840140800123456"}
    assert isinstance(item["ttl"], int)


async def test_the_engine_removes_a_day_after_the_expiry_and_not_before(cosmos: CosmosServer, driver: CosmosDriver):
    await commit(driver, put("a", expires_at=SystemClock().now() + timedelta(seconds=100)), put("b"))
    cosmos.pass_time(TTL_GRACE_S)
    assert (await driver.get("p", ["a", "b"], timeout_s=TIMEOUT_S)).keys() == {"a", "b"}
    cosmos.pass_time(TTL_GRACE_S + 200)
    assert (await driver.get("p", ["a", "b"], timeout_s=TIMEOUT_S)).keys() == {"b"}
    await commit(driver, put("a", expect=Expect.ABSENT))


async def test_an_item_of_somebody_else_is_corrupt(cosmos: CosmosServer, database: str, driver: CosmosDriver):
    cosmos.send("POST", f"/dbs/{database}/colls/perdure/docs", body={"id": "a", "p": "p", "secret": 1})
    with pytest.raises(Corrupt):
        await driver.get("p", ["a"], timeout_s=TIMEOUT_S)
    with pytest.raises(Corrupt):
        await driver.get("p", ["a", "b"], timeout_s=TIMEOUT_S)
    with pytest.raises(Corrupt):
        await driver.scan("p", start="A", end="~", limit=1, timeout_s=TIMEOUT_S)


async def test_a_container_that_is_missing_is_said_to_be_and_not_made(cosmos: CosmosServer, database: str):
    driver = cosmos.driver(database, create_container=False)
    with pytest.raises(Invalid, match=rf"'{database}'.*'perdure'.*/p.*-1"):
        await driver.open()
    assert cosmos.send("GET", f"/dbs/{database}").status == 404
    with pytest.raises(BackendDown):
        await driver.probe(timeout_s=TIMEOUT_S)


async def test_a_container_is_made_as_it_must_be_and_found_again(cosmos: CosmosServer, database: str):
    for create in (True, True, False):
        driver = cosmos.driver(database, create_container=create)
        await driver.open()
        await driver.close()
    made = cosmos.send("GET", f"/dbs/{database}/colls/perdure").body
    assert made["partitionKey"] == {"paths": ["/p"], "kind": "Hash", "version": 2}
    assert made["defaultTtl"] == -1


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"partitionKey": {"paths": ["/id"], "kind": "Hash", "version": 2}}, "partitioned by"),
        ({"partitionKey": {"paths": ["/p"], "kind": "Hash"}}, "large partition keys"),
        ({"partitionKey": {"paths": ["/p"], "kind": "Hash", "version": 2}, "defaultTtl": 60}, "removes every item"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
async def test_a_container_set_up_for_something_else_is_refused(
    cosmos: CosmosServer, database: str, properties: dict[str, Any], words: str, *, create: bool
):
    cosmos.send("POST", "/dbs", body={"id": database})
    cosmos.send("POST", f"/dbs/{database}/colls", body={"id": "perdure", **properties})
    with pytest.raises(Invalid, match=words):
        await cosmos.driver(database, create_container=create).open()
    gc.collect()  # a session that was left open would warn now


async def test_a_container_without_a_time_to_live_is_fine(cosmos: CosmosServer, database: str):
    key = {"paths": ["/p"], "kind": "Hash", "version": 2}
    cosmos.send("POST", "/dbs", body={"id": database})
    cosmos.send("POST", f"/dbs/{database}/colls", body={"id": "perdure", "partitionKey": key})
    driver = cosmos.driver(database, create_container=False)
    await driver.open()
    await driver.close()


async def test_the_environment_changes_nothing(cosmos: CosmosServer, database: str, monkeypatch: pytest.MonkeyPatch):
    for name in (
        "ENDPOINT",
        "KEY",
        "CONNECTION_STRING",
        "DATABASE",
        "CONTAINER",
        "CONSISTENCY_LEVEL",
        "AAD_SCOPE_OVERRIDE",
    ):
        for prefix in ("AZURE_COSMOS_", "COSMOS_", "COSMOSDB_", "AZURE_COSMOS_DB_"):
            monkeypatch.setenv(prefix + name, "https://elsewhere.invalid")
    monkeypatch.setenv("AZURE_COSMOS_ENABLE_CIRCUIT_BREAKER", "True")
    driver = cosmos.driver(database)
    await driver.open()
    await commit(driver, put("a"))
    await driver.close()
    assert cosmos.item(database, "p", "a").status == 200
    assert {level for level in cosmos.requests() if level.startswith("consistency")} <= {
        "consistency Session",
        "consistency unsaid",
    }


@pytest.mark.parametrize(("consistency", "level"), [("session", "Session"), ("strong", "Strong")])
async def test_every_request_for_documents_says_its_consistency(
    cosmos: CosmosServer, database: str, consistency: Any, level: str
):
    driver = cosmos.driver(database, consistency=consistency)
    assert driver.capabilities.consistency == consistency
    await driver.open()
    cosmos.requests()
    await commit(driver, put("a"), put("b"))
    await driver.get("p", ["a"], timeout_s=TIMEOUT_S)
    await driver.get("p", ["a", "b"], timeout_s=TIMEOUT_S)
    await driver.scan("p", start="A", end="~", limit=1, timeout_s=TIMEOUT_S)
    levels = {name: number for name, number in cosmos.requests().items() if name.startswith("consistency")}
    assert levels == {f"consistency {level}": 4}
    await driver.close()


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://account.documents.azure.com",
        "http://10.0.0.1:8081",
        "http://127.0.0.1.example.com",
        "ftp://127.0.0.1",
        "https://user:password@account.documents.azure.com",
        "https://account.documents.azure.com/?key=1",
        "https://account.documents.azure.com/dbs",
        "account.documents.azure.com",
        "",
    ],
)
def test_an_endpoint_that_shows_the_key_or_is_none_is_refused(endpoint: str):
    with pytest.raises(Invalid) as caught:
        CosmosDriver(endpoint=endpoint, key=Secret(KEY), database="d", clock=SystemClock())
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "a#b", "a?b", "x" * 256])
@pytest.mark.parametrize("what", ["database", "container"])
def test_a_name_that_would_change_the_address_is_refused(name: str, what: str):
    names: dict[str, Any] = {"database": "d", "container": "c", what: name}
    with pytest.raises(Invalid, match=what):
        CosmosDriver(endpoint="https://a.documents.azure.com", key=Secret(KEY), clock=SystemClock(), **names)


@pytest.mark.parametrize("key", ["", "not base64!", "k\u00e9y"])
async def test_a_key_that_is_none_is_refused_without_being_shown(cosmos: CosmosServer, key: str):
    driver = CosmosDriver(endpoint=cosmos.endpoint, key=Secret(key), database="d", clock=SystemClock())
    with pytest.raises(Invalid) as caught:
        await driver.open()
    assert not key or key not in str(caught.value)
    assert caught.value.__cause__ is None
    await driver.close()


async def test_close_waits_for_what_is_under_way_and_takes_nothing_new(cosmos: CosmosServer, database: str):
    async with FaultProxy("127.0.0.1", cosmos.port) as proxy:
        driver = cosmos.driver(database, port=proxy.port)
        await driver.open()
        proxy.black_hole()
        writing = asyncio.create_task(commit(driver, put("a")))
        await asyncio.sleep(0)
        assert driver._under_way == 1
        closing = asyncio.create_task(driver.close())
        await asyncio.sleep(0)
        with pytest.raises(BackendDown):
            await driver.get("p", ["a"], timeout_s=TIMEOUT_S)
        assert not closing.done()
        proxy.heal()
        (token,) = await writing
        await closing
        assert token is not None
