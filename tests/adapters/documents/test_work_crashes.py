"""A process that dies, or whose engine is away from some operation on: each save is kept whole, or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Literal

import pytest

from perdure.adapters.memory.driver import MemoryDriver
from perdure.domain.work import WorkStatus, WorkUnit
from perdure.errors import Unavailable
from perdure.testing.contracts.stores import TIMEOUT_S, new_id
from perdure.testing.contracts.work_opening import OWNER, Desk, at, attribute, first, following, ids, leasing
from perdure.testing.driver_faults import Crash, Crashed, Fault, FaultyDriver
from perdure.testing.environment import START_DEFAULT
from tests.adapters.documents.work_clients import World

OPERATIONS_MAX: Final = 60  # far more than any call needs; a sweep that comes here is wrong
SETTLED_S: Final = 3_600.0  # nobody waits so long for what was announced
PARENT, CHILD, NEW = new_id(), new_id(), new_id()
ACTIVE = WorkStatus.ACTIVE

Action = Callable[[Desk], Awaitable[object]]
Moment = Literal["before", "after"]


async def made() -> World:
    """A parent, and its child with a few attributes."""
    world = World()
    async with world.client() as desk:
        parent = await desk.save(first(unit_id=PARENT, created_at=at(-9)))
        some = [attribute("a"), attribute("b")]
        child = await desk.save(first(unit_id=CHILD, parent=parent, actor_id="ann", attributes=some))
        await desk.save(leasing(child))
    return world


async def child_of(desk: Desk) -> WorkUnit:
    stored = await desk.find(CHILD)
    assert stored is not None
    return stored.unit


async def make(desk: Desk) -> None:
    write = first(unit_id=NEW, parent=PARENT, actor_id="ann", created_at=at(9), attributes=[attribute("c")])
    await desk.commit(replace(write, request_id="r", fingerprint="f"))


async def change(desk: Desk) -> None:
    write = following(await child_of(desk), attributes=[attribute("a", "2", version=2, sequence=3), attribute("c")])
    await desk.commit(write)


async def finish(desk: Desk) -> None:
    await desk.commit(following(await child_of(desk), WorkStatus.COMPLETED))


async def delete(desk: Desk) -> None:
    await desk.delete(await child_of(desk))


async def beat(desk: Desk) -> None:
    await desk.beat(await child_of(desk), at(50), owner=OWNER)


ACTIONS: Final[dict[str, Action]] = {
    "make": make,
    "change": change,
    "finish": finish,
    "delete": delete,
    "beat": beat,
}


async def check(world: World, *, whole: bool) -> tuple[object, ...]:
    """Assert that all lists say what the units say; what is there, for comparison."""
    async with world.client() as desk:
        seen: list[object] = []
        units = [stored.unit for unit_id in (PARENT, CHILD, NEW) if (stored := await desk.find(unit_id)) is not None]
        assert ids(await desk.units()) == ids(units) == ids(await desk.units(instance_id="instance-1"))
        for status in WorkStatus:
            expected = [unit.unit_id for unit in units if unit.status is status]
            assert ids(await desk.units(status=status)) == expected
            assert ids(await desk.units(status=status, instance_id="instance-1")) == expected
        for unit_id in (PARENT, CHILD, NEW):
            stored, entries = await desk.find(unit_id), await desk.entries(unit_id)
            assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
            found = await desk.find_history()
            assert [entry for entry in found if entry.unit_id == unit_id] == entries
            by_actor = await desk.find_history(actor_id="ann")
            assert [one for one in by_actor if one.unit_id == unit_id] == [one for one in entries if one.actor_id]
            versions = await desk.versions(unit_id)
            if stored is not None:
                assert stored.unit.history_sequence == len(entries)
                assert dict(versions) == {key: one.version for key, one in stored.attributes.items()}
            else:
                assert versions == []
            unit = None if stored is None else replace(stored.unit, child_count=0, finished_child_count=0)
            seen += [unit, len(entries), versions]
        watched = [unit.unit_id for unit in units if unit.status is ACTIVE]
        assert await desk.watch(at(99)) == watched
        if whole:
            await check_whole(world, desk, units)
        return tuple(seen)


async def check_whole(world: World, desk: Desk, units: list[WorkUnit]) -> None:
    """Assert that nothing is left to do: a parent counts what there is, and nothing lists what is not."""
    parent, *children = units
    deleted = len(await desk.history(CHILD)) > 2 and await desk.find(CHILD) is None
    assert parent.child_count == len(children) + deleted
    finished = [child for child in children if child.status is WorkStatus.COMPLETED]
    assert parent.finished_child_count == len(finished)
    assert world.sorts("p.") == []
    # Once of the space and once of the instance.
    assert len(world.sorts("s.")) <= 2 * len(units) + 2
    versions = sum([len(await desk.versions(unit.unit_id)) for unit in units])
    assert len(world.sorts("t.", partitions="work.")) == versions


async def sweep(world: World) -> None:
    """What any client does, once nobody can be waiting for anything any more."""
    world.clock.advance(SETTLED_S)
    async with world.client() as desk:
        await desk.watch(START_DEFAULT)


async def dies(world: World, action: Action, at_operation: int, moment: Moment) -> bool:
    """Do it with a process that dies at an operation; False if it needed fewer."""
    crash = Crash(at=at_operation, moment=moment)
    async with world.client(lambda driver: FaultyDriver(driver, crash=crash)) as desk:
        try:
            await action(desk)
        except Crashed:
            return True
        return False


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", ACTIONS)
async def test_a_process_that_dies_leaves_all_of_a_save_or_nothing(name: str, moment: Moment) -> None:
    action = ACTIONS[name]
    before = await check(await made(), whole=True)
    world = await made()
    async with world.client() as desk:
        await action(desk)
    after = await check(world, whole=True)
    assert before != after
    outcomes = []
    for number in range(1, OPERATIONS_MAX):
        world = await made()
        died = await dies(world, action, number, moment)
        outcomes.append(await check(world, whole=False))
        assert outcomes[-1] in (before, after), number
        await sweep(world)
        assert await check(world, whole=True) == outcomes[-1], number
        if not died:
            break
    # Not done for a while, and done from some operation on.
    assert outcomes == sorted(outcomes, key=lambda one: one == after)
    assert outcomes[-1] == after


@pytest.mark.parametrize("name", ["make", "finish", "delete"])
async def test_an_engine_that_goes_away_leaves_all_of_a_save_or_nothing(name: str) -> None:
    action = ACTIONS[name]
    before = await check(await made(), whole=True)
    for number in range(OPERATIONS_MAX):
        world = await made()
        faulty = FaultyDriver(MemoryDriver(world.store), commits=[None] * number, commit_chances={Fault.DOWN: 1.0})
        acknowledged = False
        async with world.client(lambda _, driver=faulty: driver) as desk:  # type: ignore[misc]  # a default binds it
            try:
                await action(desk)
                acknowledged = True
            except Unavailable:
                pass
        seen = await check(world, whole=False)
        assert (seen != before) == acknowledged, "what failed is not there, and what is there was acknowledged"
        await sweep(world)
        assert await check(world, whole=True) == seen
        if faulty.commits <= number:
            return
    pytest.fail("a save never came to its end")


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_save_with_a_request_is_repeated_by_somebody_else_after_a_crash(moment: Moment) -> None:
    for number in range(1, OPERATIONS_MAX):
        world = await made()
        died = await dies(world, make, number, moment)
        async with world.client() as desk:
            await make(desk)
            await make(desk)
        # What the first announced is not taken for what the second did, whether or not it was cleaned up.
        await check(world, whole=False)
        await sweep(world)
        await check(world, whole=True)
        async with world.client() as desk:
            assert await desk.history(NEW) == [1]
            parent = await desk.find(PARENT)
            assert parent is not None
            assert parent.unit.child_count == 2
        if not died:
            return
    pytest.fail("a save never came to its end")


async def test_a_child_is_counted_though_it_was_deleted_before_its_parent_heard_of_it() -> None:
    for number in range(1, OPERATIONS_MAX):
        world = await made()
        died = await dies(world, make, number, "after")
        async with world.client() as desk:
            stored = await desk.find(NEW)
            if stored is not None:
                await desk.delete(stored.unit)
            await sweep(world)
            parent = await desk.find(PARENT)
            assert parent is not None
            assert parent.unit.child_count == 1 + (stored is not None)
        if not died:
            return
    pytest.fail("a save never came to its end")


async def test_what_belonged_to_a_deleted_unit_is_removed_however_much_it_was() -> None:
    world = World()
    async with world.client() as desk:
        unit = await desk.save(first(attributes=[attribute(f"k{number}") for number in range(60)]))
        for version in range(2, 5):
            some = [attribute(f"k{number}", version=version, sequence=version) for number in range(60)]
            unit = await desk.save(following(unit, attributes=some))
        await desk.store.delete(desk.space, unit.unit_id, last=following(unit), timeout_s=TIMEOUT_S)
    assert world.sorts("", partitions="work.") == [f"e.{number:019d}" for number in range(1, 6)] + ["u"]
    assert [sort[:2] for sort in world.sorts("")] == ["h."] * 10
