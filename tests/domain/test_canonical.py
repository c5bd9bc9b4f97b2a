"""What JSON can keep, the one form in which values are compared, and secrets that must not be recorded."""

from __future__ import annotations

import enum
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain import limits
from perdure.domain.canonical import (
    JsonObject,
    JsonValue,
    body_digest,
    canonical_json,
    check_json,
    check_json_object,
    content_digest,
    json_bytes,
    refuse_secret_keys,
)
from perdure.errors import Invalid, LimitExceeded

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-limits.INTEGER_MAX, limits.INTEGER_MAX)
    | st.floats(-limits.INTEGER_MAX, limits.INTEGER_MAX)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


# Vectors of RFC 8785, sections 3.2.2 to 3.2.4.
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {
                "numbers": [333333333.33333329, 4.50, 2e-3, 0.000000000000000000000000001],
                "string": '\u20ac$\u000f\nA\'B"\\\\"/',
                "literals": [None, True, False],
            },
            b'{"literals":[null,true,false],"numbers":[333333333.3333333,4.5,0.002,1e-27],"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
        ),
        (
            {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\xf6": 7},
            '{"\\r":2,"1":4,"\x80":6,"\xf6":7,"\u20ac":1,"\U0001f600":5,"\ufb33":3}'.encode(),
        ),
        ([1.0, -0.0, 1e-7, 9007199254740991.0, (1, 2)], b"[1,0,1e-7,9007199254740991,[1,2]]"),
    ],
)
def test_the_canonical_form_is_that_of_the_standard(value: JsonValue, expected: bytes):
    assert canonical_json(value) == expected


@given(values)
def test_a_value_and_its_reading_have_one_canonical_form(value: JsonValue):
    once = canonical_json(value)
    assert canonical_json(json.loads(once)) == once


@given(values)
def test_a_copy_equals_its_original(value: JsonValue):
    copy = check_json(value, what="the value", bytes_max=10**6)
    assert copy == value
    assert json.loads(json_bytes(copy)) == value


def test_what_the_caller_changes_afterwards_is_not_kept():
    original: dict[str, JsonValue] = {"lines": [{"amount": 1}]}
    copy = check_json(original, what="the value", bytes_max=1_000)
    lines = original["lines"]
    assert isinstance(lines, list)
    lines.append("late")
    assert copy == {"lines": [{"amount": 1}]}


def test_subclasses_become_plain_values():
    class Colour(str, enum.Enum):  # noqa: UP042 - the older kind, whose str() is its Python name
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    copy = check_json({"c": Colour.RED, "l": Level.HIGH, Colour.RED: (1, 2)}, what="the value", bytes_max=1_000)
    assert copy == {"c": "red", "l": 3, "red": [1, 2]}
    assert isinstance(copy, dict)
    assert [type(item) for item in copy.values()] == [str, int, list]


