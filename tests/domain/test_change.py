"""A change before it is sent: what it takes, and what it refuses at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from perdure.domain.change import Change
from perdure.domain.handles import Run, StepRef, free_key
from perdure.domain.ids import default_key
from perdure.domain.records import RunRecord
from perdure.domain.run import RunStatus, RunType, StepStatus
from perdure.domain.scope import make_scope
from perdure.errors import IllegalTransition, Invalid

SCOPE = make_scope("t_acme", actor="agent:planner", mode="lab", env="dev")


class Numbers:
    """Ids in a row, so that a failure names the same ones each time."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> UUID:
        self.last += 1
        return UUID(int=self.last)


@pytest.fixture
def new_id() -> Numbers:
    return Numbers()


def run_of(new_id: Callable[[], UUID]) -> Run:
    return Run(
        RunRecord(
            tenant_id=SCOPE.tenant_id,
            id=new_id(),
            signal_id=new_id(),
            run_type=RunType.SIGNAL_PROCESSING,
            name="triage",
            started_at=datetime(2026, 11, 21, tzinfo=UTC),
            status=RunStatus.RUNNING,
            correlation_id=new_id(),
            actor=SCOPE.actor,
            source=SCOPE.source,
            last_event_id=new_id(),
        )
    )


def failed_step(change: Change) -> StepRef:
    step = change.step("read")
    change.fail(step, error="no text")
    return step


STEP_USES: dict[str, Callable[[Change, StepRef], object]] = {
    "tool_call": lambda change, step: change.tool_call(step, "ocr"),
    "effect": lambda change, step: change.effect(step, "NOTIFY_USER", {"user_id": "u-1"}),
    "retry": lambda change, step: change.retry(step),
}


@pytest.mark.parametrize("use", STEP_USES.values(), ids=STEP_USES)
def test_a_change_stays_in_one_run(use: Callable[[Change, StepRef], object], new_id: Numbers):
    here, elsewhere = Change(SCOPE, run_of(new_id), new_id=new_id), Change(SCOPE, run_of(new_id), new_id=new_id)

    with pytest.raises(Invalid, match="run"):
        use(here, failed_step(elsewhere))
    assert len(here) == 0


@pytest.mark.parametrize("use", STEP_USES.values(), ids=STEP_USES)
def test_a_step_of_the_run_from_an_earlier_change_is_taken(use: Callable[[Change, StepRef], object], new_id: Numbers):
    run = run_of(new_id)
    earlier, change = Change(SCOPE, run, new_id=new_id), Change(SCOPE, run, new_id=new_id)

    use(change, failed_step(earlier))

    assert len(change) == 1


def test_a_change_that_ends_the_run_takes_nothing_more(new_id: Numbers):
    change = Change(SCOPE, run_of(new_id), new_id=new_id)
    change.complete_run()

    with pytest.raises(IllegalTransition):
        change.step("late")
    assert len(change) == 1


def test_a_step_started_and_ended_in_one_change_is_one_operation(new_id: Numbers):
    change = Change(SCOPE, run_of(new_id), new_id=new_id)
    step = change.step("read")
    change.complete(step, output={"text": "Invoice 42"})

    assert len(change) == 1
    assert step.status is StepStatus.COMPLETED


def test_default_keys_count_on_without_a_gap_however_many_there_are():
    taken: set[str] = set()
    for occurrence in range(1, 300):
        key = free_key("work", taken=taken)
        assert key == default_key("work", occurrence=occurrence)
        taken.add(key)
