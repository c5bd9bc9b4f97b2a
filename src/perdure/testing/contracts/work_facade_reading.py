"""What looking at units of work promises, and what keeps them alive: history, verification, heartbeats, sweeps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from perdure.core.work import WorkUnits
from perdure.domain.container import Space
from perdure.domain.typed_values import TypedValue
from perdure.domain.work import HistoryEntry, HistoryEvent, WorkStatus, WorkWrite
from perdure.domain.work_results import WorkCheck
from perdure.errors import IllegalTransition, Invalid, LeaseLost, NotFound, StaleVersion
from perdure.ports.work import WorkStore
from perdure.testing.contracts.routed_opening import OpenPlane, Town
from perdure.testing.contracts.stores import OpenAnother
from perdure.testing.contracts.work_facade_opening import OWNER, WorkFacadeOpening, active, made, seen, slipped_in

NOBODY = UUID("00000000-0000-4000-8000-000000000000")


class WorkReadingContract(WorkFacadeOpening):
    """History, verification, leases."""

    async def test_two_transitions_are_in_the_history_in_order(self, work: WorkUnits) -> None:
        unit = await work.save(await active(work), new_status="COMPLETED")
        assert [entry.new_status for entry in await work.get_history(unit)] == ["PENDING", "ACTIVE", "COMPLETED"]

    async def test_r65_the_order_of_attributes_and_of_saves_does_not_matter_and_the_unit_does(
        self, work: WorkUnits
    ) -> None:
        values: dict[str, TypedValue] = {"b": [1, {"y": 1, "x": 2}], "a": "text", "c": 1}
        first = await work.create(instance="i", attributes=values)
        other = await work.save(await work.create(instance="i", attributes={"c": 1.0}), attributes={"a": "text"})
        other = await work.save(other, attributes={"b": [1.0, {"x": 2, "y": 1}]})
        assert first.unit.content_hash != other.unit.content_hash
        again = await work.save(first, attributes=dict(reversed(list(values.items()))), removed=["never"])
        assert again.unit.content_hash == first.unit.content_hash
        back = await work.save(again, attributes={"c": "1"})
        assert back.unit.content_hash != first.unit.content_hash
        assert (await work.verify(other)).ok

    async def test_r67_deleting_a_unit_keeps_its_history(self, work: WorkUnits) -> None:
        unit = await work.save(await active(work, amount=1), new_status="COMPLETED")
        await work.delete(unit, reasoning="asked to")
        assert await work.find(unit) is None
        entries = await work.get_history(unit)
        assert [entry.sequence for entry in entries] == [1, 2, 3, 4]
        assert (entries[-1].event, entries[-1].reasoning) == (HistoryEvent.WORK_DELETED, "asked to")
        found = await work.verify(unit)
        assert (found.check, found.entries) == (WorkCheck.OK, 4)
        with pytest.raises(NotFound):
            await work.save(unit, new_status="ARCHIVED")
        with pytest.raises(StaleVersion):
            await work.create(instance="i", unit_id=unit.unit_id)

    async def test_r68_a_history_is_dense_and_its_chain_verifies(self, work: WorkUnits) -> None:
        unit = await made(work, n=0)
        for number in range(1, 6):
            unit = await work.save(unit, attributes={"n": number}, metadata={"n": number})
        entries = await work.get_history(unit)
        assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5, 6]
        assert [entry.previous_entry_hash for entry in entries[1:]] == [entry.entry_hash for entry in entries[:-1]]
        assert [entry.previous_state_hash for entry in entries[1:]] == [entry.new_state_hash for entry in entries[:-1]]
        found = await work.verify(unit)
        assert found.check is WorkCheck.OK
        assert found.anchor == await work.anchor(unit)
        assert (await work.verify(unit, anchor=str(found.anchor))).ok

    async def test_r68_an_entry_that_does_not_fit_is_found_and_located(
        self, work: WorkUnits, work_store: WorkStore, space: Space
    ) -> None:
        unit = await active(work, n=0)
        (_, last) = await work.get_history(unit)
        forged = replace(last, sequence=3, history_id=NOBODY, previous_entry_hash=last.entry_hash, reasoning="forged")
        after = replace(unit.unit, version=3, history_sequence=3, history_hash=forged.entry_hash)
        await work_store.commit(space, WorkWrite(unit=after, entries=(forged,), attributes=()), timeout_s=60)
        found = await work.verify(unit)
        assert (found.check, found.first_bad, found.entries) == (WorkCheck.CHAIN_BROKEN, 3, 2)

    async def test_r68_a_tail_that_was_cut_off_is_found_with_an_anchor(self, work: WorkUnits) -> None:
        unit = await active(work, n=0)
        anchor = await work.anchor(unit)
        for later in (replace(anchor, sequence=3), replace(anchor, sequence=9)):
            found = await work.verify(unit, anchor=later)
            assert (found.check, found.first_bad) == (WorkCheck.CHAIN_BROKEN, 3)
        found = await work.verify(unit, anchor=replace(anchor, entry_hash="0" * 64))
        assert (found.check, found.first_bad) == (WorkCheck.CHAIN_BROKEN, 2)
        with pytest.raises(Invalid):
            await work.verify(unit, anchor=replace(anchor, unit_id=NOBODY))
        with pytest.raises(Invalid):
            await work.verify(unit, anchor="no anchor")

    async def test_a_hash_that_was_changed_is_drift(
        self, work: WorkUnits, work_store: WorkStore, space: Space, town: Town
    ) -> None:
        unit = await active(work, n=0)
        await slipped_in(work_store, space, unit, town.clock.now(), keep_hash=False)
        found = await work.verify(unit)
        assert (found.check, found.fields) == (WorkCheck.DRIFT, ("content_hash",))

    async def test_nothing_is_found_of_a_unit_that_never_was(self, work: WorkUnits) -> None:
        assert await work.find(NOBODY) is None
        assert await work.get_history(NOBODY) == ()
        for call in (work.get(NOBODY), work.verify(NOBODY), work.anchor(NOBODY)):
            with pytest.raises(NotFound):
                await call

    async def test_r72_only_the_owner_of_an_active_unit_beats(self, work: WorkUnits, town: Town) -> None:
        unit = await active(work)
        await self.pass_time(5)
        assert await work.heartbeat(unit, owner=OWNER) is True
        now = (await work.get(unit)).unit
        assert (now.heartbeat_at, now.version) == (town.clock.now(), unit.version)
        assert len(await work.get_history(unit)) == 2
        assert await work.heartbeat(NOBODY, owner=OWNER) is False
        with pytest.raises(LeaseLost):
            await work.heartbeat(unit, owner="worker-2")
        done = await work.save(unit, new_status="COMPLETED")
        with pytest.raises(LeaseLost):
            await work.heartbeat(done, owner=OWNER)
        assert await work.get(unit) == done

    async def test_r72_a_heartbeat_that_races_a_sweep_never_yields_both(self, work: WorkUnits) -> None:
        unit = await active(work)
        await self.pass_time(600)
        beaten, swept = await asyncio.gather(
            work.heartbeat(unit, owner=OWNER), work.sweep(older_than_s=300), return_exceptions=True
        )
        now = await work.get(unit)
        if isinstance(beaten, LeaseLost):
            assert now.status is WorkStatus.ZOMBIED_SOFT
        else:
            assert beaten is True
            assert now.status is WorkStatus.ACTIVE
            assert not isinstance(swept, BaseException)
            assert swept.zombied == ()

    async def test_r73_a_stale_unit_is_soft_then_dead_by_how_often_it_was_tried(self, work: WorkUnits) -> None:
        unit = await active(work)
        fresh = await work.create(instance="i")
        for retry in range(2):
            await self.pass_time(301)
            swept = await work.sweep(older_than_s=300, retries_max=2)
            assert (swept.zombied, swept.dead) == ((unit.unit_id,), ())
            found = await work.get(unit)
            assert (found.status, found.unit.retry_count) == (WorkStatus.ZOMBIED_SOFT, retry)
            unit = await work.checkout(found, owner=OWNER)
        await self.pass_time(301)
        swept = await work.sweep(older_than_s=300, retries_max=2)
        assert (swept.zombied, swept.dead) == ((unit.unit_id,), (unit.unit_id,))
        assert (await work.get(unit)).status is WorkStatus.ZOMBIED_DEAD
        soft, dead = (await work.get_history(unit))[-2:]
        assert (soft.new_status, soft.reasoning) == (WorkStatus.ZOMBIED_SOFT, "no sign of life for 300 seconds")
        assert (dead.new_status, dead.reasoning) == (WorkStatus.ZOMBIED_DEAD, "tried again 2 times, of at most 2")
        assert (await work.get(fresh)).status is WorkStatus.PENDING
        assert (await work.verify(unit)).ok

    async def test_r73_a_sweep_takes_every_page_and_leaves_what_is_alive(self, work: WorkUnits) -> None:
        stale = {(await active(work)).unit_id for _ in range(4)}
        await self.pass_time(301)
        alive = await active(work)
        done = await work.save(await active(work), new_status="COMPLETED")
        swept = await work.sweep()
        assert set(swept.zombied) == stale
        assert (await work.get(alive)).status is WorkStatus.ACTIVE
        assert (await work.get(done)).status is WorkStatus.COMPLETED
        assert {unit.unit_id for unit in await work.find_by_status("ZOMBIED_SOFT")} == stale

    async def test_r74_limits_of_a_history(self, work: WorkUnits) -> None:
        unit = await made(work)
        for number in range(4):
            unit = await work.save(unit, attributes={"n": number})

        async def numbers(*arguments: int, after: int = 0, newest: bool = False) -> list[int]:
            entries = await work.get_history(unit, *arguments, after=after, newest=newest)
            return [entry.sequence for entry in entries]

        assert await numbers() == [1, 2, 3, 4, 5]
        assert await numbers(0) == []
        assert await numbers(2) == [1, 2]
        assert await numbers(99) == [1, 2, 3, 4, 5]
        assert await numbers(2, newest=True) == [4, 5]
        assert await numbers(0, newest=True) == []
        assert await numbers(2, after=3) == [4, 5]
        assert await numbers(9, after=3, newest=True) == [4, 5]
        assert await numbers(after=5) == []
        for arguments in ({"limit": -1}, {"after": -1}):
            with pytest.raises(Invalid):
                await work.get_history(unit, **arguments)  # type: ignore[arg-type]  # on purpose

    async def test_history_is_found_by_instance_actor_and_time_in_pages(self, work: WorkUnits, town: Town) -> None:
        began = town.clock.now()
        units = []
        for number in range(3):
            units.append(await work.create(instance=f"instance-{number % 2}", actor=f"user:{number}"))
            await self.pass_time(10)
            await work.save(units[-1], new_status="ACTIVE", actor_id="user:boss")
        until = began + timedelta(seconds=10)
        assert len(await work.history(instance="instance-0")) == 4
        assert len(await work.history(actor="user:boss")) == 3
        assert [entry.actor_id for entry in await work.history(until=until)] == ["user:0"]
        assert [entry.unit_id for entry in await work.history(since=began + timedelta(seconds=30))] == [
            units[-1].unit_id
        ]
        both = await work.history(instance="instance-1", actor="user:boss")
        assert [entry.instance_id for entry in both] == ["instance-1"]
        found: list[HistoryEntry] = []
        cursor: str | None = None
        while True:
            page = await work.history(limit=2, cursor=cursor)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(found) == 6 == len({entry.history_id for entry in found})
        with pytest.raises(Invalid):
            await work.history(since=datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None))
        with pytest.raises(Invalid):
            await work.history(cursor="nonsense")

    async def test_units_are_listed_by_status_instance_and_parent(self, work: WorkUnits) -> None:
        units = [await work.create(instance=f"instance-{number % 2}") for number in range(4)]
        await work.save(units[0], new_status="ACTIVE")
        assert [unit.unit_id for unit in await work.list()] == [unit.unit_id for unit in units]
        assert [unit.unit_id for unit in await work.find_by_status("ACTIVE")] == [units[0].unit_id]
        assert [unit.unit_id for unit in await work.list(instance="instance-1", status="PENDING")] == [
            units[1].unit_id,
            units[3].unit_id,
        ]
        page = await work.list(limit=3)
        assert [unit.unit_id for unit in await work.list(cursor=page.next_cursor)] == [units[3].unit_id]

    async def test_an_approval_goes_where_the_unit_was_going_and_a_rejection_fails_it(self, work: WorkUnits) -> None:
        first, second = await active(work), await active(work)
        parked = await work.save(first, new_status="PENDING_PILOT_APPROVAL")
        assert parked.is_parked
        with pytest.raises(IllegalTransition):
            await work.save(parked, new_status="COMPLETED")
        resumed = await work.approve(parked, actor_id="user:ann", reasoning="fine", metadata={"ticket": 1})
        assert resumed.status is WorkStatus.ACTIVE
        entry = (await work.get_history(first))[-1]
        assert (entry.event, entry.actor_id, entry.reasoning) == (HistoryEvent.PILOT_OVERRIDE, "user:ann", "fine")
        assert entry.transition_metadata == {
            "ticket": 1,
            "approval": {"answer": "approved", "by": "user:ann", "reason": "fine"},
        }
        parked = await work.save(second, new_status="PENDING_PILOT_APPROVAL")
        assert (await work.reject(parked, actor_id="user:ann", reasoning="no")).status is WorkStatus.FAILED
        with pytest.raises(IllegalTransition):
            await work.approve(second, actor_id="user:ann", expected_version=4)
        assert (await work.verify(first)).ok
        assert (await work.verify(second)).ok

    async def test_nobody_else_sees_a_unit(
        self, town: Town, work: WorkUnits, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        unit = await active(work)
        other = town.plane.tenant(town.tenant, project="other").work
        assert await other.find(unit) is None
        assert (await other.list()).items == ()
        assert await other.get_history(unit) == ()
        neighbour = (await self.neighbour(town, open_another, open_plane)).work

        async def is_seen() -> bool:
            return await neighbour.find(unit) is not None

        await self.catch_up(town, is_seen)
        assert await seen(neighbour, unit) == await seen(work, unit)
