"""What callers get of units of work: a unit with its values, what a verification found, what a sweep did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal
from uuid import UUID

from perdure.domain.typed_values import TypedValue
from perdure.domain.work import WorkStatus, WorkUnit
from perdure.domain.work_anchor import WorkAnchor

DriftPolicy = Literal["reject", "quarantine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A unit of work with the values of its attributes in the order of their keys, removed ones left out.

    ``replayed`` is True when an earlier call with the same ``request_id`` had done it.
    """

    unit: WorkUnit
    attributes: Mapping[str, TypedValue] = field(repr=False)
    replayed: bool = False

    @property
    def unit_id(self) -> UUID:
        """The unit's id."""
        return self.unit.unit_id

    @property
    def status(self) -> WorkStatus:
        """Where it stands."""
        return self.unit.status

    @property
    def version(self) -> int:
        """What the next save expects."""
        return self.unit.version

    @property
    def is_parked(self) -> bool:
        """Whether it waits for an approval; what was to be done is not done then."""
        return self.unit.status is WorkStatus.PENDING_PILOT_APPROVAL


class WorkCheck(StrEnum):
    """What a verification found."""

    OK = "OK"  # attributes, hash, status and every entry of the history are as they were written
    DRIFT = "DRIFT"  # the history is whole, and the unit or an attribute is not what it says
    UNVERIFIED = "UNVERIFIED"  # it cannot be said here: never hashed, an unknown scheme, or no key for a keyed one
    CHAIN_BROKEN = "CHAIN_BROKEN"  # the history itself was changed, or lost an entry


class DriftKind(StrEnum):
    """How an attribute differs from its history."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeDrift:
    """One attribute version that is not what the history says: versions and digests, expected and found.

    ``previous`` is the last value that the history vouches for, where it is still stored; ``current`` what stands there
    now. Either is None if there is none, or it cannot be read.
    """

    key: str
    kind: DriftKind
    expected_version: int | None
    expected_digest: str | None
    found_version: int | None
    found_digest: str | None
    previous: TypedValue = field(default=None, repr=False)
    current: TypedValue = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkVerification:
    """What a verification found, and where.

    ``first_bad`` is the number of the first entry of the history that is not as it was written, is missing, or cannot
    be verified here.
    ``attributes`` and ``fields`` say what drifted: attributes, and fields of the unit itself. ``anchor`` is what to
    keep elsewhere now; None unless the check is OK. ``instance_id`` is None if nothing readable says it.
    """

    unit_id: UUID
    instance_id: str | None
    check: WorkCheck
    reason: str
    entries: int
    first_bad: int | None = None
    attributes: tuple[AttributeDrift, ...] = ()
    fields: tuple[str, ...] = ()
    anchor: WorkAnchor | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is as it was written."""
        return self.check is WorkCheck.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one sweep did: units it took from ACTIVE, those it declared dead, approvals that nobody gave in time.

    ``missed`` are units that somebody else moved, or gave a sign of life, before the sweep got to them.
    """

    zombied: tuple[UUID, ...] = ()
    dead: tuple[UUID, ...] = ()
    overdue: tuple[UUID, ...] = ()
    missed: int = 0
