"""Saves of units of work as a store gets them, for tests that need no hashes to be right."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from perdure.domain.work import (
    AttributeVersion,
    HistoryEntry,
    HistoryEvent,
    ParentStep,
    WorkStatus,
    WorkUnit,
    WorkWrite,
)

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
HASH = "0" * 64
UNIT = UUID(int=1)


def first_save(unit_id: UUID = UNIT, *, parent_id: UUID | None = None) -> WorkWrite:
    """What makes a unit with one attribute."""
    unit = WorkUnit(
        unit_id=unit_id,
        instance_id="instance-1",
        schema="invoice",
        status=WorkStatus.PENDING,
        version=1,
        created_at=MOMENT,
        updated_at=MOMENT,
        history_sequence=1,
        history_hash=HASH,
        content_hash=HASH,
        hash_scheme="v1",
        parent_id=parent_id,
    )
    return WorkWrite(
        unit=unit,
        entries=(entry_of(unit, None, HistoryEvent.WORK_CREATED),),
        attributes=(
            AttributeVersion(key="amount", version=1, value="100", sequence=1, actor_id=None, recorded_at=MOMENT),
        ),
        parent_step=None if parent_id is None else ParentStep.ADOPT,
    )


def entry_of(unit: WorkUnit, before: WorkStatus | None, event: HistoryEvent) -> HistoryEntry:
    """The history entry with which ``unit`` came about."""
    return HistoryEntry(
        history_id=UUID(int=(unit.unit_id.int << 32) + unit.history_sequence),
        instance_id=unit.instance_id,
        unit_id=unit.unit_id,
        sequence=unit.history_sequence,
        event=event,
        previous_status=before,
        new_status=unit.status,
        previous_state_hash=None if before is None else HASH,
        new_state_hash=HASH,
        previous_interaction_id=None,
        new_interaction_id=None,
        actor_id=None,
        transition_timestamp=MOMENT,
        reasoning="because",
        transition_metadata={"rate": 1.0, "large": 12345678901234567890},
        changes=(),
        hash_scheme="v1",
        previous_entry_hash=None,
        entry_hash=HASH,
    )


def next_save(unit: WorkUnit, status: WorkStatus, event: HistoryEvent = HistoryEvent.STATE_TRANSITION) -> WorkWrite:
    """What brings a unit to another status."""
    moved = replace(unit, status=status, version=unit.version + 1, history_sequence=unit.history_sequence + 1)
    return WorkWrite(unit=moved, entries=(entry_of(moved, unit.status, event),), attributes=())
