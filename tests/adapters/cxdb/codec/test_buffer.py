"""Frames come out as they went in, wherever the connection cut them; nothing is believed before it is there."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cxdb.codec.buffer import FrameBuffer
from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX
from perdure.adapters.cxdb.codec.frames import FRAME_BYTES_MAX, HEADER, HEADER_BYTES, Frame, encode_frame
from perdure.errors import LimitExceeded
from tests.adapters.cxdb.codec.drawn import u16, u64

pytestmark = pytest.mark.fast

drawn_frames = st.lists(
    st.builds(Frame, msg_type=u16, req_id=u64, flags=u16, payload=st.binary(max_size=80)), max_size=5
)
SMALL = encode_frame(4, req_id=7, parts=[b"01234567"])


def encoded(frames: list[Frame]) -> bytes:
    return b"".join(
        encode_frame(frame.msg_type, req_id=frame.req_id, flags=frame.flags, parts=[bytes(frame.payload)])
        for frame in frames
    )


def fed(buffer: FrameBuffer, *chunks: bytes) -> list[Frame]:
    frames: list[Frame] = []
    for chunk in chunks:
        buffer.feed(chunk)
        frames += buffer.frames()
    return frames


@given(drawn_frames)
def test_frames_fed_whole_come_out(frames: list[Frame]):
    buffer = FrameBuffer()

    assert fed(buffer, encoded(frames)) == frames
    assert buffer.pending_bytes == 0


@given(drawn_frames)
def test_frames_fed_byte_by_byte_come_out(frames: list[Frame]):
    buffer = FrameBuffer()

    assert fed(buffer, *(bytes([byte]) for byte in encoded(frames))) == frames
    assert buffer.pending_bytes == 0


@given(drawn_frames, st.data())
def test_frames_cut_anywhere_come_out(frames: list[Frame], data: st.DataObject):
    whole = encoded(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    assert fed(FrameBuffer(), *chunks) == frames


@given(drawn_frames, st.binary(max_size=HEADER_BYTES - 1).filter(lambda tail: tail[3:4] < b"\x04"))
def test_bytes_of_a_frame_that_is_not_there_yet_are_pending(frames: list[Frame], tail: bytes):
    buffer = FrameBuffer()

    assert fed(buffer, encoded(frames) + tail) == frames
    assert buffer.pending_bytes == len(tail)


def test_frames_that_were_taken_stay_what_they_were():
    buffer = FrameBuffer()
    taken = fed(buffer, SMALL[:3], SMALL[3:] + SMALL[:5], SMALL[5:], SMALL)

    assert [bytes(frame.payload) for frame in taken] == [b"01234567"] * 3
    assert all(memoryview(frame.payload).readonly for frame in taken)


def test_a_frame_in_one_chunk_is_a_view_of_it():
    (frame,) = fed(FrameBuffer(), SMALL)

    assert isinstance(frame.payload, memoryview)
    assert frame.payload.obj is SMALL


def test_frames_that_wait_do_not_hinder_those_that_follow():
    buffer = FrameBuffer()
    buffer.feed(SMALL + SMALL[:9])
    buffer.feed(SMALL[9:])
    buffer.feed(SMALL)

    assert len(list(buffer.frames())) == 3


def test_a_length_above_the_limit_is_refused_at_its_fourth_byte():
    buffer = FrameBuffer()
    length = (PAYLOAD_BYTES_MAX + 1).to_bytes(4, "little")

    assert fed(buffer, length[:3]) == []
    buffer.feed(length[3:])
    with pytest.raises(LimitExceeded, match=r"frame size 67108865 exceeds maximum 67108864 \(payload_bytes_max\)"):
        buffer.next_frame()
    with pytest.raises(LimitExceeded):  # and again: there is no way to go on
        buffer.next_frame()


def test_the_longest_length_is_waited_for():
    buffer = FrameBuffer()
    header = HEADER.pack(PAYLOAD_BYTES_MAX, 11, 0, 1)

    assert fed(buffer, header) == []
    assert buffer.pending_bytes == HEADER_BYTES


def test_the_longest_frame_comes_out_of_many_chunks_assembled_once():
    chunk = bytes(1_048_576)
    buffer = FrameBuffer()
    tracemalloc.start()
    try:
        (frame,) = fed(buffer, HEADER.pack(PAYLOAD_BYTES_MAX, 11, 0, 1), *([chunk] * 64))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(frame.payload) == PAYLOAD_BYTES_MAX
    assert peak_bytes < 2.5 * FRAME_BYTES_MAX  # growing may hold the old room beside the new, and nothing else


def test_frames_before_a_refused_one_come_out_first():
    buffer = FrameBuffer()
    buffer.feed(SMALL + b"\xff\xff\xff\xff")
    frames = buffer.frames()

    assert next(frames).req_id == 7
    with pytest.raises(LimitExceeded):
        next(frames)


def test_a_declared_length_makes_no_room():
    tracemalloc.start()
    try:
        buffer = FrameBuffer()
        assert fed(buffer, HEADER.pack(PAYLOAD_BYTES_MAX, 11, 0, 1), b"x") == []
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 100_000


def test_a_client_may_take_longer_answers_and_a_server_shorter_requests():
    answer = HEADER.pack(PAYLOAD_BYTES_MAX + 1, 6, 0, 1)

    assert fed(FrameBuffer(payload_bytes_max=2**32 - 1), answer) == []
    assert len(fed(FrameBuffer(payload_bytes_max=8), SMALL)) == 1
    with pytest.raises(LimitExceeded, match="frame size 8 exceeds maximum 7"):
        fed(FrameBuffer(payload_bytes_max=7), SMALL)


def test_who_does_not_take_frames_cannot_feed_for_ever():
    buffer = FrameBuffer(payload_bytes_max=8)
    buffer.feed(SMALL[:-1])
    buffer.feed(SMALL[-1:])
    with pytest.raises(LimitExceeded, match="frame_bytes_max") as refused:
        buffer.feed(b"x")

    assert refused.value.detail == {"limit": "frame_bytes_max", "allowed": 24, "actual": 24}
    assert len(list(buffer.frames())) == 1
    buffer.feed(SMALL)
    assert len(list(buffer.frames())) == 1


def test_no_bytes_change_nothing():
    buffer = FrameBuffer()

    assert fed(buffer, b"", SMALL[:10], b"", SMALL[10:], b"")[0].req_id == 7


def test_the_request_id_of_a_frame_is_known_once_its_header_is_there():
    buffer = FrameBuffer(payload_bytes_max=8)
    large = encode_frame(4, req_id=2**64 - 1, parts=[bytes(9)])
    known: list[int | None] = []

    buffer.feed(SMALL + large[: HEADER_BYTES - 1])
    known.append(buffer.pending_req_id)
    with pytest.raises(LimitExceeded):
        list(buffer.frames())
    known.append(buffer.pending_req_id)
    buffer.feed(large[HEADER_BYTES - 1 : HEADER_BYTES])
    known.append(buffer.pending_req_id)

    assert known == [7, None, 2**64 - 1]
