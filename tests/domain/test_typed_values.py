"""Typed values: what has a form, that it comes back as it was, and that no two values share a canonical form."""

from __future__ import annotations

import decimal
import enum
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.domain import typed_values
from perdure.domain.typed_values import (
    DECIMAL_EXPONENT_MAX,
    VALUE_BYTES_MAX,
    VALUE_DEPTH_MAX,
    VALUE_DIGITS_MAX,
    TypedValue,
    canonical_bytes,
    decode_value,
    encode_value,
    from_json,
    to_json,
)
from perdure.errors import Invalid, LimitExceeded
from tests.support.typed_values import canonical, exact, merged, scalars, texts, values


@given(values)
@example({"$int": "1"})
@example({"$$int": {"$decimal": "1"}})
@example([-0.0, 0.0, 1e300, 5e-324, 2**53, -(2**53), Decimal("-0E+3")])
def test_a_value_comes_back_from_its_text_with_its_types(value: TypedValue):
    text = encode_value(value)

    assert exact(decode_value(text)) == exact(value)
    assert encode_value(decode_value(text)) == text


@given(values)
def test_a_value_comes_back_from_its_tree(value: TypedValue):
    assert exact(from_json(json.loads(json.dumps(to_json(value))))) == exact(value)


@given(values)
def test_a_value_hashes_the_same_after_it_was_stored(value: TypedValue):
    assert canonical(decode_value(encode_value(value))) == canonical(value)


@given(values)
@example([1e-4, 0.00011, 9.9e-5, 123456.5])
@example({"\ufb33": 1, "\U0001f600": 2, "a": {"b": 1e-5}, "\x7f\u2028\x1f": 0})
def test_the_form_is_that_of_the_standard_however_it_is_written(value: TypedValue):
    assert encode_value(value).encode() == rfc8785.dumps(to_json(value))  # type: ignore[arg-type]  # JSON all through


@given(values, values)
@example({"$int": "9007199254740992"}, 2**53)
@example({"$decimal": "1.5"}, Decimal("1.5"))
@example({"$$int": "1"}, {"$int": "1"})
@example(Decimal("1.5"), Decimal("1.50"))
@example([True], [1])
@example("1", 1)
@example(b"1", "1")
@example(1, 1.0)
def test_two_values_share_a_canonical_form_only_if_they_are_the_same(one: TypedValue, other: TypedValue):
    assert (canonical(one) == canonical(other)) == (merged(one) == merged(other))


@given(values)
def test_the_canonical_form_can_be_read_back(value: TypedValue):
    assert merged(decode_value(canonical(value).decode())) == merged(value)


@given(st.dictionaries(texts, scalars, min_size=2, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, TypedValue]):
    assert canonical(dict(reversed(value.items()))) == canonical(value)
    assert encode_value(dict(reversed(value.items()))) == encode_value(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0, -0.0),
        (10**20, 1e20),
        (2**53, float(2**53)),
        ({"a": [1]}, {"a": [1.0]}),
        (
            datetime(2026, 3, 1, 12, tzinfo=UTC),
            datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        ),
    ],
)
def test_r65_values_that_are_equal_by_rule_have_one_form(one: TypedValue, other: TypedValue):
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1.5"), "1.5"),
        (Decimal("1.5"), 1.5),
        (Decimal("1.5"), Decimal("1.50")),
        (Decimal(0), Decimal("-0")),
        (UUID(int=1), str(UUID(int=1))),
        (b"a", "a"),
        (2**53, str(2**53)),
        (True, 1),
        (False, 0),
        (None, "null"),
        (None, {}),
        ([], {}),
        ("\u00e9", "e\u0301"),
        ({"a": None}, {}),
        ({"$decimal": "1.5"}, Decimal("1.5")),
        (datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01T00:00:00.000000Z"),
    ],
)
def test_r65_distinct_typed_values_have_distinct_forms(one: TypedValue, other: TypedValue):
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, '{"$float":"1"}'),
        (-0.0, '{"$float":"-0"}'),
        (0.1, "0.1"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (5e-324, "5e-324"),
        (333333333.33333329, "333333333.3333333"),
        (2**53 - 1, "9007199254740991"),
        (-(2**53), '{"$int":"-9007199254740992"}'),
        (Decimal("1E+3"), '{"$decimal":"1E+3"}'),
        (Decimal("0.000001"), '{"$decimal":"0.000001"}'),
        (Decimal("0.0000001"), '{"$decimal":"1E-7"}'),
        (datetime(33, 4, 3, 15, tzinfo=UTC), '{"$datetime":"0033-04-03T15:00:00.000000Z"}'),
        (b"\x00\xff", '{"$bytes":"AP8="}'),
        ({"$x": 1, "": 2}, '{"":2,"$$x":1}'),
        ({"\ufb33": 1, "\U0001f600": 2}, '{"\U0001f600":2,"\ufb33":1}'),
        ("\u2028\x00\x7f", '"\u2028\\u0000\x7f"'),
    ],
)
def test_the_text_is_the_published_one(value: TypedValue, text: str):
    assert encode_value(value) == text


def test_the_context_of_a_thread_changes_no_form():
    value = Decimal("123456789.123456789E+100")
    before = encode_value(value)
    with decimal.localcontext(prec=3, capitals=0):
        assert encode_value(value) == before
        assert decode_value(before) == value


def test_subclasses_become_plain_values():
    class Colour(enum.StrEnum):
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    assert exact(decode_value(encode_value({Colour.RED: [Colour.RED, Level.HIGH]}))) == exact({"red": ["red", 3]})


