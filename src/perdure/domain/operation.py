"""The operations a change is made of: plain values with every id they need, so that a change can be replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from perdure.domain.change_values import refuse_other_step
from perdure.domain.handles import CheckpointRef, EffectRef, StepRef, ToolCallRef
from perdure.domain.run import RunStatus, StepStatus, ToolCallStatus

Data: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a step or a tool call ends: the status, the event that says so, and what it says."""

    event_id: UUID
    status: StepStatus | ToolCallStatus
    data: Data = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddStep:
    """A new step, ended in the same change or left RUNNING."""

    ref: StepRef
    retried_event_id: UUID | None = None
    retried_cause: UUID | None = None
    retry_of: UUID | None = None
    input: Any = field(default=None, repr=False)
    specialist_id: str | None = None
    metadata: Any = None
    wait_s: float | None = None
    duration_ms: float | None = None
    ending: Ending | None = None
    entities: tuple[tuple[UUID, str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndStep:
    """The end of a step that an earlier change started."""

    ref: StepRef
    ending: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class AddToolCall:
    """A tool call, ended in the same change or left PENDING."""

    ref: ToolCallRef
    args: Any = field(repr=False)
    version: str | None = None
    metadata: Any = None
    duration_ms: float | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToolCall:
    """The end of a tool call that an earlier change recorded as PENDING."""

    ref: ToolCallRef
    ending: Ending
    duration_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddEffect:
    """A requested effect and its outbox entry."""

    ref: EffectRef
    event_id: UUID
    spec: Data = field(repr=False)
    max_retries: int
    independent: bool = False
    metadata: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """A checkpoint of the run's state."""

    ref: CheckpointRef
    event_id: UUID
    content: Any = field(repr=False)
    size_bytes: int
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRun:
    """The wish to end the run; completion waits for outstanding effects."""

    event_id: UUID
    status: RunStatus
    exit_reason: str | None = None
    error: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAudit:
    """An entry of the audit trail that belongs to this change."""

    id: UUID
    action: str
    resource_type: str
    resource_id: UUID
    context: Data


Operation: TypeAlias = AddStep | EndStep | AddToolCall | EndToolCall | AddEffect | AddCheckpoint | EndRun | AddAudit


def refuse_other_run(operation: Operation, run_id: UUID) -> None:
    """Raise ``Invalid`` if the operation is about a step of another run."""
    match operation:
        case EndStep(ref=step):
            refuse_other_step(step, run_id)
        case AddToolCall(ref=call) | EndToolCall(ref=call):
            refuse_other_step(call.step, run_id)
        case AddEffect(ref=effect):
            refuse_other_step(effect.step, run_id)
        case _:
            pass  # the others are made for this run


def apply_endings(operations: Iterable[Operation]) -> None:
    """Let the references of what these operations end say so."""
    for operation in operations:
        if isinstance(operation, EndStep) and isinstance(operation.ending.status, StepStatus):
            operation.ref.status = operation.ending.status
            operation.ref.ended_event_id = operation.ending.event_id
            operation.ref.output = operation.ending.data.get("output_result")
        elif isinstance(operation, EndToolCall) and isinstance(operation.ending.status, ToolCallStatus):
            operation.ref.status = operation.ending.status


def undo_endings(operations: Iterable[Operation]) -> None:
    """Let those references say again what they said before, because the operations did not happen."""
    for operation in operations:
        if isinstance(operation, EndStep):
            step = operation.ref
            step.status, step.output, step.ended_event_id = StepStatus.RUNNING, None, None
        elif isinstance(operation, EndToolCall):
            operation.ref.status = ToolCallStatus.PENDING
