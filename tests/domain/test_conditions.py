"""Conditions: what they can say, what they cannot, where they stop, and that nothing gets out of them."""

from __future__ import annotations

import decimal
import enum
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.domain.condition_evaluation import evaluate_condition
from perdure.domain.condition_parsing import (
    ConditionFault,
    parse_condition,
)
from perdure.domain.condition_values import (
    BUILT_IN,
    ConditionFunctions,
)
from perdure.errors import Invalid, Refused
from tests.support.typed_values import values

NOW = datetime(2026, 1, 2, tzinfo=UTC)
UNIT: dict[str, Any] = {
    "amount": 60_000,
    "price": Decimal("19.90"),
    "ratio": 0.5,
    "country": "DE",
    "approved": True,
    "note": None,
    "tags": ["urgent", "export", 3],
    "address": {"city": "Bonn", "lines": ["Am Hof 1", "c/o Ada"]},
    "due": NOW,
    "ends": NOW + timedelta(days=1),
    "ref": UUID(int=5),
    "raw": b"ab",
    "größe": 7,
}


def holds(text: str, functions: ConditionFunctions = BUILT_IN, **more: Any) -> bool:
    return evaluate_condition(parse_condition(text, functions=functions), {**UNIT, **more})


TRUE = [
    "True",
    "amount == 60000",
    "amount == 60000.0",
    "amount != 1",
    "amount > 50000",
    "amount >= 60000",
    "amount < 60001",
    "amount <= 60000",
    "50000 < amount <= 60000 < 70000",
    "not 50000 < amount < 55000",
    "price == decimal('19.9')",
    "price > 19",
    "price < 19.95",
    "ratio == 0.5",
    "0.1 + 0.2 != 0.3",
    "decimal('0.1') + decimal('0.2') == decimal('0.3')",
    "price * 2 == decimal('39.80')",
    "amount / 8 == 7500",
    "amount // 7 == 8571",
    "-7 // 2 == -4",
    "-7 % 3 == 2",
    "decimal('-7') // 2 == -4",
    "decimal('-7') % 3 == 2",
    "decimal('7') % -3 == -2",
    "decimal('6') // -3 == -2",
    "-amount == 0 - 60000",
    "-price < 0",
    "amount + 1 - 1 == amount",
    "country == 'DE'",
    "country < 'FR'",
    'country != "de"',
    "country in ['DE', 'FR']",
    "country in ('DE', 'FR')",
    "country not in ['US']",
    "'E' in country",
    "'urgent' in tags",
    "3.0 in tags",
    "True not in tags",
    "'city' in address",
    "'Bonn' not in address",
    "approved",
    "approved == True",
    "approved and amount > 1",
    "amount < 1 or approved",
    "not (amount < 1)",
    "False or not False and True",
    "note is None",
    "amount is not None",
    "None is None",
    "note == None",
    "approved != 1",
    "1 != True",
    "'1' != 1",
    "price != '19.90'",
    "[1, 'a', [2]] == [1.0, 'a', [2]]",
    "[1, 2] != [1]",
    "[] == []",
    "due < ends",
    "due == due",
    "due != 'x'",
    "ref == ref",
    "raw == raw",
    "address == address",
    "address['city'] == 'Bonn'",
    "address['lines'][0] == 'Am Hof 1'",
    "tags[-1] == 3",
    "größe == 7",
    "len(tags) == 3",
    "len(country) == 2",
    "len(address) == 2",
    "len(raw) == 2",
    "abs(-3) == 3",
    "abs(decimal('-1.5')) == decimal('1.5')",
    "min(3, 1, 2) == 1",
    "max([3, 1, 2]) == 3",
    "max(price, 20, 1.5) == 20",
    "round(2.5) == 2",
    "round(2.345, 2) == 2.35 or round(2.345, 2) == 2.34",
    "round(decimal('2.345'), 2) == decimal('2.34')",
    "round(decimal('2.5')) == 2",
    "round(1234, -2) == 1200",
    "lower(country) == 'de'",
    "upper('de') == country",
    "strip('  x ') == 'x'",
    "startswith(country, 'D')",
    "endswith(country, 'E')",
    "contains(tags, 'urgent')",
    "contains(country, 'D')",
    "contains(address, 'city')",
    "exists(amount)",
    "exists(note)",
    "not exists(missing)",
    "exists(address['city'])",
    "not exists(address['street'])",
    "not exists(missing['street'][0])",
    "exists(tags[2]) and not exists(tags[3])",
    "not exists(missing) or missing > 1",
    "  amount > 1  ",
    "(amount >\n 1 and\r\n approved)",
    "'it\\'s' == \"it's\"",
    "amount > 1  # a remark",
]


