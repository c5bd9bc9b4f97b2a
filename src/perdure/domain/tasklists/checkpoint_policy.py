"""When a list is written: a table of triggers, as a state machine that is told the time.

Times are seconds of a monotonic clock. A state is a value; whoever keeps it replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from perdure.domain.tasklists.frequency import CheckpointFrequency

BACKOFF_S_MIN: Final = 2.0  # after the first failure; doubled after each further one
BACKOFF_S_MAX: Final = 60.0  # a disk that is repaired is noticed within a minute
_DOUBLINGS_MAX: Final = 16  # beyond the longest backoff, and before the power grows without need


class Trigger(StrEnum):
    """What asks whether to write now."""

    MUTATION = "mutation"
    TIMER = "timer"
    EXPLICIT = "explicit"
    SHUTDOWN = "shutdown"


class Action(StrEnum):
    """What is to be done. ``SKIP_IN_FLIGHT``: a write is under way, and asks again when it ends."""

    PERSIST = "persist"
    SKIP_CLEAN = "skip_clean"
    SKIP_DEBOUNCED = "skip_debounced"
    SKIP_POLICY = "skip_policy"
    SKIP_IN_FLIGHT = "skip_in_flight"


class Reason(StrEnum):
    """Why something is written."""

    MUTATION_THRESHOLD = "mutation_threshold"
    DIRTY_TIME_FLOOR = "dirty_time_floor"
    EXPLICIT_REQUEST = "explicit_request"
    GRACEFUL_SHUTDOWN = "graceful_shutdown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be done, and why if it is to be written."""

    action: Action
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A write under way: what it covers, when it was decided, and since when there is something it does not cover."""

    captured_count: int
    started_s: float
    dirty_since_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointState:
    """What is not written yet. ``dirty_since_s`` is None when clean; ``last_checkpoint_s`` until the first one."""

    dirty_since_s: float | None = None
    mutation_count: int = 0
    last_checkpoint_s: float | None = None
    last_attempt_s: float | None = None
    failures: int = 0
    flight: Flight | None = None

    @property
    def is_dirty(self) -> bool:
        """Whether something is not on the disk."""
        return self.dirty_since_s is not None


def mutated(state: CheckpointState, *, now_s: float, count: int = 1) -> CheckpointState:
    """The state after local mutations."""
    return replace(merged(state, now_s=now_s), mutation_count=state.mutation_count + count)


def merged(state: CheckpointState, *, now_s: float) -> CheckpointState:
    """The state after a merge that changed something.

    It makes dirty, so that who only receives is written too, and does not count towards the threshold of mutations.
    """
    flight = state.flight
    if flight is not None and flight.dirty_since_s is None:
        flight = replace(flight, dirty_since_s=now_s)
    since_s = now_s if state.dirty_since_s is None else state.dirty_since_s
    return replace(state, dirty_since_s=since_s, flight=flight)


def decide(state: CheckpointState, trigger: Trigger, *, now_s: float, frequency: CheckpointFrequency) -> Decision:
    """What a trigger does now. Every bound is met at exactly its number."""
    if state.flight is not None:
        return Decision(action=Action.SKIP_IN_FLIGHT)
    if state.dirty_since_s is None:
        return Decision(action=Action.SKIP_CLEAN)
    if trigger is Trigger.SHUTDOWN:
        return Decision(action=Action.PERSIST, reason=Reason.GRACEFUL_SHUTDOWN)
    reason = _due(state, trigger, now_s=now_s, frequency=frequency)
    if reason is None:
        return Decision(action=Action.SKIP_POLICY)
    # Who asks has looked at the disk perhaps, so only the debounce holds it back; what goes by itself waits longer.
    gate_s = _debounced_until_s(state, frequency) if trigger is Trigger.EXPLICIT else _gate_s(state, frequency)
    if now_s < gate_s:
        return Decision(action=Action.SKIP_DEBOUNCED)
    return Decision(action=Action.PERSIST, reason=reason)


def begun(state: CheckpointState, *, now_s: float) -> CheckpointState:
    """The state once a write was decided on; what it covers was captured in the same moment."""
    assert state.flight is None, "one write at a time"
    flight = Flight(captured_count=state.mutation_count, started_s=now_s)
    return replace(state, flight=flight, last_attempt_s=now_s)


def succeeded(state: CheckpointState) -> CheckpointState:
    """The state after the write: only what came meanwhile is still dirty."""
    flight = state.flight
    assert flight is not None, "only what was begun can end"
    return replace(
        state,
        flight=None,
        failures=0,
        last_checkpoint_s=flight.started_s,
        dirty_since_s=flight.dirty_since_s,
        mutation_count=state.mutation_count - flight.captured_count,
    )


def failed(state: CheckpointState, *, now_s: float) -> CheckpointState:
    """The state after a write that failed: as dirty as before, and not tried again at once."""
    assert state.flight is not None, "only what was begun can end"
    return replace(state, flight=None, failures=state.failures + 1, last_attempt_s=now_s)


def next_deadline_s(state: CheckpointState, frequency: CheckpointFrequency) -> float | None:
    """When a timer will have something to write; None if it has nothing to wait for.

    A burst that ends inside the debounce is due when that is over, and not only at the dirty-time floor.
    """
    if state.dirty_since_s is None or state.flight is not None:
        return None
    gate_s = _gate_s(state, frequency)
    if state.mutation_count >= frequency.mutation_threshold:
        return max(gate_s, state.dirty_since_s)
    return max(gate_s, state.dirty_since_s + frequency.dirty_time_floor_secs)


def _due(state: CheckpointState, trigger: Trigger, *, now_s: float, frequency: CheckpointFrequency) -> Reason | None:
    assert state.dirty_since_s is not None, "asked of what is dirty"
    if trigger is Trigger.EXPLICIT:
        return Reason.EXPLICIT_REQUEST
    if trigger is Trigger.TIMER and now_s >= state.dirty_since_s + frequency.dirty_time_floor_secs:
        return Reason.DIRTY_TIME_FLOOR
    return Reason.MUTATION_THRESHOLD if state.mutation_count >= frequency.mutation_threshold else None


def _debounced_until_s(state: CheckpointState, frequency: CheckpointFrequency) -> float:
    times = [time for time in (state.last_checkpoint_s, state.last_attempt_s) if time is not None]
    return max(times) + frequency.debounce_floor_secs if times else float("-inf")


def _gate_s(state: CheckpointState, frequency: CheckpointFrequency) -> float:
    until_s = _debounced_until_s(state, frequency)
    if state.failures == 0 or state.last_attempt_s is None:
        return until_s
    backoff_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(state.failures - 1, _DOUBLINGS_MAX))
    return max(until_s, state.last_attempt_s + backoff_s)
