"""SIGKILL of PostgreSQL under load: what was acknowledged is there, once, and the log has no gap."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

import perdure
from perdure.errors import Unavailable
from perdure.testing.contracts.ledger import MAIL, begin
from tests.support.databases import Cluster, Database
from tests.support.servers import Server, Version, bin_directory, engine_missing

WRITERS = 32
PLANES = 4


@pytest.fixture(params=["pg18", "pg15"])
def durable(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A ledger on a server of its own that writes to disk before it answers, as the embedded one does."""
    version: Version = request.param
    if bin_directory(version) is None:
        engine_missing(f"PostgreSQL {version.removeprefix('pg')}", "see tests/conftest.py")
    server = Server(version, durable=True)
    try:
        server.start()
        yield Cluster(version, server).create()
    finally:
        server.discard()


class Load:
    """Writers that repeat until they are answered, and what they were answered."""

    def __init__(self, changes_max: int) -> None:
        self.acknowledged: set[str] = set()
        self.unavailable = 0
        self.changes_max = changes_max
        self.progress = asyncio.Condition()

    async def write(self, writer: int, tenant: perdure.Tenant, run: perdure.Run) -> None:
        for number in range(self.changes_max):
            key = f"{writer}-{number}"
            change = await tenant.change(run).__aenter__()  # kept, because the same change is repeated
            step = change.step("work", key=key, output={"key": key})
            if number % 3 == 0:
                change.effect(step, "SEND_EMAIL", MAIL)
            while key not in self.acknowledged:
                try:
                    await tenant.commit(change)
                except Unavailable:
                    self.unavailable += 1
                else:
                    self.acknowledged.add(key)
            async with self.progress:
                self.progress.notify_all()

    async def reached(self, count: int) -> None:
        async with self.progress:
            await self.progress.wait_for(lambda: len(self.acknowledged) >= count)


async def tail(tenant: perdure.Tenant, seen: list[perdure.Event], *, until: int) -> None:
    """Follow the log across outages, keeping its place as any consumer does."""
    while len(seen) < until:
        try:
            async for event in tenant.events.follow(after=len(seen), poll_s=0.02):
                seen.append(event)
                if len(seen) == until:
                    return
        except Unavailable:
            continue


async def survive(database: Database, *, changes_each: int, kills: int) -> None:
    server = database.server
    load = Load(changes_each)
    total = WRITERS * changes_each
    effects = WRITERS * -(-changes_each // 3)
    events = 3 + 2 * total + effects
    seen: list[perdure.Event] = []
    async with AsyncExitStack() as stack:
        planes = [
            await stack.enter_async_context(
                # Half of them coalesce, half of them hold a connection for each change.
                perdure.open(database.dsn("app"), mode="lab", env="dev", coalesce=number % 2 == 0, connections_max=8)
            )
            for number in range(PLANES)
        ]
        tenants = [plane.scope("t_acme", actor=f"agent:writer-{number}") for number, plane in enumerate(planes)]
        run = await begin(tenants[0])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(tail(tenants[0], seen, until=events))
            for writer in range(WRITERS):
                tenant = tenants[writer % PLANES]
                tasks.create_task(load.write(writer, tenant, await tenant.runs.get(run.id)))
            for kill in range(1, kills + 1):
                await load.reached(kill * total // (kills + 1))
                await asyncio.to_thread(restart, server)
    assert load.unavailable > 0
    assert len(load.acknowledged) == total
    assert [event.sequence_number for event in seen] == list(range(1, events + 1))
    assert len({event.id for event in seen}) == events
    assert_whole(database, load.acknowledged, events=events, effects=effects)


def restart(server: Server) -> None:
    server.kill()
    server.start()


def assert_whole(database: Database, acknowledged: set[str], *, events: int, effects: int) -> None:
    keys = [key for (key,) in database.query("SELECT output_result ->> 'key' FROM perdure.steps")]
    assert sorted(keys) == sorted(acknowledged)
    indexes = database.query("SELECT min(step_index), max(step_index), count(DISTINCT step_index) FROM perdure.steps")
    assert indexes == [(0, len(keys) - 1, len(keys))]
    numbers = "SELECT min(sequence_number), max(sequence_number), count(*) FROM perdure.orchestration_events"
    assert database.query(numbers) == [(1, events, events)]
    assert database.query("SELECT count(*) FROM perdure.outbox_events") == [(effects,)]
    assert database.query("SELECT total_steps, total_effects FROM perdure.runs") == [(len(keys), effects)]
    assert database.query("SELECT last_number FROM perdure.tenant_sequences WHERE last_number > 0") == [(events,)]


async def test_no_acknowledged_change_is_lost_or_doubled(durable: Database) -> None:
    await survive(durable, changes_each=6, kills=2)


@pytest.mark.soak
async def test_no_acknowledged_change_is_lost_or_doubled_however_often_it_is_killed(durable: Database) -> None:
    await survive(durable, changes_each=60, kills=20)
