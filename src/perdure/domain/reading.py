"""What is asked of a ledger, and answers that are not a row of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from perdure.domain.event import Event
from perdure.domain.records import Checkpoint, RunRecord, Signal
from perdure.domain.row import FromRow, Instant
from perdure.domain.run import RunStatus, RunType, SignalStatus, SignalType


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFilter:
    """Which signals are meant; None means all. ``received_before`` asks for those of at least some age."""

    status: SignalStatus | None = None
    signal_type: SignalType | None = None
    received_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are meant; None means all. Starts from ``started_from`` on and before ``started_before``."""

    status: RunStatus | None = None
    run_type: RunType | None = None
    name: str | None = None
    started_from: datetime | None = None
    started_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries of the audit trail are meant; None means all."""

    action: str | None = None
    actor: str | None = None
    resource_id: UUID | None = None


class TimelineKind(StrEnum):
    """What an entry of a timeline is."""

    SIGNAL = "SIGNAL"
    RUN = "RUN"
    STEP = "STEP"
    TOOL_CALL = "TOOL_CALL"
    EFFECT = "EFFECT"
    EVENT = "EVENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry(FromRow):
    """Something of a correlation at its moment: a signal received, a run started, an effect requested, an event.

    ``place`` and ``position`` order what happened at the same moment; ``status`` is the row's present one, None for an
    event.
    """

    occurred_at: Instant
    kind: TimelineKind
    id: UUID
    title: str
    status: str | None = None
    actor: str
    place: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What came of an input: the signal and the runs that were for it, oldest first."""

    signal: Signal
    runs: tuple[RunRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Where a run goes on: its latest checkpoint, and the events of the run after it.

    ``expired``: its time has passed, or it was kept once and is gone. Its state is still given while it is there, and
    whether to trust it is the caller's decision; without a checkpoint ``events`` are all the events of the run.
    """

    run: RunRecord
    checkpoint: Checkpoint | None
    expired: bool
    events: tuple[Event, ...]

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)
