"""Types and statuses of the ledger, and the six status machines as one table.

Rule 1: everything that says which status may follow which is in this file. The database keeps the same table for its
own guard; a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from perdure.errors import IllegalTransition, Invalid


class Machine(StrEnum):
    """The things that have a status."""

    SIGNAL = "SIGNAL"
    RUN = "RUN"
    STEP = "STEP"
    EFFECT = "EFFECT"
    TOOL_CALL = "TOOL_CALL"
    OUTBOX = "OUTBOX"


class SignalStatus(StrEnum):
    """How far a signal is: kept, taken up by a run, or done with."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    PROCESSED = "PROCESSED"
    FAILED = "FAILED"


class RunStatus(StrEnum):
    """A run is RUNNING until it ends in one of three ways; it never starts again."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class StepStatus(StrEnum):
    """A step is RUNNING until it ends; trying again is another step."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class EffectStatus(StrEnum):
    """How far the delivery of an effect is."""

    PENDING = "PENDING"
    EXECUTING = "EXECUTING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    DEAD_LETTER = "DEAD_LETTER"


class ToolCallStatus(StrEnum):
    """A tool call is PENDING until its result or its error is recorded."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class OutboxStatus(StrEnum):
    """How far the relay is with an entry."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    DEAD_LETTER = "DEAD_LETTER"


class SignalType(StrEnum):
    """What kind of input a signal is."""

    EMAIL = "EMAIL"
    WEBHOOK = "WEBHOOK"
    CHAT_MESSAGE = "CHAT_MESSAGE"
    API_CALL = "API_CALL"
    SCHEDULED_TASK = "SCHEDULED_TASK"
    HUMAN_COMMAND = "HUMAN_COMMAND"


class RunType(StrEnum):
    """Why a run exists."""

    SIGNAL_PROCESSING = "SIGNAL_PROCESSING"
    SCHEDULED_TASK = "SCHEDULED_TASK"
    HUMAN_TRIGGERED = "HUMAN_TRIGGERED"
    CONTINUATION = "CONTINUATION"


class StepType(StrEnum):
    """What kind of work a step is."""

    DECISION = "DECISION"
    SPECIALIST_CALL = "SPECIALIST_CALL"
    TOOL_SEQUENCE = "TOOL_SEQUENCE"
    EFFECT_REQUEST = "EFFECT_REQUEST"
    CHECKPOINT = "CHECKPOINT"
    WAIT = "WAIT"


START: Final = "-"


class Transition(NamedTuple):
    """One edge of a machine: from ``source`` (``-`` where a row begins) to ``target``."""

    machine: Machine
    source: str
    target: str


TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition(Machine.SIGNAL, START, SignalStatus.PENDING),
    Transition(Machine.SIGNAL, SignalStatus.PENDING, SignalStatus.PROCESSING),
    Transition(Machine.SIGNAL, SignalStatus.PROCESSING, SignalStatus.PROCESSED),
    Transition(Machine.SIGNAL, SignalStatus.PROCESSING, SignalStatus.FAILED),
    Transition(Machine.RUN, START, RunStatus.RUNNING),
    Transition(Machine.RUN, RunStatus.RUNNING, RunStatus.COMPLETED),
    Transition(Machine.RUN, RunStatus.RUNNING, RunStatus.FAILED),
    Transition(Machine.RUN, RunStatus.RUNNING, RunStatus.CANCELLED),
    Transition(Machine.STEP, START, StepStatus.RUNNING),
    Transition(Machine.STEP, StepStatus.RUNNING, StepStatus.COMPLETED),
    Transition(Machine.STEP, StepStatus.RUNNING, StepStatus.FAILED),
    Transition(Machine.STEP, StepStatus.RUNNING, StepStatus.SKIPPED),
    Transition(Machine.EFFECT, START, EffectStatus.PENDING),
    Transition(Machine.EFFECT, EffectStatus.PENDING, EffectStatus.EXECUTING),
    Transition(Machine.EFFECT, EffectStatus.PENDING, EffectStatus.DEAD_LETTER),  # its run failed or was cancelled
    Transition(Machine.EFFECT, EffectStatus.EXECUTING, EffectStatus.COMPLETED),
    Transition(Machine.EFFECT, EffectStatus.EXECUTING, EffectStatus.FAILED),
    Transition(Machine.EFFECT, EffectStatus.FAILED, EffectStatus.EXECUTING),
    Transition(Machine.EFFECT, EffectStatus.FAILED, EffectStatus.DEAD_LETTER),
    Transition(Machine.EFFECT, EffectStatus.DEAD_LETTER, EffectStatus.PENDING),  # an operator's requeue
    Transition(Machine.TOOL_CALL, START, ToolCallStatus.PENDING),
    Transition(Machine.TOOL_CALL, ToolCallStatus.PENDING, ToolCallStatus.COMPLETED),
    Transition(Machine.TOOL_CALL, ToolCallStatus.PENDING, ToolCallStatus.FAILED),
    Transition(Machine.OUTBOX, START, OutboxStatus.PENDING),
    Transition(Machine.OUTBOX, OutboxStatus.PENDING, OutboxStatus.PROCESSING),
    Transition(Machine.OUTBOX, OutboxStatus.PENDING, OutboxStatus.DEAD_LETTER),
    Transition(Machine.OUTBOX, OutboxStatus.PROCESSING, OutboxStatus.COMPLETED),
    Transition(Machine.OUTBOX, OutboxStatus.PROCESSING, OutboxStatus.FAILED),
    Transition(Machine.OUTBOX, OutboxStatus.PROCESSING, OutboxStatus.DEAD_LETTER),
    Transition(Machine.OUTBOX, OutboxStatus.FAILED, OutboxStatus.PROCESSING),
    Transition(Machine.OUTBOX, OutboxStatus.FAILED, OutboxStatus.DEAD_LETTER),
    Transition(Machine.OUTBOX, OutboxStatus.DEAD_LETTER, OutboxStatus.PENDING),  # an operator's requeue
)

STATUSES: Final = MappingProxyType(
    {
        Machine.SIGNAL: tuple(SignalStatus),
        Machine.RUN: tuple(RunStatus),
        Machine.STEP: tuple(StepStatus),
        Machine.EFFECT: tuple(EffectStatus),
        Machine.TOOL_CALL: tuple(ToolCallStatus),
        Machine.OUTBOX: tuple(OutboxStatus),
    }
)

_EDGES: Final = frozenset(TRANSITIONS)
# A dead letter is an end: only a person's requeue leaves it.
_REQUEUES: Final = frozenset(edge for edge in TRANSITIONS if edge.source == "DEAD_LETTER")
_TERMINAL: Final = frozenset(
    (machine, status)
    for machine, statuses in STATUSES.items()
    for status in statuses
    if not any((edge.machine, edge.source) == (machine, status) for edge in _EDGES - _REQUEUES)
)


def check_transition(machine: Machine, *, source: str, target: str) -> None:
    """Raise ``IllegalTransition`` unless ``machine`` has the edge; ``source`` is ``-`` where a row begins."""
    if (machine, source, target) in _EDGES:
        return
    reachable = ", ".join(sorted(edge.target for edge in _EDGES if (edge.machine, edge.source) == (machine, source)))
    raise IllegalTransition(
        f"{machine} cannot go from {source} to {target}; from there it can go to: {reachable or 'nothing'}",
        machine=str(machine),
        source=str(source),
        target=str(target),
    )


def is_terminal(machine: Machine, *, status: str) -> bool:
    """Whether ``status`` ends the row's story; nothing but an operator's requeue of a dead letter ever leaves it.

    Raises ``Invalid`` for a status that the machine does not have.
    """
    if status not in STATUSES[machine]:
        raise Invalid(f"{machine} has no status {status!r}; it has: {', '.join(STATUSES[machine])}")
    return (machine, status) in _TERMINAL
