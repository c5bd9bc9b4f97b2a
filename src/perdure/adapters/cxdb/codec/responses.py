"""What a server answers: the request's number and id, or ERROR and the request's id.

Bytes after the last field are ignored, so that a later server may say more; ``turn_lists`` has the one exception.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias, overload

from perdure.adapters.cxdb.codec.fields import (
    HASH_BYTES,
    U32,
    U64,
    MalformedMessage,
    Reader,
    pack,
    pack_hash,
    pack_text,
    refuse_large,
)
from perdure.adapters.cxdb.codec.frames import AnswerFlags, Frame, MessageType, encode_frame
from perdure.adapters.cxdb.codec.requests import (
    PROTOCOL_VERSION,
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
)
from perdure.adapters.cxdb.codec.turn_lists import TurnList, decode_turn_list, turn_list_parts

_HELLO: Final = struct.Struct("<QH")
_HEAD: Final = struct.Struct("<QQI")  # context, head, depth
_APPENDED: Final = struct.Struct("<QQI32s")  # context, turn, depth, hash
_FAILURE_FIXED: Final = struct.Struct("<II")


class ErrorCode(IntEnum):
    """The codes of ERROR that are in use; any other number may come.

    404, 422 and 500 are the protocol's own, the others extensions with the meaning that they have in HTTP.
    """

    FORBIDDEN = 403
    NOT_FOUND = 404
    CONFLICT = 409  # a key that was used for other content
    INVALID = 422
    THROTTLED = 429
    FAILED = 500
    UNSUPPORTED = 501
    UNAVAILABLE = 503  # and nothing was done
    OUTCOME_UNKNOWN = 504  # it may have been done


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloAnswer:
    """The session, which lasts as long as the connection."""

    session_id: int
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextHead:
    """Where a context stands; the answer to CTX_CREATE, CTX_FORK and GET_HEAD. ``head_turn_id`` 0: it is empty."""

    context_id: int
    head_turn_id: int
    head_depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnAppended:
    """The new turn, which is the head now. The depth of a first turn is 0.

    ``replayed``: its key was known, and this is the turn that has it. Servers that keep no keys never say so.
    """

    context_id: int
    turn_id: int
    depth: int
    content_hash: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobContent:
    """The content of a hash, which the receiver should check."""

    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FsAttached:
    """What was attached to what: the request's own values."""

    turn_id: int
    fs_root_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStored:
    """The blob is stored; ``was_new`` False: it was before."""

    content_hash: bytes
    was_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """ERROR: the request was not done. Code 0: the server said nothing that can be read."""

    code: int
    detail: str = ""


Answer: TypeAlias = HelloAnswer | ContextHead | TurnAppended | TurnList | BlobContent | FsAttached | BlobStored


def encode_answer(answer: Answer, *, to: MessageType, req_id: int) -> bytes:
    """The whole frame of an answer ``to`` a request of this type, which must be one that has such answers.

    Raises ``LimitExceeded`` for what fits no frame, and ``Invalid`` for a number or hash that fits no field.
    """
    assert to in _ANSWERED[type(answer)], f"{type(answer).__name__} does not answer {to!r}"
    parts: tuple[bytes, ...]
    flags = AnswerFlags(0)
    match answer:
        case HelloAnswer():
            parts = (pack(_HELLO, answer.session_id, answer.protocol_version, what="an answer to HELLO"),)
        case ContextHead():
            parts = (pack(_HEAD, answer.context_id, answer.head_turn_id, answer.head_depth, what="a head"),)
        case TurnAppended():
            content_hash = pack_hash(answer.content_hash, what="a content hash")
            ids = (answer.context_id, answer.turn_id, answer.depth)
            parts = (pack(_APPENDED, *ids, content_hash, what="an appended turn"),)
            flags = AnswerFlags.REPLAYED if answer.replayed else flags
        case TurnList():
            parts = turn_list_parts(answer)
        case BlobContent(content=content):
            refuse_large(len(content), what="a blob")
            parts = (pack(U32, len(content), what="a blob's length"), content)
        case FsAttached():
            root_hash = pack_hash(answer.fs_root_hash, what="a root hash")
            parts = (pack(U64, answer.turn_id, what="a turn id"), root_hash)
        case BlobStored():
            parts = (pack_hash(answer.content_hash, what="a content hash"), bytes([answer.was_new]))
    return encode_frame(to, req_id=req_id, flags=flags, parts=parts)


