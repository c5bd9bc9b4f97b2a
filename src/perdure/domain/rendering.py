"""From a change to what is sent: one JSON object with the events in order and, for each row, its keys.

A row's content stands in the event that announces it and nowhere else. Events of one step stand together, in the order
in which things happened: started, tool calls, ended, effects requested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

from perdure.domain.change import Change
from perdure.domain.event import Aggregate, EventType, check_event_data
from perdure.domain.handles import StepRef
from perdure.domain.operation import (
    AddAudit,
    AddCheckpoint,
    AddEffect,
    AddStep,
    AddToolCall,
    Ending,
    EndRun,
    EndStep,
    EndToolCall,
    Operation,
)
from perdure.domain.run import RunStatus, StepStatus, ToolCallStatus

Rendered: TypeAlias = dict[str, Any]

_STEP_ENDS: Final[Mapping[str, EventType]] = {
    StepStatus.COMPLETED: EventType.STEP_COMPLETED,
    StepStatus.FAILED: EventType.STEP_FAILED,
    StepStatus.SKIPPED: EventType.STEP_SKIPPED,
}
_CALL_ENDS: Final[Mapping[str, EventType]] = {
    ToolCallStatus.COMPLETED: EventType.TOOL_COMPLETED,
    ToolCallStatus.FAILED: EventType.TOOL_FAILED,
}


def render_change(change: Change) -> Rendered:
    """The JSON form of a change, the same each time it is asked for."""
    return _Rendering(change).render()


def render_keys(change: Change, *, careful: bool) -> Rendered | None:
    """The keys whose earlier recording must be looked for before anything is written, or None.

    Steps and effects have unique keys in the database, so they are looked for only when it has refused them
    (``careful``). A tool call added to a step of an earlier change has none, and is always looked for.
    """
    new = {step.id for step in new_steps(change)}
    keys: dict[str, list[Any]] = {}
    for operation in change.operations:
        if isinstance(operation, AddToolCall) and operation.ref.step.id not in new:
            wanted = {"step_id": str(operation.ref.step.id), "key": operation.ref.key}
            keys.setdefault("tool_calls", []).append(wanted)
        elif careful and isinstance(operation, AddStep):
            attempt = {"key": operation.ref.key, "retry_count": operation.ref.retry_count}
            keys.setdefault("steps", []).append(attempt)
        elif careful and isinstance(operation, AddEffect):
            keys.setdefault("effects", []).append(operation.ref.idempotency_key)
    return dict(keys) or None


def new_steps(change: Change) -> list[StepRef]:
    """The steps that the change adds, in the order in which they are numbered."""
    added = {operation.ref.id for operation in change.operations if isinstance(operation, AddStep)}
    return [step for step in _steps_in_order(change) if step.id in added]


def event_ids(rendered: Rendered) -> list[UUID]:
    """The ids of the events that a rendered change announces."""
    return [UUID(event["id"]) for event in rendered["events"]]


def _steps_in_order(change: Change) -> list[StepRef]:
    steps: dict[UUID, StepRef] = {}
    for operation in change.operations:
        if isinstance(operation, AddStep | EndStep):
            steps.setdefault(operation.ref.id, operation.ref)
        elif isinstance(operation, AddToolCall | EndToolCall | AddEffect):
            steps.setdefault(operation.ref.step.id, operation.ref.step)
    return list(steps.values())


def _operations_by_step(change: Change) -> Mapping[UUID, Sequence[Operation]]:
    found: dict[UUID, list[Operation]] = {}
    for operation in change.operations:
        if isinstance(operation, AddStep | EndStep):
            found.setdefault(operation.ref.id, []).append(operation)
        elif isinstance(operation, AddToolCall | EndToolCall | AddEffect):
            found.setdefault(operation.ref.step.id, []).append(operation)
    return found


class _Rendering:
    """One pass over the operations of a change, grouped by step."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.run_id = str(change.run.id)
        self.events: list[Rendered] = []
        self.rows: dict[str, list[Rendered]] = {}
        self.counts = {"steps": 0, "failed": 0, "open": 0, "effects": 0, "checkpoints": 0}
        self.last_cause: UUID = change.run.record.last_event_id

    def render(self) -> Rendered:
        by_step = _operations_by_step(self.change)
        for step in _steps_in_order(self.change):
            self._render_step(step, by_step[step.id])
        run_end = None
        for operation in self.change.operations:
            if isinstance(operation, AddCheckpoint):
                self._render_checkpoint(operation)
            elif isinstance(operation, AddAudit):
                self._render_audit(operation)
            elif isinstance(operation, EndRun):
                run_end = operation
        scope, lease = self.change.scope, self.change.run.lease
        rendered: Rendered = {
            "run_id": self.run_id,
            "correlation_id": str(self.change.run.correlation_id),
            "actor": scope.actor,
            "source": scope.source,
            "counts": {"failed": self.counts["failed"], "open": self.counts["open"]},
            "events": self.events,
            **self.rows,
        }
        if lease is not None:
            rendered |= {"lock_token": str(lease.token), "lease_s": lease.lease_s}
        if run_end is not None:
            rendered["run_end"] = self._run_end(run_end)
        return rendered

    # --- steps ----------------------------------------------------------------------------------------------------

    def _render_step(self, step: StepRef, operations: Sequence[Operation]) -> None:
        added = next((operation for operation in operations if isinstance(operation, AddStep)), None)
        ended = next((operation for operation in operations if isinstance(operation, EndStep)), None)
        row = self._start_step(added) if added is not None else None
        cause = step.started_event_id
        ordinal = 0 if added is not None else None  # of a step recorded earlier the commit knows how many it has
        for call in operations:
            if isinstance(call, AddToolCall):
                cause = self._add_call(call, cause=step.started_event_id, ordinal=ordinal)
                ordinal = None if ordinal is None else ordinal + 1
            elif isinstance(call, EndToolCall):
                cause = self._end_call(call)
        if added is not None and row is not None and added.ending is not None:
            row["ended"] = len(self.events)
            row["status"] = added.ending.status
            row["last_event_id"] = str(added.ending.event_id)
            place = {"new_step": len(self.rows["steps"]) - 1}
            duration = {"duration_ms": added.duration_ms or 0}
            cause = self._announce_step_end(step, added.ending, cause=cause, place=place, extra=duration)
        elif ended is not None:
            self._count_end(ended.ending, newly_open=-1)
            end = {"id": str(step.id), "status": ended.ending.status, "ended": len(self.events)}
            self._row("step_ends", end | {"last_event_id": str(ended.ending.event_id)})
            cause = self._announce_step_end(step, ended.ending, cause=cause, place={"late_end": True}, extra={})
        for effect in operations:
            if isinstance(effect, AddEffect):
                self._add_effect(effect, cause=cause)
        self.last_cause = cause

    def _start_step(self, added: AddStep) -> Rendered:
        step = added.ref
        ordinal = self.counts["steps"]
        self.counts["steps"] += 1
        if added.ending is None:
            self.counts["open"] += 1
        else:
            self._count_end(added.ending, newly_open=0)
        cause = self.change.run.record.last_event_id
        if added.retried_event_id is not None:
            data = {"step_id": step.id, "run_id": self.run_id, "retry_of": added.retry_of}
            self._announce(
                added.retried_event_id,
                EventType.STEP_RETRIED,
                Aggregate.STEP,
                step.id,
                data | {"retry_count": step.retry_count},
                cause=added.retried_cause,
                place={"new_step": ordinal},
            )
            cause = added.retried_event_id
        row: Rendered = {
            "id": str(step.id),
            "status": StepStatus.RUNNING,
            "started": len(self.events),
            "cause": str(step.started_event_id),
            "last_event_id": str(step.started_event_id),
        }
        for name in ("duration_ms", "wait_s", "metadata"):
            if (value := getattr(added, name)) is not None:
                row[name] = value
        data = {
            "step_id": step.id,
            "run_id": self.run_id,
            "step_type": step.step_type,
            "name": step.name,
            "step_key": step.key,
            "retry_count": step.retry_count,
            "retry_of": added.retry_of,
            "input_context": added.input,
            "specialist_id": added.specialist_id,
            "entities": [[kind, entity_id] for _, kind, entity_id in added.entities] or None,
        }
        ago = {"ago_ms": added.duration_ms} if added.duration_ms else {}
        self._announce(
            step.started_event_id,
            EventType.STEP_STARTED,
            Aggregate.STEP,
            step.id,
            data,
            cause=cause,
            place={"new_step": ordinal, **ago},
        )
        self._row("steps", row)
        for reference_id, kind, entity_id in added.entities:
            reference = {"id": str(reference_id), "type": kind, "entity_id": entity_id, "aggregate": Aggregate.STEP}
            self._row("entities", reference | {"aggregate_id": str(step.id), "cause": str(step.started_event_id)})
        return row

    def _count_end(self, ending: Ending, *, newly_open: int) -> None:
        self.counts["open"] += newly_open
        if ending.status == StepStatus.FAILED:
            self.counts["failed"] += 1

    def _announce_step_end(
        self, step: StepRef, ending: Ending, *, cause: UUID, place: Rendered, extra: Rendered
    ) -> UUID:
        data = {"step_id": step.id, "run_id": self.run_id, "step_type": step.step_type, **ending.data, **extra}
        self._announce(
            ending.event_id, _STEP_ENDS[ending.status], Aggregate.STEP, step.id, data, cause=cause, place=place
        )
        return ending.event_id

    # --- tool calls and effects -----------------------------------------------------------------------------------

    def _add_call(self, added: AddToolCall, *, cause: UUID, ordinal: int | None) -> UUID:
        call = added.ref
        row: Rendered = {
            "id": str(call.id),
            "called": len(self.events),
            "status": ToolCallStatus.PENDING,
            "cause": str(call.called_event_id),
            "last_event_id": str(call.called_event_id),
        }
        for name in ("duration_ms", "metadata"):
            if (value := getattr(added, name)) is not None:
                row[name] = value
        data = {
            "tool_call_id": call.id,
            "step_id": call.step.id,
            "run_id": self.run_id,
            "tool_name": call.tool_name,
            "tool_version": added.version,
            "tool_args": added.args,
            "call_key": call.key,
            "call_index": ordinal,
        }
        place: Rendered = {"late_call": True} if ordinal is None else {}
        if added.duration_ms:
            place["ago_ms"] = added.duration_ms
        self._announce(
            call.called_event_id, EventType.TOOL_CALLED, Aggregate.TOOL_CALL, call.id, data, cause=cause, place=place
        )
        if added.ending is not None:
            row |= {"ended": len(self.events), "status": added.ending.status}
            row["last_event_id"] = str(added.ending.event_id)
            self._announce_call_end(added, added.ending, {"execution_duration_ms": round(added.duration_ms or 0)}, {})
        self._row("tool_calls", row)
        return added.ending.event_id if added.ending is not None else call.called_event_id

    def _end_call(self, ended: EndToolCall) -> UUID:
        row: Rendered = {"id": str(ended.ref.id), "status": ended.ending.status, "ended": len(self.events)}
        row["last_event_id"] = str(ended.ending.event_id)
        if ended.duration_ms is not None:
            row["duration_ms"] = ended.duration_ms
        self._row("tool_call_ends", row)
        self._announce_call_end(ended, ended.ending, {"execution_duration_ms": None}, {"late_call_end": True})
        return ended.ending.event_id

    def _announce_call_end(
        self, operation: AddToolCall | EndToolCall, ending: Ending, extra: Rendered, place: Rendered
    ) -> None:
        call = operation.ref
        data = {"tool_call_id": call.id, "step_id": call.step.id, "run_id": self.run_id, **ending.data, **extra}
        kind = _CALL_ENDS[ending.status]
        self._announce(
            ending.event_id,
            kind,
            Aggregate.TOOL_CALL,
            call.id,
            data,
            cause=call.called_event_id,
            keep_null=True,
            place=place,
        )

    def _add_effect(self, added: AddEffect, *, cause: UUID) -> None:
        effect = added.ref
        self.counts["effects"] += 1
        row: Rendered = {
            "id": str(effect.id),
            "outbox_id": str(effect.outbox_id),
            "requested": len(self.events),
            "cause": str(added.event_id),
            "last_event_id": str(added.event_id),
        }
        if added.independent:
            row["independent"] = True
        if added.metadata is not None:
            row["metadata"] = added.metadata
        self._row("effects", row)
        data = {
            "effect_id": effect.id,
            "run_id": self.run_id,
            "step_id": effect.step.id,
            "effect_type": effect.effect_type,
            "effect_key": effect.key,
            "idempotency_key": effect.idempotency_key,
            "effect_spec": added.spec,
            "max_retries": added.max_retries,
            "outbox_id": effect.outbox_id,
        }
        self._announce(added.event_id, EventType.EFFECT_REQUESTED, Aggregate.EFFECT, effect.id, data, cause=cause)

    # --- checkpoints, audit, the end of the run -------------------------------------------------------------------

    def _render_checkpoint(self, added: AddCheckpoint) -> None:
        ordinal = self.counts["checkpoints"]
        self.counts["checkpoints"] += 1
        data = {"run_id": self.run_id, "checkpoint_id": added.ref.id, "size_bytes": added.size_bytes}
        self._announce(
            added.event_id,
            EventType.RUN_CHECKPOINT_CREATED,
            Aggregate.RUN,
            self.change.run.id,
            data,
            cause=self.last_cause,
            place={"new_checkpoint": ordinal},
        )
        row = {"id": str(added.ref.id), "ordinal": ordinal, "content": added.content, "ttl_s": added.ttl_s}
        event_id = str(added.event_id)
        self._row("checkpoints", row | {"size_bytes": added.size_bytes, "cause": event_id, "last_event_id": event_id})

    def _render_audit(self, added: AddAudit) -> None:
        entry = {"id": str(added.id), "action": added.action, "resource_type": added.resource_type}
        self._row("audit", entry | {"resource_id": str(added.resource_id), "context": added.context})

    def _run_end(self, end: EndRun) -> Rendered:
        rendered: Rendered = {"status": end.status, "event_id": str(end.event_id), "cause": str(self.last_cause)}
        if end.exit_reason is not None:
            rendered["exit_reason"] = end.exit_reason
        elif end.status is not RunStatus.COMPLETED:
            rendered["exit_reason"] = end.status
        if end.error is not None:
            rendered["error"] = end.error
        return rendered

    def _row(self, kind: str, row: Rendered) -> None:
        self.rows.setdefault(kind, []).append(row)

    def _announce(
        self,
        event_id: UUID,
        event_type: EventType,
        aggregate: Aggregate,
        aggregate_id: UUID,
        data: Rendered,
        *,
        cause: UUID | None,
        place: Rendered | None = None,
        keep_null: bool = False,
    ) -> None:
        said = data if keep_null else {name: value for name, value in data.items() if value is not None}
        check_event_data(event_type, data=said, committed=False)
        event: Rendered = {
            "id": str(event_id),
            "type": event_type,
            "aggregate": aggregate,
            "aggregate_id": str(aggregate_id),
            "data": said,
            **(place or {}),
        }
        if cause is not None:
            event["cause"] = str(cause)
        self.events.append(event)