class Odd(str):
    """Text that equals no other, as some libraries' symbols do."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class FineTime(datetime):
    """A time as dataframe libraries have them."""

    nanosecond = 7


@pytest.mark.parametrize(
    ("value", "path", "found"),
    [
        ({"a": [1, 2, 3, {"b": float("nan")}]}, "$.a[3].b", "nan"),
        ([float("-inf")], "$[0]", "-inf"),
        (Decimal("NaN"), "$", "not finite"),
        ([Decimal("sNaN")], "$[0]", "not finite"),
        ({"d": Decimal("-Infinity")}, "$.d", "not finite"),
        ({"a": {1: 2}}, "$.a", "a key of type int"),
        ({None: 2}, "$", "a key of type NoneType"),
        (datetime(2026, 1, 1), "$", "without an offset"),  # noqa: DTZ001 - the point of it
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "$", "years 1 to 9999"),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=2))), "$", "years 1 to 9999"),
        (FineTime(2026, 1, 1, tzinfo=UTC), "$", "finer than a microsecond"),
        (["\ud800"], "$[0]", "surrogate"),
        ({"\udc00": 1}, "$", "surrogate"),
        ({"a": (1, 2)}, "$.a", "tuple"),
        ({"a": {1, 2}}, "$.a", "set"),
        ([frozenset()], "$[0]", "frozenset"),
        ([bytearray(b"x")], "$[0]", "bytearray"),
        ([date(2026, 1, 1)], "$[0]", "date"),
        ([timedelta(1)], "$[0]", "timedelta"),
        ([1j], "$[0]", "complex"),
        ({"a\n": object()}, "$.a\\n", "object"),
        ({Odd("a"): 1, Odd("a"): 2}, "$", "two keys of the same text"),
    ],
)
def test_what_has_no_form_is_refused_with_its_place(value: object, path: str, found: str):
    for write in (canonical, encode_value, to_json):
        with pytest.raises(Invalid, match=found) as refused:
            write(value)
        assert refused.value.detail["path"] == path
        assert f"at {path} it holds" in refused.value.message


def test_an_integer_may_have_as_many_digits_as_the_limit_and_no_more():
    edge = 10**VALUE_DIGITS_MAX - 1
    assert decode_value(encode_value([edge, -edge])) == [edge, -edge]
    for beyond in (edge + 1, -edge - 1):
        with pytest.raises(Invalid, match="value_digits_max"):
            encode_value(beyond)


def test_a_decimal_may_have_as_many_digits_as_the_limit_and_no_more():
    edge = Decimal("-" + "9" * VALUE_DIGITS_MAX)
    assert decode_value(encode_value(edge)) == edge
    with pytest.raises(Invalid, match="value_digits_max"):
        encode_value(Decimal("9" * (VALUE_DIGITS_MAX + 1)))


def test_a_decimal_may_have_an_exponent_as_large_as_the_limit_and_no_larger():
    for exponent in (DECIMAL_EXPONENT_MAX, -DECIMAL_EXPONENT_MAX):
        edge = Decimal((0, (1, 5), exponent))
        assert exact(decode_value(encode_value(edge))) == exact(edge)
        with pytest.raises(Invalid, match="decimal_exponent_max"):
            encode_value(Decimal((0, (1, 5), exponent + (1 if exponent > 0 else -1))))


def nested(levels: int) -> TypedValue:
    value: TypedValue = Decimal(1)
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_a_value_may_be_as_deep_as_its_limit_and_no_deeper():
    edge = nested(VALUE_DEPTH_MAX)
    assert decode_value(encode_value(edge)) == edge
    for write in (canonical, encode_value, to_json):
        with pytest.raises(LimitExceeded, match="value_depth_max") as refused:
            write(nested(VALUE_DEPTH_MAX + 1))
        assert refused.value.detail["allowed"] == VALUE_DEPTH_MAX
    with pytest.raises(LimitExceeded, match="value_depth_max"):
        from_json(json.loads("[" * (VALUE_DEPTH_MAX + 1) + "]" * (VALUE_DEPTH_MAX + 1)))


def test_a_value_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(LimitExceeded, match="contains itself"):
        encode_value(loop)


def test_a_value_may_be_as_large_as_its_limit_and_no_larger():
    edge = "é" * ((VALUE_BYTES_MAX - 2) // 2)
    assert decode_value(encode_value(edge)) == edge
    with pytest.raises(LimitExceeded, match="value_bytes_max") as refused:
        encode_value(edge + "x", what="the attribute 'note'")
    assert refused.value.detail["actual"] == VALUE_BYTES_MAX + 1
    assert "é" not in refused.value.message
    assert canonical_bytes("xx", what="it", bytes_max=4, limit="four") == b'"xx"'
    with pytest.raises(LimitExceeded, match="four"):
        canonical_bytes("xxx", what="it", bytes_max=4, limit="four")


def test_a_tree_of_a_person_is_refused_in_words_for_people():
    with pytest.raises(Invalid, match=r"at \$\.a it holds no tag of ours; known: \$bytes, \$datetime") as refused:
        from_json({"a": {"$decimals": "1"}}, what="the attributes given")
    assert refused.value.detail["path"] == "$.a"
    with pytest.raises(Invalid, match="not in normal form"):
        from_json({"$uuid": "00000000-0000-0000-0000-00000000000A"})
    with pytest.raises(Invalid, match="a key that is not text"):
        from_json({1: 2})
    with pytest.raises(Invalid, match="JSON does not have"):
        from_json([b"x"])


def test_the_limits_are_those_that_are_published():
    published = {name: getattr(typed_values, name) for name in vars(typed_values) if name.endswith("_MAX")}
    assert {name: value for name, value in published.items() if not name.startswith("_")} == {
        "VALUE_DEPTH_MAX": 64,
        "VALUE_BYTES_MAX": 102_400,
        "VALUE_DIGITS_MAX": 640,
        "DECIMAL_EXPONENT_MAX": 6_144,
    }
