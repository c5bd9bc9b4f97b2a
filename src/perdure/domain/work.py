"""Units of work as values: their statuses and which may follow which, their attributes, and their history.

A unit of work is a record (not a transaction): something with a status, versioned attributes and a history in which
every entry names the hash of the state before and after it, and of the entry before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from perdure.domain.container import Container, Space
from perdure.domain.kinds import Kind

ATTRIBUTES_MAX: Final = 500  # keys of one unit: they are read and hashed as a whole at each save
ATTRIBUTES_BYTES_MAX: Final = 256 * 1024  # keys and values of one unit, encoded: they fit into one stored document
ATTRIBUTE_KEY_CHARS_MAX: Final = 255  # part of a stored key on every engine, after encoding
ATTRIBUTE_KEY_BYTES_MAX: Final = 512  # in UTF-8: part of a key on every engine, after encoding
ATTRIBUTE_CHANGES_MAX: Final = 64  # of one save: with unit, history and marks below the narrowest engine's batch
ENTRIES_MAX: Final = 4  # history entries of one save: a waiver, a transition, and what they find
REASONING_CHARS_MAX: Final = 4_000  # a page of text; more is a document
METADATA_BYTES_MAX: Final = 32 * 1024  # of one history entry, as JSON
HOST_ID_CHARS_MAX: Final = 128  # ids of the host: instance, interaction, actor, role, lease owner, request
UNITS_PAGE_MAX: Final = 1_000  # a page is held in memory on both sides
HISTORY_PAGE_MAX: Final = 1_000  # the same, of entries and of versions of attributes


class WorkStatus(StrEnum):
    """Where a unit of work stands."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    PENDING_PILOT_APPROVAL = "PENDING_PILOT_APPROVAL"
    PAUSED = "PAUSED"
    ZOMBIED_SOFT = "ZOMBIED_SOFT"
    ZOMBIED_DEAD = "ZOMBIED_DEAD"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    FAILED_SECURITY_BREACH = "FAILED_SECURITY_BREACH"
    ARCHIVED = "ARCHIVED"


_S: Final = WorkStatus
TRANSITIONS: Final[Mapping[WorkStatus, frozenset[WorkStatus]]] = MappingProxyType(
    {
        _S.PENDING: frozenset({_S.ACTIVE, _S.PAUSED, _S.FAILED, _S.FAILED_SECURITY_BREACH}),
        _S.ACTIVE: frozenset(
            {
                _S.PENDING,
                _S.PENDING_PILOT_APPROVAL,
                _S.PAUSED,
                _S.ZOMBIED_SOFT,
                _S.COMPLETED,
                _S.FAILED,
                _S.FAILED_SECURITY_BREACH,
            }
        ),
        # A parked unit goes on to what it was parked on its way to, so COMPLETED is among these.
        _S.PENDING_PILOT_APPROVAL: frozenset(
            {_S.ACTIVE, _S.COMPLETED, _S.FAILED, _S.ZOMBIED_SOFT, _S.FAILED_SECURITY_BREACH}
        ),
        _S.PAUSED: frozenset({_S.ACTIVE, _S.FAILED_SECURITY_BREACH}),
        _S.ZOMBIED_SOFT: frozenset({_S.ACTIVE, _S.ZOMBIED_DEAD, _S.FAILED_SECURITY_BREACH}),
        _S.ZOMBIED_DEAD: frozenset({_S.FAILED, _S.ARCHIVED, _S.FAILED_SECURITY_BREACH}),
        _S.COMPLETED: frozenset({_S.ARCHIVED, _S.FAILED_SECURITY_BREACH}),
        _S.FAILED: frozenset({_S.ARCHIVED, _S.FAILED_SECURITY_BREACH}),
        _S.FAILED_SECURITY_BREACH: frozenset(),
        _S.ARCHIVED: frozenset(),
    }
)
"""What may follow a status. Anything else takes a waiver, which the history keeps with its reason."""

FINISHED: Final = frozenset({_S.COMPLETED, _S.FAILED, _S.FAILED_SECURITY_BREACH, _S.ZOMBIED_DEAD, _S.ARCHIVED})
"""Statuses in which a unit counts as finished for its parent."""


