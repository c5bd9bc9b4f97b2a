"""Lost answers, missing answers and engines that are not there, in front of the local engine."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perdure.adapters.dynamodb.driver import DynamoDbDriver
from perdure.errors import BackendDown, OutcomeUnknown, TimedOut
from perdure.ports.documents import Expect, ExpectationFailed, Put, Remove
from perdure.testing.faults import FaultProxy
from tests.adapters.dynamodb.answers import Answers
from tests.adapters.dynamodb.conftest import OpenDriver
from tests.support.dynamodb import DynamoDbServer
from tests.support.servers import free_port

LONG_S = 60.0
SHORT_S = 0.05
LONG_ENOUGH_S = 0.5  # for a thread to begin and for an answer that is not held, on a busy machine
PUT = Put(sort="a", version=1, body=b"{}", expect=Expect.ABSENT)
BOTH = [PUT, Put(sort="b", version=1, body=b"{}", expect=Expect.ABSENT)]


async def through(
    server: DynamoDbServer, open_on_engine: OpenDriver, proxy: FaultProxy
) -> tuple[DynamoDbDriver, DynamoDbDriver]:
    """A driver behind the proxy, and one that sees what really happened."""
    table = server.new_table()
    behind = await open_on_engine(table, endpoint_url=f"http://127.0.0.1:{proxy.port}")
    return behind, await open_on_engine(table)


async def test_a_commit_whose_answer_is_lost_is_unknown_and_can_be_sent_again(
    dynamodb_server: DynamoDbServer, open_on_engine: OpenDriver
) -> None:
    async with FaultProxy("127.0.0.1", dynamodb_server.port) as proxy:
        behind, witness = await through(dynamodb_server, open_on_engine, proxy)
        proxy.lose_reply()
        with pytest.raises(OutcomeUnknown):
            await behind.commit("p", BOTH, commit_id="mine", timeout_s=LONG_S)
        assert set(await witness.get("p", ["a", "b"], timeout_s=LONG_S)) == {"a", "b"}
        # The engine knows the token: no expectation fails though both documents are there now.
        await behind.commit("p", BOTH, commit_id="mine", timeout_s=LONG_S)
        with pytest.raises(ExpectationFailed):
            await behind.commit("p", BOTH, commit_id="another", timeout_s=LONG_S)


async def test_a_single_write_whose_answer_is_lost_is_found_under_its_commit_id(
    dynamodb_server: DynamoDbServer, open_on_engine: OpenDriver
) -> None:
    async with FaultProxy("127.0.0.1", dynamodb_server.port) as proxy:
        behind, _ = await through(dynamodb_server, open_on_engine, proxy)
        proxy.lose_reply()
        with pytest.raises(OutcomeUnknown):
            await behind.commit("p", [PUT], commit_id="mine", timeout_s=LONG_S)
        with pytest.raises(ExpectationFailed) as caught:
            await behind.commit("p", [PUT], commit_id="mine", timeout_s=LONG_S)
        assert caught.value.found is not None
        assert caught.value.found.commit_id == "mine"


async def test_a_commit_that_was_lost_on_its_way_is_unknown_too(
    dynamodb_server: DynamoDbServer, open_on_engine: OpenDriver
) -> None:
    async with FaultProxy("127.0.0.1", dynamodb_server.port) as proxy:
        behind, witness = await through(dynamodb_server, open_on_engine, proxy)
        proxy.lose_request()
        with pytest.raises(OutcomeUnknown):
            await behind.commit("p", [PUT], commit_id="mine", timeout_s=LONG_S)
        assert await witness.get("p", ["a"], timeout_s=LONG_S) == {}


async def test_a_read_whose_answer_is_lost_is_an_error_and_not_an_empty_answer(
    dynamodb_server: DynamoDbServer, open_on_engine: OpenDriver
) -> None:
    async with FaultProxy("127.0.0.1", dynamodb_server.port) as proxy:
        behind, _ = await through(dynamodb_server, open_on_engine, proxy)
        await behind.commit("p", BOTH, commit_id="mine", timeout_s=LONG_S)
        for read in (
            lambda: behind.get("p", ["a"], timeout_s=LONG_S),
            lambda: behind.get("p", ["a", "b"], timeout_s=LONG_S),
            lambda: behind.scan("p", start="A", end="~", limit=9, timeout_s=LONG_S),
            lambda: behind.probe(timeout_s=LONG_S),
        ):
            proxy.lose_reply()
            with pytest.raises(BackendDown):
                await read()


async def test_an_engine_that_is_not_there_did_nothing(
    dynamodb_server: DynamoDbServer, open_on_engine: OpenDriver
) -> None:
    with pytest.raises(BackendDown, match="not reached"):
        await open_on_engine(endpoint_url=f"http://127.0.0.1:{free_port()}")
    async with FaultProxy("127.0.0.1", dynamodb_server.port) as proxy:
        behind, _ = await through(dynamodb_server, open_on_engine, proxy)
    with pytest.raises(BackendDown):
        await behind.commit("p", [PUT], commit_id="mine", timeout_s=LONG_S)
    with pytest.raises(BackendDown):
        await behind.probe(timeout_s=LONG_S)


async def test_the_callers_time_ends_a_call_that_is_not_answered(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    answers.hold()
    with pytest.raises(TimedOut):
        await driver.get("p", ["a"], timeout_s=SHORT_S)
    with pytest.raises(TimedOut):
        await driver.scan("p", start="A", end="~", limit=9, timeout_s=SHORT_S)
    with pytest.raises(OutcomeUnknown):
        await driver.commit("p", [PUT], commit_id="mine", timeout_s=LONG_ENOUGH_S)
    with pytest.raises(TimedOut):
        await driver.commit("p", [PUT], commit_id="mine", timeout_s=0)


async def test_the_clients_own_patience_ends_too(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers(read_timeout_s=LONG_ENOUGH_S)
    answers.hold()
    with pytest.raises(TimedOut):
        await driver.get("p", ["a"], timeout_s=LONG_S)
    with pytest.raises(OutcomeUnknown):
        await driver.commit("p", [PUT], commit_id="mine", timeout_s=LONG_S)


async def test_a_commit_that_found_no_free_thread_was_not_sent(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers(threads_max=1)
    answers.hold()
    first = asyncio.create_task(driver.get("p", ["a"], timeout_s=LONG_S))
    await answers.arrived.wait()
    with pytest.raises(TimedOut, match="no free thread"):
        await driver.commit("p", [PUT], commit_id="mine", timeout_s=SHORT_S)
    answers.release()
    assert await first == {}
    await driver.commit("p", [Remove(sort="a", expect=Expect.ANY)], commit_id="mine", timeout_s=LONG_S)
    assert answers.operations() == ["GetItem", "DeleteItem"]


async def test_cancelled_calls_leave_no_thread_and_send_nothing_later(
    answers: Answers, open_on_answers: OpenDriver
) -> None:
    before = set(threading.enumerate())
    driver = await open_on_answers(threads_max=2)
    answers.hold()
    calls = [asyncio.create_task(driver.commit("p", [PUT], commit_id="x", timeout_s=LONG_S)) for _ in range(20)]
    await answers.arrived.wait()
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("perdure-dynamodb")]) <= 2
    for call in calls:
        call.cancel()
    assert {type(each) for each in await asyncio.gather(*calls, return_exceptions=True)} == {asyncio.CancelledError}
    answers.release()
    await driver.close()
    assert len(answers.operations()) <= 2
    assert set(threading.enumerate()) <= before


async def test_closing_waits_for_what_is_under_way(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    answers.hold()
    commit = asyncio.create_task(driver.commit("p", [PUT], commit_id="x", timeout_s=LONG_S))
    await answers.arrived.wait()
    closing = asyncio.create_task(driver.close())
    await asyncio.sleep(0)
    assert not closing.done()
    with pytest.raises(BackendDown, match="not open"):
        await driver.probe(timeout_s=LONG_S)
    answers.release()
    assert await commit == [None]
    await closing
