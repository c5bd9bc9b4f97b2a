"""Whatever comes over a connection, only two errors come out, and what comes out is not larger than what went in."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cxdb.codec.buffer import FrameBuffer
from perdure.adapters.cxdb.codec.fields import MalformedMessage
from perdure.adapters.cxdb.codec.frames import Frame
from perdure.adapters.cxdb.codec.requests import Request, decode_request, encode_request
from perdure.adapters.cxdb.codec.responses import Answer, decode_answer, encode_answer
from perdure.adapters.cxdb.codec.turn_lists import TurnList
from perdure.errors import LimitExceeded
from tests.adapters.cxdb.codec.drawn import ASKED, BARE, asked_requests, exchanges, u16

pytestmark = pytest.mark.fast

ASKED_ANYTHING: list[Request] = [*ASKED.values(), BARE]
ITEM_BYTES_MIN = 72
LENGTHS = [b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x01\x00\x00\x00", b"\x00\x00\x00\x04", b"\x00\x00\x01\x00"]


def variable_bytes(value: object) -> int:
    """How many bytes of a decoded value came out of fields of any length."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, tuple):
        return sum(variable_bytes(item) for item in value)
    if dataclasses.is_dataclass(value):
        return sum(variable_bytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    return 0


def check_decoding(frame: Frame) -> None:
    """Read a frame as a request and as every answer."""
    try:
        request = decode_request(frame, extensions=True)
    except MalformedMessage:
        pass
    else:
        assert variable_bytes(request) <= len(frame.payload)
    for asked in ASKED_ANYTHING:
        try:
            answer = decode_answer(frame, to=asked)
        except MalformedMessage:
            continue
        if frame.msg_type != 255:  # the letters that stand for broken ones have three bytes each
            assert variable_bytes(answer) <= len(frame.payload)
        if isinstance(answer, TurnList):
            assert len(answer.items) * ITEM_BYTES_MIN <= len(frame.payload)


def check_stream(stream: bytes) -> None:
    """Read a connection to its end, or to where it is refused."""
    buffer = FrameBuffer()
    buffer.feed(stream)
    taken = 0
    try:
        for frame in buffer.frames():
            taken += 16 + len(frame.payload)
            check_decoding(frame)
    except LimitExceeded:
        assert buffer.pending_bytes >= 4
    assert taken + buffer.pending_bytes == len(stream)


def damaged(stream: bytes, chance: random.Random) -> bytes:
    damage = bytearray(stream)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(damage) + 1)
        match chance.randrange(4):
            case 0:
                damage[start : start + 1] = chance.randbytes(1)
            case 1:
                damage[start : start + 4] = chance.choice(LENGTHS)
            case 2:
                del damage[start : start + chance.randint(1, 20)]
            case _:
                damage[start:start] = chance.randbytes(chance.randint(1, 20))
    return bytes(damage)


@given(st.lists(asked_requests, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_damaged_requests_are_refused_or_read(asked: list[Request], chance: random.Random):
    stream = b"".join(encode_request(request, req_id=index) for index, request in enumerate(asked))

    check_stream(damaged(stream, chance))


@given(st.lists(exchanges, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_damaged_answers_are_refused_or_read(answered: list[tuple[Request, Answer]], chance: random.Random):
    stream = b"".join(encode_answer(answer, to=asked.message_type, req_id=1) for asked, answer in answered)

    check_stream(damaged(stream, chance))


@given(asked_requests, st.randoms(use_true_random=False))
def test_a_damaged_payload_in_a_sound_frame_is_refused_or_read(asked: Request, chance: random.Random):
    payload = damaged(encode_request(asked, req_id=1)[16:], chance)

    check_decoding(Frame(msg_type=asked.message_type, req_id=1, flags=chance.randrange(2), payload=payload))


@given(exchanges, st.randoms(use_true_random=False))
def test_a_damaged_answer_in_a_sound_frame_is_refused_or_read(exchange: tuple[Request, Answer], chance: random.Random):
    asked, answer = exchange
    payload = damaged(encode_answer(answer, to=asked.message_type, req_id=1)[16:], chance)

    check_decoding(Frame(msg_type=asked.message_type, req_id=1, payload=payload))


@given(u16 | st.sampled_from([*ASKED, 255]), u16, st.binary(max_size=300))
def test_any_payload_of_any_type_is_refused_or_read(msg_type: int, flags: int, payload: bytes):
    check_decoding(Frame(msg_type=msg_type, req_id=1, flags=flags, payload=payload))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(stream: bytes):
    check_stream(stream)