@pytest.mark.parametrize(
    ("value", "place", "found"),
    [
        ({"a": [1, {"b": float("nan")}]}, r"\$\.a\[1\]\.b", "nan"),
        ([float("-inf")], r"\$\[0\]", "-inf"),
        ({"a": {1: 2}}, r"\$\.a", "a key of type int"),
        ({"n": limits.INTEGER_MAX + 1}, r"\$\.n", "2\\^53-1"),
        ([-limits.INTEGER_MAX - 1], r"\$\[0\]", "2\\^53-1"),
        ([1e30], r"\$\[0\]", "2\\^53-1"),
        ("a\x00", r"\$", "U\\+0000"),
        ({"a\x00": 1}, r"\$", "U\\+0000"),
        (["\ud800"], r"\$\[0\]", "surrogate"),
        ({"\udc00": 1}, r"\$", "surrogate"),
        ({"a": {1, 2}}, r"\$\.a", "set"),
        ([b"x"], r"\$\[0\]", "bytes"),
        ([object()], r"\$\[0\]", "object"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(value: object, place: str, found: str):
    with pytest.raises(Invalid, match=f"the output cannot be kept: at {place} it holds .*{found}"):
        check_json(value, what="the output", bytes_max=1_000)
    with pytest.raises(Invalid, match=found):
        canonical_json(value)


def test_the_largest_integers_are_kept():
    edge: list[JsonValue] = [limits.INTEGER_MAX, -limits.INTEGER_MAX]
    assert check_json(edge, what="edge", bytes_max=100) == edge


def test_a_value_may_be_as_large_as_its_limit_and_no_larger():
    at_limit = "x" * (limits.PAYLOAD_BYTES_MAX - 2)
    assert check_json(at_limit, what="the body", bytes_max=limits.PAYLOAD_BYTES_MAX) == at_limit
    with pytest.raises(LimitExceeded, match="payload_bytes_max") as refused:
        check_json(at_limit + "x", what="the body", bytes_max=limits.PAYLOAD_BYTES_MAX)
    assert refused.value.detail["actual"] == limits.PAYLOAD_BYTES_MAX + 1


def test_bytes_are_counted_not_characters():
    with pytest.raises(LimitExceeded, match="checkpoint_bytes_max"):
        check_json("é" * 50, what="the state", bytes_max=101, limit="checkpoint_bytes_max")


def test_a_value_may_be_as_deep_as_its_limit_and_no_deeper():
    value: JsonValue = 1
    for _ in range(limits.JSON_DEPTH_MAX):
        value = [value]
    assert check_json(value, what="deep", bytes_max=1_000) == value
    assert canonical_json(value).startswith(b"[[")
    with pytest.raises(LimitExceeded, match="json_depth_max"):
        check_json([value], what="deep", bytes_max=1_000)


def test_a_value_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(LimitExceeded, match="contains itself"):
        check_json(loop, what="loop", bytes_max=1_000)


def test_an_object_is_an_object():
    assert check_json_object({"a": 1}, what="metadata", bytes_max=100) == {"a": 1}
    wrong: object
    for wrong in ([], None, "x", 1):
        with pytest.raises(Invalid, match="metadata must be a JSON object"):
            check_json_object(wrong, what="metadata", bytes_max=100)


def test_a_body_has_the_same_digest_however_it_is_spelled():
    one = body_digest("API_CALL", payload={"a": 1, "b": [1.0]})
    assert one == body_digest("API_CALL", payload={"b": [1], "a": 1.0})
    assert one == "5f9378c1b5b89175bd6cddf835fdcc2f1d67e5a6c6f470b40dcc7784cc7a0018"
    assert one != body_digest("WEBHOOK", payload={"a": 1, "b": [1.0]})
    assert one != body_digest("API_CALL", payload={"a": 1, "b": [2]})


def test_the_digest_of_a_value_is_that_of_its_canonical_form():
    assert content_digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "Password",
        "db_password",
        "secret",
        "client-secret",
        "token",
        "accessToken",
        "access_token",
        "api_key",
        "apiKey",
        "apikey",
        "X-Api-Key",
        "Authorization",
        "proxy-authorization",
        "Set-Cookie",
        "cookie",
        "auth.token",
    ],
)
def test_a_key_that_says_secret_is_refused_wherever_it_stands(key: str):
    with pytest.raises(Invalid, match="record secret_ref") as refused:
        refuse_secret_keys({"headers": [{key: "hunter2"}]}, what="the specification")
    assert "hunter2" not in refused.value.message
    assert str(refused.value.detail["path"]).startswith("$.headers[0].")


@pytest.mark.parametrize("key", ["secret_ref", "token_count", "tokens", "keyboard", "to", "secretary", "cookies_eaten"])
def test_a_key_that_only_sounds_like_one_is_accepted(key: str):
    refuse_secret_keys({key: "secret://env/MAIL"}, what="the specification")


def test_a_secret_meant_by_reference_may_stand_under_its_name():
    headers: JsonObject = {"Authorization": {"secret_ref": "secret://env/ERP", "prefix": "Bearer "}}
    refuse_secret_keys({"headers": headers}, what="the specification")


def test_a_reference_with_something_beside_it_is_refused():
    with pytest.raises(Invalid, match="record secret_ref"):
        refuse_secret_keys({"token": {"secret_ref": "secret://env/ERP", "value": "hunter2"}}, what="the specification")
