"""Parents and children: who belongs to whom, and how many of them are finished."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.domain.work import HistoryEvent, ParentStep, WorkStatus, WorkUnit
from perdure.errors import NotFound
from perdure.testing.contracts.rows_opening import outcomes
from perdure.testing.contracts.stores import OpenAnother, new_id
from perdure.testing.contracts.work_opening import Desk, WorkOpening, at, entry, first, following

ACTIVE, COMPLETED = WorkStatus.ACTIVE, WorkStatus.COMPLETED


class WorkParentsContract(WorkOpening):
    """What a parent counts."""

    async def test_a_parent_counts_its_children_and_those_that_are_finished(self, desk: Desk) -> None:
        parent = await desk.save(first())
        one = await desk.save(first(parent=parent))
        other = await desk.save(first(parent=parent))
        assert await self.counts(desk, parent) == (2, 0)
        one = await desk.save(following(one, ACTIVE))
        assert await self.counts(desk, parent) == (2, 0)
        one = await desk.save(following(one, COMPLETED))
        assert await self.counts(desk, parent) == (2, 1)
        await desk.save(following(other, WorkStatus.FAILED))
        assert await self.counts(desk, parent) == (2, 2)
        # Only a waiver lets a finished unit go on.
        moved = following(one, ACTIVE)
        assert moved.parent_step is ParentStep.REOPEN
        waived = replace(moved.unit, history_sequence=moved.unit.history_sequence + 1)
        waiver = entry(moved.unit, before=COMPLETED, event=HistoryEvent.CONSTITUTIONAL_WAIVER, reasoning="it was not")
        one = await desk.save(replace(moved, unit=waived, entries=(waiver, entry(waived, before=COMPLETED))))
        assert await self.counts(desk, parent) == (2, 1)
        # Children change a parent, but not its version.
        assert (await desk.load(parent)).unit == replace(parent, child_count=2, finished_child_count=1)

    async def test_a_child_without_its_parent_is_not_made(self, desk: Desk) -> None:
        child = first(parent=new_id())
        with pytest.raises(NotFound):
            await desk.commit(child)
        gone = await desk.save(first())
        await desk.delete(gone)
        orphan = first(parent=gone)
        with pytest.raises(NotFound):
            await desk.commit(orphan)
        for write in (child, orphan):
            assert await desk.find(write.unit.unit_id) is None
            assert await desk.history(write.unit.unit_id) == []
        assert await desk.units() == []

    async def test_a_request_that_is_repeated_is_counted_once(self, desk: Desk) -> None:
        parent = await desk.save(first())
        child = replace(first(parent=parent), request_id="r", fingerprint="f")
        for replayed in (False, True, True):
            assert (await desk.commit(child)).replayed is replayed
        assert await self.counts(desk, parent) == (1, 0)
        failed = replace(following(child.unit, WorkStatus.FAILED), request_id="r2", fingerprint="f")
        for replayed in (False, True):
            assert (await desk.commit(failed)).replayed is replayed
        assert await self.counts(desk, parent) == (1, 1)

    async def test_children_of_many_clients_are_all_counted(self, desk: Desk, open_another: OpenAnother) -> None:
        parent = await desk.save(first())
        rivals = await self.rivals(desk, open_another, 6)

        async def live(rival: Desk, number: int) -> WorkUnit:
            """Make a child, and finish every other one."""
            child = await rival.save(first(parent=parent, created_at=at(number)))
            return await rival.save(following(child, WorkStatus.FAILED)) if number % 2 else child

        children = await outcomes(*(live(rival, number) for number, rival in enumerate(rivals)))
        assert await self.counts(desk, parent) == (6, 3)
        assert await desk.units(parent=parent) == children
        assert (await desk.load(parent)).unit.version == 1

    async def test_a_save_of_a_parent_keeps_the_counts_that_came_since(self, desk: Desk) -> None:
        parent = await desk.save(first())
        child = await desk.save(first(parent=parent))
        saved = await desk.save(following(parent, ACTIVE))
        assert saved.child_count == 1
        await desk.save(following(child, WorkStatus.FAILED))
        saved = await desk.save(following(saved))
        assert (saved.child_count, saved.finished_child_count) == (1, 1)
        assert (await desk.load(parent)).unit == saved

    async def test_a_child_that_was_deleted_was_a_child_and_one_made_again_is_another(self, desk: Desk) -> None:
        parent = await desk.save(first())
        child = await desk.save(following(await desk.save(first(parent=parent)), WorkStatus.FAILED))
        await desk.delete(child)
        assert await self.counts(desk, parent) == (1, 1)
        again = following(replace(child, version=0, history_sequence=3, status=WorkStatus.PENDING))
        child = await desk.save(replace(again, parent_step=ParentStep.ADOPT))
        assert await self.counts(desk, parent) == (2, 1)
        await desk.save(following(child, WorkStatus.FAILED))
        assert await self.counts(desk, parent) == (2, 2)

    async def test_a_child_outlives_its_parent(self, desk: Desk) -> None:
        parent = await desk.save(first())
        child = await desk.save(first(parent=parent))
        await desk.delete((await desk.load(parent)).unit)
        child = await desk.save(following(child, WorkStatus.FAILED))
        assert (await desk.load(child)).unit == child
        assert await desk.units(parent=parent) == [child]

    async def counts(self, desk: Desk, parent: WorkUnit) -> tuple[int, int]:
        """Children, and finished ones."""
        unit = (await desk.load(parent)).unit
        return unit.child_count, unit.finished_child_count
