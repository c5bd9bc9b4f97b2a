"""What the driver says about failures: what is known, once, and nothing that should stay here."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from perdure.adapters.cosmos.driver import CosmosDriver
from perdure.errors import (
    BackendDown,
    Forbidden,
    Invalid,
    LimitExceeded,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Throttled,
    TimedOut,
)
from perdure.ports.documents import Expect, Put, Remove, Write
from perdure.testing.faults import FaultProxy
from tests.support.cosmos import KEY, CosmosServer
from tests.support.servers import free_port

TIMEOUT_S = 60.0
SHORT_S = 0.3
PUT = Put(sort="a", version=1, body=b'"secret body"', expect=Expect.ABSENT)


@pytest.fixture
async def driver(cosmos: CosmosServer) -> AsyncIterator[CosmosDriver]:
    driver = cosmos.driver(cosmos.new_database())
    await driver.open()
    cosmos.requests()
    yield driver
    await driver.close()


async def commit(driver: CosmosDriver, *writes: Write, timeout_s: float = TIMEOUT_S) -> object:
    return await driver.commit("p", writes or (PUT,), commit_id="c", timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("status", "sub_status", "kind"),
    [
        (400, None, Invalid),
        (401, None, Forbidden),
        (403, None, Forbidden),
        (403, 3, BackendDown),
        (403, 1014, LimitExceeded),
        (404, 1003, Invalid),
        (404, 1002, BackendDown),
        (408, None, OutcomeUnknown),
        (410, None, BackendDown),
        (413, None, LimitExceeded),
        (418, None, PersistenceError),
        (429, 3200, Throttled),
        (449, None, Throttled),
        (500, None, OutcomeUnknown),
        (503, None, OutcomeUnknown),
    ],
)
async def test_a_commit_says_what_its_status_means_and_is_sent_once(
    cosmos: CosmosServer, driver: CosmosDriver, status: int, sub_status: int | None, kind: type[PerdureError]
):
    headers = {} if sub_status is None else {"x-ms-substatus": str(sub_status)}
    cosmos.fail(status, on="batch", times=20, headers=headers)
    with pytest.raises(PerdureError) as caught:
        await commit(driver)
    assert type(caught.value) is kind
    assert str(status) in str(caught.value)
    assert cosmos.requests()["batch"] == 1


@pytest.mark.parametrize(
    ("status", "sub_status", "kind"),
    [
        (400, None, Invalid),
        (401, None, Forbidden),
        (403, None, Forbidden),
        (404, 1002, BackendDown),
        (404, 1003, Invalid),
        (408, None, TimedOut),
        (429, None, Throttled),
        (449, None, Throttled),
        (500, None, PersistenceError),
        (503, None, BackendDown),
    ],
)
@pytest.mark.parametrize("how", ["read", "query", "scan"])
async def test_a_read_says_what_its_status_means_and_never_that_nothing_is_there(
    cosmos: CosmosServer, driver: CosmosDriver, status: int, sub_status: int | None, kind: type[PerdureError], how: str
):
    request = "read" if how == "read" else "query"
    headers = {} if sub_status is None else {"x-ms-substatus": str(sub_status)}
    cosmos.fail(status, on=request, times=20, headers=headers)
    reads: dict[str, Callable[[], Awaitable[object]]] = {
        "read": lambda: driver.get("p", ["a"], timeout_s=TIMEOUT_S),
        "query": lambda: driver.get("p", ["a", "b"], timeout_s=TIMEOUT_S),
        "scan": lambda: driver.scan("p", start="A", end="~", limit=10, timeout_s=TIMEOUT_S),
    }
    with pytest.raises(PerdureError) as caught:
        await reads[how]()
    assert type(caught.value) is kind
    assert cosmos.requests()[request] == 1


async def test_a_probe_raises_what_a_read_would(cosmos: CosmosServer, driver: CosmosDriver):
    await driver.probe(timeout_s=TIMEOUT_S)
    cosmos.fail(401, on="read")
    with pytest.raises(Forbidden):
        await driver.probe(timeout_s=TIMEOUT_S)


async def test_throttling_says_when_to_try_again_if_the_account_did(cosmos: CosmosServer, driver: CosmosDriver):
    cosmos.fail(429, headers={"x-ms-retry-after-ms": "1250"})
    with pytest.raises(Throttled) as caught:
        await commit(driver)
    assert caught.value.detail == {"retry_after_s": 1.25}
    cosmos.fail(429)
    with pytest.raises(Throttled) as caught:
        await commit(driver)
    assert caught.value.detail == {}


@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (449, Throttled), (413, LimitExceeded)])
async def test_an_operation_of_a_batch_may_fail_for_other_reasons_than_what_it_expects(
    cosmos: CosmosServer, driver: CosmosDriver, status: int, kind: type[PerdureError]
):
    cosmos.fail(status, on="batch", operation=1)
    with pytest.raises(PerdureError) as caught:
        await commit(driver, PUT, Put(sort="b", version=1, body=b"1", expect=Expect.ANY))
    assert type(caught.value) is kind
    assert await driver.get("p", ["a", "b"], timeout_s=TIMEOUT_S) == {}


async def test_an_operation_that_failed_in_the_server_leaves_the_outcome_unknown(
    cosmos: CosmosServer, driver: CosmosDriver
):
    cosmos.fail(500, on="batch", operation=0)
    with pytest.raises(OutcomeUnknown):
        await commit(driver)


async def test_an_answer_that_cannot_be_read_says_nothing_about_a_commit(cosmos: CosmosServer, driver: CosmosDriver):
    cosmos.fail(200, on="batch", text="<html>")
    with pytest.raises(OutcomeUnknown):
        await commit(driver)
    cosmos.fail(200, on="read", text="<html>")
    with pytest.raises(BackendDown):
        await driver.get("p", ["a"], timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    "write",
    [
        Put(sort="a", version=2, body=b"2", expect=1),
        Put(sort="a", version=2, body=b"2", expect=Expect.PRESENT),
        Remove(sort="a", expect=Expect.PRESENT),
    ],
    ids=["version", "present", "removal"],
)
async def test_a_lost_reply_leaves_the_outcome_unknown_and_the_commit_is_sent_once(cosmos: CosmosServer, write: Write):
    async with FaultProxy("127.0.0.1", cosmos.port) as proxy:
        driver = cosmos.driver(cosmos.new_database(), port=proxy.port)
        await driver.open()
        await commit(driver)
        token = (await driver.get("p", ["a"], timeout_s=TIMEOUT_S))["a"].token
        if isinstance(write, Put) and write.expect == 1:
            write = Put(sort="a", version=2, body=b"2", expect=1, token=token)
        cosmos.requests()
        proxy.lose_reply()
        with pytest.raises(OutcomeUnknown):
            await commit(driver, write)
        assert cosmos.requests()["batch"] == 1
        found = await driver.get("p", ["a"], timeout_s=TIMEOUT_S)
        assert {sort: document.version for sort, document in found.items()} == (
            {"a": 2} if isinstance(write, Put) else {}
        )
        await driver.close()


async def test_a_lost_request_leaves_the_outcome_unknown_too(cosmos: CosmosServer):
    async with FaultProxy("127.0.0.1", cosmos.port) as proxy:
        driver = cosmos.driver(cosmos.new_database(), port=proxy.port)
        await driver.open()
        proxy.lose_request()
        with pytest.raises(OutcomeUnknown):
            await commit(driver)
        assert await driver.get("p", ["a"], timeout_s=TIMEOUT_S) == {}
        await driver.close()


async def test_a_deadline_leaves_a_commit_unknown_and_a_read_undone(cosmos: CosmosServer):
    async with FaultProxy("127.0.0.1", cosmos.port) as proxy:
        driver = cosmos.driver(cosmos.new_database(), port=proxy.port)
        await driver.open()
        proxy.black_hole()
        with pytest.raises(OutcomeUnknown):
            await commit(driver, timeout_s=SHORT_S)
        with pytest.raises(TimedOut):
            await driver.get("p", ["a"], timeout_s=SHORT_S)
        with pytest.raises(TimedOut):
            await driver.scan("p", start="A", end="~", limit=1, timeout_s=SHORT_S)
        with pytest.raises(TimedOut):
            # The version is not known, so there is nothing to send yet.
            await commit(driver, Put(sort="a", version=2, body=b"2", expect=1), timeout_s=SHORT_S)
        proxy.heal()
        await driver.close()


async def test_a_deadline_that_has_passed_sends_nothing(cosmos: CosmosServer, driver: CosmosDriver):
    with pytest.raises(TimedOut):
        await commit(driver, timeout_s=0.0)
    with pytest.raises(TimedOut):
        await driver.get("p", ["a"], timeout_s=-1.0)
    assert "batch" not in cosmos.requests()


async def test_an_account_that_went_away_is_down_and_nothing_was_sent(cosmos: CosmosServer):
    async with FaultProxy("127.0.0.1", cosmos.port) as proxy:
        driver = cosmos.driver(cosmos.new_database(), port=proxy.port)
        await driver.open()
    with pytest.raises(BackendDown):
        await driver.get("p", ["a"], timeout_s=TIMEOUT_S)
    with pytest.raises(BackendDown):
        await commit(driver)
    await driver.close()


async def test_an_account_that_is_not_there_is_down_at_open_and_nothing_stays_open(
    cosmos: CosmosServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AZURE_COSMOS_HEALTH_CHECK_MAX_RETRIES", "0")  # the client would try for two seconds
    driver = cosmos.driver("x", port=free_port())
    with pytest.raises(BackendDown):
        await driver.open()
    await driver.close()
    del driver
    gc.collect()  # a session that was left open would warn now


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_not_accepted_is_forbidden_at_open(
    cosmos: CosmosServer, monkeypatch: pytest.MonkeyPatch, status: int
):
    monkeypatch.setenv("AZURE_COSMOS_HEALTH_CHECK_MAX_RETRIES", "0")
    cosmos.fail(status, times=20)
    with pytest.raises(Forbidden):
        await cosmos.driver("x").open()


async def test_an_open_that_takes_too_long_is_timed_out(cosmos: CosmosServer):
    async with FaultProxy("127.0.0.1", cosmos.port) as proxy:
        proxy.black_hole()
        driver = cosmos.driver("x", port=proxy.port, open_timeout_s=SHORT_S)
        with pytest.raises(TimedOut):
            await driver.open()


async def test_neither_key_nor_body_nor_partition_is_shown_or_logged(
    cosmos: CosmosServer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    driver = cosmos.driver(cosmos.new_database())
    await driver.open()
    shown = [repr(driver), repr(vars(driver))]
    write = Put(sort="sensitive-sort", version=1, body=b'"secret body"', expect=Expect.ABSENT)
    await driver.commit("tenant-partition", [write], commit_id="c", timeout_s=TIMEOUT_S)
    for status in (400, 401, 403, 404, 413, 429, 500):
        cosmos.fail(status, times=2, headers={"x-ms-substatus": "1003"}, message="secret body")
        with pytest.raises(PerdureError) as caught:
            await driver.commit("tenant-partition", [write], commit_id="c", timeout_s=TIMEOUT_S)
        shown += [str(caught.value), repr(caught.value), repr(caught.value.detail)]
        with pytest.raises(PerdureError) as caught:
            await driver.get("tenant-partition", ["sensitive-sort"], timeout_s=TIMEOUT_S)
        shown += [str(caught.value), repr(caught.value), repr(caught.value.detail)]
    await driver.close()
    shown += [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    for secret in (KEY, KEY[:20], "secret body", "type%3dmaster", "type=master", "tenant-partition"):
        assert [text for text in shown if secret in text] == []