@pytest.mark.parametrize("text", TRUE)
def test_the_operators_and_functions_say_what_they_say(text: str):
    assert holds(text) is True
    assert holds(f"not ({text}\n)") is False


FAULTS = [
    ("missing > 1", ConditionFault.UNKNOWN_VARIABLE, 0),
    ("approved and missing", ConditionFault.UNKNOWN_VARIABLE, 13),
    ("__class__ == 1", ConditionFault.UNKNOWN_VARIABLE, 0),
    ("amount / 0 > 1", ConditionFault.DIVISION_BY_ZERO, 0),
    ("1 < amount // (1 - 1)", ConditionFault.DIVISION_BY_ZERO, 4),
    ("amount % 0 == 1", ConditionFault.DIVISION_BY_ZERO, 0),
    ("price / 0 == 1", ConditionFault.DIVISION_BY_ZERO, 0),
    ("ratio // 0.0 == 1", ConditionFault.DIVISION_BY_ZERO, 0),
    ("price % decimal('0.00') == 1", ConditionFault.DIVISION_BY_ZERO, 0),
    ("tags[9] == 1", ConditionFault.MISSING_ITEM, 0),
    ("tags[-4] == 1", ConditionFault.MISSING_ITEM, 0),
    ("address['zip'] == 1", ConditionFault.MISSING_ITEM, 0),
    ("amount", ConditionFault.TYPE, 0),
    ("country", ConditionFault.TYPE, 0),
    ("note", ConditionFault.TYPE, 0),
    ("not country", ConditionFault.TYPE, 4),
    ("approved and tags", ConditionFault.TYPE, 13),
    ("1 or approved", ConditionFault.TYPE, 0),
    ("country * 3 == 'DEDEDE'", ConditionFault.TYPE, 0),
    ("3 * country == 'DEDEDE'", ConditionFault.TYPE, 0),
    ("country + 'x' == 'DEx'", ConditionFault.TYPE, 0),
    ("country % 'x' == 'DE'", ConditionFault.TYPE, 0),
    ("tags * 3 == tags", ConditionFault.TYPE, 0),
    ("tags + tags == tags", ConditionFault.TYPE, 0),
    ("approved + 1 == 2", ConditionFault.TYPE, 0),
    ("-country == 1", ConditionFault.TYPE, 0),
    ("-approved == 1", ConditionFault.TYPE, 0),
    ("price * 1.5 > 1", ConditionFault.TYPE, 0),
    ("country > 1", ConditionFault.TYPE, 0),
    ("note < 1", ConditionFault.TYPE, 0),
    ("approved < 1", ConditionFault.TYPE, 0),
    ("due > 1", ConditionFault.TYPE, 0),
    ("1 in amount", ConditionFault.TYPE, 0),
    ("1 in country", ConditionFault.TYPE, 0),
    ("amount[0] == 1", ConditionFault.TYPE, 0),
    ("country[0] == 'D'", ConditionFault.TYPE, 0),
    ("tags['a'] == 1", ConditionFault.TYPE, 0),
    ("address[0] == 1", ConditionFault.TYPE, 0),
    ("exists(country['x'])", ConditionFault.TYPE, 7),
    ("len(amount) == 1", ConditionFault.TYPE, 0),
    ("abs(country) == 1", ConditionFault.TYPE, 0),
    ("max(country) == 1", ConditionFault.TYPE, 0),
    ("min([]) == 1", ConditionFault.TYPE, 0),
    ("round(1, 'x') == 1", ConditionFault.TYPE, 0),
    ("lower(1) == 'x'", ConditionFault.TYPE, 0),
    ("startswith(country, 1)", ConditionFault.TYPE, 0),
    ("decimal('1e5') == 1", ConditionFault.TYPE, 0),
    ("decimal('NaN') == 1", ConditionFault.TYPE, 0),
    ("decimal(0.5) == 1", ConditionFault.TYPE, 0),
    ("  ('ä😀' == 'x' or\n missing)", ConditionFault.UNKNOWN_VARIABLE, 19),
]


