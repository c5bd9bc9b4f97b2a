"""Ordered branches: which one decides, what becomes of those that fail, and of a state that drifted."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from perdure.domain.condition_values import BUILT_IN
from perdure.domain.conditions import (
    BRANCHES_MAX,
    DECISION_CHARS_MAX,
    Branch,
    Decision,
    Outcome,
    check_branches,
    decide,
)
from perdure.domain.typed_values import TypedValue
from perdure.domain.work_hash import content_hash
from perdure.errors import Invalid, LimitExceeded

DEFAULT = Branch(condition=None, decision="Standard", default=True)
ON_ERROR = Branch(condition=None, decision="Manual", on_error=True)


def branch(condition: str, decision: str) -> Branch:
    return Branch(condition=condition, decision=decision)


HIGH = branch("amount > 50000", "HighValue")
LOW = branch("amount > 10", "LowValue")
BROKEN = branch("amount / 0 > 1", "Never")


def test_the_first_branch_that_holds_wins():
    decided = decide([HIGH, LOW, DEFAULT], {"amount": 60_000})

    assert decided == Decision(
        decision="HighValue", outcome=Outcome.MATCHED, matched_branch_index=0, condition="amount > 50000"
    )
    assert decide([LOW, HIGH], {"amount": 60_000}).decision == "LowValue"
    assert decide([HIGH, LOW, DEFAULT], {"amount": 60}).matched_branch_index == 1


def test_branches_after_the_first_that_holds_are_not_evaluated():
    assert decide([LOW, BROKEN], {"amount": 60}).errors == ()


def test_default_and_on_error_are_skipped_in_order_and_come_last():
    decided = decide([DEFAULT, ON_ERROR, LOW], {"amount": 60})

    assert (decided.decision, decided.matched_branch_index) == ("LowValue", 2)


def test_the_default_decides_if_nothing_holds():
    decided = decide([HIGH, DEFAULT], {"amount": 1})

    assert (decided.decision, decided.outcome, decided.matched_branch_index) == ("Standard", Outcome.DEFAULT, 1)


def test_on_error_decides_if_a_branch_failed_and_nothing_holds():
    decided = decide([BROKEN, DEFAULT, ON_ERROR], {"amount": 1})

    assert (decided.decision, decided.outcome, decided.matched_branch_index) == ("Manual", Outcome.ON_ERROR, 2)
    assert len(decided.errors) == 1


def test_on_error_does_not_decide_without_an_error():
    assert decide([HIGH, ON_ERROR, DEFAULT], {"amount": 1}).decision == "Standard"
    assert decide([HIGH, ON_ERROR], {"amount": 1}).decision is None


def test_the_default_decides_after_errors_if_there_is_no_branch_for_them():
    decided = decide([BROKEN, DEFAULT], {"amount": 1})

    assert (decided.decision, decided.outcome) == ("Standard", Outcome.DEFAULT)
    assert decided.errors[0].kind == "condition_division_by_zero"


def test_nothing_is_decided_if_nothing_holds_and_nothing_says_what_then():
    for branches in ([HIGH], [BROKEN]):
        decided = decide(branches, {"amount": 1})
        assert (decided.decision, decided.outcome, decided.matched_branch_index) == (None, Outcome.UNDECIDED, None)
    assert str(Outcome.UNDECIDED) == "error"


def test_no_branches_decide_nothing():
    assert decide([], {"amount": 1}).outcome is Outcome.UNDECIDED


@pytest.mark.parametrize(
    ("condition", "kind", "position"),
    [
        ("missing > 1", "condition_unknown_variable", 0),
        ("amount / 0 > 1", "condition_division_by_zero", 0),
        ("amount + 'x' > 1", "condition_type", 0),
        ("amount", "condition_type", 0),
        ("nope(amount)", "condition_unknown_function", 0),
        ("amount ** 2 > 1", "condition_forbidden", 0),
        ("amount >", "condition_syntax", 8),
        ("tags[5] == 1", "condition_missing_item", 0),
        ("not amount | 2", "condition_forbidden", 4),
        ("1" * 3_000, "limit_exceeded", None),
    ],
)
def test_a_branch_that_fails_is_recorded_and_the_next_is_tried(condition: str, kind: str, position: int | None):
    decided = decide([branch(condition, "Never"), LOW], {"amount": 60, "tags": []})

    assert decided.decision == "LowValue"
    assert decided.matched_branch_index == 1
    (error,) = decided.errors
    assert (error.branch_index, error.condition, error.kind, error.position) == (0, condition, kind, position)


def test_an_error_names_the_attributes_it_read_but_no_value():
    decided = decide([branch("name + secret > 1", "Never")], {"name": "Ada", "secret": "hunter2"})

    (error,) = decided.errors
    assert error.names == ("name", "secret")
    assert "hunter2" not in repr(decided)
    assert "Ada" not in repr(decided)


def test_every_branch_that_fails_is_recorded_in_order():
    decided = decide([BROKEN, HIGH, branch("missing", "Never"), LOW], {"amount": 60})

    assert [(error.branch_index, error.kind) for error in decided.errors] == [
        (0, "condition_division_by_zero"),
        (2, "condition_unknown_variable"),
    ]


def test_a_hash_mismatch_blocks_every_branch():
    decided = decide([LOW, DEFAULT, ON_ERROR], {"amount": 60}, stored_hash="ab" * 32, current_hash="cd" * 32)

    assert decided == Decision(decision=None, outcome=Outcome.DRIFT, matched_branch_index=None, context_hash="cd" * 32)


def test_a_hash_that_agrees_or_was_not_given_blocks_nothing():
    attributes: dict[str, TypedValue] = {"amount": 60}
    current = content_hash(attributes, unit_id=UUID(int=1), schema="s")

    assert decide([LOW], attributes, stored_hash=current, current_hash=current).context_hash == current
    assert decide([LOW], attributes, stored_hash=None, current_hash=current).decision == "LowValue"
    assert decide([LOW], attributes).context_hash is None


def test_a_decision_changes_no_attribute():
    attributes: dict[str, Any] = {"amount": 60, "tags": ["a"]}
    decide([branch("tags == ['a'] and amount > 1", "x")], attributes)
    assert attributes == {"amount": 60, "tags": ["a"]}


def test_a_host_may_add_functions_to_its_branches():
    functions = BUILT_IN.adding("double", lambda number: number * 2)

    assert decide([branch("double(amount) == 4", "x")], {"amount": 2}, functions=functions).decision == "x"
    (error,) = decide([branch("double(amount) == 4", "x")], {"amount": 2}).errors
    assert error.kind == "condition_unknown_function"


def test_branches_can_be_checked_before_they_are_used():
    parsed = check_branches([HIGH, DEFAULT, LOW])
    assert [condition.text for condition in parsed] == [HIGH.condition, LOW.condition]
    with pytest.raises(Invalid, match="the operator Pow") as refused:
        check_branches([HIGH, branch("amount ** 2 > 1", "x")])
    assert refused.value.detail["branch"] == 1
    with pytest.raises(Invalid, match="there are no branches"):
        check_branches([])


def test_at_most_one_branch_is_the_default_and_one_is_for_errors():
    for twice in (DEFAULT, ON_ERROR):
        for judge in (check_branches, lambda branches: decide(branches, {})):
            with pytest.raises(Invalid, match="at most one branch is the default"):
                judge([HIGH, twice, twice])


def test_one_branch_may_be_for_errors_and_the_default():
    both = Branch(condition=None, decision="Manual", default=True, on_error=True)
    assert decide([HIGH, both], {"amount": 1}).outcome is Outcome.DEFAULT
    assert decide([BROKEN, both], {"amount": 1}).outcome is Outcome.ON_ERROR


def test_a_branch_has_a_condition_or_is_a_default_or_for_errors():
    with pytest.raises(Invalid, match="either a condition, or default or on_error"):
        Branch(condition=None, decision="x")
    for flags in ({"default": True}, {"on_error": True}):
        with pytest.raises(Invalid, match="either a condition, or default or on_error"):
            Branch(condition="True", decision="x", **flags)


def test_a_decision_may_be_as_long_as_its_limit_and_no_longer():
    assert branch("True", "x" * DECISION_CHARS_MAX).decision
    for wrong in ("", "x" * (DECISION_CHARS_MAX + 1)):
        with pytest.raises(Invalid, match="decision_chars_max"):
            branch("True", wrong)


def test_there_may_be_as_many_branches_as_the_limit_and_no_more():
    edge = [branch("amount > 100", "x")] * BRANCHES_MAX
    assert len(check_branches(edge)) == BRANCHES_MAX
    for judge in (check_branches, lambda branches: decide(branches, {"amount": 1})):
        with pytest.raises(LimitExceeded, match="branches_max"):
            judge([*edge, LOW])
