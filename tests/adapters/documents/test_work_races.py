"""Clients that work on the same units at the same time, in orders that chance decides: what is there fits together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final
from uuid import UUID

import pytest

from perdure.domain.work import TRANSITIONS, AttributeVersion, WorkStatus, WorkUnit
from perdure.errors import NotFound, StaleVersion
from perdure.testing.contracts.stores import new_id
from perdure.testing.contracts.work_opening import OWNER, Desk, at, attribute, first, following, ids
from perdure.testing.environment import SeededRandomness
from tests.adapters.documents.stores import InterleavedDriver
from tests.adapters.documents.work_clients import World

CLIENTS: Final = 4
STEPS: Final = 10
SETTLED_S: Final = 3_600.0
PARENT: Final = new_id()
UNITS: Final = tuple(new_id() for _ in range(3))


class Worker:
    """A client that does what chance tells it to, and remembers what was acknowledged."""

    def __init__(self, desk: Desk, *, seed: int) -> None:
        self._desk = desk
        self._randomness = SeededRandomness(seed)
        self.done: list[UUID] = []
        self.adopted = 0

    async def work(self) -> None:
        """A few steps, some of which come too late."""
        for _ in range(STEPS):
            unit_id = UNITS[self._up_to(len(UNITS))]
            try:
                await self._step(unit_id)
            except (NotFound, StaleVersion):
                continue

    async def _step(self, unit_id: UUID) -> None:
        stored = await self._desk.find(unit_id)
        if stored is None:
            await self._make(unit_id)
            return
        unit, choice = stored.unit, self._up_to(10)
        if choice == 0:
            last = following(unit)
            await self._desk.store.delete(self._desk.space, unit_id, last=last, timeout_s=60.0)
            self.done.append(last.entries[0].history_id)
        elif choice == 1:
            await self._desk.watch(at(self._up_to(STEPS)))
        elif choice <= 3:
            await self._desk.beat(unit, at(self._up_to(STEPS)))
        else:
            kept = stored.attributes.get("a")
            change = attribute("a", version=1 if kept is None else kept.version + 1, sequence=unit.history_sequence + 1)
            await self._save(unit, [change] if choice % 2 else [])

    async def _make(self, unit_id: UUID) -> None:
        write = first(unit_id=unit_id, parent=PARENT, created_at=at(UNITS.index(unit_id)))
        entries = await self._desk.history(unit_id)
        unit = replace(write.unit, history_sequence=len(entries) + 1)
        entry = replace(write.entries[0], sequence=len(entries) + 1)
        await self._desk.commit(replace(write, unit=unit, entries=(entry,)))
        self.done.append(entry.history_id)
        self.adopted += 1

    async def _save(self, unit: WorkUnit, changes: list[AttributeVersion]) -> None:
        targets = sorted(TRANSITIONS[unit.status])
        status = targets[self._up_to(len(targets))] if targets else None
        write = following(unit, status, attributes=changes)
        if status is WorkStatus.ACTIVE:
            write = replace(write, unit=replace(write.unit, lease_owner=OWNER, heartbeat_at=at(self._up_to(STEPS))))
        await self._desk.commit(write)
        self.done.append(write.entries[0].history_id)

    def _up_to(self, end: int) -> int:
        return int(self._randomness.random() * end)


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_clients_do_at_the_same_time_fits_together(seed: int) -> None:
    world = World()
    async with world.client() as desk:
        await desk.save(first(unit_id=PARENT, created_at=at(-1)))
    workers: list[Worker] = []

    async def live(number: int) -> None:
        """A client from its beginning to its end."""
        chance = seed * CLIENTS + number
        async with world.client(lambda driver: InterleavedDriver(driver, seed=chance)) as desk:
            workers.append(Worker(desk, seed=chance))
            await workers[-1].work()

    await asyncio.gather(*(live(number) for number in range(CLIENTS)))
    world.clock.advance(SETTLED_S)
    async with world.client() as desk:
        await desk.watch(at(0))
        await check(world, desk, workers)


async def check(world: World, desk: Desk, workers: list[Worker]) -> None:
    """Assert that lists, units, histories and counts say the same."""
    stored = [one.unit for unit_id in UNITS if (one := await desk.find(unit_id)) is not None]
    assert ids(await desk.units())[1:] == ids(stored)
    for status in WorkStatus:
        found = await desk.units(status=status, instance_id="instance-1", limit=1)
        assert [unit for unit in found if unit.unit_id != PARENT] == [unit for unit in stored if unit.status is status]
    leased = [unit for unit in stored if unit.status is WorkStatus.ACTIVE and unit.heartbeat_at is not None]
    assert sorted(await desk.watch(at(99))) == sorted(ids(leased))
    histories = [await desk.entries(unit_id) for unit_id in UNITS]
    for entries in histories:
        assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    done = {history_id for worker in workers for history_id in worker.done}
    assert {entry.history_id for entries in histories for entry in entries} == done
    assert {entry.history_id for entry in await desk.find_history() if entry.unit_id != PARENT} == done
    parent = await desk.find(PARENT)
    assert parent is not None
    assert parent.unit.child_count == sum(worker.adopted for worker in workers)
    for unit in stored:
        newest = {key: one.version for key, one in (await desk.load(unit)).attributes.items()}
        assert dict(await desk.versions(unit.unit_id)) == newest
    assert world.sorts("p.") == []
    assert len(world.sorts("s.")) == 2 * (len(stored) + 1)
    assert len(world.sorts("a.")) == 2 * (len(stored) + 1)
