"""A process that dies before or after any operation: what was acknowledged is there, and what it left is finished."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from perdure.adapters.documents import keys
from perdure.adapters.memory.driver import MemoryStore
from perdure.domain.container import stream_container
from perdure.domain.log import Entry, LogSettings
from perdure.testing.contracts.logs_opening import Shelf, entries, entry, is_dense
from perdure.testing.contracts.stores import new_space
from perdure.testing.driver_faults import Crash, Crashed, FaultyDriver
from tests.adapters.documents.stores import LogsBackend, World

OPERATIONS_MAX = 60  # of any one call below; reaching it means that a call never ends
SETTLED_S = 7_200.0
PREPARED = 60
Moment = Literal["before", "after"]
Step = Callable[[Shelf], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Something done to a log, after which a process may be gone; how often it is known to be done is not asked."""

    name: str
    act: Step
    prepare: Step | None = None
    passes_s: float = 0.0


async def fill(shelf: Shelf) -> None:
    await shelf.fill(PREPARED)


async def fill_for_a_while(shelf: Shelf) -> None:
    await shelf.append(*entries(1, 40), settings=LogSettings(ttl_s=600))
    await shelf.append(*entries(41, PREPARED - 40))


async def restore(shelf: Shelf) -> None:
    source = await shelf.named("source").one_head()
    found = await shelf.named("source").all()
    await shelf.restore(source, *found[:40])
    await shelf.restore(source, *found[40:])


async def fill_both(shelf: Shelf) -> None:
    await shelf.named("source").fill(PREPARED)
    await shelf.fill(5)
    await shelf.clear()
    await shelf.fill(7)


LIVES = (
    Life(name="make", act=lambda shelf: shelf.append(*entries(1, 3), settings=LogSettings(ttl_s=600))),
    Life(name="append", prepare=fill, act=lambda shelf: shelf.append(*entries(PREPARED + 1, 3))),
    Life(
        name="append-after-expiry",
        prepare=fill_for_a_while,
        passes_s=601,
        act=lambda shelf: shelf.append(*entries(PREPARED + 1, 3), settings=LogSettings(ttl_s=600)),
    ),
    Life(name="configure", prepare=fill, act=lambda shelf: shelf.configure(LogSettings(ttl_s=600))),
    Life(name="configure-nothing", act=lambda shelf: shelf.configure(LogSettings(ttl_s=600))),
    Life(name="clear", prepare=fill, act=lambda shelf: shelf.clear()),
    Life(name="trim", prepare=fill, act=lambda shelf: shelf.trim(31)),
    Life(name="trim-all", prepare=fill, act=lambda shelf: shelf.trim(1_000)),
    Life(name="erase", prepare=fill_for_a_while, act=lambda shelf: shelf.erase()),
    Life(name="restore", prepare=fill_both, act=restore),
    Life(name="sweep", prepare=fill_for_a_while, passes_s=601, act=lambda shelf: shelf.sweep()),
)


class Scene:
    """A world in which one process died while it did something."""

    def __init__(self) -> None:
        self.world = World()
        self.log = stream_container(new_space(), "events")

    async def open(self, *, crash: Crash | None = None) -> tuple[LogsBackend, Shelf]:
        backend = await self.world.open(lambda driver: FaultyDriver(driver, crash=crash))
        return backend, Shelf(store=backend.logs, log=self.log)

    async def play(self, life: Life, crash: Crash) -> bool:
        """Prepare, act, and die; False if the process lived."""
        if life.prepare is not None:
            _, shelf = await self.open()
            await life.prepare(shelf)
        self.world.clock.advance(life.passes_s)
        _, doomed = await self.open(crash=crash)
        try:
            await life.act(doomed)
        except Crashed:
            return True
        return False


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
async def test_what_a_crash_leaves_is_whole_and_can_be_finished(life: Life, moment: Moment) -> None:
    number = 0
    died = True
    while died:
        number += 1
        assert number < OPERATIONS_MAX
        for then in (repeat, append_and_sweep, sweep_only):
            scene = Scene()
            died = await scene.play(life, Crash(at=number, moment=moment))
            _, shelf = await scene.open()
            await check_whole(life, shelf)
            await then(life, scene, shelf)
    assert number > 1


