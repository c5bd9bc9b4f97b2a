"""Every way in which Firestore fails says one thing: what is known, and what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf import any_pb2, duration_pb2  # type: ignore[import-untyped]
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from perdure.adapters.firestore.driver import FirestoreDriver
from perdure.errors import (
    BackendDown,
    Corrupt,
    Forbidden,
    Invalid,
    LimitExceeded,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Throttled,
    TimedOut,
)
from perdure.ports.documents import Expect, ExpectationFailed, Put, Remove, Require
from tests.support.firestore_fake import Failure, FirestoreFake

Code = grpc.StatusCode
BODY = b'"a-payload-that-nobody-may-see"'

READ_ERRORS = {
    Code.ABORTED: Throttled,
    Code.CANCELLED: PersistenceError,
    Code.DATA_LOSS: PersistenceError,
    Code.DEADLINE_EXCEEDED: TimedOut,
    Code.FAILED_PRECONDITION: Invalid,
    Code.INTERNAL: PersistenceError,
    Code.INVALID_ARGUMENT: Invalid,
    Code.NOT_FOUND: Invalid,
    Code.OUT_OF_RANGE: Invalid,
    Code.PERMISSION_DENIED: Forbidden,
    Code.RESOURCE_EXHAUSTED: Throttled,
    Code.UNAUTHENTICATED: Forbidden,
    Code.UNAVAILABLE: BackendDown,
    Code.UNIMPLEMENTED: PersistenceError,
    Code.UNKNOWN: PersistenceError,
}
LOST = (
    Code.CANCELLED,
    Code.DATA_LOSS,
    Code.DEADLINE_EXCEEDED,
    Code.INTERNAL,
    Code.UNAVAILABLE,
    Code.UNKNOWN,
)
COMMIT_ERRORS: dict[Any, type[PerdureError]] = {
    **READ_ERRORS,
    **dict.fromkeys(LOST, OutcomeUnknown),
    Code.ALREADY_EXISTS: PersistenceError,
}

READS: dict[str, Callable[[FirestoreDriver], Awaitable[object]]] = {
    "BatchGetDocuments": lambda driver: driver.get("p", ["a"], timeout_s=30),
    "RunQuery": lambda driver: driver.scan("p", start="A", end="~", limit=10, timeout_s=30),
}


def a_put(sort: str = "a", *, expect: Expect | int = Expect.ANY, version: int = 1, token: object = None) -> Put:
    return Put(sort=sort, version=version, body=BODY, expect=expect, token=token)


async def commit(driver: FirestoreDriver, *writes: Put | Remove | Require) -> None:
    await driver.commit("p", writes, commit_id="c1", timeout_s=30)


def assert_says_nothing_secret(error: PerdureError) -> None:
    said = f"{error.message} {error.detail} {error!r}"
    assert BODY.decode().strip('"') not in said
    assert "injected" not in said  # what the engine says may quote what was sent


@pytest.mark.parametrize("method", READS)
@pytest.mark.parametrize("code", READ_ERRORS, ids=lambda code: code.name)
async def test_a_read_that_fails_says_what_to_do(
    driver: FirestoreDriver, fake: FirestoreFake, method: str, code: Any
) -> None:
    fake.fail(method, Failure(code=code))
    with pytest.raises(PerdureError) as caught:
        await READS[method](driver)
    assert type(caught.value) is READ_ERRORS[code]
    assert caught.value.detail["status"] == code.name
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
    assert_says_nothing_secret(caught.value)
    assert fake.requests == {method: 1}  # nothing was tried again


@pytest.mark.parametrize("code", COMMIT_ERRORS, ids=lambda code: code.name)
async def test_a_commit_that_fails_says_what_is_known(driver: FirestoreDriver, fake: FirestoreFake, code: Any) -> None:
    fake.fail("Commit", Failure(code=code))
    with pytest.raises(PerdureError) as caught:
        await commit(driver, a_put())
    assert type(caught.value) is COMMIT_ERRORS[code]
    assert caught.value.detail["status"] == code.name
    assert_says_nothing_secret(caught.value)
    assert fake.requests == {"Commit": 1}
    assert await driver.get("p", ["a"], timeout_s=30) == {}


@pytest.mark.parametrize("code", LOST, ids=lambda code: code.name)
async def test_a_commit_whose_answer_was_lost_may_have_been_done(
    driver: FirestoreDriver, fake: FirestoreFake, code: Any
) -> None:
    fake.fail("Commit", Failure(code=code, done=True))
    with pytest.raises(OutcomeUnknown):
        await commit(driver, a_put(expect=Expect.ABSENT))
    assert (await driver.get("p", ["a"], timeout_s=30))["a"].commit_id == "c1"
    with pytest.raises(ExpectationFailed) as caught:
        await commit(driver, a_put(expect=Expect.ABSENT))
    assert caught.value.found is not None
    assert caught.value.found.commit_id == "c1"


async def test_a_throttled_request_says_when_to_come_back(driver: FirestoreDriver, fake: FirestoreFake) -> None:
    delay = any_pb2.Any()
    delay.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2, nanos=500_000_000)))
    status = status_pb2.Status(code=Code.RESOURCE_EXHAUSTED.value[0], message="injected", details=[delay])
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    fake.fail("Commit", Failure(code=Code.RESOURCE_EXHAUSTED, metadata=metadata))
    with pytest.raises(Throttled) as caught:
        await commit(driver, a_put())
    assert caught.value.detail["retry_after_s"] == 2.5


@pytest.mark.parametrize(
    "details",
    [
        "Transaction too big. Decrease transaction size.",
        "Request payload size exceeds the limit: 10485760 bytes.",
        "The key path element name is longer than 1500 bytes.",
    ],
)
async def test_what_the_engine_finds_too_large_is_a_limit(
    driver: FirestoreDriver, fake: FirestoreFake, details: str
) -> None:
    fake.fail("Commit", Failure(code=Code.INVALID_ARGUMENT, details=details))
    with pytest.raises(LimitExceeded):
        await commit(driver, a_put())


@pytest.mark.parametrize(
    "write", [a_put("m", expect=Expect.PRESENT), Remove(sort="m", expect=Expect.PRESENT), Require(sort="m")]
)
async def test_a_missing_database_is_not_a_missing_document(
    driver: FirestoreDriver, fake: FirestoreFake, write: Put | Remove | Require
) -> None:
    fake.fail("Commit", Failure(code=Code.NOT_FOUND))
    fake.fail("BatchGetDocuments", Failure(code=Code.NOT_FOUND))
    with pytest.raises(Invalid) as caught:
        await commit(driver, write)
    assert caught.value.code == "database_missing"


async def test_an_expectation_failed_even_if_nobody_can_say_which(driver: FirestoreDriver, fake: FirestoreFake) -> None:
    await commit(driver, a_put())
    fake.fail("BatchGetDocuments", Failure(code=Code.UNAVAILABLE))
    with pytest.raises(ExpectationFailed) as caught:
        await commit(driver, a_put(expect=Expect.ABSENT), a_put("b"))
    assert (caught.value.sort, caught.value.found) == (None, None)


async def test_an_expectation_that_holds_again_failed_all_the_same(
    driver: FirestoreDriver, fake: FirestoreFake
) -> None:
    fake.fail("Commit", Failure(code=Code.ALREADY_EXISTS))
    with pytest.raises(ExpectationFailed) as caught:
        await commit(driver, a_put(expect=Expect.ABSENT))
    assert (caught.value.sort, caught.value.found) == (None, None)


async def test_a_document_rewritten_under_its_version_is_not_the_one_expected(
    driver: FirestoreDriver, fake: FirestoreFake
) -> None:
    (token,) = await driver.commit("p", [a_put(expect=Expect.ABSENT)], commit_id="c0", timeout_s=30)
    await driver.commit("p", [a_put()], commit_id="c1", timeout_s=30)
    fake.requests.clear()
    with pytest.raises(ExpectationFailed, match="rewritten meanwhile") as caught:
        await commit(driver, a_put(expect=1, version=2, token=token))
    assert caught.value.sort == "a"
    assert caught.value.found is not None
    assert caught.value.found.commit_id == "c1"
    assert fake.requests == {"Commit": 1, "BatchGetDocuments": 1}


async def test_a_token_of_another_backend_is_refused_before_anything_is_sent(
    driver: FirestoreDriver, fake: FirestoreFake
) -> None:
    with pytest.raises(Invalid, match="not one of this backend"):
        await commit(driver, a_put(expect=1, token='"an-etag"'))
    assert not fake.requests


@pytest.mark.parametrize("field", ["k", "v", "b", "c", "x"])
async def test_a_field_that_no_driver_wrote_is_corrupt(
    driver: FirestoreDriver, fake: FirestoreFake, field: str
) -> None:
    await commit(driver, a_put())
    fake.stored("/p/d/a").fields[field].boolean_value = True
    with pytest.raises(Corrupt, match=f"its field {field};"):
        await driver.get("p", ["a"], timeout_s=30)
    with pytest.raises(Corrupt):
        await driver.scan("p", start="A", end="~", limit=10, timeout_s=30)


async def test_a_document_that_was_copied_by_hand_is_corrupt(driver: FirestoreDriver, fake: FirestoreFake) -> None:
    await commit(driver, a_put())
    fake.stored("/p/d/a").fields["k"].string_value = "b"
    with pytest.raises(Corrupt, match="another one"):
        await driver.get("p", ["a"], timeout_s=30)


async def test_an_answer_that_leaves_out_a_document_is_not_its_absence(
    driver: FirestoreDriver, fake: FirestoreFake
) -> None:
    await commit(driver, a_put())
    fake.leave_out("a")
    with pytest.raises(PersistenceError, match="left out 1 of 2"):
        await driver.get("p", ["a", "b"], timeout_s=30)
