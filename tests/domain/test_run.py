"""The status machines, every pair of statuses tried."""

from __future__ import annotations

from itertools import product

import pytest

from perdure.domain.run import START, STATUSES, TRANSITIONS, Machine, Transition, check_transition, is_terminal
from perdure.errors import IllegalTransition, Invalid

# Written out a second time, in another form, so that a slip in the table is seen.
EXPECTED = {
    Machine.SIGNAL: {"-": "PENDING", "PENDING": "PROCESSING", "PROCESSING": "PROCESSED FAILED"},
    Machine.RUN: {"-": "RUNNING", "RUNNING": "COMPLETED FAILED CANCELLED"},
    Machine.STEP: {"-": "RUNNING", "RUNNING": "COMPLETED FAILED SKIPPED"},
    Machine.EFFECT: {
        "-": "PENDING",
        "PENDING": "EXECUTING DEAD_LETTER",
        "EXECUTING": "COMPLETED FAILED",
        "FAILED": "EXECUTING DEAD_LETTER",
        "DEAD_LETTER": "PENDING",
    },
    Machine.TOOL_CALL: {"-": "PENDING", "PENDING": "COMPLETED FAILED"},
    Machine.OUTBOX: {
        "-": "PENDING",
        "PENDING": "PROCESSING DEAD_LETTER",
        "PROCESSING": "COMPLETED FAILED DEAD_LETTER",
        "FAILED": "PROCESSING DEAD_LETTER",
        "DEAD_LETTER": "PENDING",
    },
}
ENDS = {
    Machine.SIGNAL: {"PROCESSED", "FAILED"},
    Machine.RUN: {"COMPLETED", "FAILED", "CANCELLED"},
    Machine.STEP: {"COMPLETED", "FAILED", "SKIPPED"},
    Machine.EFFECT: {"COMPLETED", "DEAD_LETTER"},
    Machine.TOOL_CALL: {"COMPLETED", "FAILED"},
    Machine.OUTBOX: {"COMPLETED", "DEAD_LETTER"},
}
CASES = [
    (machine, source, target)
    for machine in Machine
    for source, target in product([START, *STATUSES[machine], "UNKNOWN"], [*STATUSES[machine], START, "UNKNOWN"])
]


@pytest.mark.parametrize(("machine", "source", "target"), CASES, ids=str)
def test_a_machine_has_exactly_its_edges(machine: Machine, source: str, target: str):
    if target in EXPECTED[machine].get(source, "").split():
        check_transition(machine, source=source, target=target)
        assert Transition(machine, source, target) in TRANSITIONS
    else:
        with pytest.raises(IllegalTransition, match=f"{machine} cannot go from {source} to {target}") as refused:
            check_transition(machine, source=source, target=target)
        assert refused.value.detail == {"machine": machine, "source": source, "target": target}
        assert Transition(machine, source, target) not in TRANSITIONS


def test_the_table_has_each_edge_once_and_compares_like_rows_of_the_database():
    assert len(set(TRANSITIONS)) == len(TRANSITIONS) == 32
    assert TRANSITIONS[0] == ("SIGNAL", "-", "PENDING")


def test_the_refusal_says_where_the_row_can_go():
    with pytest.raises(IllegalTransition, match="from there it can go to: COMPLETED, FAILED, SKIPPED"):
        check_transition(Machine.STEP, source="RUNNING", target="PENDING")
    with pytest.raises(IllegalTransition, match="from there it can go to: nothing"):
        check_transition(Machine.STEP, source="COMPLETED", target="RUNNING")


@pytest.mark.parametrize("machine", Machine)
def test_an_end_is_an_end(machine: Machine):
    assert {status for status in STATUSES[machine] if is_terminal(machine, status=status)} == ENDS[machine]


def test_a_status_of_another_machine_is_no_status():
    with pytest.raises(Invalid, match="RUN has no status 'PROCESSED'"):
        is_terminal(Machine.RUN, status="PROCESSED")


@pytest.mark.parametrize("machine", Machine)
def test_every_status_can_be_reached(machine: Machine):
    reached, waiting = set[str](), [START]
    while waiting:
        source = waiting.pop()
        for target in EXPECTED[machine].get(source, "").split():
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    assert reached == set(STATUSES[machine])
