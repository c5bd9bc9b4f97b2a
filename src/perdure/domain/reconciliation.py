"""What happens to a change when the ledger answers: its references learn what the commit decided.

``settle`` is for a committed change. ``reconcile`` is for one whose keys were recorded before: what is recorded with
the same content is dropped from the change and its reference points at the recorded row; other content is
``KeyReused``. Recording is idempotent through these two, whoever repeats it: the same process, or the next one after
a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from perdure.domain.change import Change
from perdure.domain.handles import StepRef
from perdure.domain.operation import (
    AddCheckpoint,
    AddEffect,
    AddStep,
    AddToolCall,
    EndRun,
    EndStep,
    EndToolCall,
    Operation,
)
from perdure.domain.rendering import new_steps
from perdure.domain.run import StepStatus, ToolCallStatus
from perdure.errors import KeyReused

Row = Mapping[str, Any]


def settle(change: Change, result: Mapping[str, Any], *, joined: bool) -> None:
    """Write what the commit assigned, as its result says, into the references of a committed change.

    Of a change that was ``joined`` to the caller's transaction the run's handle learns nothing: it may be rolled back.
    """
    committed = result["ok"]
    base = committed["step_base"]
    for ordinal, step in enumerate(new_steps(change)):
        step.index = base + ordinal
    checkpoints = [operation for operation in change.operations if isinstance(operation, AddCheckpoint)]
    for ordinal, checkpoint in enumerate(checkpoints):
        checkpoint.ref.index = committed["checkpoint_base"] + ordinal
    change.sequence = result["last_sequence_number"]
    if joined:
        return  # whether it happened is the caller's to decide, when the transaction ends
    remember(change)
    for operation in change.operations:
        if isinstance(operation, EndRun) and committed.get("more"):
            change.run.record = replace(change.run.record, status=operation.status, exit_reason=operation.exit_reason)


def remember(change: Change) -> None:
    """Let the run's handle know the steps that this change completed."""
    for operation in change.operations:
        if isinstance(operation, AddStep | EndStep) and operation.ref.status is StepStatus.COMPLETED:
            change.run.remember(operation.ref.key, operation.ref.output)


def reconcile(change: Change, recorded: Mapping[str, Sequence[Row]]) -> bool:
    """Drop from ``change`` what is recorded already; True when all of it was this very change, committed before.

    Raises ``KeyReused`` when a key is recorded with other content.
    """
    steps = {(row["step_key"], row["retry_count"]): row for row in recorded.get("steps", ())}
    calls = {(UUID(row["step_id"]), row["call_key"]): row for row in recorded.get("tool_calls", ())}
    effects = {row["idempotency_key"]: row for row in recorded.get("effects", ())}
    if any(UUID(row["id"]) in _ids(change) for row in (*steps.values(), *calls.values(), *effects.values())):
        for operation in change.operations:
            if isinstance(operation, AddStep) and (row := steps.get((operation.ref.key, operation.ref.retry_count))):
                operation.ref.index = row["step_index"]
        return True
    remaining: list[Operation] = []
    for operation in change.operations:
        kept: Operation | None = operation
        if isinstance(operation, AddStep):
            kept = _reconcile_step(operation, steps.get((operation.ref.key, operation.ref.retry_count)), change)
        elif isinstance(operation, AddToolCall):
            kept = _reconcile_call(operation, calls.get((operation.ref.step.id, operation.ref.key)))
        elif isinstance(operation, AddEffect):
            kept = _reconcile_effect(operation, effects.get(operation.ref.idempotency_key))
        if kept is not None:
            remaining.append(kept)
    change.operations[:] = remaining
    return False


def _ids(change: Change) -> set[UUID]:
    return {
        operation.ref.id
        for operation in change.operations
        if isinstance(operation, AddStep | AddToolCall | AddEffect) and not operation.ref.recorded
    }


def _reconcile_step(added: AddStep, row: Row | None, change: Change) -> Operation | None:
    if row is None:
        return added
    step = added.ref
    content = (step.name, str(step.step_type), added.input)
    if content != (row["name"], row["step_type"], row["input_context"]):
        raise _reused("step", step.key, "name, type or input")
    _point_at(step, row)
    ending = added.ending
    if ending is None:
        step.status = StepStatus(row["status"])
        step.output = row["output_result"]
    elif row["status"] == StepStatus.RUNNING:
        # Its first recording only began it; this one ends it.
        return EndStep(ref=step, ending=ending)
    elif row["status"] != ending.status or (
        ending.status is StepStatus.COMPLETED and row["output_result"] != step.output
    ):
        raise _reused("step", step.key, "outcome")
    if step.status is StepStatus.COMPLETED:
        change.run.remember(step.key, step.output)
    return None


def _point_at(step: StepRef, row: Row) -> None:
    step.id = UUID(row["id"])
    step.index = row["step_index"]
    step.started_event_id = UUID(row["causation_id"])
    if row["status"] != StepStatus.RUNNING:
        step.ended_event_id = UUID(row["last_event_id"])
    step.recorded = True


def _reconcile_call(added: AddToolCall, row: Row | None) -> Operation | None:
    call = added.ref
    if row is None:
        if call.step.recorded and call.step.status is not StepStatus.RUNNING:
            raise _reused("step", call.step.key, "tool calls")
        return added
    if (call.tool_name, added.args) != (row["tool_name"], row["tool_args"]):
        raise _reused("tool call", call.key, "tool or arguments")
    call.id, call.called_event_id, call.recorded = UUID(row["id"]), UUID(row["causation_id"]), True
    if added.ending is None:
        call.status = ToolCallStatus(row["status"])
        return None
    if row["status"] == ToolCallStatus.PENDING:
        return EndToolCall(ref=call, ending=added.ending, duration_ms=added.duration_ms)
    result = added.ending.data.get("result")
    if row["status"] != added.ending.status or (
        added.ending.status is ToolCallStatus.COMPLETED and row["result"] != result
    ):
        raise _reused("tool call", call.key, "outcome")
    return None


def _reconcile_effect(added: AddEffect, row: Row | None) -> Operation | None:
    effect = added.ref
    if row is None:
        if effect.step.recorded and effect.step.status is not StepStatus.RUNNING:
            raise _reused("step", effect.step.key, "effects")
        return added
    if (effect.effect_type, added.spec) != (row["effect_type"], row["effect_spec"]):
        raise _reused("effect", effect.key, "type or specification")
    effect.id, effect.recorded = UUID(row["id"]), True
    return None


def _reused(what: str, key: str, difference: str) -> KeyReused:
    return KeyReused(
        f"{what} {key!r} is recorded already with another {difference}; ask run.done(key) before repeating a step, "
        "or give the new one a key of its own",
        key=key,
        difference=difference,
    )
