"""The pool: how many connections there are, how long they wait, and what happens when it is closed."""

from __future__ import annotations

import asyncio

import pytest

from perdure.adapters.cxdb.codec.frames import MessageType
from perdure.adapters.cxdb.codec.requests import CreateContext, GetHead, PutBlob
from perdure.adapters.cxdb.codec.responses import ContextHead
from perdure.adapters.cxdb.failures import Lost, was_lost
from perdure.adapters.cxdb.pool import CONNECTIONS_MAX, IDLE_S, Pool, PoolSettings
from perdure.errors import BackendDown, Invalid, OutcomeUnknown, TimedOut
from perdure.testing.environment import FakeClock
from tests.adapters.cxdb.client.scripted import (
    SOON_S,
    WAIT_S,
    Peer,
    leaving,
    polite,
    says,
    says_nothing,
    scripted,
    until,
)

HEAD = ContextHead(context_id=7, head_turn_id=9, head_depth=2)
ASK = GetHead(context_id=7)


async def test_no_more_connections_than_allowed_and_who_waits_too_long_sent_nothing() -> None:
    release = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.hello()
        while (frame := await peer.frame()) is not None:
            await release.wait()
            peer.answer(frame, HEAD)

    async with scripted(slow) as server:
        pool = Pool(server.endpoint, clock=FakeClock(), redact=str, settings=PoolSettings(connections_max=2))
        first = [asyncio.create_task(pool.ask(ASK, timeout_s=WAIT_S)) for _ in range(4)]
        await until(lambda: len(server.asked) == 2)
        with pytest.raises(TimedOut, match="connections_max"):
            await pool.ask(ASK, timeout_s=SOON_S)
        assert len(server.asked) == 2
        release.set()
        assert await asyncio.gather(*first) == [HEAD] * 4
        assert (server.accepted, pool.idle_count, len(server.asked)) == (2, 2, 4)
        await pool.close()


async def test_the_default_holds_as_many_as_it_says() -> None:
    async with scripted(polite(*[says(HEAD)] * 99)) as server:
        pool = Pool(server.endpoint, clock=FakeClock(), redact=str)
        await asyncio.gather(*(pool.ask(ASK, timeout_s=WAIT_S) for _ in range(3 * CONNECTIONS_MAX)))
        assert server.accepted == pool.idle_count == CONNECTIONS_MAX
        await pool.close()


@pytest.mark.parametrize(("waited_s", "connections"), [(IDLE_S, 1), (IDLE_S + 1, 2)])
async def test_a_connection_that_waited_too_long_is_not_used_again(waited_s: float, connections: int) -> None:
    clock = FakeClock()
    async with scripted(polite(*[says(HEAD)] * 9)) as server:
        pool = Pool(server.endpoint, clock=clock, redact=str)
        await pool.ask(ASK, timeout_s=WAIT_S)
        clock.advance(waited_s)
        await pool.ask(ASK, timeout_s=WAIT_S)
        assert (server.accepted, pool.idle_count) == (connections, 1)
        await pool.close()


async def test_a_connection_that_nobody_needs_is_given_up_when_another_one_comes_back() -> None:
    clock = FakeClock()
    async with scripted(polite(*[says(HEAD)] * 9)) as server:
        pool = Pool(server.endpoint, clock=clock, redact=str)
        await asyncio.gather(pool.ask(ASK, timeout_s=WAIT_S), pool.ask(ASK, timeout_s=WAIT_S))
        assert pool.idle_count == 2
        clock.advance(IDLE_S / 2)
        await pool.ask(ASK, timeout_s=WAIT_S)
        clock.advance(IDLE_S / 2 + 1)
        await pool.ask(ASK, timeout_s=WAIT_S)
        assert (server.accepted, pool.idle_count) == (2, 1)
        await pool.close()


async def test_connections_that_the_server_reset_while_they_waited_are_closed_without_an_error() -> None:
    async def resets(peer: Peer) -> None:
        await peer.hello()
        frame = await peer.frame()
        assert frame is not None
        peer.answer(frame, HEAD)
        await released.wait()
        peer.reset()

    released = asyncio.Event()
    async with scripted(resets) as server:
        pool = Pool(server.endpoint, clock=FakeClock(), redact=str)
        await asyncio.gather(*(pool.ask(ASK, timeout_s=WAIT_S) for _ in range(3)))
        connections = [connection for _, connection in pool._idle]
        assert len(connections) == 3
        released.set()
        await until(lambda: all(connection._writer.is_closing() for connection in connections))
        await pool.close()
        assert (pool.idle_count, [connection.is_sound for connection in connections]) == (0, [False] * 3)


async def test_a_connection_that_the_server_closed_while_it_waited_is_not_asked() -> None:
    async with scripted(leaving(says(HEAD)), polite(says(HEAD))) as server:
        pool = Pool(server.endpoint, clock=FakeClock(), redact=str)
        await pool.ask(ASK, timeout_s=WAIT_S)
        await until(lambda: not pool._idle[0][1].is_sound)
        await pool.ask(ASK, timeout_s=WAIT_S)
        assert (server.accepted, len(server.asked)) == (2, 2)
        await pool.close()


async def test_a_server_that_hangs_up_twice_on_the_same_request_is_told_from_one_that_is_down() -> None:
    async with scripted(leaving(says_nothing)) as server:
        pool = Pool(server.endpoint, clock=FakeClock(), redact=str)
        with pytest.raises(OutcomeUnknown) as caught:
            await pool.ask(CreateContext(base_turn_id=5), timeout_s=WAIT_S)
        assert was_lost(caught.value, Lost.CLOSED)
        assert server.asked == [MessageType.CTX_CREATE] * 2


async def test_a_change_after_which_the_server_is_gone_has_an_unknown_outcome() -> None:
    async def die(peer: Peer) -> None:
        await peer.hello()
        await peer.frame()

    async def refuse(peer: Peer) -> None:
        peer.reset()

    async with scripted(die, refuse) as server:
        pool = Pool(server.endpoint, clock=FakeClock(), redact=str)
        with pytest.raises(OutcomeUnknown) as caught:
            await pool.ask(PutBlob(content_hash=bytes(32), content=b"x"), timeout_s=WAIT_S)
        assert not was_lost(caught.value, Lost.CLOSED)
        with pytest.raises(BackendDown):
            await pool.ask(ASK, timeout_s=WAIT_S)


async def test_closing_hangs_up_refuses_everybody_and_may_be_done_twice() -> None:
    answered = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.hello()
        frame = await peer.frame()
        assert frame is not None
        await answered.wait()
        peer.answer(frame, HEAD)
        await peer.hang()

    async with scripted(polite(says(HEAD)), slow) as server:
        pool = Pool(server.endpoint, clock=FakeClock(), redact=str)
        await pool.ask(ASK, timeout_s=WAIT_S)
        pool._idle[0][1].abort()
        busy = asyncio.create_task(pool.ask(ASK, timeout_s=WAIT_S))
        await until(lambda: len(server.asked) == 2)
        await pool.close()
        await pool.close()
        answered.set()
        assert await busy == HEAD
        assert pool.idle_count == 0
        with pytest.raises(Invalid):
            await pool.ask(ASK, timeout_s=WAIT_S)


@pytest.mark.parametrize(
    "wrong", [{"connections_max": 0}, {"connect_timeout_s": 0}, {"request_timeout_s": float("inf")}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        PoolSettings(**wrong)  # type: ignore[arg-type]
