"""A network that fails on purpose between a driver and its database: what the driver says it knows is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from perdure.adapters.firestore.driver import FirestoreDriver
from perdure.errors import BackendDown, OutcomeUnknown, PerdureError, TimedOut
from perdure.ports.documents import Expect, ExpectationFailed, Put
from perdure.testing.faults import FaultProxy
from tests.adapters.firestore.conftest import OpenDriver
from tests.support.firestore_fake import FirestoreFake

ATTEMPTS_MAX = 100
PATIENCE_S = 60.0
SOON_S = 0.2  # a deadline that a test waits for


@pytest.fixture
async def proxy(fake: FirestoreFake) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", fake.port) as proxy:
        yield proxy


@pytest.fixture
async def distant(proxy: FaultProxy, open_driver: OpenDriver) -> FirestoreDriver:
    """A driver behind the proxy, connected."""
    driver = await open_driver(f"127.0.0.1:{proxy.port}")
    await driver.probe(timeout_s=PATIENCE_S)
    return driver


async def create(driver: FirestoreDriver, sort: str, *, timeout_s: float = PATIENCE_S) -> None:
    put = Put(sort=sort, version=1, body=b"{}", expect=Expect.ABSENT)
    await driver.commit("p", [put], commit_id=f"c-{sort}", timeout_s=timeout_s)


async def failure(commit: Awaitable[None]) -> PerdureError | None:
    """What became of a commit: None if it was done, or why it may not have been."""
    try:
        await commit
    except (BackendDown, ExpectationFailed, OutcomeUnknown) as error:
        return error
    return None


async def is_there(driver: FirestoreDriver, sort: str) -> bool:
    """Asked until it is known: a connection that was just lost may be lost for a moment."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return sort in await driver.get("p", [sort], timeout_s=PATIENCE_S)
            except BackendDown:
                await asyncio.sleep(0)


@pytest.mark.parametrize("cut", [FaultProxy.lose_reply, FaultProxy.lose_request])
async def test_a_commit_that_lost_its_connection_has_an_unknown_outcome_and_can_be_sent_again(
    distant: FirestoreDriver, proxy: FaultProxy, cut: Callable[[FaultProxy], None]
) -> None:
    for number in range(ATTEMPTS_MAX):
        sort = f"k{number}"
        cut(proxy)
        error = await failure(create(distant, sort))
        if isinstance(error, OutcomeUnknown):
            break
        # The cut may hit what HTTP/2 says beside requests: then this commit came through, or never left.
        assert await is_there(distant, sort) == (error is None)
    else:
        pytest.fail(f"none of {ATTEMPTS_MAX} commits lost its connection")
    assert error.detail["status"] == "UNAVAILABLE"
    proxy.heal()
    was_done = await is_there(distant, sort)
    again = await failure(create(distant, sort))
    if was_done:
        assert isinstance(again, ExpectationFailed)
        assert again.found is not None
        assert again.found.commit_id == f"c-{sort}"
    else:
        assert again is None
        assert await is_there(distant, sort)


async def test_a_commit_that_is_not_answered_in_time_has_an_unknown_outcome(
    distant: FirestoreDriver, proxy: FaultProxy
) -> None:
    proxy.black_hole()
    with pytest.raises(OutcomeUnknown) as caught:
        await create(distant, "a", timeout_s=SOON_S)
    assert caught.value.detail["status"] == "DEADLINE_EXCEEDED"
    proxy.heal()
    # What was held arrives after all, or was withdrawn: whichever it is, one of these two commits finds the other.
    assert isinstance(await failure(create(distant, "a")), ExpectationFailed | None)
    assert isinstance(await failure(create(distant, "a")), ExpectationFailed)


async def test_a_read_that_is_not_answered_in_time_changed_nothing(distant: FirestoreDriver, proxy: FaultProxy) -> None:
    proxy.black_hole()
    with pytest.raises(TimedOut):
        await distant.get("p", ["a"], timeout_s=SOON_S)
    with pytest.raises(TimedOut):
        await distant.scan("p", start="A", end="~", limit=1, timeout_s=SOON_S)
    proxy.heal()
    assert not await is_there(distant, "a")


async def test_a_connection_that_does_not_come_about_in_time_sends_nothing(
    proxy: FaultProxy, fake: FirestoreFake, open_driver: OpenDriver
) -> None:
    proxy.black_hole()
    driver = await open_driver(f"127.0.0.1:{proxy.port}")
    with pytest.raises(TimedOut, match="nothing was sent"):
        await create(driver, "a", timeout_s=SOON_S)
    with pytest.raises(TimedOut, match="nothing was sent"):
        await driver.get("p", ["a"], timeout_s=SOON_S)
    proxy.heal()
    assert not await is_there(driver, "a")
    assert fake.requests["Commit"] == 0


async def test_time_that_is_over_before_the_request_sends_nothing(driver: FirestoreDriver, fake: FirestoreFake) -> None:
    for timeout_s in (0.0, -1.0):
        with pytest.raises(TimedOut):
            await create(driver, "a", timeout_s=timeout_s)
        with pytest.raises(TimedOut):
            await driver.get("p", ["a"], timeout_s=timeout_s)
    assert not fake.requests


async def test_a_connection_that_was_reset_is_made_again(distant: FirestoreDriver, proxy: FaultProxy) -> None:
    await create(distant, "a")
    proxy.reset_all()
    assert await is_there(distant, "a")


async def test_a_server_that_went_is_down_and_one_that_came_back_is_found(open_driver: OpenDriver) -> None:
    with FirestoreFake() as fake:
        driver = await open_driver(fake.endpoint)
        await create(driver, "a")
    with pytest.raises(BackendDown):
        await driver.get("p", ["a"], timeout_s=PATIENCE_S)
    with pytest.raises(BackendDown):
        await create(driver, "b")
    with FirestoreFake(fake.port):
        assert not await is_there(driver, "a")  # another one: nothing was kept
        await create(driver, "b")


async def test_closing_waits_for_a_commit_under_way(distant: FirestoreDriver, proxy: FaultProxy) -> None:
    proxy.black_hole()
    commit = asyncio.create_task(create(distant, "a"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(distant.close())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not closing.done()
    proxy.heal()
    await closing
    assert commit.done()
    assert commit.exception() is None
