"""What a record may not be: rules of its kind, and the edge of each limit."""

from __future__ import annotations

import msgspec
import pytest

from perdure.domain.turn import TURN_PAYLOAD_BYTES_MAX
from perdure.domain.turn_records.codec import decode, encode
from perdure.domain.turn_records.fields import Field, RecordType, Requirement
from perdure.domain.turn_records.wire import RECORD_DEPTH_MAX, RECORD_VALUES_MAX
from perdure.errors import Invalid, LimitExceeded

PLAIN = RecordType(type_id="test.plain", fields=(Field(tag=1, name="data", type="any"),))

RULED = RecordType(
    type_id="test.ruled",
    fields=(
        Field(tag=1, name="event_kind", type="string"),
        Field(tag=2, name="reason", type="string", optional=True),
        Field(tag=3, name="inline", type="string", optional=True),
        Field(tag=4, name="address", type="string", optional=True),
    ),
    event_kinds=("began", "ended"),
    requirements=(Requirement(name="event_kind", value="ended", present=("reason",)),),
    exactly_one=("inline", "address"),
)


def rewritten(record_type: RecordType, payload: bytes) -> bytes:
    found = decode(record_type, payload)
    return encode(record_type, found.values, unknown=found.unknown)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"event_kind": "paused", "inline": "x"}, "event_kind must be one of began, ended"),
        ({"event_kind": "ended", "inline": "x"}, "reason must be given when event_kind is ended"),
        ({"event_kind": "ended", "inline": "x", "reason": None}, "reason must be given when event_kind is ended"),
        ({"event_kind": "began"}, "inline must be given as the only one of inline or address, and is missing"),
        ({"event_kind": "began", "inline": "x", "address": "y"}, "only one of inline or address, and is given with"),
    ],
)
def test_rules_bind_those_who_write(values: dict[str, object], complaint: str):
    with pytest.raises(Invalid, match=complaint):
        encode(RULED, values)


def test_rules_do_not_bind_those_who_read_or_write_back():
    payload = msgspec.msgpack.encode({1: "paused"})

    assert decode(RULED, payload).values == {"event_kind": "paused"}
    assert rewritten(RULED, payload) == payload


def test_a_payload_may_be_as_large_as_its_limit_and_no_larger():
    around = len(encode(PLAIN, {"data": "x" * 2**16})) - 2**16
    content = "x" * (TURN_PAYLOAD_BYTES_MAX - around)

    payload = encode(PLAIN, {"data": content})
    assert len(payload) == TURN_PAYLOAD_BYTES_MAX
    assert decode(PLAIN, payload).values == {"data": content}
    with pytest.raises(LimitExceeded, match="turn_payload_bytes_max") as refused:
        encode(PLAIN, {"data": content + "x"})
    assert refused.value.detail["actual"] == TURN_PAYLOAD_BYTES_MAX + 1
    with pytest.raises(LimitExceeded, match="turn_payload_bytes_max"):
        decode(PLAIN, payload + b"\x00")


def test_a_record_may_be_as_deep_as_its_limit_and_no_deeper():
    value: object = 1
    for _ in range(RECORD_DEPTH_MAX - 1):  # the record is the first level
        value = [value]

    payload = encode(PLAIN, {"data": value})
    assert decode(PLAIN, payload).values == {"data": value}
    with pytest.raises(LimitExceeded, match="record_depth_max"):
        encode(PLAIN, {"data": [value]})
    with pytest.raises(LimitExceeded, match="record_depth_max") as refused:
        decode(PLAIN, b"\x81\x01\x91" + payload[2:])
    assert refused.value.detail["actual"] == RECORD_DEPTH_MAX + 1


def test_unknown_fields_count_for_the_depth():
    deepest = b"\x91" * (RECORD_DEPTH_MAX - 1) + b"\x01"

    assert rewritten(PLAIN, b"\x82\x01\x07\x63" + deepest) == b"\x82\x01\x07\x63" + deepest
    with pytest.raises(LimitExceeded, match="record_depth_max"):
        encode(PLAIN, {"data": 7}, unknown={0x63: b"\x91" + deepest})
    with pytest.raises(LimitExceeded, match="record_depth_max"):
        decode(PLAIN, b"\x82\x01\x07\x63\x91" + deepest)


def test_thousands_of_levels_are_refused_and_not_followed():
    with pytest.raises(LimitExceeded, match="record_depth_max"):
        decode(PLAIN, b"\x81\x01" + b"\x91" * 100_000 + b"\x01")


def test_a_value_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)

    with pytest.raises(LimitExceeded, match="record_depth_max"):
        encode(PLAIN, {"data": loop})


def test_a_record_may_hold_as_many_values_as_its_limit_and_no_more():
    numbers = [0] * (RECORD_VALUES_MAX - 3)  # the map, its key and the list are values too

    payload = encode(PLAIN, {"data": numbers})
    assert decode(PLAIN, payload).values == {"data": numbers}
    with pytest.raises(LimitExceeded, match="record_values_max") as refused:
        encode(PLAIN, {"data": [*numbers, 0]})
    assert refused.value.detail["actual"] == RECORD_VALUES_MAX + 1
    with pytest.raises(LimitExceeded, match="record_values_max"):
        decode(PLAIN, msgspec.msgpack.encode({1: [*numbers, 0]}))
