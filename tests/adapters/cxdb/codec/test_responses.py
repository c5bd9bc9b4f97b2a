"""Answers are, to the byte, what servers of CXDB send, and are read only as answers to what was asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX, MalformedMessage
from perdure.adapters.cxdb.codec.frames import FRAME_BYTES_MAX, Frame, MessageType
from perdure.adapters.cxdb.codec.requests import GetHead, Request
from perdure.adapters.cxdb.codec.responses import (
    Answer,
    BlobContent,
    BlobStored,
    ContextHead,
    ErrorCode,
    Failure,
    FsAttached,
    HelloAnswer,
    TurnAppended,
    decode_answer,
    encode_answer,
    encode_failure,
)
from perdure.errors import Invalid, LimitExceeded
from tests.adapters.cxdb.codec.drawn import ASKED, HASH, exchanges, texts, u32

pytestmark = pytest.mark.fast

H5 = "05" * 32
REQ_ID = "0807060504030201"
HEAD = ContextHead(context_id=1, head_turn_id=2, head_depth=3)
ASKED_HEAD = GetHead(context_id=1)
HEAD_HEX = "0100000000000000 0200000000000000 03000000"

GOLDEN: list[tuple[MessageType, Answer, str, str]] = [
    (MessageType.HELLO, HelloAnswer(session_id=9), "0a000000 0100 0000", "0900000000000000 0100"),
    (MessageType.CTX_CREATE, HEAD, "14000000 0200 0000", HEAD_HEX),
    (MessageType.CTX_FORK, HEAD, "14000000 0300 0000", HEAD_HEX),
    (MessageType.GET_HEAD, HEAD, "14000000 0400 0000", HEAD_HEX),
    (
        MessageType.APPEND_TURN,
        TurnAppended(context_id=1, turn_id=2, depth=3, content_hash=HASH),
        "34000000 0500 0000",
        f"{HEAD_HEX} {H5}",
    ),
    (MessageType.GET_BLOB, BlobContent(content=b"abc"), "07000000 0900 0000", "03000000 616263"),
    (MessageType.GET_BLOB, BlobContent(content=b""), "04000000 0900 0000", "00000000"),
    (
        MessageType.ATTACH_FS,
        FsAttached(turn_id=2, fs_root_hash=HASH),
        "28000000 0a00 0000",
        f"0200000000000000 {H5}",
    ),
    (MessageType.PUT_BLOB, BlobStored(content_hash=HASH, was_new=True), "21000000 0b00 0000", f"{H5} 01"),
    (MessageType.PUT_BLOB, BlobStored(content_hash=HASH, was_new=False), "21000000 0b00 0000", f"{H5} 00"),
]


def answer_to(kind: MessageType, payload: bytes) -> Answer | Failure:
    asked: Request = ASKED[kind]
    return decode_answer(Frame(msg_type=kind, req_id=1, payload=payload), to=asked)


@pytest.mark.parametrize(("kind", "answer", "header", "payload"), GOLDEN)
def test_an_answer_is_these_bytes(kind: MessageType, answer: Answer, header: str, payload: str):
    golden = bytes.fromhex(header + REQ_ID + payload)

    assert encode_answer(answer, to=kind, req_id=0x0102030405060708) == golden


@pytest.mark.parametrize(("kind", "answer", "header", "payload"), GOLDEN)
def test_these_bytes_are_an_answer_and_more_bytes_are_ignored(
    kind: MessageType, answer: Answer, header: str, payload: str
):
    whole = bytes.fromhex(payload)

    assert int.from_bytes(bytes.fromhex(header)[:4], "little") == len(whole)
    assert answer_to(kind, whole) == answer
    assert answer_to(kind, whole + b"\xffmore") == answer


@pytest.mark.parametrize(("kind", "payload"), [(kind, payload) for kind, _, _, payload in GOLDEN])
def test_no_answer_can_be_cut_short(kind: MessageType, payload: str):
    whole = bytes.fromhex(payload)
    for size in range(len(whole)):
        with pytest.raises(MalformedMessage, match=rf"^{kind.name.lower()} answer too short$"):
            answer_to(kind, whole[:size])


@given(exchanges)
def test_an_answer_comes_out_as_it_went_in(exchange: tuple[Request, Answer]):
    asked, answer = exchange
    whole = encode_answer(answer, to=asked.message_type, req_id=3)
    frame = Frame(msg_type=asked.message_type, req_id=3, payload=memoryview(whole)[16:])

    assert decode_answer(frame, to=asked) == answer


def test_a_failure_is_these_bytes():
    failure = Failure(code=ErrorCode.NOT_FOUND, detail="blöb")
    golden = bytes.fromhex("0d000000 ff00 0000" + REQ_ID + "94010000 05000000 626cc3b662")

    assert encode_failure(failure, req_id=0x0102030405060708) == golden
    assert decode_answer(Frame(msg_type=255, req_id=1, payload=golden[16:] + b"x"), to=ASKED_HEAD) == failure


@given(u32, texts)
def test_a_failure_may_answer_anything_with_any_code(code: int, detail: str):
    whole = encode_failure(Failure(code=code, detail=detail), req_id=1)
    for asked in ASKED.values():
        frame = Frame(msg_type=255, req_id=1, payload=whole[16:])
        assert decode_answer(frame, to=asked) == Failure(code=code, detail=detail)


@given(st.binary(max_size=7))
def test_a_failure_too_short_for_a_code_has_code_0(payload: bytes):
    assert decode_answer(Frame(msg_type=255, req_id=1, payload=payload), to=ASKED_HEAD) == Failure(code=0)


def test_a_failure_shorter_than_its_text_is_malformed():
    payload = bytes.fromhex("94010000 ffffffff 61")
    with pytest.raises(MalformedMessage, match=r"^error payload too short$"):
        decode_answer(Frame(msg_type=255, req_id=1, payload=payload), to=ASKED_HEAD)


def test_a_broken_letter_does_not_hide_the_code_of_a_failure():
    payload = bytes.fromhex("a6010000 02000000 61ff")

    assert decode_answer(Frame(msg_type=255, req_id=1, payload=payload), to=ASKED_HEAD) == Failure(
        code=ErrorCode.INVALID, detail="a\ufffd"
    )


@pytest.mark.parametrize("number", [0, 2, 5, 256, 65535])
def test_an_answer_of_another_type_is_malformed(number: int):
    with pytest.raises(MalformedMessage, match=f"answered GET_HEAD by a message of type {number}; expected 4") as no:
        decode_answer(Frame(msg_type=number, req_id=1, payload=bytes(100)), to=ASKED_HEAD)

    assert no.value.detail == {"expected": 4, "actual": number}


def test_no_length_of_a_blob_is_believed():
    with pytest.raises(MalformedMessage, match="get_blob answer too short") as refused:
        answer_to(MessageType.GET_BLOB, b"\xff\xff\xff\xffabc")

    assert refused.value.detail == {"expected_bytes": 2**32 - 1, "remaining_bytes": 3}


def test_any_byte_but_0_says_that_a_blob_was_new():
    assert answer_to(MessageType.PUT_BLOB, HASH + b"\x02") == BlobStored(content_hash=HASH, was_new=True)


def test_the_largest_blob_that_is_answered_fits_a_frame():
    content = bytes(PAYLOAD_BYTES_MAX - 4)

    assert len(encode_answer(BlobContent(content=content), to=MessageType.GET_BLOB, req_id=1)) == FRAME_BYTES_MAX
    with pytest.raises(LimitExceeded, match="payload_bytes_max"):
        encode_answer(BlobContent(content=content + b"x"), to=MessageType.GET_BLOB, req_id=1)


def test_a_failure_fits_a_frame():
    assert len(encode_failure(Failure(code=500, detail="x" * (PAYLOAD_BYTES_MAX - 8)), req_id=1)) == FRAME_BYTES_MAX
    with pytest.raises(LimitExceeded, match="payload_bytes_max"):
        encode_failure(Failure(code=500, detail="x" * (PAYLOAD_BYTES_MAX - 7)), req_id=1)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (MessageType.HELLO, HelloAnswer(session_id=2**64)),
        (MessageType.GET_HEAD, ContextHead(context_id=1, head_turn_id=-1, head_depth=0)),
        (MessageType.APPEND_TURN, TurnAppended(context_id=1, turn_id=2, depth=2**32, content_hash=HASH)),
        (MessageType.APPEND_TURN, TurnAppended(context_id=1, turn_id=2, depth=3, content_hash=b"")),
        (MessageType.ATTACH_FS, FsAttached(turn_id=1, fs_root_hash=HASH[1:])),
        (MessageType.PUT_BLOB, BlobStored(content_hash=HASH * 2, was_new=True)),
    ],
)
def test_what_fits_no_field_is_refused(kind: MessageType, answer: Answer):
    with pytest.raises(Invalid):
        encode_answer(answer, to=kind, req_id=1)


def test_an_answer_is_encoded_only_to_what_it_answers():
    with pytest.raises(AssertionError, match="ContextHead does not answer"):
        encode_answer(HEAD, to=MessageType.PUT_BLOB, req_id=1)


def test_answers_do_not_show_what_they_carry():
    assert "secret" not in repr(BlobContent(content=b"secret"))
