"""What saving a unit of work promises: transitions, versions, drift, counters, leases, requests."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from perdure.core.work import WorkUnits
from perdure.domain.container import Space
from perdure.domain.typed_values import TypedValue
from perdure.domain.work import HistoryEvent, WorkStatus
from perdure.domain.work_results import DriftKind, WorkCheck
from perdure.errors import (
    HashDrift,
    IllegalTransition,
    Invalid,
    KeyReused,
    LeaseLost,
    NotFound,
    OutcomeUnknown,
    StaleVersion,
)
from perdure.ports.work import WorkStore
from perdure.testing.contracts.routed_opening import Town
from perdure.testing.contracts.work_facade_opening import (
    OWNER,
    WorkFacadeOpening,
    active,
    made,
    request_id,
    seen,
    slipped_in,
)
from perdure.testing.watched import failing

VALUES: dict[str, TypedValue] = {
    "amount": Decimal("1250.00"),
    "due": datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
    "id": UUID("6f0c3c1e-5d0b-5c6e-9a51-0d7a3f2b8e44"),
    "scan": b"\x00\xff",
    "large": 2**80,
    "float": 1.0,
    "nested": {"lines": [1, "two", None, {"$": True}]},
    "text": "naïve \U0001f600 \x00",
}


class WorkSavingContract(WorkFacadeOpening):
    """Saves."""

    async def test_a_save_leaves_a_hash_of_64_hex_digits_a_heartbeat_and_the_status(self, work: WorkUnits) -> None:
        unit = await work.save(await made(work, amount=1), new_status="ACTIVE")
        assert unit.status is WorkStatus.ACTIVE
        assert unit.unit.heartbeat_at is not None
        digits = unit.unit.content_hash
        assert digits is not None
        assert len(digits) == 64 == len(digits.strip("ghijklmnopqrstuvwxyzABCDEF"))
        assert unit.unit.hash_scheme == "v1"

    async def test_a_change_of_status_is_one_entry_with_its_reasoning(self, work: WorkUnits) -> None:
        unit = await work.save(await made(work), new_status="ACTIVE", reasoning="it is its turn", actor_id="user:ann")
        (_, entry) = await work.get_history(unit)
        assert (entry.event, entry.reasoning, entry.actor_id) == (
            HistoryEvent.STATE_TRANSITION,
            "it is its turn",
            "user:ann",
        )
        assert (entry.previous_status, entry.new_status) == (WorkStatus.PENDING, WorkStatus.ACTIVE)

    async def test_every_type_of_value_comes_back_as_it_was(self, work: WorkUnits) -> None:
        unit = await work.create(instance="i", attributes=VALUES)
        found = await work.get(unit)
        assert dict(found.attributes) == VALUES
        assert {key: type(value) for key, value in found.attributes.items()} == {
            key: type(value) for key, value in VALUES.items()
        }
        assert (await work.verify(unit)).check is WorkCheck.OK

    async def test_r61_an_illegal_transition_writes_nothing(self, work: WorkUnits) -> None:
        unit = await work.save(await active(work, amount=1), new_status="COMPLETED")
        before = await seen(work, unit)
        with pytest.raises(IllegalTransition):
            await work.save(unit, new_status="PENDING", attributes={"amount": 2})
        with pytest.raises(Invalid):
            await work.save(unit, new_status="BANANA")
        assert await seen(work, unit) == before

    async def test_a_waiver_allows_a_transition_and_stays_in_the_history(self, work: WorkUnits) -> None:
        unit = await work.save(await active(work), new_status="COMPLETED")
        unit = await work.save(unit, new_status="ACTIVE", waive="the customer called", metadata={"ticket": 7})
        _, _, _, waiver, transition = await work.get_history(unit)
        assert (waiver.event, waiver.reasoning) == (HistoryEvent.CONSTITUTIONAL_WAIVER, "the customer called")
        assert waiver.transition_metadata == {"ticket": 7, "waived": ["transition"]}
        assert (transition.event, transition.new_status) == (HistoryEvent.STATE_TRANSITION, WorkStatus.ACTIVE)
        assert transition.transition_metadata == {"ticket": 7}
        assert (await work.verify(unit)).ok

    async def test_r62_of_concurrent_saves_one_is_kept_and_the_others_are_stale(self, work: WorkUnits) -> None:
        unit = await active(work, n=0)
        results = await asyncio.gather(
            *(work.save(unit, attributes={"n": number}) for number in range(1, 5)), return_exceptions=True
        )
        stale = [one for one in results if isinstance(one, StaleVersion)]
        (kept,) = [one for one in results if not isinstance(one, BaseException)]
        assert len(stale) == 3, results
        assert dict((await work.get(unit)).attributes) == dict(kept.attributes)
        assert len(await work.get_history(unit)) == 3
        assert (await work.verify(unit)).ok

    async def test_r63_metadata_and_reasoning_come_back_as_given(self, work: WorkUnits) -> None:
        metadata = {"constitutional_waiver": True, "score": 0.5, "nested": {"empty": [], "none": None, "text": "é"}}
        reasoning = "two\nlines, and a 'quote'"
        unit = await work.save(await made(work), new_status="ACTIVE", metadata=metadata, reasoning=reasoning)
        entry = (await work.get_history(unit))[-1]
        assert (entry.transition_metadata, entry.reasoning) == (metadata, reasoning)
        first = (await work.get_history(await work.create(instance="i", metadata={"a": 1}, reasoning="new")))[0]
        assert (first.transition_metadata, first.reasoning) == ({"a": 1}, "new")

    async def test_r64_the_latest_version_of_an_attribute_is_hashed(self, work: WorkUnits) -> None:
        unit = await active(work, amount=100)
        first = unit.unit.content_hash
        second = await work.save(unit, attributes={"amount": 999_999})
        assert second.unit.content_hash != first
        back = await work.save(second, attributes={"amount": 100})
        assert back.unit.content_hash == first
        assert [entry.event for entry in await work.get_history(unit)][2:] == [HistoryEvent.ATTRIBUTES_CHANGED] * 2

    async def test_r64_a_version_that_no_save_wrote_is_drift(
        self, work: WorkUnits, work_store: WorkStore, space: Space, town: Town
    ) -> None:
        unit = await active(work, amount=100, kept=1)
        await slipped_in(work_store, space, unit, town.clock.now(), amount=999_999, planted=True)
        found = await work.verify(unit)
        assert found.check is WorkCheck.DRIFT
        assert {(drift.key, drift.kind) for drift in found.attributes} == {
            ("amount", DriftKind.CHANGED),
            ("planted", DriftKind.ADDED),
        }
        amount = next(drift for drift in found.attributes if drift.key == "amount")
        assert (amount.expected_version, amount.found_version) == (1, 2)
        assert (amount.previous, amount.current) == (100, 999_999)

    async def test_r66_drift_is_reported_before_it_can_be_overwritten(
        self, work: WorkUnits, work_store: WorkStore, space: Space, town: Town
    ) -> None:
        unit = await active(work, amount=100)
        stored = await slipped_in(work_store, space, unit, town.clock.now(), amount=999_999)
        with pytest.raises(HashDrift) as caught:
            await work.save(unit, expected_version=stored.unit.version, attributes={"amount": 5})
        assert caught.value.detail["changed"] == ["amount"]
        assert "999" not in f"{caught.value.message} {caught.value.detail}"
        assert await work_store.load(space, unit.unit_id, timeout_s=60) == stored
        with pytest.raises(HashDrift):
            await work.delete(unit, expected_version=stored.unit.version)

    async def test_drift_may_be_waived_with_a_reason_and_is_vouched_for_then(
        self, work: WorkUnits, work_store: WorkStore, space: Space, town: Town
    ) -> None:
        unit = await active(work, amount=100, other=1)
        stored = await slipped_in(work_store, space, unit, town.clock.now(), amount=7)
        version = stored.unit.version
        saved = await work.save(unit, expected_version=version, attributes={"other": 2}, waive="checked by hand")
        assert dict(saved.attributes) == {"amount": 7, "other": 2}
        found, waiver, change = (await work.get_history(unit))[-3:]
        assert found.event is HistoryEvent.DRIFT_FOUND
        assert found.transition_metadata is not None
        assert found.transition_metadata["changed"] == ["amount"]
        assert (waiver.event, waiver.reasoning) == (HistoryEvent.CONSTITUTIONAL_WAIVER, "checked by hand")
        assert change.event is HistoryEvent.ATTRIBUTES_CHANGED
        assert (await work.verify(unit)).check is WorkCheck.OK

    async def test_a_quarantine_keeps_the_drift_and_says_so(
        self, work: WorkUnits, work_store: WorkStore, space: Space, town: Town
    ) -> None:
        unit = await active(work, amount=100)
        stored = await slipped_in(work_store, space, unit, town.clock.now(), amount=7)
        with pytest.raises(HashDrift) as caught:
            await work.save(unit, expected_version=stored.unit.version, new_status="COMPLETED", on_drift="quarantine")
        assert caught.value.detail["quarantined"] is True
        now = await work.get(unit)
        assert now.status is WorkStatus.FAILED_SECURITY_BREACH
        assert now.unit.content_hash == unit.unit.content_hash
        assert [entry.event for entry in await work.get_history(unit)][-2:] == [
            HistoryEvent.DRIFT_FOUND,
            HistoryEvent.STATE_TRANSITION,
        ]
        assert (await work.verify(unit)).check is WorkCheck.DRIFT
        with pytest.raises(HashDrift):
            await work.save(now, attributes={"amount": 100})

    async def test_r69_a_save_without_a_change_writes_no_history_and_beats(self, work: WorkUnits, town: Town) -> None:
        unit = await active(work, amount=1)
        await self.pass_time(10)
        again = await work.save(unit, new_status="ACTIVE", attributes={"amount": 1}, new_interaction_id="intake")
        assert len(await work.get_history(unit)) == 2
        assert again.unit.heartbeat_at == town.clock.now()
        assert again.unit.beats > unit.unit.beats
        assert again.version == unit.version + 1
        assert (await work.verify(unit)).ok

    async def test_attributes_that_are_not_named_stay_and_removed_ones_go(self, work: WorkUnits) -> None:
        unit = await active(work, a=1, b=2)
        unit = await work.save(unit, attributes={"c": 3}, removed=["a", "never"])
        assert dict((await work.get(unit)).attributes) == {"b": 2, "c": 3}
        entry = (await work.get_history(unit))[-1]
        assert [(change.key, change.version, change.digest is None) for change in entry.changes] == [
            ("c", 1, False),
            ("a", 2, True),
        ]
        unit = await work.save(unit, attributes={"a": 1})
        assert (await work.get_history(unit))[-1].changes[0].version == 3
        assert (await work.verify(unit)).ok

    async def test_a_request_that_is_sent_again_changes_nothing(self, work: WorkUnits, town: Town) -> None:
        request, creation = request_id(), request_id()
        first = await work.create(instance="i", attributes={"a": 1}, request_id=creation)
        again = await work.create(instance="i", attributes={"a": 1}, request_id=creation)
        assert (again.unit_id, again.replayed, first.replayed) == (first.unit_id, True, False)
        town.backend.after = failing(OutcomeUnknown("the answer was lost"), among="work.commit", times=1)
        with pytest.raises(OutcomeUnknown):
            await work.save(first, new_status="ACTIVE", request_id=request)
        saved = await work.save(first, new_status="ACTIVE", request_id=request)
        assert (saved.replayed, saved.status, saved.version) == (True, WorkStatus.ACTIVE, 2)
        await work.save(saved, attributes={"a": 2})
        late = await work.save(first, new_status="ACTIVE", request_id=request)
        assert (late.replayed, late.version, dict(late.attributes)) == (True, 3, {"a": 2})
        with pytest.raises(KeyReused):
            await work.save(first, new_status="PAUSED", request_id=request)
        with pytest.raises(StaleVersion):
            await work.save(first, new_status="ACTIVE", request_id=request_id())
        assert len(await work.get_history(first)) == 3

    async def test_a_unit_is_made_once(self, work: WorkUnits) -> None:
        unit = await made(work)
        with pytest.raises(StaleVersion):
            await work.create(instance="other", unit_id=unit.unit_id)
        assert await work.get(unit) == unit
        with pytest.raises(NotFound):
            await work.create(instance="i", parent=UUID(int=5))

    async def test_too_many_interactions_lock_a_unit_until_it_is_cleared_up(self, work: WorkUnits) -> None:
        unit = await work.create(instance="i", interaction="a", interactions_max=2)
        unit = await work.checkout(unit, owner=OWNER)
        unit = await work.save(unit, new_interaction_id="b")
        assert (unit.status, unit.unit.interaction_count) == (WorkStatus.ACTIVE, 1)
        unit = await work.save(unit, new_interaction_id="c", reasoning="still not clear")
        assert (unit.status, unit.unit.interaction_id) == (WorkStatus.ZOMBIED_SOFT, "c")
        asked, locked = (await work.get_history(unit))[-2:]
        assert (asked.reasoning, asked.new_status) == ("still not clear", WorkStatus.ACTIVE)
        assert (locked.new_status, locked.reasoning) == (
            WorkStatus.ZOMBIED_SOFT,
            "ambiguity lock: interaction 2 of at most 2",
        )
        unit = await work.checkout(unit, owner=OWNER)
        assert (unit.unit.interaction_count, unit.unit.retry_count) == (0, 0)
        unit = await work.save(unit, new_status="ZOMBIED_SOFT")
        unit = await work.checkout(unit, owner=OWNER)
        assert (unit.unit.interaction_count, unit.unit.retry_count) == (0, 1)
        assert (await work.verify(unit)).ok

    async def test_a_lease_is_one_owner_s_for_as_long_as_the_unit_is_active(self, work: WorkUnits) -> None:
        unit = await active(work)
        assert unit.unit.lease_owner == OWNER
        with pytest.raises(LeaseLost):
            await work.checkout(unit, owner="worker-2")
        unit = await work.save(unit, new_status="PENDING")
        assert (unit.unit.lease_owner, unit.unit.heartbeat_at) == (None, None)
        assert (await work.checkout(unit, owner="worker-2")).unit.lease_owner == "worker-2"

    async def test_a_parent_counts_its_children_and_those_that_finished(self, work: WorkUnits) -> None:
        parent = await made(work)
        children = [await work.create(instance="i", parent=parent) for _ in range(3)]
        done = await work.save(await work.checkout(children[0], owner=OWNER), new_status="COMPLETED")
        await work.save(done, new_status="ARCHIVED")
        assert {child.unit_id for child in await work.children(parent)} == {child.unit_id for child in children}
        now = (await work.get(parent)).unit
        assert (now.child_count, now.finished_child_count, now.version) == (3, 1, 1)
        revived = await work.save(await work.get(done), new_status="ACTIVE", waive="again")
        assert revived.status is WorkStatus.ACTIVE
        assert (await work.get(parent)).unit.finished_child_count == 0