@pytest.mark.parametrize(("text", "kind", "position"), FAULTS)
def test_a_condition_that_fails_says_how_and_where(text: str, kind: ConditionFault, position: int):
    condition = parse_condition(text)
    with pytest.raises(Invalid) as refused:
        evaluate_condition(condition, UNIT)
    assert refused.value.code == kind
    assert refused.value.detail["position"] == position
    assert f"at character {position}" in refused.value.message


def test_a_message_holds_no_value_of_an_attribute():
    for text in ("secret + 1 > 2", "secret > 1", "secret", "-secret", "abs(secret)", "secret['x']", "boom(secret)"):
        functions = BUILT_IN.adding("boom", fail)
        with pytest.raises(Invalid) as refused:
            holds(text, functions, secret="hunter2")
        assert "hunter2" not in refused.value.message + str(refused.value.detail)


def fail(value: object) -> bool:
    raise RuntimeError(f"what it got: {value}")


def test_evaluation_stops_at_what_decides():
    assert holds("amount > 1 or 1 / 0 > 1")
    assert not holds("amount < 1 and missing")
    assert not holds("amount < 1 < missing")


def test_a_condition_names_the_attributes_it_reads():
    condition = parse_condition("amount > 1 and lower(country) == 'de' or exists(x) and amount < 9")
    assert condition.names == ("amount", "country", "x")


def test_a_host_may_add_functions():
    functions = BUILT_IN.adding("is_weekend", lambda when: when.weekday() >= 5).adding("pair", lambda a, b: [a, b])
    assert holds("is_weekend(ends) and pair(1, 2)[1] == 2", functions)
    assert "is_weekend" not in BUILT_IN
    assert list(functions)[:2] == ["abs", "contains"]


def test_a_custom_function_with_a_name_that_is_taken_is_rejected():
    functions = BUILT_IN.adding("mine", len)
    for name in ("len", "mine", "exists"):
        with pytest.raises(Invalid, match=r"give yours another name|cannot name a function"):
            functions.adding(name, len)
    for name in ("", "a-b", "1a", "a" * 65):
        with pytest.raises(Invalid, match="cannot name a function"):
            functions.adding(name, len)


def test_a_function_of_a_host_that_fails_is_named_with_its_error_class_only():
    with pytest.raises(Invalid, match="the function 'boom' failed with RuntimeError") as refused:
        holds("boom(amount) == 1", BUILT_IN.adding("boom", fail))
    assert refused.value.code == ConditionFault.FUNCTION_FAILED
    assert "60000" not in refused.value.message
    with pytest.raises(Invalid, match="gave object, which is no value"):
        holds("make() == 1", BUILT_IN.adding("make", object))
    with pytest.raises(Invalid, match="failed with TypeError"):
        holds("boom(1, 2) == 1", BUILT_IN.adding("boom", fail))


def test_the_context_of_a_thread_changes_no_result():
    with decimal.localcontext(prec=2) as context:
        context.traps[decimal.FloatOperation] = True
        context.traps[decimal.Inexact] = True
        assert holds("price * 2 == decimal('39.80') and price < 19.95 and round(price, 1) == decimal('19.9')")
        assert holds("decimal('10') / 3 > decimal('3.333333333333') and -price == decimal('-19.90')")


def test_a_member_of_an_enumeration_is_its_text():
    class Colour(enum.StrEnum):
        RED = "red"

    assert holds("colour == 'red' and colour in ['red'] and startswith(colour, 'r')", colour=Colour.RED)


WORDS = ["amount", "country", "tags", "address", "price", "due", "1", "0", "'x'", "None", "True", "(", ")", "[", "]"]
SIGNS = [
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "<",
    "==",
    "in",
    "is",
    "not",
    "and",
    "or",
    ",",
    ".",
    "len",
    "lower",
    "lambda",
]


def answered(text: str, attributes: dict[str, Any]) -> object:
    try:
        return evaluate_condition(parse_condition(text), attributes)
    except Refused as exc:
        return exc.code


@given(st.lists(st.sampled_from(WORDS + SIGNS), max_size=12), st.dictionaries(st.sampled_from(WORDS[:6]), values))
@example(["amount", "*", "amount"], {"amount": 10**600})
@example(["address", "==", "tags"], {"address": {"a": [1]}, "tags": {"a": [1]}})
def test_whatever_is_written_gives_true_false_or_a_typed_refusal(words: list[str], attributes: dict[str, Any]):
    before = repr(attributes)
    assert answered(" ".join(words), attributes) in {True, False, "limit_exceeded", *ConditionFault}
    assert repr(attributes) == before
