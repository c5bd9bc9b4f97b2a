"""Races whose windows are too narrow for chance: somebody else acts right before one certain call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from perdure.adapters.documents import keys
from perdure.adapters.memory.driver import MemoryDriver
from perdure.domain.container import stream_container
from perdure.domain.log import Entry, LogSettings
from perdure.ports.documents import Document, DocumentDriver, Page, Write
from perdure.testing.contracts.logs_opening import Shelf, entry
from perdure.testing.contracts.stores import new_space
from tests.adapters.documents.stores import World

Interruption = Callable[[], Awaitable[object]]


class InterruptedDriver(MemoryDriver):
    """Lets somebody act, once, right before the first call for which ``when`` holds (the call's words and its keys)."""

    def __init__(self, world: World, when: Callable[[str, str], bool]) -> None:
        super().__init__(world.store)
        self._when = when
        self.interruption: Interruption | None = None

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        await self._interrupt(f"get {partition}", " ".join(sorts))
        return await super().get(partition, sorts, timeout_s=timeout_s)

    async def scan(
        self, partition: str, *, start: str, end: str, limit: int, reverse: bool = False, timeout_s: float
    ) -> Page:
        await self._interrupt(f"scan {partition}", f"{start} {end}")
        return await super().scan(partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=timeout_s)

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        await self._interrupt(f"commit {partition}", " ".join(write.sort for write in writes))
        return await super().commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)

    async def _interrupt(self, call: str, sorts: str) -> None:
        if self.interruption is not None and self._when(call, sorts):
            interruption, self.interruption = self.interruption, None
            await interruption()


class Desk:
    """A log in two hands; the first is interrupted, and the other's clock is its own."""

    def __init__(self, world: World, other_world: World) -> None:
        self.world = world
        self.other_world = other_world
        self.drivers: list[InterruptedDriver] = []

    async def open(self, when: Callable[[str, str], bool]) -> tuple[Shelf, Shelf]:
        def wrap(_: DocumentDriver) -> DocumentDriver:
            self.drivers.append(InterruptedDriver(self.world, when))
            return self.drivers[0]

        self.other_world.clients = 100
        log = stream_container(new_space(), "events")
        first = Shelf(store=(await self.world.open(wrap)).logs, log=log)
        return first, replace(first, store=(await self.other_world.open()).logs)

    def interrupt(self, interruption: Interruption) -> None:
        self.drivers[0].interruption = interruption


@pytest.fixture
def desk() -> Desk:
    world, other = World(), World()
    other.store = world.store
    return Desk(world, other)


async def test_what_a_slower_clock_still_appends_is_not_swept_away(desk: Desk) -> None:
    shelf, other = await desk.open(lambda call, sorts: call.startswith("commit log.") and keys.HEADER in sorts.split())
    await other.append(entry("e1"), settings=LogSettings(ttl_s=600))
    desk.world.clock.advance(601)
    desk.other_world.clock.advance(599)
    desk.interrupt(lambda: other.append(entry("e2")))
    assert await shelf.store.sweep(limit=10, timeout_s=5) == 0
    assert await other.ids() == ["e1", "e2"]


async def test_what_a_slower_clock_still_appends_is_not_written_over(desk: Desk) -> None:
    shelf, other = await desk.open(lambda call, sorts: call.startswith("commit log.") and keys.HEADER in sorts.split())
    await other.append(entry("e1"), settings=LogSettings(ttl_s=600))
    desk.world.clock.advance(601)
    desk.other_world.clock.advance(599)
    desk.interrupt(lambda: other.append(entry("e2")))
    assert [one.sequence for one in await shelf.append(entry("e3"))] == [3]
    assert await other.ids() == ["e1", "e2", "e3"]


async def test_the_name_of_a_log_made_meanwhile_stays(desk: Desk) -> None:
    shelf, other = await desk.open(lambda call, _: call.startswith("get dir."))
    await shelf.append(entry("e1"))

    async def erase_and_make() -> None:
        await other.erase()
        await other.append(entry("e2"))

    desk.interrupt(erase_and_make)
    await shelf.erase()
    assert await other.ids() == ["e2"]
    assert await other.containers() == [shelf.log]


async def test_entries_restored_to_an_epoch_that_is_being_cleaned_stay(desk: Desk) -> None:
    shelf, other = await desk.open(lambda call, sorts: call.startswith("scan log.") and sorts.startswith("e. "))
    await shelf.fill(10)
    before = await shelf.one_head()
    kept: list[Entry] = await shelf.all()
    desk.interrupt(lambda: other.restore(before, *kept))
    await shelf.clear()
    assert await other.all() == kept
    assert (await other.one_head()).epoch == before.epoch
