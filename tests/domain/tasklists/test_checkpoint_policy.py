"""The scheduler: its truth table, its bounds, and random traces that keep its promises."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.tasklists.checkpoint_policy import (
    BACKOFF_S_MAX,
    Action,
    CheckpointState,
    Decision,
    Reason,
    Trigger,
    begun,
    decide,
    failed,
    merged,
    mutated,
    next_deadline_s,
    succeeded,
)
from perdure.domain.tasklists.frequency import CheckpointFrequency

F = CheckpointFrequency()
CLEAN = CheckpointState()
SKIP_CLEAN, SKIP_POLICY = Decision(action=Action.SKIP_CLEAN), Decision(action=Action.SKIP_POLICY)
DEBOUNCED, IN_FLIGHT = Decision(action=Action.SKIP_DEBOUNCED), Decision(action=Action.SKIP_IN_FLIGHT)


def persist(reason: Reason) -> Decision:
    return Decision(action=Action.PERSIST, reason=reason)


def state(*, dirty: bool, count: int, age_s: float, debounced: bool) -> CheckpointState:
    """A state as seen at second 1000."""
    return CheckpointState(
        dirty_since_s=1000 - age_s if dirty else None,
        mutation_count=count,
        last_checkpoint_s=999.0 if debounced else None,
    )


# dirty, count, age of the dirt, within the debounce: as the table has it, with a timer that looks at the count too.
TABLE = [
    (Trigger.MUTATION, True, 31, 299, False, SKIP_POLICY),
    (Trigger.MUTATION, True, 31, 300, False, SKIP_POLICY),
    (Trigger.MUTATION, True, 32, 0, True, DEBOUNCED),
    (Trigger.MUTATION, True, 32, 0, False, persist(Reason.MUTATION_THRESHOLD)),
    (Trigger.TIMER, False, 0, 0, False, SKIP_CLEAN),
    (Trigger.TIMER, True, 31, 299, False, SKIP_POLICY),
    (Trigger.TIMER, True, 31, 300, True, DEBOUNCED),
    (Trigger.TIMER, True, 31, 300, False, persist(Reason.DIRTY_TIME_FLOOR)),
    (Trigger.TIMER, True, 32, 1, False, persist(Reason.MUTATION_THRESHOLD)),
    (Trigger.TIMER, True, 32, 1, True, DEBOUNCED),
    (Trigger.EXPLICIT, False, 0, 0, False, SKIP_CLEAN),
    (Trigger.EXPLICIT, True, 1, 0, True, DEBOUNCED),
    (Trigger.EXPLICIT, True, 1, 0, False, persist(Reason.EXPLICIT_REQUEST)),
    (Trigger.SHUTDOWN, False, 0, 0, False, SKIP_CLEAN),
    (Trigger.SHUTDOWN, True, 1, 0, True, persist(Reason.GRACEFUL_SHUTDOWN)),
    (Trigger.SHUTDOWN, True, 1, 0, False, persist(Reason.GRACEFUL_SHUTDOWN)),
]


@pytest.mark.parametrize(("trigger", "dirty", "count", "age_s", "debounced", "expected"), TABLE)
def test_fault_15_the_truth_table(
    trigger: Trigger,
    dirty: bool,  # noqa: FBT001 - a row of the table
    count: int,
    age_s: float,
    debounced: bool,  # noqa: FBT001 - a row of the table
    expected: Decision,
):
    now = state(dirty=dirty, count=count, age_s=age_s, debounced=debounced)

    assert decide(now, trigger, now_s=1000.0, frequency=F) == expected
    flying = begun(now, now_s=1000.0)
    assert decide(flying, trigger, now_s=1000.0, frequency=F) == IN_FLIGHT


def written(now: CheckpointState, *, at_s: float) -> CheckpointState:
    return succeeded(begun(now, now_s=at_s))


def test_upstream_27_thirty_one_mutations_are_not_written_and_the_thirty_second_is():
    now = CLEAN
    for _ in range(31):
        now = mutated(now, now_s=0.0)
        assert decide(now, Trigger.MUTATION, now_s=0.0, frequency=F) == SKIP_POLICY
    now = mutated(now, now_s=0.0)
    assert decide(now, Trigger.MUTATION, now_s=0.0, frequency=F) == persist(Reason.MUTATION_THRESHOLD)


def test_upstream_28_the_timer_writes_at_exactly_three_hundred_seconds():
    now = mutated(CLEAN, now_s=10.0)

    assert decide(now, Trigger.TIMER, now_s=309.0, frequency=F) == SKIP_POLICY
    assert decide(now, Trigger.TIMER, now_s=310.0, frequency=F) == persist(Reason.DIRTY_TIME_FLOOR)
    assert next_deadline_s(now, F) == 310.0


def test_upstream_29_the_debounce_ends_at_exactly_two_seconds():
    now = mutated(written(mutated(CLEAN, now_s=0.0), at_s=1.0), now_s=2.0, count=32)

    assert decide(now, Trigger.MUTATION, now_s=2.0, frequency=F) == DEBOUNCED
    assert decide(now, Trigger.MUTATION, now_s=3.0, frequency=F) == persist(Reason.MUTATION_THRESHOLD)


def test_fault_15_a_burst_that_ends_inside_the_debounce_is_due_when_that_is_over():
    now = mutated(written(mutated(CLEAN, now_s=0.0), at_s=1.0), now_s=2.0, count=40)

    assert next_deadline_s(now, F) == 3.0
    assert decide(now, Trigger.TIMER, now_s=3.0, frequency=F) == persist(Reason.MUTATION_THRESHOLD)


def test_the_first_checkpoint_is_never_debounced():
    now = mutated(CLEAN, now_s=0.0)

    assert decide(now, Trigger.EXPLICIT, now_s=0.0, frequency=F) == persist(Reason.EXPLICIT_REQUEST)


def test_fault_15_what_comes_during_a_write_stays_dirty_since_it_came():
    flying = begun(mutated(CLEAN, now_s=0.0, count=32), now_s=5.0)
    flying = mutated(mutated(flying, now_s=6.0), now_s=7.0)
    after = succeeded(flying)

    assert (after.mutation_count, after.dirty_since_s, after.last_checkpoint_s) == (2, 6.0, 5.0)
    assert succeeded(begun(after, now_s=9.0)) == replace(CLEAN, last_checkpoint_s=9.0, last_attempt_s=9.0), (
        "and nothing came during that one"
    )


def test_fault_15_a_write_that_failed_changes_nothing_but_when_it_is_tried_again():
    before = mutated(CLEAN, now_s=0.0, count=32)
    after = failed(mutated(begun(before, now_s=5.0), now_s=6.0), now_s=8.0)

    assert (after.mutation_count, after.dirty_since_s, after.last_checkpoint_s) == (33, 0.0, None)
    assert decide(after, Trigger.MUTATION, now_s=9.9, frequency=F) == DEBOUNCED
    assert decide(after, Trigger.MUTATION, now_s=10.0, frequency=F) == persist(Reason.MUTATION_THRESHOLD)


def test_fault_15_attempts_on_a_failing_disk_back_off_to_one_a_minute():
    now, at_s, pauses = mutated(CLEAN, now_s=0.0, count=32), 0.0, []
    for _ in range(8):
        now = failed(begun(now, now_s=at_s), now_s=at_s)
        deadline = next_deadline_s(now, F)
        assert deadline is not None
        pauses.append(deadline - at_s)
        at_s = deadline
        assert decide(now, Trigger.TIMER, now_s=at_s, frequency=F).action is Action.PERSIST

    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, BACKOFF_S_MAX, BACKOFF_S_MAX, BACKOFF_S_MAX]


def test_whoever_asks_waits_for_the_debounce_and_not_for_the_backoff_and_the_end_for_neither():
    now = mutated(CLEAN, now_s=0.0, count=32)
    for _ in range(5):
        now = failed(begun(now, now_s=100.0), now_s=100.0)

    assert decide(now, Trigger.EXPLICIT, now_s=101.9, frequency=F) == DEBOUNCED
    assert decide(now, Trigger.EXPLICIT, now_s=102.0, frequency=F).action is Action.PERSIST
    assert decide(now, Trigger.TIMER, now_s=102.0, frequency=F) == DEBOUNCED
    assert decide(now, Trigger.SHUTDOWN, now_s=100.0, frequency=F).action is Action.PERSIST


def test_a_merge_makes_dirty_and_does_not_count():
    now = CLEAN
    for _ in range(100):
        now = merged(now, now_s=0.0)

    assert now.mutation_count == 0
    assert decide(now, Trigger.TIMER, now_s=299.0, frequency=F) == SKIP_POLICY
    assert decide(now, Trigger.TIMER, now_s=300.0, frequency=F) == persist(Reason.DIRTY_TIME_FLOOR)


def test_another_frequency_holds_from_the_next_decision_and_keeps_what_is_dirty():
    now = mutated(CLEAN, now_s=0.0, count=20)
    faster = CheckpointFrequency(mutation_threshold=16)

    assert decide(now, Trigger.TIMER, now_s=1.0, frequency=F) == SKIP_POLICY
    assert decide(now, Trigger.TIMER, now_s=1.0, frequency=faster) == persist(Reason.MUTATION_THRESHOLD)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mutate"), st.integers(1, 40)),
        st.tuples(st.just("merge"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 400)),
        st.tuples(st.sampled_from([trigger.value for trigger in Trigger]), st.just(0)),
        st.tuples(st.just("succeed"), st.just(0)),
        st.tuples(st.just("fail"), st.just(0)),
    ),
    max_size=60,
)


@given(steps=STEPS)
def test_fault_15_no_trace_loses_a_mutation_writes_what_is_clean_or_writes_too_often(steps: list[tuple[str, int]]):
    now_s, now = 0.0, CLEAN
    unwritten, covered, dirty = 0, 0, False
    begins: list[tuple[float, Trigger]] = []
    dirty_in_flight = False
    for step, amount in steps:
        match step:
            case "mutate" | "merge":
                now = mutated(now, now_s=now_s, count=amount) if step == "mutate" else merged(now, now_s=now_s)
                unwritten, dirty, dirty_in_flight = unwritten + amount, True, True
            case "wait":
                now_s += amount / 4
            case "succeed" | "fail" if now.flight is None:
                continue
            case "succeed":
                now, unwritten, dirty = succeeded(now), unwritten - covered, dirty_in_flight
            case "fail":
                now = failed(now, now_s=now_s)
            case _:
                decision = decide(now, Trigger(step), now_s=now_s, frequency=F)
                if decision.action is Action.PERSIST:
                    assert dirty
                    begins.append((now_s, Trigger(step)))
                    now, covered, dirty_in_flight = begun(now, now_s=now_s), unwritten, False
        assert (now.mutation_count, now.is_dirty) == (unwritten, dirty)
        deadline = next_deadline_s(now, F)
        assert (deadline is None) == (now.flight is not None or not dirty)
        if deadline is not None:
            assert decide(now, Trigger.TIMER, now_s=max(deadline, now_s), frequency=F).action is Action.PERSIST
    for (earlier_s, _), (later_s, trigger) in pairwise(begins):
        assert trigger is Trigger.SHUTDOWN or later_s - earlier_s >= F.debounce_floor_secs
