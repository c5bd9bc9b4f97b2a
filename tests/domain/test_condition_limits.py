"""Where conditions stop: each limit of them, at its edge and one beyond."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from perdure.domain import condition_evaluation, condition_parsing, condition_values
from perdure.domain.condition_evaluation import CONDITION_STEPS_MAX, evaluate_condition
from perdure.domain.condition_parsing import (
    CONDITION_CHARS_MAX,
    CONDITION_DEPTH_MAX,
    CONDITION_NODES_MAX,
    parse_condition,
)
from perdure.domain.condition_values import (
    BUILT_IN,
    FUNCTIONS_MAX,
    NUMBER_MAX,
    ROUND_DIGITS_MAX,
    TEXT_CHARS_MAX,
)
from perdure.errors import Invalid, LimitExceeded, Refused


def holds(text: str, **attributes: Any) -> bool:
    return evaluate_condition(parse_condition(text), {"amount": 60_000, "approved": True, **attributes})


def test_a_table_may_have_as_many_functions_as_its_limit_and_no_more():
    functions = BUILT_IN
    for number in range(FUNCTIONS_MAX - len(BUILT_IN.functions)):
        functions = functions.adding(f"f{number}", len)
    assert len(list(functions)) == FUNCTIONS_MAX
    with pytest.raises(Invalid, match="functions_max"):
        functions.adding("one_more", len)


def test_a_condition_may_be_as_long_as_its_limit_and_no_longer():
    text = "'" + "x" * (CONDITION_CHARS_MAX - 8) + "' != 1"
    text = text.ljust(CONDITION_CHARS_MAX)
    assert holds(text)
    with pytest.raises(LimitExceeded, match="condition_chars_max"):
        parse_condition(text + " ")


def test_a_condition_may_have_as_many_nodes_as_its_limit_and_no_more():
    edge = f"0 in [{', '.join('0' * (CONDITION_NODES_MAX - 3))}]"
    assert holds(edge)
    with pytest.raises(LimitExceeded, match="condition_nodes_max") as refused:
        parse_condition(edge.replace("[", "[0, "))
    assert refused.value.detail["allowed"] == CONDITION_NODES_MAX


def test_a_condition_may_be_as_deep_as_its_limit_and_no_deeper():
    edge = "not " * (CONDITION_DEPTH_MAX - 1) + "approved"
    assert holds(edge) is (CONDITION_DEPTH_MAX % 2 == 1)
    with pytest.raises(LimitExceeded, match="condition_depth_max"):
        parse_condition("not " + edge)


@pytest.mark.parametrize(
    "text", ["(" * 900 + "1" + ")" * 900, "-" * 1_900 + "1", "not " * 480 + "a", "[" * 999 + "]" * 999]
)
def test_nesting_that_would_overflow_the_parser_is_refused(text: str):
    with pytest.raises(Refused):
        parse_condition(text)


def test_a_condition_may_take_as_many_steps_as_its_limit_and_no_more():
    # The comparison, the list, the number, and one step for each item.
    items = [0] * (CONDITION_STEPS_MAX - 3)
    assert not holds("1 in items", items=items)
    with pytest.raises(LimitExceeded, match="condition_steps_max"):
        holds("1 in items", items=[*items, 0])
    with pytest.raises(LimitExceeded, match="condition_steps_max"):
        holds("contains(items, 1)", items=[*items, 0])
    with pytest.raises(LimitExceeded, match="condition_steps_max"):
        holds("max(items) == 1 or min(items) == 1", items=items)
    with pytest.raises(LimitExceeded, match="condition_steps_max"):
        holds("items == items", items=[[items], [items]])


def test_a_number_may_be_as_large_as_its_limit_and_no_larger():
    assert holds(f"{NUMBER_MAX} - 1 + 1 == edge", edge=NUMBER_MAX)
    assert holds("edge + 0 == edge and -edge < 0", edge=Decimal(NUMBER_MAX))
    assert holds("big > 1", big=NUMBER_MAX * 10)
    for text in (
        "edge + 1 == 1",
        "-edge - 1 == 1",
        "edge * edge == 1",
        "edge / 0.5 == 1",
        "1e30 // 1e-300 == 1",
        "big - big == 0",
        "-big == 0",
        "abs(big) == 0",
        "max(big, 1) == 0",
        "round(big) == 0",
        "decimal('1000000000000000000000000000001') + 1 == 1",
        "decimal('1') // tiny == 1",
        "edge % tiny == 1",
    ):
        with pytest.raises(LimitExceeded):
            holds(text, edge=NUMBER_MAX, big=NUMBER_MAX * 10, tiny=Decimal("1E-100"))
    for text in (f"{NUMBER_MAX + 1} > 1", "1e31 > 1", "1e999 > 1"):
        with pytest.raises(LimitExceeded, match="number_max"):
            parse_condition(text)


def test_text_may_be_as_long_as_its_limit_and_no_longer():
    assert holds("len(lower(long)) > 1", long="X" * TEXT_CHARS_MAX)
    assert holds("len(upper(long)) > 1", long="ß" * (TEXT_CHARS_MAX // 2))
    for text in ("lower(long) == ''", "upper(sharp) == ''"):
        with pytest.raises(LimitExceeded, match="text of more than"):
            holds(text, long="X" * (TEXT_CHARS_MAX + 1), sharp="ß" * TEXT_CHARS_MAX)


def test_a_number_is_rounded_to_as_many_digits_as_the_limit_and_no_more():
    assert holds(f"round(amount, {ROUND_DIGITS_MAX}) == amount and round(amount, -{ROUND_DIGITS_MAX}) == 0")
    for digits in (ROUND_DIGITS_MAX + 1, -ROUND_DIGITS_MAX - 1):
        with pytest.raises(Invalid, match="round_digits_max"):
            holds(f"round(amount, {digits}) == 1")
    assert holds(f"round(edge, {ROUND_DIGITS_MAX}) == edge", edge=Decimal(NUMBER_MAX))


def test_the_limits_are_those_that_are_published():
    found = {
        name: value
        for module in (condition_evaluation, condition_parsing, condition_values)
        for name, value in vars(module).items()
        if name.endswith("_MAX")
    }
    assert found == {
        "CONDITION_CHARS_MAX": 2_000,
        "CONDITION_NODES_MAX": 200,
        "CONDITION_DEPTH_MAX": 20,
        "CONDITION_STEPS_MAX": 10_000,
        "NUMBER_MAX": 10**30,
        "TEXT_CHARS_MAX": 102_400,
        "ROUND_DIGITS_MAX": 15,
        "FUNCTIONS_MAX": 100,
    }
