"""A save that is torn: whichever operation of it fails, and however, the unit is as before or as after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pytest

from perdure.core.work import WorkUnits
from perdure.domain.work_results import Work
from perdure.errors import PerdureError, StaleVersion
from perdure.testing.driver_faults import Crash, Crashed, Fault, FaultyDriver
from tests.core.work_worlds import ENGINES, OWNER, World, make_driver, open_world

SAVERS: Final = 16

Operation = Callable[[WorkUnits, Work], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that there is of a unit, but for what heartbeats move."""

    unit: object
    attributes: object
    history: object
    versions: object


async def state_of(world: World, unit: Work) -> State:
    """What is kept."""
    now = await world.work.find(unit)
    documents = await world.documents(unit)
    return State(
        unit=None if now is None else now.unit,
        attributes=None if now is None else dict(now.attributes),
        history=await world.work.get_history(unit),
        # Those of a deleted unit are nobody's, and go when they go.
        versions=None if now is None else sorted(sort for sort in documents if sort.startswith("t.")),
    )


async def complete(work: WorkUnits, unit: Work) -> Work:
    """Status, interaction, attributes, hash, heartbeat and history at once."""
    return await work.save(
        unit,
        new_status="COMPLETED",
        attributes={"amount": 2, "added": "x"},
        removed=["gone"],
        new_interaction_id="the end",
        metadata={"waived": False},
        reasoning="done",
    )


async def waived(work: WorkUnits, unit: Work) -> Work:
    """Two entries at once."""
    return await work.save(unit, new_status="ARCHIVED", attributes={"amount": 3}, waive="because")


async def beat(work: WorkUnits, unit: Work) -> object:
    """A save that writes no history."""
    return await work.save(unit)


async def delete(work: WorkUnits, unit: Work) -> object:
    """The unit goes, the history stays."""
    await work.delete(unit)
    return None


OPERATIONS: Final[dict[str, Operation]] = {"complete": complete, "waive": waived, "beat": beat, "delete": delete}


async def prepared(world: World) -> Work:
    """A unit with some history, and a parent."""
    parent = await world.work.create(instance="i")
    unit = await world.work.create(instance="i", parent=parent, attributes={"amount": 1, "gone": 1})
    return await world.work.checkout(unit, owner=OWNER)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("engine", ENGINES)
async def test_r60_dying_at_any_operation_of_a_save_leaves_all_of_it_or_nothing(
    tmp_path: Path, engine: str, name: str, moment: Literal["before", "after"]
) -> None:
    seen = []
    number = 1
    while True:
        folder = tmp_path / str(number)
        folder.mkdir()
        opened = make_driver(engine, folder)
        async with open_world(opened()) as clean:
            unit = await prepared(clean)
            before = await state_of(clean, unit)
            counting = FaultyDriver(opened())
            async with open_world(counting, clock=clean.clock, ids=1, route=False):
                opening = counting.reads + counting.commits
            faulty = FaultyDriver(opened(), crash=Crash(at=opening + number, moment=moment))
            died = False
            async with open_world(faulty, clock=clean.clock, ids=2, route=False) as torn:
                try:
                    await OPERATIONS[name](torn.work, unit)
                except Crashed:
                    died = True
            after = await state_of(clean, unit)
            assert (await clean.work.verify(unit)).ok, f"operation {number}"
            seen.append(after == before)
            if after != before:
                # Whatever is there is all of it: what a save that nobody disturbed leaves.
                await whole(tmp_path / f"whole-{number}", engine, name, after)
        if not died:
            break
        number += 1
    assert seen[0] is True, "before the first operation nothing is done"
    assert seen[-1] is False, "undisturbed, all of it is done"
    assert seen == sorted(seen, reverse=True), "once it is done, it stays done"


async def whole(folder: Path, engine: str, name: str, after: State) -> None:
    """Compare a state with that of a save that nobody disturbed, ids aside."""
    await asyncio.to_thread(folder.mkdir)
    opened = make_driver(engine, folder)
    async with open_world(opened()) as clean:
        unit = await prepared(clean)
        async with open_world(opened(), clock=clean.clock, ids=2, route=False) as other:
            await OPERATIONS[name](other.work, unit)
        expected = await state_of(clean, unit)
    assert expected == after


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.TIMED_OUT, Fault.THROTTLED, Fault.LOST_UNDONE, Fault.LOST_DONE])
async def test_r60_a_commit_that_fails_once_is_done_once_or_not_at_all(tmp_path: Path, fault: Fault) -> None:
    for number in range(6):
        opened = make_driver("memory", tmp_path)
        async with open_world(opened()) as clean:
            unit = await prepared(clean)
            before = await state_of(clean, unit)
            faulty = FaultyDriver(opened(), commits=[*[None] * number, fault])
            async with open_world(faulty, clock=clean.clock, ids=2, route=False) as torn:
                with suppress(PerdureError):  # what it said is judged below by what it left
                    await complete(torn.work, unit)
            after = await state_of(clean, unit)
            assert (await clean.work.verify(unit)).ok
            assert after == before or len(after.history) == 3  # type: ignore[arg-type]  # entries


@pytest.mark.parametrize("engine", ENGINES)
async def test_r62_of_sixteen_savers_one_wins_each_version_and_the_others_are_told(tmp_path: Path, engine: str) -> None:
    opened = make_driver(engine, tmp_path)
    async with open_world(opened()) as world:
        unit = await world.work.create(instance="i", attributes={"n": 0})
        lost = 0

        async def saver(number: int) -> None:
            """Save once, however often it takes."""
            nonlocal lost
            while True:
                now = await world.work.get(unit)
                try:
                    await world.work.save(now, attributes={"n": number})
                except StaleVersion as exc:
                    lost += exc.detail["found"] != now.version
                else:
                    return

        await asyncio.gather(*(saver(number) for number in range(1, SAVERS + 1)))
        now = await world.work.get(unit)
        assert now.version == SAVERS + 1
        assert [entry.sequence for entry in await world.work.get_history(unit)] == list(range(1, SAVERS + 2))
        assert lost >= SAVERS - 1
        assert (await world.work.verify(unit)).ok
