"""A frame has 16 bytes of header and at most 64 MiB of payload, and is refused before it is made."""

from __future__ import annotations

import tracemalloc

import pytest

from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX
from perdure.adapters.cxdb.codec.frames import (
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    Frame,
    FrameFlags,
    MessageType,
    encode_frame,
)
from perdure.errors import Invalid, LimitExceeded

pytestmark = pytest.mark.fast

MIB = bytes(1_048_576)


def test_the_numbers_of_the_protocol_are_what_they_are():
    assert {kind.name: kind.value for kind in MessageType} == {
        "HELLO": 1,
        "CTX_CREATE": 2,
        "CTX_FORK": 3,
        "GET_HEAD": 4,
        "APPEND_TURN": 5,
        "GET_LAST": 6,
        "GET_BEFORE": 7,
        "GET_RANGE_BY_DEPTH": 8,
        "GET_BLOB": 9,
        "ATTACH_FS": 10,
        "PUT_BLOB": 11,
        "ERROR": 255,
    }
    assert (HEADER_BYTES, PAYLOAD_BYTES_MAX, FRAME_BYTES_MAX) == (16, 67_108_864, 67_108_880)


def test_a_header_is_little_endian_without_padding():
    frame = encode_frame(5, req_id=0x1122334455667788, flags=FrameFlags.FS_ROOT, parts=[b"ab", b"", b"c"])

    assert frame == bytes.fromhex("03000000 0500 0100 8877665544332211 616263")


def test_a_request_id_may_be_any_64_bits():
    assert encode_frame(255, req_id=2**64 - 1)[8:] == b"\xff" * 8
    for req_id in (-1, 2**64):
        with pytest.raises(Invalid, match="a frame header"):
            encode_frame(255, req_id=req_id)


def test_the_largest_payload_is_encoded():
    assert len(encode_frame(11, req_id=1, parts=[MIB] * 64)) == FRAME_BYTES_MAX


def test_a_larger_payload_is_refused_before_it_is_joined():
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded, match="payload_bytes_max") as refused:
            encode_frame(11, req_id=1, parts=[*([MIB] * 64), b"x"])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert refused.value.detail == {
        "limit": "payload_bytes_max",
        "allowed": PAYLOAD_BYTES_MAX,
        "actual": PAYLOAD_BYTES_MAX + 1,
    }
    assert peak_bytes < len(MIB)


def test_a_frame_does_not_show_its_payload():
    assert "secret" not in repr(Frame(msg_type=5, req_id=1, payload=b"secret"))
