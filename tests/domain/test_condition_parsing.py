"""What conditions cannot say: nothing that is not on the list is let through, whatever it would have done."""

from __future__ import annotations

import warnings

import pytest

from perdure.domain.condition_parsing import ConditionFault, parse_condition
from perdure.errors import Invalid

FORBIDDEN = {
    "amount | 1": "the operator BitOr",
    "amount & 1": "the operator BitAnd",
    "amount ^ 1": "the operator BitXor",
    "amount << 1": "the operator LShift",
    "amount >> 1": "the operator RShift",
    "~amount": "the operator Invert",
    "+amount": "the operator UAdd",
    "2 ** 10": "the operator Pow",
    "tags @ tags": "the operator MatMult",
    "country.lower": "Attribute",
    "().__class__.__bases__[0].__subclasses__()": "a call of something that is no name",
    "country.lower()": "a call of something that is no name",
    "(lambda: 1)()": "a call of something that is no name",
    "lambda: 1": "Lambda",
    "[x for x in tags]": "ListComp",
    "{x for x in tags}": "SetComp",
    "(x for x in tags)": "GeneratorExp",
    "{'a': 1}": "Dict",
    "{1, 2}": "Set",
    "f'{amount}'": "JoinedStr",
    "1 if approved else 2": "IfExp",
    "(x := 1)": "NamedExpr",
    "[*tags]": "Starred",
    "len(*tags)": "Starred",
    "max(tags, key=len)": "an argument by name",
    "len(**address)": "an argument by name",
    "tags[0:1]": "an index that is no number",
    "tags[amount]": "an index that is no number",
    "tags[True]": "an index that is no number",
    "tags[-'a']": "an index that is no number",
    "address[0.5]": "an index that is no number",
    "b'a'": "a constant of type bytes",
    "1j": "a constant of type complex",
    "...": "a constant of type ellipsis",
    "country is 'DE'": "'is' with something other than None",
    "None is country": "'is' with something other than None",
    "len()": "len with 0 arguments",
    "len(tags, tags)": "len with 2 arguments",
    "round(1, 2, 3)": "round with 3 arguments",
    "max()": "max with 0 arguments",
    "exists()": "exists with 0 arguments",
    "exists('amount')": "exists of something that is no attribute",
    "exists(amount + 1)": "exists of something that is no attribute",
    "await amount": "Await",
}


@pytest.mark.parametrize("text", FORBIDDEN)
def test_what_is_not_on_the_list_is_forbidden(text: str):
    with pytest.raises(Invalid) as refused:
        parse_condition(text)
    assert refused.value.code == ConditionFault.FORBIDDEN
    assert FORBIDDEN[text] in refused.value.message
    assert "allowed are" in refused.value.message


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "eval('1')",
        "open('x')",
        "getattr(country, 'x')",
        "print(1)",
        "pow(2, 3)",
        "vars()",
        "LEN(tags)",
    ],
)
def test_an_unknown_function_is_refused(text: str):
    with pytest.raises(Invalid, match=r"is unknown; known: abs, contains, decimal, .*, exists") as refused:
        parse_condition(text)
    assert refused.value.code == ConditionFault.UNKNOWN_FUNCTION


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "amount >",
        "amount > 1;",
        "a = 1",
        "import os",
        "amount 1",
        "(",
        ")",
        "'a",
        "1\nor 2",
        "a\x00",
        "'\\d'",
        "'\\x41'",
    ],
)
def test_what_is_no_expression_is_a_syntax_error(text: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Invalid) as refused:
            parse_condition(text)
    assert refused.value.code == ConditionFault.SYNTAX
