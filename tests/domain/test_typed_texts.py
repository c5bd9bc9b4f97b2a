"""The texts as which typed values are kept: whatever was not written here is found, down to one bit."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.typed_values import TypedValue, decode_value, encode_value
from perdure.errors import Corrupt
from tests.support.typed_values import canonical, values


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nul",
        "NaN",
        "-Infinity",
        "1.0",
        "1e400",
        "1e2",
        "-0",
        "01",
        " 1",
        "1\n",
        "[1, 2]",
        '{"b":1,"a":2}',
        '{"a":1,"a":2}',
        '"\\u0061"',
        '"\\ud800"',
        '"\\/"',
        "9007199254740992",
        "9" * 5_000,
        "[" * 100_000,
        '{"$int":"1"}',
        '{"$int":"9007199254740992 "}',
        '{"$int":"-09007199254740993"}',
        '{"$int":9007199254740992}',
        '{"$int":"' + "9" * 5_000 + '"}',
        '{"$float":"0.5"}',
        '{"$float":"+1"}',
        '{"$float":"9007199254740993"}',
        '{"$float":"' + "9" * 400 + '"}',
        '{"$decimal":"1e+3"}',
        '{"$decimal":" 1"}',
        '{"$decimal":"NaN"}',
        '{"$decimal":"1_0"}',
        '{"$decimal":"one"}',
        '{"$datetime":"2026-01-01T00:00:00Z"}',
        '{"$datetime":"2026-01-01T00:00:00.000000+00:00"}',
        '{"$datetime":"2026-01-01T00:00:00.000000"}',
        '{"$datetime":"2026-02-30T00:00:00.000000Z"}',
        '{"$uuid":"00000000-0000-0000-0000-00000000000A"}',
        '{"$uuid":"00000000000000000000000000000000"}',
        '{"$bytes":"AP9="}',
        '{"$bytes":"AP8"}',
        '{"$bytes":"AP8=\\n"}',
        '{"$unknown":"1"}',
        '{"$":"1"}',
        '{"$decimal":"1.5","a":1}',
        '{"$decimal":"1.5","$int":"9007199254740992"}',
        '{"$decimal":["1.5"]}',
        "{}}",
        "\ufeff1",
    ],
    ids=lambda text: text[:40],
)
def test_a_text_that_was_never_written_is_corrupt(text: str):
    with pytest.raises(Corrupt, match="changed from outside") as found:
        decode_value(text)
    assert found.value.detail == {}


@given(values, st.data())
def test_no_bit_of_a_stored_text_can_be_flipped_unseen(value: TypedValue, data: st.DataObject):
    stored = encode_value(value).encode()
    bit = data.draw(st.integers(0, len(stored) * 8 - 1))
    flipped = bytearray(stored)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        changed = decode_value(flipped.decode())
    except (Corrupt, UnicodeDecodeError):
        return
    assert canonical(changed) != canonical(value)


def test_every_bit_of_one_text_of_each_kind_is_covered():
    value: TypedValue = {
        "$a": [True, None, 0, -1, 12, 1.5, 1.0, -0.0, 1e300, 2**60, "text $"],
        "d": [Decimal("0E+2"), Decimal("-1.50"), Decimal("1E+3"), Decimal("1E-7")],
        "t": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "u": UUID(int=2**127 + 12345),
        "b": b"\x00\x01\xfe",
    }
    stored = encode_value(value).encode()
    unseen = []
    for bit in range(len(stored) * 8):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            if canonical(decode_value(flipped.decode())) == canonical(value):
                unseen.append((bit, bytes(flipped)))
        except (Corrupt, UnicodeDecodeError):
            continue
    assert unseen == []
