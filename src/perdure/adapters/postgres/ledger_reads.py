"""Reading the ledger: each question is one snapshot, one round trip and one file of SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString, TypeVar
from uuid import UUID

from perdure.adapters.postgres.session import Row, Session, Statement
from perdure.adapters.postgres.statements import statement
from perdure.domain import limits
from perdure.domain.event import Aggregate, Event
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
from perdure.domain.row import FromRow
from perdure.domain.run import RunStatus, SignalStatus
from perdure.domain.scope import Scope
from perdure.domain.trace import Trace
from perdure.errors import LimitExceeded, NotFound
from perdure.ports.ledger_reads import Moment

Record = TypeVar("Record", bound=FromRow)


class PostgresLedgerReader:
    """A ``LedgerReader`` over a session of the app role."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # --- signals ------------------------------------------------------------------------------------------------------

    async def get_signal(self, scope: Scope, signal_id: UUID) -> Signal:
        """The signal with this id. Raises ``NotFound``."""
        signal = _first(Signal, await self._rows(scope, "signals/find", signal_id=signal_id))
        return _found(signal, f"signal {signal_id}")

    async def find_signal(self, scope: Scope, channel: str, source_id: str) -> Signal | None:
        """The signal that this channel gave this id."""
        rows = await self._rows(scope, "signals/find_by_source", channel=channel, source_id=source_id)
        return _first(Signal, rows)

    async def list_signals(
        self, scope: Scope, wanted: SignalFilter, *, after: Moment | None, limit: int, oldest_first: bool
    ) -> list[Signal]:
        """Signals by (received_at, id), the newest first unless ``oldest_first``."""
        rows = await self._rows(
            scope,
            "signals/list_oldest" if oldest_first else "signals/list",
            statuses=_statuses(wanted.status, SignalStatus),
            signal_type=wanted.signal_type,
            received_before=wanted.received_before,
            limit=limit,
            **_moment(after),
        )
        return _records(Signal, rows)

    # --- runs ---------------------------------------------------------------------------------------------------------

    async def get_run(self, scope: Scope, run_id: UUID) -> tuple[RunRecord, tuple[Step, ...]]:
        """The run with this id and all the steps it has recorded, without their inputs. Raises ``NotFound``."""
        runs, steps = await self._snapshot(scope, "runs/find", "steps/recorded", run_id=run_id)
        return _found(_first(RunRecord, runs), f"run {run_id}"), tuple(_records(Step, steps))

    async def list_runs(self, scope: Scope, wanted: RunFilter, *, after: Moment | None, limit: int) -> list[RunRecord]:
        """Runs by (started_at, id), the newest first."""
        rows = await self._rows(
            scope,
            "runs/list",
            statuses=_statuses(wanted.status, RunStatus),
            run_type=wanted.run_type,
            name=wanted.name,
            started_from=wanted.started_from,
            started_before=wanted.started_before,
            limit=limit,
            **_moment(after),
        )
        return _records(RunRecord, rows)

    async def runs_of_signal(
        self, scope: Scope, signal_id: UUID, *, after: Moment | None = None, limit: int = limits.PAGE_SIZE_MAX
    ) -> list[RunRecord]:
        """The runs that were for a signal, the oldest first."""
        rows = await self._rows(scope, "runs/of_signal", signal_id=signal_id, limit=limit, **_moment(after))
        return _records(RunRecord, rows)

    async def steps_of_run(self, scope: Scope, run_id: UUID, *, after: int, limit: int) -> list[Step]:
        """The steps of a run by index, from the first above ``after``."""
        return _records(Step, await self._rows(scope, "steps/of_run", run_id=run_id, after=after, limit=limit))

    async def tool_calls_of_run(self, scope: Scope, run_id: UUID, *, after: UUID | None, limit: int) -> list[ToolCall]:
        """The tool calls of a run by id."""
        rows = await self._rows(scope, "tool_calls/of_run", run_id=run_id, after=after, limit=limit)
        return _records(ToolCall, rows)

    async def effects_of_run(self, scope: Scope, run_id: UUID, *, after: UUID | None, limit: int) -> list[Effect]:
        """The effects of a run by id."""
        return _records(Effect, await self._rows(scope, "effects/of_run", run_id=run_id, after=after, limit=limit))

    async def outbox_of_run(self, scope: Scope, run_id: UUID, *, after: UUID | None, limit: int) -> list[OutboxEntry]:
        """The outbox entries of a run by the id of their effect."""
        return _records(OutboxEntry, await self._rows(scope, "outbox/of_run", run_id=run_id, after=after, limit=limit))

    async def checkpoints_of_run(self, scope: Scope, run_id: UUID, *, after: int, limit: int) -> list[Checkpoint]:
        """The checkpoints of a run by index, without their states."""
        rows = await self._rows(scope, "checkpoints/of_run", run_id=run_id, after=after, limit=limit)
        return _records(Checkpoint, rows)

    async def latest_checkpoint(self, scope: Scope, run_id: UUID) -> Checkpoint | None:
        """The newest checkpoint of a run with its state, expired or not."""
        return _first(Checkpoint, await self._rows(scope, "checkpoints/latest", run_id=run_id))

    async def resume(self, scope: Scope, run_id: UUID) -> Resume:
        """The run, its latest checkpoint, whether that has expired by the ledger's clock, and the events after it."""
        runs, checkpoints, events = await self._snapshot(
            scope,
            "runs/find",
            "checkpoints/latest",
            "events/of_run_after_checkpoint",
            run_id=run_id,
            limit=limits.TRACE_EVENTS_MAX + 1,
        )
        run = _found(_first(RunRecord, runs), f"run {run_id}")
        if len(events) > limits.TRACE_EVENTS_MAX:
            raise _too_many(f"run {run_id} since its latest checkpoint", len(events), at_least=True)
        checkpoint = _first(Checkpoint, checkpoints)
        gone = checkpoint is None and run.total_checkpoints > 0
        return Resume(
            run=run,
            checkpoint=checkpoint,
            expired=gone or (checkpoint is not None and bool(checkpoints[0]["expired"])),
            events=tuple(_records(Event, events)),
        )

    # --- events -------------------------------------------------------------------------------------------------------

    async def tenant_sequence(self, scope: Scope) -> int:
        """The number of the tenant's last event; 0 before the first."""
        rows = await self._rows(scope, "tenants/sequence")
        return int(rows[0]["last_number"]) if rows else 0

    async def find_event(self, scope: Scope, event_id: UUID) -> Event | None:
        """The event with this id."""
        return _first(Event, await self._rows(scope, "events/find", event_id=event_id))

    async def events_after(self, scope: Scope, sequence: int, *, limit: int) -> list[Event]:
        """The tenant's events with numbers above ``sequence``, in order."""
        return _records(Event, await self._rows(scope, "events/after", after=sequence, limit=limit))

    async def events_of_aggregate(
        self, scope: Scope, aggregate_id: UUID, *, aggregate: Aggregate, after: int, limit: int
    ) -> list[Event]:
        """The events of one row, in order of their numbers."""
        rows = await self._rows(
            scope,
            "events/of_aggregate",
            aggregate_type=aggregate,
            aggregate_id=aggregate_id,
            after=after,
            limit=limit,
        )
        return _records(Event, rows)

    async def events_of_actor(self, scope: Scope, actor: str, *, before: int | None, limit: int) -> list[Event]:
        """What an actor did, the newest first."""
        return _records(Event, await self._rows(scope, "events/of_actor", actor=actor, before=before, limit=limit))

    async def events_of_correlation(self, scope: Scope, correlation_id: UUID, *, after: int, limit: int) -> list[Event]:
        """The events of a correlation in order of their numbers."""
        rows = await self._rows(scope, "events/of_correlation", correlation_id=correlation_id, after=after, limit=limit)
        return _records(Event, rows)

    async def events_of_entity(
        self, scope: Scope, entity_type: str, *, entity_id: str, after: int, limit: int
    ) -> list[Event]:
        """What happened in the runs and steps that concern an entity, in order."""
        rows = await self._rows(
            scope, "events/of_entity", entity_type=entity_type, entity_id=entity_id, after=after, limit=limit
        )
        return _records(Event, rows)

    async def causes(self, scope: Scope, event_id: UUID) -> list[Event]:
        """An event and the events that led to it, in no order."""
        rows = await self._rows(scope, "events/causes", event_id=event_id, limit=limits.TRACE_EVENTS_MAX)
        return _records(Event, rows)

    # --- a whole correlation ------------------------------------------------------------------------------------------

    async def find_correlations(self, scope: Scope, identifier: UUID) -> list[UUID]:
        """The correlations that have this id or hold a row or event that has it."""
        return [row["correlation_id"] for row in await self._rows(scope, "correlations/find", id=identifier)]

    async def find_correlations_by_source(self, scope: Scope, readings: Sequence[tuple[str, str]]) -> list[UUID]:
        """The correlations of signals with one of these (channel, source id)."""
        rows = await self._rows(
            scope,
            "correlations/find_by_source",
            channels=[channel for channel, _ in readings],
            source_ids=[source_id for _, source_id in readings],
        )
        return [row["correlation_id"] for row in rows]

    async def trace(self, scope: Scope, correlation_id: UUID) -> Trace:
        """Everything of a correlation, from one snapshot."""
        [counted] = await self._rows(scope, "events/count_of_correlation", correlation_id=correlation_id)
        if counted["events"] > limits.TRACE_EVENTS_MAX:
            raise _too_many(f"correlation {correlation_id}", counted["events"])
        signals, runs, steps, calls, effects, outbox, checkpoints, events = await self._snapshot(
            scope,
            "signals/of_correlation",
            "runs/of_correlation",
            "steps/of_correlation",
            "tool_calls/of_correlation",
            "effects/of_correlation",
            "outbox/of_correlation",
            "checkpoints/of_correlation",
            "events/of_correlation",
            correlation_id=correlation_id,
            after=0,
            limit=limits.TRACE_EVENTS_MAX + 1,
        )
        if len(events) > limits.TRACE_EVENTS_MAX:  # it grew since it was counted
            raise _too_many(f"correlation {correlation_id}", len(events), at_least=True)
        return Trace(
            correlation_id=correlation_id,
            signals=tuple(_records(Signal, signals)),
            runs=tuple(_records(RunRecord, runs)),
            steps=tuple(_records(Step, steps)),
            tool_calls=tuple(_records(ToolCall, calls)),
            effects=tuple(_records(Effect, effects)),
            outbox=tuple(_records(OutboxEntry, outbox)),
            checkpoints=tuple(_records(Checkpoint, checkpoints)),
            events=tuple(_records(Event, events)),
        )

    async def timeline(
        self, scope: Scope, correlation_id: UUID, *, after: TimelineEntry | None, limit: int
    ) -> list[TimelineEntry]:
        """Signals, runs, steps, tool calls, effects and events of a correlation by time."""
        rows = await self._rows(
            scope,
            "correlations/timeline",
            correlation_id=correlation_id,
            after_at=after and after.occurred_at,
            after_place=after and after.place,
            after_position=after and after.position,
            after_id=after and after.id,
            limit=limit,
        )
        return _records(TimelineEntry, rows)

    async def provenance(self, scope: Scope, channel: str, *, source_id: str, limit: int) -> Provenance | None:
        """The signal that a channel gave this id, and the first runs that were for it, from one snapshot."""
        signals, runs = await self._snapshot(
            scope, "signals/find_by_source", "runs/of_source", channel=channel, source_id=source_id, limit=limit
        )
        signal = _first(Signal, signals)
        return None if signal is None else Provenance(signal=signal, runs=tuple(_records(RunRecord, runs)))

    async def list_audit(
        self, scope: Scope, wanted: AuditFilter, *, before: UUID | None, limit: int
    ) -> list[AuditEntry]:
        """Entries of the audit trail by id, the newest first."""
        rows = await self._rows(
            scope,
            "audit/list",
            action=wanted.action,
            actor=wanted.actor,
            resource_id=wanted.resource_id,
            before=before,
            limit=limit,
        )
        return _records(AuditEntry, rows)

    # --- how --------------------------------------------------------------------------------------------------------

    async def _rows(self, scope: Scope, verb: LiteralString, /, **parameters: Any) -> list[Row]:
        [rows] = await self._snapshot(scope, verb, **parameters)
        return rows

    async def _snapshot(self, scope: Scope, *verbs: LiteralString, **parameters: Any) -> list[list[Row]]:
        given = {"tenant_id": scope.tenant_id, **parameters}
        wanted: list[Statement] = [(statement(verb), given) for verb in verbs]
        return await self._session.snapshot(scope.tenant_id, scope.user_id, wanted)


def _records(kind: type[Record], rows: Sequence[Row]) -> list[Record]:
    return [kind.from_row(row) for row in rows]


def _first(kind: type[Record], rows: Sequence[Row]) -> Record | None:
    return kind.from_row(rows[0]) if rows else None


def _found(record: Record | None, what: str) -> Record:
    if record is None:
        raise NotFound(f"{what} does not exist in this tenant")
    return record


def _statuses(status: SignalStatus | RunStatus | None, every: type[SignalStatus | RunStatus]) -> list[str]:
    return [str(one) for one in (every if status is None else (status,))]


def _moment(after: Moment | None) -> dict[str, Any]:
    at, row_id = after if after is not None else (None, None)
    return {"after_at": at, "after_id": row_id}


def _too_many(what: str, events: int, *, at_least: bool = False) -> LimitExceeded:
    number = f"at least {events}" if at_least else str(events)
    return LimitExceeded(
        f"{what} has {number} events, and one answer holds at most {limits.TRACE_EVENTS_MAX} (trace_events_max); "
        "read it in pages: events.list(correlation_id=...), timeline(...)",
        limit="trace_events_max",
        allowed=limits.TRACE_EVENTS_MAX,
        actual=events,
    )
