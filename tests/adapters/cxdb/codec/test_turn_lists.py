"""Lists of turns: with payloads one form, without three; a count or a length never makes anything by itself."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX, MalformedMessage
from perdure.adapters.cxdb.codec.frames import FRAME_BYTES_MAX, MessageType
from perdure.adapters.cxdb.codec.responses import encode_answer
from perdure.adapters.cxdb.codec.turn_lists import PayloadForm, TurnItem, TurnList, decode_turn_list
from perdure.errors import Invalid, LimitExceeded
from tests.adapters.cxdb.codec.drawn import HASH

pytestmark = pytest.mark.fast

H5 = "05" * 32
FIRST = TurnItem(
    turn_id=1,
    parent_turn_id=0,
    depth=0,
    type_id="a.b",
    type_version=1,
    encoding=1,
    compression=0,
    uncompressed_len=2,
    content_hash=HASH,
    payload=b"\xa1x",
)
SECOND = replace(FIRST, turn_id=2, parent_turn_id=1, depth=1, type_id="", uncompressed_len=0, payload=b"")
BARE = tuple(replace(item, payload=None) for item in (FIRST, SECOND))
FIRST_HEX = f"0100000000000000 0000000000000000 00000000 03000000 612e62 01000000 01000000 00000000 02000000 {H5}"
SECOND_HEX = f"0200000000000000 0100000000000000 01000000 00000000 01000000 01000000 00000000 00000000 {H5}"

SENT_HEX = f"02000000 {FIRST_HEX} 02000000 a178 {SECOND_HEX} 00000000"
OMITTED_HEX = f"02000000 {FIRST_HEX} {SECOND_HEX}"
EMPTIED_HEX = f"02000000 {FIRST_HEX} 00000000 {SECOND_HEX} 00000000"
LENGTHS_HEX = f"02000000 {FIRST_HEX} 02000000 {SECOND_HEX} 00000000"

GOLDEN = [
    (TurnList(items=(FIRST, SECOND)), SENT_HEX),
    (TurnList(items=BARE, form=PayloadForm.OMITTED), OMITTED_HEX),
    (TurnList(items=BARE, form=PayloadForm.EMPTIED), EMPTIED_HEX),
    (TurnList(items=()), "00000000"),
]


@pytest.mark.parametrize("kind", [MessageType.GET_LAST, MessageType.GET_BEFORE])
@pytest.mark.parametrize(("turns", "payload"), GOLDEN)
def test_a_list_is_these_bytes(turns: TurnList, payload: str, kind: MessageType):
    whole = bytes.fromhex(payload)
    header = len(whole).to_bytes(4, "little") + bytes([kind, 0, 0, 0]) + b"\x01" + bytes(7)

    assert encode_answer(turns, to=kind, req_id=1) == header + whole


@pytest.mark.parametrize(("turns", "payload"), GOLDEN)
def test_these_bytes_are_a_list(turns: TurnList, payload: str):
    include_payload = turns.form is PayloadForm.SENT

    assert decode_turn_list(bytes.fromhex(payload), include_payload=include_payload) == turns


def test_bytes_after_a_list_with_payloads_are_ignored():
    whole = bytes.fromhex(SENT_HEX)

    assert decode_turn_list(whole + b"more", include_payload=True).items == (FIRST, SECOND)


def test_a_list_without_payloads_must_be_consumed_exactly():
    for payload in (OMITTED_HEX, EMPTIED_HEX, LENGTHS_HEX, "00000000"):
        with pytest.raises(MalformedMessage, match="no known form"):
            decode_turn_list(bytes.fromhex(payload) + b"x", include_payload=False)


def test_lengths_of_payloads_that_were_left_out_are_read_over():
    turns = decode_turn_list(bytes.fromhex(LENGTHS_HEX), include_payload=False)

    assert turns == TurnList(items=BARE, form=PayloadForm.EMPTIED)


def test_payloads_that_nobody_asked_for_are_read_over():
    turns = decode_turn_list(bytes.fromhex(SENT_HEX), include_payload=False)

    assert turns == TurnList(items=BARE, form=PayloadForm.EMPTIED)


def test_a_reading_that_is_exact_by_chance_is_not_taken():
    # Read as if lengths were omitted, the second turn begins four bytes early, and its depth is taken for a length.
    deep = replace(BARE[1], type_id="cxdb.Item", depth=len("cxdb.Item") + 8)
    turns = TurnList(items=(BARE[0], deep), form=PayloadForm.EMPTIED)
    payload = encode_answer(turns, to=MessageType.GET_LAST, req_id=1)[16:]

    assert decode_turn_list(payload, include_payload=False) == turns


def test_turns_that_do_not_follow_each_other_are_no_list_without_payloads():
    turns = TurnList(items=(BARE[0], replace(BARE[1], parent_turn_id=7)), form=PayloadForm.OMITTED)
    payload = encode_answer(turns, to=MessageType.GET_LAST, req_id=1)[16:]
    with pytest.raises(MalformedMessage, match="no known form"):
        decode_turn_list(payload, include_payload=False)


def test_an_empty_list_without_payloads_is_a_list():
    assert decode_turn_list(bytes(4), include_payload=False) == TurnList(items=(), form=PayloadForm.OMITTED)


@pytest.mark.parametrize("include_payload", [True, False])
@pytest.mark.parametrize("payload", [SENT_HEX, OMITTED_HEX, EMPTIED_HEX])
def test_no_list_can_be_cut_short(payload: str, *, include_payload: bool):
    whole = bytes.fromhex(payload)
    for size in range(len(whole)):
        with pytest.raises(MalformedMessage):
            decode_turn_list(whole[:size], include_payload=include_payload)


@pytest.mark.parametrize("include_payload", [True, False])
def test_a_count_makes_nothing_by_itself(*, include_payload: bool):
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            decode_turn_list(b"\xff\xff\xff\xff" + bytes(6), include_payload=include_payload)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 100_000


@pytest.mark.parametrize("include_payload", [True, False])
def test_a_count_of_one_more_than_there_are_is_refused(*, include_payload: bool):
    whole = b"\x03" + bytes.fromhex(SENT_HEX if include_payload else OMITTED_HEX)[1:]
    with pytest.raises(MalformedMessage):
        decode_turn_list(whole, include_payload=include_payload)


@pytest.mark.parametrize(("offset", "text"), [(24, "list of turns too short"), (79, "list of turns too short")])
def test_no_length_in_a_list_is_believed(offset: int, text: str):
    whole = bytearray(bytes.fromhex(SENT_HEX))
    whole[offset : offset + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(MalformedMessage) as refused:
        decode_turn_list(bytes(whole), include_payload=True)

    assert refused.value.message == text


def test_a_type_id_that_is_no_text_is_refused():
    whole = bytes.fromhex(SENT_HEX).replace(b"a.b", b"a\xffb")
    with pytest.raises(MalformedMessage, match=r"^type_id not utf8$"):
        decode_turn_list(whole, include_payload=True)


def test_a_list_that_sends_payloads_needs_each_of_them():
    with pytest.raises(Invalid, match="a turn has no payload"):
        encode_answer(TurnList(items=BARE), to=MessageType.GET_LAST, req_id=1)


def test_a_list_without_payloads_does_not_send_those_that_are_there():
    turns = TurnList(items=(FIRST, SECOND), form=PayloadForm.OMITTED)

    assert encode_answer(turns, to=MessageType.GET_LAST, req_id=1)[16:] == bytes.fromhex(OMITTED_HEX)


def test_the_largest_list_fits_a_frame_and_one_byte_more_does_not():
    mib = bytes(1_048_576)
    around = 4 + 64 * 76
    items = [replace(SECOND, payload=mib)] * 63

    def encode(last_size: int) -> bytes:
        turns = TurnList(items=(*items, replace(SECOND, payload=bytes(last_size))))
        return encode_answer(turns, to=MessageType.GET_LAST, req_id=1)

    assert len(encode(len(mib) - around)) == FRAME_BYTES_MAX
    for too_many in (1, around + 1):
        with pytest.raises(LimitExceeded, match="payload_bytes_max"):
            encode(len(mib) - around + too_many)


def test_payloads_that_are_not_sent_do_not_count():
    large = replace(SECOND, payload=bytes(PAYLOAD_BYTES_MAX))
    turns = TurnList(items=(large, large), form=PayloadForm.EMPTIED)

    assert len(encode_answer(turns, to=MessageType.GET_LAST, req_id=1)) == 16 + 4 + 2 * 76


def test_turns_do_not_show_their_payloads():
    assert "secret" not in repr(TurnList(items=(replace(FIRST, payload=b"secret"),)))
