"""What each part of the contract of work stands on: a space that nobody used, and few words to save units in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final
from uuid import UUID

import pytest

from perdure.domain.canonical import JsonObject
from perdure.domain.container import Space
from perdure.domain.work import (
    FINISHED,
    AttributeVersion,
    HistoryEntry,
    HistoryEvent,
    ParentStep,
    StoredWork,
    WorkCommitted,
    WorkStatus,
    WorkUnit,
    WorkWrite,
)
from perdure.errors import StaleVersion
from perdure.ports.backend import Backend
from perdure.ports.work import WorkStore
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother, StoreContract, new_id, new_space

NOON: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
HASH: Final = "0" * 64
OWNER: Final = "worker-1"
ODD: Final = ("a/b", "a.b", "-", "~", "None", "null", " ", "'; --", "é" * 128, "😀" * 64, "x" * 128)


def at(seconds: float) -> datetime:
    """A moment of a test."""
    return NOON + timedelta(seconds=seconds)


def entry(
    unit: WorkUnit,
    *,
    sequence: int | None = None,
    before: WorkStatus | None = None,
    event: HistoryEvent = HistoryEvent.STATE_TRANSITION,
    moment: datetime | None = None,
    reasoning: str | None = None,
    metadata: JsonObject | None = None,
) -> HistoryEntry:
    """The history entry with which a unit came about."""
    return HistoryEntry(
        history_id=new_id(),
        instance_id=unit.instance_id,
        unit_id=unit.unit_id,
        sequence=unit.history_sequence if sequence is None else sequence,
        event=event,
        previous_status=before,
        new_status=unit.status,
        previous_state_hash=None if before is None else HASH,
        new_state_hash=HASH,
        previous_interaction_id=None,
        new_interaction_id=unit.interaction_id,
        actor_id=unit.actor_id,
        transition_timestamp=unit.updated_at if moment is None else moment,
        reasoning=reasoning,
        transition_metadata=metadata,
        changes=(),
        hash_scheme="v1",
        previous_entry_hash=None if unit.history_sequence == 1 else HASH,
        entry_hash=HASH,
    )


def attribute(
    key: str, value: str | None = "1", *, version: int = 1, sequence: int = 1, actor_id: str | None = None
) -> AttributeVersion:
    """A version of an attribute."""
    return AttributeVersion(
        key=key, version=version, value=value, sequence=sequence, actor_id=actor_id, recorded_at=NOON
    )


def first(
    *,
    unit_id: UUID | None = None,
    instance_id: str = "instance-1",
    actor_id: str | None = None,
    created_at: datetime = NOON,
    parent: WorkUnit | UUID | None = None,
    attributes: Sequence[AttributeVersion] = (),
) -> WorkWrite:
    """What makes a unit."""
    unit = WorkUnit(
        unit_id=unit_id or new_id(),
        instance_id=instance_id,
        schema="invoice",
        status=WorkStatus.PENDING,
        version=1,
        created_at=created_at,
        updated_at=created_at,
        history_sequence=1,
        history_hash=HASH,
        content_hash=HASH,
        hash_scheme="v1",
        actor_id=actor_id,
        parent_id=parent.unit_id if isinstance(parent, WorkUnit) else parent,
    )
    return WorkWrite(
        unit=unit,
        entries=(entry(unit, event=HistoryEvent.WORK_CREATED),),
        attributes=tuple(attributes),
        parent_step=None if parent is None else ParentStep.ADOPT,
    )


def following(
    unit: WorkUnit,
    status: WorkStatus | None = None,
    *,
    moment: datetime | None = None,
    attributes: Sequence[AttributeVersion] = (),
    event: HistoryEvent = HistoryEvent.STATE_TRANSITION,
) -> WorkWrite:
    """What saves a unit once more, with one more entry."""
    moved = replace(
        unit,
        status=unit.status if status is None else status,
        version=unit.version + 1,
        history_sequence=unit.history_sequence + 1,
        updated_at=unit.updated_at + timedelta(seconds=1) if moment is None else moment,
    )
    step = None
    if unit.parent_id is not None and (unit.status in FINISHED) != (moved.status in FINISHED):
        step = ParentStep.FINISH if moved.status in FINISHED else ParentStep.REOPEN
    return WorkWrite(
        unit=moved,
        entries=(entry(moved, before=unit.status, event=event),),
        attributes=tuple(attributes),
        parent_step=step,
    )


def leasing(unit: WorkUnit, *, owner: str | None = OWNER, heartbeat_at: datetime | None = NOON) -> WorkWrite:
    """What makes a unit ACTIVE, with a lease."""
    write = following(unit, WorkStatus.ACTIVE)
    return replace(write, unit=replace(write.unit, lease_owner=owner, heartbeat_at=heartbeat_at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The units of one space, as one client sees them."""

    store: WorkStore
    space: Space

    def beside(self, space: Space) -> Desk:
        """Another space."""
        return replace(self, space=space)

    async def commit(self, write: WorkWrite) -> WorkCommitted:
        """One save."""
        return await self.store.commit(self.space, write, timeout_s=TIMEOUT_S)

    async def save(self, write: WorkWrite) -> WorkUnit:
        """The unit after a save."""
        return (await self.commit(write)).unit

    async def stale(self, write: WorkWrite) -> StaleVersion:
        """The error of a save that does not find what it expects."""
        with pytest.raises(StaleVersion) as caught:
            await self.commit(write)
        return caught.value

    async def find(self, unit_id: UUID) -> StoredWork | None:
        """A unit, if it is there."""
        return await self.store.load(self.space, unit_id, timeout_s=TIMEOUT_S)

    async def load(self, unit: WorkUnit) -> StoredWork:
        """A unit that must be there."""
        found = await self.find(unit.unit_id)
        assert found is not None
        return found

    async def beat(self, unit: WorkUnit, moment: datetime, *, owner: str = OWNER) -> WorkUnit:
        """A heartbeat."""
        return await self.store.heartbeat(self.space, unit.unit_id, owner=owner, now=moment, timeout_s=TIMEOUT_S)

    async def leased(self, *, heartbeat_at: datetime = NOON) -> WorkUnit:
        """An ACTIVE unit with a lease."""
        return await self.save(leasing(await self.save(first()), heartbeat_at=heartbeat_at))

    async def watch(self, before: datetime, *, limit: int = 100) -> list[UUID]:
        """The ids of units whose heartbeat is older than that."""
        found = await self.store.stale(self.space, before=before, limit=limit, timeout_s=TIMEOUT_S)
        return [unit.unit_id for unit in found]

    async def delete(self, unit: WorkUnit) -> WorkWrite:
        """Remove a unit; the last write of its history."""
        last = following(unit, event=HistoryEvent.WORK_DELETED)
        await self.store.delete(self.space, unit.unit_id, last=last, timeout_s=TIMEOUT_S)
        return last

    async def units(
        self,
        *,
        status: WorkStatus | None = None,
        instance_id: str | None = None,
        parent: WorkUnit | None = None,
        limit: int = 100,
    ) -> list[WorkUnit]:
        """A whole list, page after page."""
        found: list[WorkUnit] = []
        cursor: str | None = None
        while True:
            page = await self.store.units(
                self.space,
                status=status,
                instance_id=instance_id,
                parent_id=None if parent is None else parent.unit_id,
                cursor=cursor,
                limit=limit,
                timeout_s=TIMEOUT_S,
            )
            assert len(page) == limit or page.next_cursor is None
            found += page
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def history(self, unit_id: UUID, *, after: int = 0, limit: int = 100, reverse: bool = False) -> list[int]:
        """The numbers of a unit's entries."""
        found = await self.store.history(
            self.space, unit_id, after=after, limit=limit, reverse=reverse, timeout_s=TIMEOUT_S
        )
        return [one.sequence for one in found]

    async def entries(self, unit_id: UUID) -> list[HistoryEntry]:
        """A unit's entries."""
        return list(await self.store.history(self.space, unit_id, limit=100, timeout_s=TIMEOUT_S))

    async def find_history(
        self,
        *,
        instance_id: str | None = None,
        actor_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[HistoryEntry]:
        """All entries that are found, page after page."""
        found: list[HistoryEntry] = []
        cursor: str | None = None
        while True:
            page = await self.store.find_history(
                self.space,
                instance_id=instance_id,
                actor_id=actor_id,
                since=since,
                until=until,
                cursor=cursor,
                limit=limit,
                timeout_s=TIMEOUT_S,
            )
            assert len(page) == limit or page.next_cursor is None
            found += page
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def versions(self, unit_id: UUID, *, limit: int = 100) -> list[tuple[str, int]]:
        """Key and version of all versions of a unit's attributes, page after page."""
        found: list[tuple[str, int]] = []
        while True:
            page = await self.store.attribute_versions(
                self.space, unit_id, after=found[-1] if found else None, limit=limit, timeout_s=TIMEOUT_S
            )
            found += [(one.key, one.version) for one in page]
            if len(page) < limit:
                return found


class WorkOpening(StoreContract):
    """A desk in a space of its own, for every part of the contract."""

    joins: ClassVar[bool] = False
    """Whether a store takes part in transactions of the caller's, by ``connection=``."""

    @pytest.fixture
    def desk(self, backend: Backend) -> Desk:
        """A space in which nothing happened yet."""
        return Desk(store=work_of(backend), space=new_space())

    async def rivals(self, desk: Desk, open_another: OpenAnother, count: int) -> list[Desk]:
        """The same space in many hands, of two clients."""
        other = replace(desk, store=work_of(await open_another()))
        return [(desk, other)[number % 2] for number in range(count)]


def work_of(backend: Backend) -> WorkStore:
    """Where a backend keeps units of work."""
    work = backend.work
    assert work is not None, "a backend of this contract keeps units of work"
    return work


def ids(units: Sequence[WorkUnit]) -> list[UUID]:
    """Their ids."""
    return [unit.unit_id for unit in units]


def values(stored: StoredWork) -> Mapping[str, str | None]:
    """The newest values by key."""
    return {key: version.value for key, version in stored.attributes.items()}