def encode_failure(failure: Failure, *, req_id: int) -> bytes:
    """The whole frame of an ERROR. Raises as ``encode_answer``."""
    detail = pack_text(failure.detail, what="an error's detail")
    refuse_large(len(detail), what="an error's detail")
    fixed = pack(_FAILURE_FIXED, failure.code, len(detail), what="an error")
    return encode_frame(MessageType.ERROR, req_id=req_id, parts=(fixed, detail))


@overload
def decode_answer(frame: Frame, *, to: Hello) -> HelloAnswer | Failure: ...
@overload
def decode_answer(frame: Frame, *, to: CreateContext | ForkContext | GetHead) -> ContextHead | Failure: ...
@overload
def decode_answer(frame: Frame, *, to: AppendTurn) -> TurnAppended | Failure: ...
@overload
def decode_answer(frame: Frame, *, to: GetLast | GetBefore) -> TurnList | Failure: ...
@overload
def decode_answer(frame: Frame, *, to: GetBlob) -> BlobContent | Failure: ...
@overload
def decode_answer(frame: Frame, *, to: AttachFs) -> FsAttached | Failure: ...
@overload
def decode_answer(frame: Frame, *, to: PutBlob) -> BlobStored | Failure: ...
def decode_answer(frame: Frame, *, to: Request) -> Answer | Failure:
    """What a frame answers ``to`` a request; that the two ids are equal is for the caller to see.

    Raises ``MalformedMessage`` for an answer of another type, and for one that is shorter than it says.
    """
    if frame.msg_type == MessageType.ERROR:
        return _decode_failure(frame.payload)
    if frame.msg_type != to.message_type:
        raise MalformedMessage(
            f"answered {to.message_type.name} by a message of type {frame.msg_type}; expected {to.message_type:d}",
            expected=int(to.message_type),
            actual=frame.msg_type,
        )
    return _decode_answer(frame, to)


def _decode_answer(frame: Frame, to: Request) -> Answer:
    payload = frame.payload
    reader = Reader(payload, short=f"{to.message_type.name.lower()} answer too short")
    answer: Answer
    match to:
        case Hello():
            session_id, version = reader.numbers(_HELLO)
            answer = HelloAnswer(session_id=session_id, protocol_version=version)
        case CreateContext() | ForkContext() | GetHead():
            context_id, head_turn_id, depth = reader.numbers(_HEAD)
            answer = ContextHead(context_id=context_id, head_turn_id=head_turn_id, head_depth=depth)
        case AppendTurn():
            context_id, turn_id, depth, content_hash = reader.numbers(_APPENDED)
            answer = TurnAppended(
                context_id=context_id,
                turn_id=turn_id,
                depth=depth,
                content_hash=content_hash,
                replayed=bool(frame.flags & AnswerFlags.REPLAYED),
            )
        case GetLast() | GetBefore():
            answer = decode_turn_list(payload, include_payload=to.include_payload)
        case GetBlob():
            answer = BlobContent(content=reader.content(reader.u32()))
        case AttachFs():
            answer = FsAttached(turn_id=reader.u64(), fs_root_hash=reader.content(HASH_BYTES))
        case PutBlob():
            answer = BlobStored(content_hash=reader.content(HASH_BYTES), was_new=reader.content(1) != b"\0")
    return answer


def _decode_failure(payload: bytes | memoryview) -> Failure:
    if len(payload) < _FAILURE_FIXED.size:
        return Failure(code=0)  # as the official clients read it
    reader = Reader(payload, short="error payload too short")
    code, size = reader.numbers(_FAILURE_FIXED)
    # A text for people: a broken letter must not hide the code.
    return Failure(code=code, detail=reader.content(size).decode(errors="replace"))


_ANSWERED: Final[dict[type[Answer], frozenset[MessageType]]] = {
    HelloAnswer: frozenset({MessageType.HELLO}),
    ContextHead: frozenset({MessageType.CTX_CREATE, MessageType.CTX_FORK, MessageType.GET_HEAD}),
    TurnAppended: frozenset({MessageType.APPEND_TURN}),
    TurnList: frozenset({MessageType.GET_LAST, MessageType.GET_BEFORE}),
    BlobContent: frozenset({MessageType.GET_BLOB}),
    FsAttached: frozenset({MessageType.ATTACH_FS}),
    BlobStored: frozenset({MessageType.PUT_BLOB}),
}
