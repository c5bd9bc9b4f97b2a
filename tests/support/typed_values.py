"""Typed values drawn by Hypothesis, and what makes two of them the same."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import strategies as st

from perdure.domain.typed_values import DECIMAL_EXPONENT_MAX, TypedValue, canonical_bytes

ANY_SIZE = 10**9

# Keys and texts that look like tags are drawn often, because escaping them is what keeps values apart.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["$", "$$", "$int", "$$int", "$float", "$decimal", "$datetime", "$uuid", "$bytes", "1", "-0", "1.5"]
)
decimals = st.decimals(allow_nan=False, allow_infinity=False).filter(
    lambda value: abs(int(value.as_tuple().exponent)) <= DECIMAL_EXPONENT_MAX
)
zones = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones)  # noqa: DTZ001 - bounds of it
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | decimals
    | times
    | st.uuids()
    | st.binary(max_size=8)
)
values: st.SearchStrategy[TypedValue] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


def canonical(value: object) -> bytes:
    return canonical_bytes(value, what="the value", bytes_max=ANY_SIZE, limit="any")


def exact(value: object) -> object:
    """A value with its types, so that ``==`` of two of them means the same value in every respect."""
    if isinstance(value, float):
        return float, struct.pack(">d", value)
    if isinstance(value, Decimal):
        return Decimal, value.as_tuple()
    if isinstance(value, datetime):
        return datetime, value.astimezone(UTC)
    if isinstance(value, list):
        return list, [exact(item) for item in value]
    if isinstance(value, dict):
        return dict, {key: exact(item) for key, item in value.items()}
    return type(value), value


def merged(value: object) -> object:
    """As ``exact``, with the one merger that hashing makes: a float that is a whole number is that integer."""
    if isinstance(value, float) and value.is_integer():
        return int, int(value)
    if isinstance(value, list):
        return list, [merged(item) for item in value]
    if isinstance(value, dict):
        return dict, {key: merged(item) for key, item in value.items()}
    return exact(value)
