"""What our client and our server say to each other beyond the protocol, and that no other server notices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.adapters.cxdb.codec.buffer import FrameBuffer
from perdure.adapters.cxdb.codec.frames import AnswerFlags, Frame, FrameFlags, MessageType
from perdure.adapters.cxdb.codec.requests import AppendTurn, decode_request, encode_request
from perdure.adapters.cxdb.codec.responses import TurnAppended, decode_answer, encode_answer
from perdure.adapters.cxdb.server import Profile
from perdure.domain.turn import content_hash
from perdure.errors import KeyReused
from perdure.testing.contracts.turns_opening import further, missing, turn
from tests.adapters.cxdb.client.lossy import lossy_server, note

APPEND = AppendTurn(
    context_id=1,
    parent_turn_id=2,
    declared_type_id="t",
    declared_type_version=1,
    uncompressed_len=1,
    content_hash=bytes.fromhex(content_hash(b"x")),
    payload=b"x",
    fs_root_hash=bytes(32),
)
APPENDED = TurnAppended(context_id=1, turn_id=3, depth=1, content_hash=APPEND.content_hash)


def sent(data: bytes) -> Frame:
    buffer = FrameBuffer()
    buffer.feed(data)
    (frame,) = buffer.frames()
    return frame


def test_a_rebase_is_a_flag_that_only_our_server_reads() -> None:
    rebase = replace(APPEND, rebase=True)
    frame = sent(encode_request(rebase, req_id=1))
    assert frame.flags == FrameFlags.REBASE | FrameFlags.FS_ROOT
    assert decode_request(frame, extensions=True) == rebase
    assert decode_request(frame) == APPEND
    assert sent(encode_request(APPEND, req_id=1)).flags == FrameFlags.FS_ROOT
    assert frame.payload == sent(encode_request(APPEND, req_id=1)).payload


def test_a_replay_is_a_flag_of_an_answer_and_changes_nothing_else() -> None:
    first = sent(encode_answer(APPENDED, to=MessageType.APPEND_TURN, req_id=1))
    again = sent(encode_answer(replace(APPENDED, replayed=True), to=MessageType.APPEND_TURN, req_id=1))
    assert (first.flags, again.flags, first.payload) == (0, AnswerFlags.REPLAYED, again.payload)
    assert [decode_answer(frame, to=APPEND) for frame in (first, again)] == [
        APPENDED,
        replace(APPENDED, replayed=True),
    ]


async def test_our_server_says_that_a_key_was_known_to_a_client_that_never_saw_it() -> None:
    async with lossy_server(Profile.IMPROVED) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await talk.begin()
        said = turn(b"raw", key="k")
        ref = await talk.add(context_id, said)
        other = lossy.talk(lossy=True)
        lossy.way.asked.clear()
        assert await other.add(context_id, said) == replace(ref, replayed=True)
        with pytest.raises(KeyReused):
            await other.add(context_id, turn(b"other", key="k"))
        # Which server it is, and each append: nothing is read for the keys that the server keeps.
        assert lossy.way.asked == [MessageType.GET_BEFORE, MessageType.APPEND_TURN, MessageType.APPEND_TURN]


async def test_our_server_tells_of_one_turn_in_one_message_and_makes_no_context_for_it() -> None:
    async with lossy_server(Profile.IMPROVED) as lossy:
        talk = lossy.talk(lossy=True)
        said = note("said", key="k")
        ref = await talk.add(await talk.begin(), said)
        lossy.way.asked.clear()
        found = await talk.get(ref.turn_id)
        assert (found.payload, found.idempotency_key, found.depth) == (said.payload, "k", 1)
        unknown = further(ref.turn_id)
        assert await missing(talk.get(unknown)) == ("turn", unknown)
        assert lossy.way.asked == [MessageType.GET_BEFORE] * 2