async def check_whole(life: Life, shelf: Shelf) -> None:
    """Acknowledged entries are there unless the act may remove them; what is listed is there, and the reverse."""
    found = await shelf.all()
    head = await shelf.head()
    assert is_dense(found, first=1 if head is None else head.earliest)
    assert found[::-1] == await shelf.all(reverse=True)
    listed = [one for one in await shelf.containers() if one == shelf.log]
    assert listed == ([] if head is None else [shelf.log])
    counts = {
        "make": {0, 3},
        "append": {PREPARED, PREPARED + 3},
        "append-after-expiry": {0, 3},
        "configure": {PREPARED},
        "configure-nothing": {0},
        "clear": {PREPARED, 0},
        "trim": {PREPARED, 30},
        "trim-all": {PREPARED, 0},
        "erase": {PREPARED, 0},
        "restore": {7, 0, 40, PREPARED},
        "sweep": {0},
    }
    assert len(found) in counts[life.name]
    if head is not None:
        assert head.sequence - head.earliest + 1 == len(found)
    for one in found[:3] + found[-3:]:
        position = await shelf.locate(one.entry_id)
        assert position is not None
        assert position.sequence == one.sequence


async def repeat(life: Life, scene: Scene, shelf: Shelf) -> None:
    """The same again completes it."""
    await life.act(shelf)
    expected = {
        "make": 3,
        "append": PREPARED + 3,
        "append-after-expiry": 3,
        "configure": PREPARED,
        "trim": 30,
        "restore": PREPARED,
    }
    assert len(await shelf.all()) == expected.get(life.name, 0)
    if life.name == "restore":
        assert await shelf.all() == await shelf.named("source").all()
    if life.name in ("erase", "sweep"):
        assert await shelf.head() is None
    await nothing_is_left(scene, shelf)


async def append_and_sweep(life: Life, scene: Scene, shelf: Shelf) -> None:
    """Others just go on, whatever state it is in."""
    before = await shelf.all()
    await shelf.append(entry("new"))
    after = await shelf.all()
    assert after[:-1] == before
    assert after[-1].entry_id == "new"
    assert shelf.log in await shelf.containers()
    await nothing_is_left(scene, shelf)
    del life


async def sweep_only(life: Life, scene: Scene, shelf: Shelf) -> None:
    """Nobody touches the log again; a sweep, later, finishes what was begun."""
    await nothing_is_left(scene, shelf)
    del life


async def nothing_is_left(scene: Scene, shelf: Shelf) -> None:
    """After a while there are no documents but those of what is there."""
    head = await shelf.head()
    lives = head is not None and head.settings.ttl_s is None
    found: list[Entry] = await shelf.all() if lives else []
    scene.world.clock.advance(SETTLED_S)
    await shelf.sweep()
    scene.world.clock.advance(SETTLED_S)
    assert await shelf.sweep() == 0
    assert await shelf.all() == found
    epoch = 0 if head is None else head.epoch
    left = documents(scene.world.store, keys.log_partition(shelf.log))
    if lives:
        kept = {keys.HEADER} | {keys.entry_sort(epoch, one.sequence) for one in found}
        kept |= {keys.marker_sort(epoch, one.entry_id) for one in found}
        assert {sort for sort in left if not sort.startswith("g.")} == kept
        assert len([sort for sort in left if sort.startswith("g.")]) == 1
        assert shelf.log in await shelf.containers()
    else:
        # A header that says "making" may stay: what crashed right after it has announced nothing yet.
        assert set(left) <= {keys.HEADER}
        assert shelf.log not in await shelf.containers()
    for shard in range(keys.POINTER_SHARDS):
        assert documents(scene.world.store, keys.pointer_partition("logs", "lab", "dev", shard)) == []


def documents(store: MemoryStore, partition: str) -> list[str]:
    """The sort keys of what is there."""
    return list(store.partition(partition).sorts)


async def test_an_erased_log_leaves_no_document_anywhere() -> None:
    scene = Scene()
    _, shelf = await scene.open()
    await fill_for_a_while(shelf)
    await shelf.configure(LogSettings(ttl_s=1_200))
    await shelf.trim(5)
    await shelf.clear()
    await shelf.append(entry("e1"))
    assert await shelf.erase()
    assert all(not partition.sorts for partition in scene.world.store._partitions.values())


async def test_a_copied_log_is_swept_in_time() -> None:
    scene = Scene()
    _, shelf = await scene.open()
    source = shelf.named("source")
    await source.append(entry("e1"), settings=LogSettings(ttl_s=600))
    head = replace(await source.one_head(), settings=LogSettings(ttl_s=600))
    scene.world.clock.advance(500)
    await shelf.restore(head, *await source.all())
    scene.world.clock.advance(101)
    assert await shelf.sweep() == 2
