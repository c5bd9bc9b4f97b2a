"""What the plane needs of a ledger to read. Nothing here writes, and each call sees one moment of one tenant.

Another tenant's rows do not exist: ``get`` raises ``NotFound`` for them, ``find`` gives None, lists are empty.
``limit`` is the most a list may give; it goes on after the sort keys of the last item that it gave. An outage is an
error, never an empty answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

from perdure.domain.event import Aggregate, Event
from perdure.domain.limits import PAGE_SIZE_MAX
from perdure.domain.reading import (
    AuditFilter,
    Provenance,
    Resume,
    RunFilter,
    SignalFilter,
    TimelineEntry,
)
from perdure.domain.records import (
    AuditEntry,
    Checkpoint,
    Effect,
    OutboxEntry,
    RunRecord,
    Signal,
    Step,
    ToolCall,
)
from perdure.domain.scope import Scope
from perdure.domain.trace import Trace

Moment: TypeAlias = tuple[datetime, UUID]
"""The sort keys of a row in a list by time."""


class LedgerReader(Protocol):
    """Reads; the user of the scope must be a member of its tenant, else ``Forbidden``."""

    # --- signals ------------------------------------------------------------------------------------------------------

    async def get_signal(self, scope: Scope, signal_id: UUID) -> Signal:
        """The signal with this id. Raises ``NotFound``."""
        ...

    async def find_signal(self, scope: Scope, channel: str, source_id: str) -> Signal | None:
        """The signal that this channel gave this id."""
        ...

    async def list_signals(
        self, scope: Scope, wanted: SignalFilter, *, after: Moment | None, limit: int, oldest_first: bool
    ) -> list[Signal]:
        """Signals by (received_at, id), the newest first unless ``oldest_first``."""
        ...

    # --- runs ---------------------------------------------------------------------------------------------------------

    async def get_run(self, scope: Scope, run_id: UUID) -> tuple[RunRecord, tuple[Step, ...]]:
        """The run with this id and all the steps it has recorded, without their inputs. Raises ``NotFound``."""
        ...

    async def list_runs(self, scope: Scope, wanted: RunFilter, *, after: Moment | None, limit: int) -> list[RunRecord]:
        """Runs by (started_at, id), the newest first."""
        ...

    async def runs_of_signal(
        self, scope: Scope, signal_id: UUID, *, after: Moment | None = None, limit: int = PAGE_SIZE_MAX
    ) -> list[RunRecord]:
        """The runs that were for a signal, the oldest first: those that repeat or continue one come after it."""
        ...

    async def steps_of_run(self, scope: Scope, run_id: UUID, *, after: int, limit: int) -> list[Step]:
        """The steps of a run by index, from the first above ``after``."""
        ...

    async def tool_calls_of_run(self, scope: Scope, run_id: UUID, *, after: UUID | None, limit: int) -> list[ToolCall]:
        """The tool calls of a run by id, which is by time as far as their makers' clocks agree."""
        ...

    async def effects_of_run(self, scope: Scope, run_id: UUID, *, after: UUID | None, limit: int) -> list[Effect]:
        """The effects of a run by id."""
        ...

    async def outbox_of_run(self, scope: Scope, run_id: UUID, *, after: UUID | None, limit: int) -> list[OutboxEntry]:
        """The outbox entries of a run by the id of their effect (``aggregate_id``); pruned ones are gone."""
        ...

    async def checkpoints_of_run(self, scope: Scope, run_id: UUID, *, after: int, limit: int) -> list[Checkpoint]:
        """The checkpoints of a run by index, from the first above ``after``, without their states."""
        ...

    async def latest_checkpoint(self, scope: Scope, run_id: UUID) -> Checkpoint | None:
        """The newest checkpoint of a run with its state, expired or not."""
        ...

    async def resume(self, scope: Scope, run_id: UUID) -> Resume:
        """The run, its latest checkpoint, whether that has expired by the ledger's clock, and the events after it.

        Raises ``NotFound``, and ``LimitExceeded`` when more than ``TRACE_EVENTS_MAX`` events came after it.
        """
        ...

    # --- events -------------------------------------------------------------------------------------------------------

    async def tenant_sequence(self, scope: Scope) -> int:
        """The number of the tenant's last event; 0 before the first."""
        ...

    async def find_event(self, scope: Scope, event_id: UUID) -> Event | None:
        """The event with this id."""
        ...

    async def events_after(self, scope: Scope, sequence: int, *, limit: int) -> list[Event]:
        """The tenant's events with numbers above ``sequence``, in order.

        Numbers are dense, and nothing ever appears between two that were given.
        """
        ...

    async def events_of_aggregate(
        self, scope: Scope, aggregate_id: UUID, *, aggregate: Aggregate, after: int, limit: int
    ) -> list[Event]:
        """The events of one row, in order of their numbers, from the first above ``after``."""
        ...

    async def events_of_actor(self, scope: Scope, actor: str, *, before: int | None, limit: int) -> list[Event]:
        """What an actor did, the newest first, from the first below ``before``."""
        ...

    async def events_of_correlation(self, scope: Scope, correlation_id: UUID, *, after: int, limit: int) -> list[Event]:
        """The events of a correlation in order of their numbers, from the first above ``after``."""
        ...

    async def events_of_entity(
        self, scope: Scope, entity_type: str, *, entity_id: str, after: int, limit: int
    ) -> list[Event]:
        """What happened in the runs and steps that concern an entity, in order, from the first above ``after``.

        Of a run that concerns it, everything in that run; of a step, the step with its tool calls and effects.
        """
        ...

    async def causes(self, scope: Scope, event_id: UUID) -> list[Event]:
        """An event and the events that led to it, in no order; at most ``TRACE_EVENTS_MAX``."""
        ...

    # --- a whole correlation ------------------------------------------------------------------------------------------

    async def find_correlations(self, scope: Scope, identifier: UUID) -> list[UUID]:
        """The correlations that have this id, or hold a row or an event that has it."""
        ...

    async def find_correlations_by_source(self, scope: Scope, readings: Sequence[tuple[str, str]]) -> list[UUID]:
        """The correlations of signals with one of these (channel, source id)."""
        ...

    async def trace(self, scope: Scope, correlation_id: UUID) -> Trace:
        """Everything of a correlation, from one snapshot; checkpoints without their states.

        Raises ``LimitExceeded`` with the number of its events when they are more than ``TRACE_EVENTS_MAX``.
        """
        ...

    async def timeline(
        self, scope: Scope, correlation_id: UUID, *, after: TimelineEntry | None, limit: int
    ) -> list[TimelineEntry]:
        """Signals, runs, steps, tool calls, effects and events of a correlation by time."""
        ...

    async def provenance(self, scope: Scope, channel: str, *, source_id: str, limit: int) -> Provenance | None:
        """The signal that a channel gave this id, and the first runs that were for it, from one snapshot."""
        ...

    async def list_audit(
        self, scope: Scope, wanted: AuditFilter, *, before: UUID | None, limit: int
    ) -> list[AuditEntry]:
        """Entries of the audit trail by id, the newest first."""
        ...
