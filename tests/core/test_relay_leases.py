"""Leases: two relays never hold one entry, and who has lost a lease writes nothing."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

import pytest

from perdure.core.relay import DRAIN_ATTEMPTS_MAX, Relay, Surroundings
from perdure.errors import Unavailable
from perdure.ports.relay import Delivery
from perdure.testing.clock import DatabaseClock
from perdure.testing.faults import FaultProxy
from tests.support.databases import Database
from tests.support.relaying import Deliveries, at_once, opened, relaying, request, statuses

COMPLETIONS = "SELECT count(*) FROM perdure.orchestration_events WHERE event_type = 'EFFECT_COMPLETED'"


class Held:
    """A deliverer that holds on until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.cut_off = False
        self.keys: list[str] = []

    async def __call__(self, delivery: Delivery) -> None:
        self.keys.append(delivery.idempotency_key)
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cut_off = True
            raise


async def taken(relay: Relay, held: Held) -> None:
    assert await relay.tick() == 1
    await held.begun.wait()


async def test_two_relays_never_deliver_one_effect_both(database: Database) -> None:
    made = Deliveries()
    async with opened(database) as plane:
        for n in range(30):
            await request(plane.scope(f"t_{n % 3}", actor="agent:a"), "SEND_EMAIL", "TAKE_NOTE", source_id=str(n))
        async with relaying(database, made) as one, relaying(database, made) as two:
            await asyncio.gather(one.drain(), two.drain())
            await one.drain()
    assert len(made.keys) == len(set(made.keys)) == 60
    assert one.counters.delivered + two.counters.delivered == 60
    assert one.counters.claimed > 0
    assert two.counters.claimed > 0


async def test_a_relay_past_its_lease_is_fenced(database: Database) -> None:
    clock = DatabaseClock(database.dsn("owner"))
    late, made = Held(), Deliveries()
    async with opened(database) as plane, relaying(database, late) as paused, relaying(database, made) as other:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL", complete=True)
        await taken(paused, late)
        await clock.advance(61)
        await other.drain()
        assert (other.counters.reaped, other.counters.failed) == (1, 1)
        await clock.advance(5)
        await other.drain()
        late.go.set()
        await paused.drain()
    assert made.keys == late.keys
    assert (paused.counters.delivered, paused.counters.lost_leases) == (0, 1)
    assert other.counters.delivered == 1
    assert database.query(COMPLETIONS) == [(1,)]
    assert statuses(database) == [("SEND_EMAIL", "COMPLETED", "COMPLETED")]


async def test_an_expired_lease_counts_as_a_failed_attempt(database: Database) -> None:
    clock = DatabaseClock(database.dsn("owner"))
    late = Held()
    async with opened(database) as plane, relaying(database, late) as paused, relaying(database, {}) as other:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL", max_retries=0)
        await taken(paused, late)
        await clock.advance(61)
        await other.drain()
        late.go.set()
    ((status, code),) = database.query("SELECT status, error_details ->> 'code' FROM perdure.outbox_events")
    assert (status, code) == ("DEAD_LETTER", "LEASE_EXPIRED")
    assert other.counters.dead_lettered == 1


async def test_a_heartbeat_keeps_a_lease_alive(database: Database) -> None:
    clock = DatabaseClock(database.dsn("owner"))
    slow, made = Held(), Deliveries()
    async with opened(database) as plane, relaying(database, slow) as relay, relaying(database, made) as other:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await taken(relay, slow)
        for _ in range(3):
            await clock.advance(50)
            await relay.beat()
        await other.drain()
        slow.go.set()
    assert (made.keys, other.counters.reaped, relay.counters.delivered) == ([], 0, 1)


async def test_a_heartbeat_that_finds_its_lease_lost_cuts_the_delivery_off(database: Database) -> None:
    clock = DatabaseClock(database.dsn("owner"))
    slow = Held()
    async with opened(database) as plane, relaying(database, slow) as relay, relaying(database, {}) as other:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await taken(relay, slow)
        await clock.advance(61)
        await other.drain()
        await relay.beat()
    assert slow.cut_off
    assert (relay.counters.lost_leases, relay.counters.delivered) == (1, 0)


async def test_stopping_finishes_what_is_in_hand(database: Database) -> None:
    slow = Held()
    async with opened(database) as plane, relaying(database, slow) as relay:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        running = asyncio.create_task(relay.run())
        await slow.begun.wait()
        relay.stop()
        slow.go.set()
        await running
    assert statuses(database) == [("SEND_EMAIL", "COMPLETED", "COMPLETED")]


async def test_leaving_by_an_error_cuts_off_what_is_in_hand(database: Database) -> None:
    slow = Held()
    async with opened(database) as plane:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it is raised where a user would
            async with relaying(database, slow) as relay:
                await taken(relay, slow)
                raise ZeroDivisionError
    assert slow.cut_off
    assert statuses(database) == [("SEND_EMAIL", "EXECUTING", "PROCESSING")]


async def test_a_cancelled_run_ends_at_once(database: Database) -> None:
    slow = Held()
    async with opened(database) as plane:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")

        async def work() -> None:
            async with relaying(database, slow) as relay:
                await relay.run()

        running = asyncio.create_task(work())
        await slow.begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert slow.cut_off


def through(proxy: FaultProxy, dsn: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}"))


@pytest.mark.parametrize("lost", ["reply", "request"])
async def test_an_outcome_whose_answer_was_lost_is_recorded_once(database: Database, lost: str) -> None:
    slow = Held()
    async with opened(database) as plane, FaultProxy("127.0.0.1", database.port) as proxy:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        dsn = through(proxy, database.direct_dsn("relay"))
        async with relaying(database, slow, surroundings=Surroundings(sleep=at_once), dsn=dsn) as relay:
            await taken(relay, slow)
            if lost == "reply":
                proxy.lose_reply()
            else:
                proxy.lose_request()
            slow.go.set()
            await proxy.wait_cut()
            await relay.drain()
    assert (relay.counters.delivered, relay.counters.lost_leases) == (1, 0)
    assert relay.counters.errors >= 1
    assert database.query(COMPLETIONS) == [(1,)]


async def test_a_drain_gives_up_on_a_ledger_that_stays_away(database: Database) -> None:
    async with FaultProxy("127.0.0.1", database.port) as proxy:
        dsn = through(proxy, database.direct_dsn("relay"))
        surroundings = Surroundings(sleep=at_once)
        async with relaying(database, Deliveries(), surroundings=surroundings, dsn=dsn, timeout_s=0.1) as relay:
            proxy.black_hole()
            proxy.reset_all()
            with pytest.raises(Unavailable):
                await relay.drain()
    assert relay.counters.errors == DRAIN_ATTEMPTS_MAX - 1


async def test_leases_are_prolonged_every_third_of_their_time(database: Database) -> None:
    clock, pauses, slow = DatabaseClock(database.dsn("owner")), asyncio.Queue[float](), Held()
    go = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.put_nowait(seconds)
        await go.wait()
        go.clear()

    async with opened(database) as plane, relaying(database, slow, surroundings=Surroundings(sleep=sleep)) as relay:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        assert await pauses.get() == relay.settings.lease_s / 3
        await taken(relay, slow)
        await clock.advance(50)
        go.set()
        await pauses.get()  # the next pause begins after the beat
        await clock.advance(50)
        async with relaying(database, {}) as other:
            await other.tick()
        slow.go.set()
    assert other.counters.reaped == 0
