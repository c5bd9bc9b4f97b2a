"""Requests are, to the byte, what servers of CXDB read; and what they accept or refuse is accepted or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cxdb.codec.buffer import FrameBuffer
from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX, MalformedMessage
from perdure.adapters.cxdb.codec.frames import FRAME_BYTES_MAX, Frame, MessageType
from perdure.adapters.cxdb.codec.requests import (
    CLIENT_TAG_BYTES_MAX,
    AppendTurn,
    AttachFs,
    CreateContext,
    ForkContext,
    GetBefore,
    GetBlob,
    GetHead,
    GetLast,
    Hello,
    PutBlob,
    Request,
    UnknownMessage,
    decode_request,
    encode_request,
)
from perdure.errors import Corrupt, Invalid, LimitExceeded
from tests.adapters.cxdb.codec.drawn import HASH, asked_requests

pytestmark = pytest.mark.fast

H5 = "05" * 32
H6 = "06" * 32
APPEND = AppendTurn(
    context_id=1,
    parent_turn_id=2,
    declared_type_id="a.é",
    declared_type_version=3,
    uncompressed_len=2,
    content_hash=HASH,
    payload=b"\xa1x",
    idempotency_key=b"\x00k",
)
APPEND_HEX = f"""0100000000000000 0200000000000000 04000000 612ec3a9 03000000 01000000 00000000 02000000 {H5}
    02000000 a178 02000000 006b"""

# (request, payload length, type, flags, payload)
GOLDEN: list[tuple[Request, str, str]] = [
    (Hello(), "08000000 0100 0000", "0100 0000 00000000"),
    (
        Hello(protocol_version=7, client_tag="py", client_meta_json="{}"),
        "0c000000 0100 0000",
        "0700 0200 7079 02000000 7b7d",
    ),
    (CreateContext(), "08000000 0200 0000", "0000000000000000"),
    (ForkContext(base_turn_id=258), "08000000 0300 0000", "0201000000000000"),
    (GetHead(context_id=2**64 - 1), "08000000 0400 0000", "ffffffffffffffff"),
    (APPEND, "54000000 0500 0000", APPEND_HEX),
    (
        AppendTurn(
            context_id=1,
            declared_type_id="",
            declared_type_version=0,
            encoding=9,
            compression=1,
            uncompressed_len=2**32 - 1,
            content_hash=HASH,
            payload=b"",
            fs_root_hash=b"\x06" * 32,
        ),
        "6c000000 0500 0100",
        f"""0100000000000000 0000000000000000 00000000 00000000 09000000 01000000 ffffffff {H5}
            00000000 00000000 {H6}""",
    ),
    (GetLast(context_id=1, limit=10), "10000000 0600 0000", "0100000000000000 0a000000 01000000"),
    (
        GetLast(context_id=1, limit=0, include_payload=False),
        "10000000 0600 0000",
        "0100000000000000 00000000 00000000",
    ),
    (
        GetBefore(context_id=1, before_turn_id=2, limit=3),
        "18000000 0700 0000",
        "0100000000000000 0200000000000000 03000000 01000000",
    ),
    (GetBlob(content_hash=HASH), "20000000 0900 0000", H5),
    (AttachFs(turn_id=3, fs_root_hash=HASH), "28000000 0a00 0000", f"0300000000000000 {H5}"),
    (PutBlob(content_hash=HASH, content=b"abc"), "27000000 0b00 0000", f"{H5} 03000000 616263"),
    (PutBlob(content_hash=HASH, content=b""), "24000000 0b00 0000", f"{H5} 00000000"),
]
REQ_ID = "0807060504030201"


def frame_of(kind: MessageType, payload: bytes, *, flags: int = 0) -> Frame:
    return Frame(msg_type=kind, req_id=1, flags=flags, payload=payload)


def refusal_of(kind: MessageType, payload: bytes, *, flags: int = 0) -> MalformedMessage:
    with pytest.raises(MalformedMessage) as refused:
        decode_request(frame_of(kind, payload, flags=flags), extensions=True)
    assert not isinstance(refused.value, UnknownMessage)
    return refused.value


@pytest.mark.parametrize(("request_", "header", "payload"), GOLDEN)
def test_a_request_is_these_bytes(request_: Request, header: str, payload: str):
    golden = bytes.fromhex(header + REQ_ID + payload)

    assert encode_request(request_, req_id=0x0102030405060708) == golden


@pytest.mark.parametrize(("request_", "header", "payload"), GOLDEN)
def test_these_bytes_are_a_request(request_: Request, header: str, payload: str):
    buffer = FrameBuffer()
    buffer.feed(bytes.fromhex(header + REQ_ID + payload))
    (frame,) = buffer.frames()

    assert frame.req_id == 0x0102030405060708
    assert decode_request(frame, extensions=True) == request_


@given(asked_requests, st.data())
def test_a_request_comes_out_as_it_went_in_wherever_it_was_cut(request_: Request, data: st.DataObject):
    whole = encode_request(request_, req_id=5)
    cut = data.draw(st.integers(0, len(whole)))
    buffer = FrameBuffer()
    buffer.feed(whole[:cut])
    early = list(buffer.frames())
    buffer.feed(whole[cut:])
    (frame,) = early + list(buffer.frames())

    assert decode_request(frame, extensions=True) == request_


@pytest.mark.parametrize(("request_", "header", "payload"), GOLDEN)
def test_bytes_after_the_last_field_are_ignored_except_in_get_blob(request_: Request, header: str, payload: str):
    flags = bytes.fromhex(header)[6]
    frame = frame_of(request_.message_type, bytes.fromhex(payload) + b"\xffmore", flags=flags)
    if isinstance(request_, GetBlob):
        with pytest.raises(MalformedMessage, match=r"^invalid blob hash length$"):
            decode_request(frame)
    else:
        assert decode_request(frame, extensions=True) == request_


@pytest.mark.parametrize(("request_", "header", "payload"), GOLDEN)
def test_no_request_can_be_cut_short(request_: Request, header: str, payload: str):
    flags = bytes.fromhex(header)[6]
    whole = bytes.fromhex(payload)
    # An empty HELLO is what old clients send.
    for size in range(1 if isinstance(request_, Hello) else 0, len(whole)):
        refusal_of(request_.message_type, whole[:size], flags=flags)


def test_an_old_client_says_hello_with_nothing():
    assert decode_request(frame_of(MessageType.HELLO, b"")) == Hello(protocol_version=0)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ("01", "hello payload too short"),
        ("010000", "hello payload too short"),
        ("01000000", "hello payload truncated"),
        ("01000000 000000", "hello payload truncated"),
        ("01000200 7079 000000", "hello payload truncated"),
        ("0100ffff 00000000", "hello payload truncated"),
        ("01000000 01000000", "hello payload truncated"),
        ("01000000 ffffffff 7b7d", "hello payload truncated"),
        ("01000100 ff 00000000", "client_tag not utf8"),
        ("01000000 01000000 ff", "client_meta_json not utf8"),
    ],
)
def test_what_is_wrong_with_a_hello_is_said_in_the_words_of_the_protocol(payload: str, text: str):
    assert refusal_of(MessageType.HELLO, bytes.fromhex(payload)).message == text


@pytest.mark.parametrize(
    ("kind", "size", "text"),
    [
        (MessageType.CTX_CREATE, 7, "ctx_create payload too short"),
        (MessageType.CTX_FORK, 7, "ctx_fork payload too short"),
        (MessageType.GET_HEAD, 7, "get_head payload too short"),
        (MessageType.APPEND_TURN, 75, "append_turn payload too short"),
        (MessageType.GET_LAST, 15, "get_last payload too short"),
        (MessageType.GET_BEFORE, 23, "get_before payload too short"),
        (MessageType.GET_BLOB, 31, "invalid blob hash length"),
        (MessageType.GET_BLOB, 33, "invalid blob hash length"),
        (MessageType.ATTACH_FS, 39, "attach_fs payload too short"),
        (MessageType.PUT_BLOB, 35, "put_blob payload too short"),
    ],
)
def test_each_request_has_a_least_size(kind: MessageType, size: int, text: str):
    assert refusal_of(kind, bytes(size)).message == text
    if kind is not MessageType.GET_BLOB:
        decode_request(frame_of(kind, bytes(size + 1)), extensions=True)


def test_a_type_id_that_is_no_text_is_refused_before_what_follows_is_missed():
    payload = bytes(16) + b"\x01\x00\x00\x00\xff"

    assert refusal_of(MessageType.APPEND_TURN, payload).message == "declared_type_id not utf8"


@pytest.mark.parametrize("offset", [16, 24 + 48, 24 + 54])
def test_no_length_of_an_append_is_believed(offset: int):
    payload = bytearray(bytes.fromhex(APPEND_HEX))
    payload[offset : offset + 4] = b"\xff\xff\xff\xff"

    refused = refusal_of(MessageType.APPEND_TURN, bytes(payload))
    assert refused.message == "append_turn payload too short"
    assert refused.detail["expected_bytes"] == 2**32 - 1


def test_no_length_of_a_blob_is_believed():
    assert refusal_of(MessageType.PUT_BLOB, HASH + b"\x03\x00\x00\x00ab").message == "put_blob payload too short"


def test_a_root_hash_follows_only_if_the_flag_says_so():
    payload = bytes.fromhex(APPEND_HEX)

    assert decode_request(frame_of(MessageType.APPEND_TURN, payload + HASH)) == APPEND
    # Other flags mean nothing.
    assert decode_request(frame_of(MessageType.APPEND_TURN, payload, flags=0xFFFE)) == APPEND
    assert decode_request(frame_of(MessageType.HELLO, b"", flags=1)) == Hello(protocol_version=0)
    with_root = decode_request(frame_of(MessageType.APPEND_TURN, payload + HASH, flags=0xFFFF))
    assert isinstance(with_root, AppendTurn)
    assert with_root.fs_root_hash == HASH
    refusal_of(MessageType.APPEND_TURN, payload + HASH[1:], flags=1)


def test_any_number_but_0_asks_for_payloads():
    asked = decode_request(frame_of(MessageType.GET_LAST, bytes(12) + b"\x00\x00\x00\x80"))

    assert asked == GetLast(context_id=0, limit=0, include_payload=True)


@pytest.mark.parametrize("number", [0, 7, 8, 12, 255, 256, 65535])
def test_other_numbers_are_unknown_and_leave_the_connection_sound(number: int):
    with pytest.raises(UnknownMessage) as refused:
        decode_request(Frame(msg_type=number, req_id=1, payload=bytes(100)))

    assert (refused.value.message, refused.value.detail) == ("unknown msg_type", {"msg_type": number})


def test_a_malformed_message_is_never_taken_for_a_refusal_that_did_nothing():
    refused = refusal_of(MessageType.HELLO, b"\x01")

    assert isinstance(refused, Corrupt)
    assert refused.code == "malformed_message"


def test_a_malformed_text_is_not_quoted():
    refused = refusal_of(MessageType.HELLO, b"\x01\x00\x07\x00secret\xff\x00\x00\x00\x00")

    assert refused.__cause__ is None
    assert refused.__suppress_context__
    assert "secret" not in f"{refused} {refused.detail}"


def test_requests_do_not_show_what_they_carry():
    append = AppendTurn(
        context_id=1,
        declared_type_id="a",
        declared_type_version=1,
        uncompressed_len=6,
        content_hash=HASH,
        payload=b"secret",
        idempotency_key=b"secret",
    )
    shown = f"{append} {PutBlob(content_hash=HASH, content=b'secret')} {Hello(client_meta_json='secret')}"

    assert "secret" not in shown


def test_a_client_tag_has_as_many_bytes_as_its_length_can_say():
    longest = "é" * (CLIENT_TAG_BYTES_MAX // 2) + "x"

    whole = encode_request(Hello(client_tag=longest), req_id=1)
    assert decode_request(frame_of(MessageType.HELLO, whole[16:])) == Hello(client_tag=longest)
    with pytest.raises(LimitExceeded, match="client_tag_bytes_max") as refused:
        encode_request(Hello(client_tag=longest + "x"), req_id=1)
    assert refused.value.detail == {"limit": "client_tag_bytes_max", "allowed": 65_535, "actual": 65_536}


def test_the_largest_blob_fits_a_frame_and_one_byte_more_does_not():
    content = bytes(PAYLOAD_BYTES_MAX - 36)

    assert len(encode_request(PutBlob(content_hash=HASH, content=content), req_id=1)) == FRAME_BYTES_MAX
    for more in (b"x", bytes(37)):
        with pytest.raises(LimitExceeded, match="payload_bytes_max"):
            encode_request(PutBlob(content_hash=HASH, content=content + more), req_id=1)


def test_an_append_loses_76_bytes_of_a_frame_to_what_is_around_its_payload():
    def append(size: int) -> bytes:
        turn = AppendTurn(
            context_id=1,
            declared_type_id="",
            declared_type_version=1,
            uncompressed_len=size,
            content_hash=HASH,
            payload=bytes(size),
        )
        return encode_request(turn, req_id=1)

    assert len(append(PAYLOAD_BYTES_MAX - 76)) == FRAME_BYTES_MAX
    with pytest.raises(LimitExceeded, match="payload_bytes_max"):
        append(PAYLOAD_BYTES_MAX - 75)


@pytest.mark.parametrize(
    "request_",
    [
        CreateContext(base_turn_id=-1),
        GetHead(context_id=2**64),
        GetLast(context_id=1, limit=2**32),
        Hello(protocol_version=2**16),
        Hello(client_tag="\ud800"),
        GetBlob(content_hash=b"short"),
        AttachFs(turn_id=1, fs_root_hash=HASH + b"x"),
        PutBlob(content_hash=b"", content=b""),
    ],
)
def test_what_fits_no_field_is_refused(request_: Request):
    with pytest.raises(Invalid):
        encode_request(request_, req_id=1)
