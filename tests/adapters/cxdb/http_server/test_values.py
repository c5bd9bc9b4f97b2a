"""MessagePack of any writer, as it is read for showing it."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cxdb.http_server.limits import PAYLOAD_DEPTH_MAX, PAYLOAD_VALUES_MAX
from perdure.adapters.cxdb.http_server.values import Pairs, Special, Value, by_tag, read_map
from perdure.errors import Invalid, LimitExceeded

pytestmark = pytest.mark.fast

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.binary(max_size=300),
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=20),
        st.dictionaries(st.one_of(st.integers(-5, 2**40), st.text("abc1", max_size=4)), inner, max_size=20),
    ),
    max_leaves=30,
)


def plain(value: Value) -> object:
    """As another decoder gives it."""
    if isinstance(value, Pairs):
        return {plain(key): plain(inner) for key, inner in value.items}
    return [plain(each) for each in value] if isinstance(value, list) else value


@given(st.dictionaries(st.integers(0, 2**64 - 1), documents, max_size=5), st.binary(max_size=3))
def test_what_was_written_is_read_and_what_follows_is_ignored(document: dict[int, object], rest: bytes) -> None:
    payload = msgspec.msgpack.encode(document)
    assert plain(read_map(payload + rest)) == document


@given(st.binary(max_size=200))
def test_any_bytes_are_a_map_or_refused(payload: bytes) -> None:
    try:
        found = read_map(payload)
    except (Invalid, LimitExceeded):
        return
    assert isinstance(found, Pairs)


@given(st.dictionaries(st.text("ab", max_size=3), documents, max_size=5), st.data())
def test_a_payload_that_is_cut_short_is_refused(document: dict[str, object], data: st.DataObject) -> None:
    payload = msgspec.msgpack.encode(document)
    with pytest.raises(Invalid):
        read_map(payload[: data.draw(st.integers(0, len(payload) - 1))])


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (b"\xca\x3f\x80\x00\x00", 1.0),
        (b"\xd6\xff\x00\x00\x00\x00", Special.EXTENSION),
        (b"\xc7\x03\x05abc", Special.EXTENSION),
        (b"\xc8\x00\x01\x05a", Special.EXTENSION),
        (b"\xc9\x00\x00\x00\x01\x05a", Special.EXTENSION),
        (b"\xa2\xff\xfe", ""),
        (b"\xd9\x01a", "a"),
        (b"\xda\x00\x01a", "a"),
        (b"\xdb\x00\x00\x00\x01a", "a"),
        (b"\xc5\x00\x01a", b"a"),
        (b"\xc6\x00\x00\x00\x01a", b"a"),
        (b"\xdd\x00\x00\x00\x01\xc3", [True]),
        (b"\xdf\x00\x00\x00\x01\x01\xc2", Pairs(((1, False),))),
        (b"\xd0\xff", -1),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", -(2**63)),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 2**64 - 1),
        (b"\x81\x90\x01", Pairs((([], 1),))),
    ],
)
def test_each_form_is_read(value: bytes, read: Value) -> None:
    assert read_map(b"\x81\x01" + value) == Pairs(((1, read),))


def test_a_float_that_is_no_number_is_read() -> None:
    ((_, value),) = read_map(b"\x81\x01\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00").items
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x90", b"\xc0", b"\xc1", b"\x81\x01\xc1", b"\xdf\xff\xff\xff\xff"])
def test_what_is_no_map_is_refused(payload: bytes) -> None:
    with pytest.raises(Invalid):
        read_map(payload)


def test_the_deepest_payload_is_read_and_a_deeper_one_refused() -> None:
    levels = PAYLOAD_DEPTH_MAX - 1
    read_map(b"\x81\x01" + b"\x91" * levels + b"\xc0")
    with pytest.raises(LimitExceeded, match="payload_depth_max"):
        read_map(b"\x81\x01" + b"\x91" * (levels + 1) + b"\xc0")
    with pytest.raises(LimitExceeded, match="payload_depth_max"):
        read_map(b"\x81\x01" + b"\x91" * 1_000_000 + b"\xc0")


def test_the_most_values_are_read_and_one_more_refused() -> None:
    allowed = PAYLOAD_VALUES_MAX - 3  # the map, its key and the list
    read_map(b"\x81\x01\xdd" + allowed.to_bytes(4, "big") + b"\xc0" * allowed)
    with pytest.raises(LimitExceeded, match="payload_values_max"):
        read_map(b"\x81\x01\xdd" + (allowed + 1).to_bytes(4, "big") + b"\xc0" * (allowed + 1))


@pytest.mark.parametrize(
    ("key", "tag"), [(7, 7), ("7", 7), ("007", 7), ("+7", 7), ("-7", None), (-7, None), ("a", None), (True, None)]
)
def test_a_key_is_a_tag_as_a_number_or_in_digits(key: Value, tag: int | None) -> None:
    assert by_tag(Pairs(((key, "x"),))) == ({} if tag is None else {tag: "x"})


def test_of_equal_tags_the_last_one_counts() -> None:
    assert by_tag(Pairs(((1, "a"), ("1", "b"), ("01", "c")))) == {1: "c"}
