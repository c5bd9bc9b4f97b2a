"""A relay that runs: hints wake it, a ledger that is away is waited for, and overdue approvals end."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.relay import Surroundings
from perdure.errors import Refused
from perdure.testing.clock import DatabaseClock
from perdure.testing.faults import FaultProxy
from tests.core.test_relay_leases import through
from tests.support.databases import Database, engines
from tests.support.relaying import Deliveries, at_once, opened, relaying, request, store_of


class Announced(Deliveries):
    """A deliverer that says when it delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.delivered = asyncio.Event()

    async def __call__(self, delivery: object) -> None:
        await super().__call__(delivery)  # type: ignore[arg-type]
        self.delivered.set()


@engines("pg18", "pg15-pgbouncer")
async def test_a_committed_effect_wakes_a_relay_that_would_sleep_for_ever(database: Database) -> None:
    made = Announced()
    listen_dsn = database.direct_dsn("relay")
    async with opened(database) as plane, relaying(database, made, listen_dsn=listen_dsn) as relay:
        running = asyncio.create_task(relay.run())
        acme = plane.scope("t_acme", actor="agent:a")
        for n in range(3):
            made.delivered.clear()
            await request(acme, "SEND_EMAIL", source_id=str(n))
            await made.delivered.wait()
        relay.stop()
        await running
    assert relay.counters.delivered == 3


async def test_without_hints_polling_finds_what_is_due(database: Database) -> None:
    made = Announced()
    async with opened(database) as plane, relaying(database, made, surroundings=Surroundings(sleep=at_once)) as relay:
        running = asyncio.create_task(relay.run())
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await made.delivered.wait()
        relay.stop()
        await running
    assert relay.counters.delivered == 1


@engines("pg15-pgbouncer")
async def test_a_pooled_listen_dsn_is_refused(database: Database) -> None:
    pooled = database.pooled_dsn("relay")
    async with relaying(database, Deliveries(), listen_dsn=pooled) as relay:
        with pytest.raises(Refused, match="pooler") as caught:
            await relay.run()
    assert caught.value.code == "pooled_dsn"


async def test_hints_end_at_once_where_nobody_announces(database: Database) -> None:
    async with store_of(database.dsn("relay")) as store:
        assert [hint async for hint in store.hints()] == []


async def test_a_ledger_that_goes_away_is_waited_for(database: Database) -> None:
    made = Announced()
    async with opened(database) as plane, FaultProxy("127.0.0.1", database.port) as proxy:
        dsn = through(proxy, database.direct_dsn("relay"))
        surroundings = Surroundings(sleep=at_once)
        async with relaying(database, made, surroundings=surroundings, dsn=dsn, listen_dsn=dsn) as relay:
            running = asyncio.create_task(relay.run())
            for n in range(3):
                proxy.reset_all()
                made.delivered.clear()
                await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL", source_id=str(n))
                await made.delivered.wait()
            relay.stop()
            await running
    assert relay.counters.delivered == 3


async def test_an_approval_that_nobody_gave_in_time_ends_with_a_timeout(database: Database) -> None:
    clock = DatabaseClock(database.dsn("owner"))
    async with opened(database) as plane:
        acme = plane.scope("t_acme", actor="agent:a")
        run = await acme.runs.start("approve", signal=("test", "1"), input={})
        async with acme.change(run) as change:
            change.wait("may we pay?", request={"amount": 42}, timeout_s=600)
        async with relaying(database, Deliveries()) as relay:
            await relay.tick()
            assert relay.counters.waits_ended == 0
        await clock.advance(601)
        async with relaying(database, Deliveries()) as relay:
            await relay.tick()
            assert relay.counters.waits_ended == 1
        claimed = await acme.runs.claim(limit=1, lease_s=60)
    ((status, decision),) = database.query("SELECT status, output_result ->> 'decision' FROM perdure.steps")
    assert (status, decision) == ("COMPLETED", "TIMEOUT")
    assert [each.id for each in claimed] == [run.id]
