"""A server of others, with one context; and a client that has only its binary side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perdure.adapters.cxdb.backend import CxdbAddress, CxdbBackend
from perdure.adapters.cxdb.codec.frames import Frame, MessageType
from perdure.adapters.cxdb.codec.requests import GetLast, decode_request
from perdure.adapters.cxdb.codec.responses import BlobContent, ContextHead, TurnAppended
from perdure.adapters.cxdb.codec.turn_lists import TurnItem, TurnList
from perdure.adapters.cxdb.endpoint import Endpoint
from perdure.core.environment import SystemClock
from perdure.domain.turn import content_hash
from perdure.testing.contracts.stores import new_space
from perdure.testing.contracts.turns_opening import Talk
from tests.adapters.cxdb.client.scripted import Peer, Script


def item(number: int, payload: bytes, **changed: Any) -> TurnItem:
    """A turn of that context."""
    found = TurnItem(
        turn_id=number,
        parent_turn_id=number - 1,
        depth=number - 1,
        type_id="t",
        type_version=1,
        encoding=1,
        compression=0,
        uncompressed_len=len(payload),
        content_hash=bytes.fromhex(content_hash(payload)),
        payload=payload,
    )
    return replace(found, **changed)


def _answer_wrongly(peer: Peer, frame: Frame, payload: bytes) -> None:
    if frame.msg_type == MessageType.GET_BLOB:
        peer.answer(frame, BlobContent(content=payload))
        return
    digest = bytes.fromhex(content_hash(payload))
    peer.answer(frame, TurnAppended(context_id=1, turn_id=9, depth=8, content_hash=digest))


def old_server(*turns: TurnItem, generation: str = "G1", appended: bytes | None = None) -> Script:
    """A server of others with one context, 1; what is not there is a closed connection, or 404 where G1 says so."""

    def answer(peer: Peer, frame: Frame) -> bool:
        match frame.msg_type:
            case MessageType.GET_BEFORE:
                peer.fail(frame, 422, "unknown msg_type")
            case MessageType.GET_HEAD if frame.payload == (1).to_bytes(8, "little"):
                peer.answer(frame, ContextHead(context_id=1, head_turn_id=len(turns), head_depth=len(turns) - 1))
            case MessageType.GET_LAST:
                asked = decode_request(frame)
                assert isinstance(asked, GetLast)
                shown = turns if asked.include_payload else tuple(replace(one, payload=b"") for one in turns)
                peer.answer(frame, TurnList(items=shown[-asked.limit :]))
            case MessageType.GET_BLOB | MessageType.APPEND_TURN if appended is not None:
                _answer_wrongly(peer, frame, appended)
            case MessageType.GET_HEAD | MessageType.GET_BLOB if generation == "G1":
                peer.fail(frame, 404, "context")
            case _:
                return False
        return True

    async def script(peer: Peer) -> None:
        await peer.hello()
        while (frame := await peer.frame()) is not None:
            if not answer(peer, frame):
                return

    return script


def talk_to(endpoint: Endpoint) -> Talk:
    """A new client."""
    space = new_space()
    address = CxdbAddress(binary=endpoint)
    return Talk(store=CxdbBackend(address, space=space, clock=SystemClock(), redact=str).turns, space=space)