class HistoryEvent(StrEnum):
    """Why an entry of the history was written."""

    WORK_CREATED = "WORK_CREATED"
    STATE_TRANSITION = "STATE_TRANSITION"
    ATTRIBUTES_CHANGED = "ATTRIBUTES_CHANGED"
    CONSTITUTIONAL_WAIVER = "CONSTITUTIONAL_WAIVER"
    PILOT_OVERRIDE = "PILOT_OVERRIDE"
    DRIFT_FOUND = "DRIFT_FOUND"
    WORK_DELETED = "WORK_DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkUnit:
    """A unit of work as it is kept. Ids other than ``unit_id`` and ``parent_id`` are the host's, any one line of text.

    ``version`` rises by one with each save and is what saves compare. Heartbeats and counts of children change without
    it: ``beats`` counts heartbeats, so that a sweep can tell whether one came between. ``target`` is what a parked unit
    was on its way to. ``content_hash`` is that of the attributes, under ``hash_scheme``, both None before the first
    save; ``history_sequence`` and ``history_hash`` are those of its newest history entry.
    """

    unit_id: UUID
    instance_id: str
    schema: str
    status: WorkStatus
    version: int
    created_at: datetime
    updated_at: datetime
    history_sequence: int = 0
    history_hash: str | None = None
    content_hash: str | None = None
    hash_scheme: str | None = None
    target: WorkStatus | None = None
    interaction_id: str | None = None
    actor_id: str | None = None
    role_id: str | None = None
    parent_id: UUID | None = None
    lease_owner: str | None = None
    heartbeat_at: datetime | None = None
    beats: int = 0
    interaction_count: int = 0
    interactions_max: int | None = None
    retry_count: int = 0
    child_count: int = 0
    finished_child_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeVersion:
    """One version of one attribute. ``value`` is the encoded typed value, None once the attribute was removed.

    ``version`` counts from 1 for each key. ``sequence`` is that of the history entry which brought it.
    """

    key: str
    version: int
    value: str | None = field(repr=False)
    sequence: int
    actor_id: str | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeChange:
    """What a history entry says of an attribute: its new version, and SHA-256 in hex of its encoded value.

    ``digest`` is None for an attribute that was removed.
    """

    key: str
    version: int
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """An entry of a unit's history: never changed, never removed, not even with its unit.

    ``sequence`` is dense from 1 in each unit. ``entry_hash`` covers every other field and so, by
    ``previous_entry_hash``, all entries before.
    """

    history_id: UUID
    instance_id: str
    unit_id: UUID
    sequence: int
    event: HistoryEvent
    previous_status: WorkStatus | None
    new_status: WorkStatus
    previous_state_hash: str | None
    new_state_hash: str
    previous_interaction_id: str | None
    new_interaction_id: str | None
    actor_id: str | None
    transition_timestamp: datetime
    reasoning: str | None = field(repr=False)
    transition_metadata: dict[str, Any] | None = field(repr=False)
    changes: tuple[AttributeChange, ...]
    hash_scheme: str
    previous_entry_hash: str | None
    entry_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWork:
    """A unit with the newest version of each of its attributes, removed ones included, by key."""

    unit: WorkUnit
    attributes: Mapping[str, AttributeVersion]


class ParentStep(StrEnum):
    """What a save says to the unit's parent."""

    ADOPT = "adopt"  # the unit is new: child_count rises
    FINISH = "finish"  # it entered ``FINISHED``: finished_child_count rises
    REOPEN = "reopen"  # it left ``FINISHED`` by a waiver: finished_child_count falls


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkWrite:
    """All that one save writes, as a value: all of it is kept, or nothing.

    ``unit`` is the unit as it shall be, with ``version`` one above the one expected (1: nothing may be there).
    ``expected_beats`` makes the save fail if a heartbeat came since. ``request_id`` makes it idempotent: the same id
    with the same ``fingerprint`` again changes nothing.
    """

    unit: WorkUnit
    entries: tuple[HistoryEntry, ...]
    attributes: tuple[AttributeVersion, ...]
    expected_beats: int | None = None
    request_id: str | None = None
    fingerprint: str | None = None
    parent_step: ParentStep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCommitted:
    """What a save left: the unit as it is kept, and whether an earlier one with the same ``request_id`` did it."""

    unit: WorkUnit
    replayed: bool


def unit_container(space: Space, unit_id: UUID) -> Container:
    """The container of one unit: the unit, its attributes and its history are atomic together."""
    return Container(kind=Kind.WORK, space=space, name=(str(unit_id),))


def may_follow(status: WorkStatus, following: WorkStatus) -> bool:
    """Whether a unit may go from one status to another without a waiver. Staying is no transition, and False."""
    return following in TRANSITIONS[status]
