"""What a client asks. Decoding follows the servers' rules, so that what they accept is accepted here.

Bytes after the last field are ignored, except in GET_BLOB. What is only a matter of meaning (compression codes, hashes
that do not match, unknown ids) is not judged here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, TypeAlias

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
from perdure.adapters.cxdb.codec.frames import Frame, FrameFlags, MessageType, encode_frame

PROTOCOL_VERSION: Final = 1  # sent and answered by everybody; there is no negotiation
CLIENT_TAG_BYTES_MAX: Final = 2**16 - 1  # the tag's length has two bytes
ENCODING_MSGPACK: Final = 1
COMPRESSION_NONE: Final = 0
COMPRESSION_ZSTD: Final = 1

_HELLO_FIXED: Final = struct.Struct("<HH")  # protocol version, length of the tag
_APPEND_IDS: Final = struct.Struct("<QQI")  # context, parent, length of the type id
_APPEND_CONTENT: Final = struct.Struct("<IIII32sI")  # version, encoding, compression, raw length, hash, length
_GET_LAST: Final = struct.Struct("<QII")
_GET_BEFORE: Final = struct.Struct("<QQII")


class UnknownMessage(MalformedMessage):
    """A request of a number that is not handled. The connection is sound and may go on."""

    code = "unknown_message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """HELLO: who is there. Optional, and first if at all. An old client sends nothing: version 0, no tag."""

    message_type: ClassVar = MessageType.HELLO

    protocol_version: int = PROTOCOL_VERSION
    client_tag: str = ""
    client_meta_json: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateContext:
    """CTX_CREATE: a new context whose head is ``base_turn_id``; 0: an empty one."""

    message_type: ClassVar = MessageType.CTX_CREATE

    base_turn_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkContext:
    """CTX_FORK: the same as ``CreateContext``, under a name that says why."""

    message_type: ClassVar = MessageType.CTX_FORK

    base_turn_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetHead:
    """GET_HEAD: where a context stands."""

    message_type: ClassVar = MessageType.GET_HEAD

    context_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendTurn:
    """APPEND_TURN: one more turn. ``parent_turn_id`` 0 is the current head.

    ``payload`` is what is sent, compressed if ``compression`` says so; ``uncompressed_len`` and ``content_hash`` are of
    what it holds. An empty ``idempotency_key`` is none. ``fs_root_hash`` attaches a file system to the new turn.
    ``rebase`` is for servers that refuse a parent of another conversation otherwise; the protocol's own never do.
    """

    message_type: ClassVar = MessageType.APPEND_TURN

    context_id: int
    parent_turn_id: int = 0
    declared_type_id: str
    declared_type_version: int
    encoding: int = ENCODING_MSGPACK
    compression: int = COMPRESSION_NONE
    uncompressed_len: int
    content_hash: bytes
    payload: bytes = field(repr=False)
    idempotency_key: bytes = field(default=b"", repr=False)
    fs_root_hash: bytes | None = None
    rebase: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GetLast:
    """GET_LAST: the last ``limit`` turns of a context. Without payload the answers of servers differ in form."""

    message_type: ClassVar = MessageType.GET_LAST

    context_id: int
    limit: int
    include_payload: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBefore:
    """GET_BEFORE, an extension: the last ``limit`` turns before ``before_turn_id``, which is not among them.

    Of context 0, which there is not, it is that turn itself.
    """

    message_type: ClassVar = MessageType.GET_BEFORE

    context_id: int
    before_turn_id: int
    limit: int
    include_payload: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBlob:
    """GET_BLOB: the content of a hash; the payload of a turn has one too."""

    message_type: ClassVar = MessageType.GET_BLOB

    content_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachFs:
    """ATTACH_FS: the root of a file system for a turn; the last one counts."""

    message_type: ClassVar = MessageType.ATTACH_FS

    turn_id: int
    fs_root_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBlob:
    """PUT_BLOB: content, and the hash that it must have."""

    message_type: ClassVar = MessageType.PUT_BLOB

    content_hash: bytes
    content: bytes = field(repr=False)


Request: TypeAlias = (
    Hello | CreateContext | ForkContext | GetHead | AppendTurn | GetLast | GetBefore | GetBlob | AttachFs | PutBlob
)


def encode_request(request: Request, *, req_id: int) -> bytes:
    """The whole frame of a request.

    Raises ``LimitExceeded`` for what fits no frame, and ``Invalid`` for a number or hash that fits no field.
    """
    flags = FrameFlags(0)
    parts: tuple[bytes, ...]
    match request:
        case Hello():
            parts = _hello_parts(request)
        case CreateContext() | ForkContext():
            parts = (pack(U64, request.base_turn_id, what="a base turn id"),)
        case GetHead():
            parts = (pack(U64, request.context_id, what="a context id"),)
        case AppendTurn():
            parts = _append_parts(request)
            flags |= FrameFlags(0) if request.fs_root_hash is None else FrameFlags.FS_ROOT
            flags |= FrameFlags.REBASE if request.rebase else FrameFlags(0)
        case GetLast():
            parts = (pack(_GET_LAST, request.context_id, request.limit, int(request.include_payload), what="GET_LAST"),)
        case GetBefore():
            ids = (request.context_id, request.before_turn_id)
            parts = (pack(_GET_BEFORE, *ids, request.limit, int(request.include_payload), what="GET_BEFORE"),)
        case GetBlob():
            parts = (pack_hash(request.content_hash, what="a content hash"),)
        case AttachFs():
            root_hash = pack_hash(request.fs_root_hash, what="a root hash")
            parts = (pack(U64, request.turn_id, what="a turn id"), root_hash)
        case PutBlob():
            refuse_large(len(request.content), what="a blob")
            content_hash = pack_hash(request.content_hash, what="a content hash")
            parts = (content_hash, pack(U32, len(request.content), what="a blob's length"), request.content)
    return encode_frame(request.message_type, req_id=req_id, flags=flags, parts=parts)


def _hello_parts(hello: Hello) -> tuple[bytes, ...]:
    tag = pack_text(hello.client_tag, what="a client tag")
    refuse_large(len(tag), what="a client tag", bytes_max=CLIENT_TAG_BYTES_MAX, limit="client_tag_bytes_max")
    meta = pack_text(hello.client_meta_json, what="client metadata")
    fixed = pack(_HELLO_FIXED, hello.protocol_version, len(tag), what="HELLO")
    refuse_large(len(meta), what="client metadata")
    return (fixed, tag, pack(U32, len(meta), what="the length of client metadata"), meta)


def _append_parts(turn: AppendTurn) -> tuple[bytes, ...]:
    refuse_large(len(turn.payload), what="a turn's payload")
    refuse_large(len(turn.idempotency_key), what="an idempotency key")
    type_id = pack_text(turn.declared_type_id, what="a type id")
    ids = pack(_APPEND_IDS, turn.context_id, turn.parent_turn_id, len(type_id), what="APPEND_TURN")
    content = pack(
        _APPEND_CONTENT,
        turn.declared_type_version,
        turn.encoding,
        turn.compression,
        turn.uncompressed_len,
        pack_hash(turn.content_hash, what="a content hash"),
        len(turn.payload),
        what="APPEND_TURN",
    )
    key_length = pack(U32, len(turn.idempotency_key), what="the length of an idempotency key")
    root = () if turn.fs_root_hash is None else (pack_hash(turn.fs_root_hash, what="a root hash"),)
    return (ids, type_id, content, turn.payload, key_length, turn.idempotency_key, *root)


def decode_request(frame: Frame, *, extensions: bool = False) -> Request:
    """The request in a frame; with ``extensions`` also what no other server knows.

    Raises ``UnknownMessage``, which leaves the connection sound, or ``MalformedMessage`` with the protocol's text.
    """
    decode = _DECODERS.get(frame.msg_type)
    if decode is None or (frame.msg_type in _EXTENSIONS and not extensions):
        raise UnknownMessage("unknown msg_type", msg_type=frame.msg_type)
    request = decode(frame)
    if extensions and isinstance(request, AppendTurn) and frame.flags & FrameFlags.REBASE:
        return replace(request, rebase=True)
    return request


def _decode_hello(frame: Frame) -> Hello:
    size = len(frame.payload)
    if not size:
        return Hello(protocol_version=0)
    if size < _HELLO_FIXED.size:
        raise MalformedMessage("hello payload too short", actual_bytes=size)
    reader = Reader(frame.payload, short="hello payload truncated")
    version, tag_size = reader.numbers(_HELLO_FIXED)
    if reader.remaining < tag_size + U32.size:
        raise MalformedMessage("hello payload truncated", actual_bytes=size)
    tag = reader.text(tag_size, wrong="client_tag not utf8")
    meta = reader.text(reader.u32(), wrong="client_meta_json not utf8")
    return Hello(protocol_version=version, client_tag=tag, client_meta_json=meta)


def _decode_create(frame: Frame) -> CreateContext:
    return CreateContext(base_turn_id=Reader(frame.payload, short="ctx_create payload too short").u64())


def _decode_fork(frame: Frame) -> ForkContext:
    return ForkContext(base_turn_id=Reader(frame.payload, short="ctx_fork payload too short").u64())


def _decode_get_head(frame: Frame) -> GetHead:
    return GetHead(context_id=Reader(frame.payload, short="get_head payload too short").u64())


def _decode_append(frame: Frame) -> AppendTurn:
    reader = Reader(frame.payload, short="append_turn payload too short")
    context_id, parent_turn_id, type_size = reader.numbers(_APPEND_IDS)
    type_id = reader.text(type_size, wrong="declared_type_id not utf8")
    version, encoding, compression, raw_size, content_hash, size = reader.numbers(_APPEND_CONTENT)
    return AppendTurn(
        context_id=context_id,
        parent_turn_id=parent_turn_id,
        declared_type_id=type_id,
        declared_type_version=version,
        encoding=encoding,
        compression=compression,
        uncompressed_len=raw_size,
        content_hash=content_hash,
        payload=reader.content(size),
        idempotency_key=reader.content(reader.u32()),
        fs_root_hash=reader.content(HASH_BYTES) if frame.flags & FrameFlags.FS_ROOT else None,
    )


def _decode_get_last(frame: Frame) -> GetLast:
    context_id, limit, include = Reader(frame.payload, short="get_last payload too short").numbers(_GET_LAST)
    return GetLast(context_id=context_id, limit=limit, include_payload=include != 0)


def _decode_get_before(frame: Frame) -> GetBefore:
    reader = Reader(frame.payload, short="get_before payload too short")
    context_id, before_turn_id, limit, include = reader.numbers(_GET_BEFORE)
    return GetBefore(context_id=context_id, before_turn_id=before_turn_id, limit=limit, include_payload=include != 0)


def _decode_get_blob(frame: Frame) -> GetBlob:
    if len(frame.payload) != HASH_BYTES:
        raise MalformedMessage("invalid blob hash length", actual_bytes=len(frame.payload))
    return GetBlob(content_hash=bytes(frame.payload))


def _decode_attach_fs(frame: Frame) -> AttachFs:
    reader = Reader(frame.payload, short="attach_fs payload too short")
    return AttachFs(turn_id=reader.u64(), fs_root_hash=reader.content(HASH_BYTES))


def _decode_put_blob(frame: Frame) -> PutBlob:
    reader = Reader(frame.payload, short="put_blob payload too short")
    return PutBlob(content_hash=reader.content(HASH_BYTES), content=reader.content(reader.u32()))


_EXTENSIONS: Final = frozenset({MessageType.GET_BEFORE})
_DECODERS: Final[dict[int, Callable[[Frame], Request]]] = {
    MessageType.HELLO: _decode_hello,
    MessageType.CTX_CREATE: _decode_create,
    MessageType.CTX_FORK: _decode_fork,
    MessageType.GET_HEAD: _decode_get_head,
    MessageType.APPEND_TURN: _decode_append,
    MessageType.GET_LAST: _decode_get_last,
    MessageType.GET_BEFORE: _decode_get_before,
    MessageType.GET_BLOB: _decode_get_blob,
    MessageType.ATTACH_FS: _decode_attach_fs,
    MessageType.PUT_BLOB: _decode_put_blob,
}
