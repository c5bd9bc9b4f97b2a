"""The frame around every message: 16 bytes, little-endian without padding, and the payload."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final

from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX, pack, refuse_large

HEADER: Final = struct.Struct("<IHHQ")  # payload length, message type, flags, request id
HEADER_BYTES: Final = HEADER.size
FRAME_BYTES_MAX: Final = HEADER_BYTES + PAYLOAD_BYTES_MAX  # what one message can make either side hold


class MessageType(IntEnum):
    """The numbers of messages. An answer has the number of its request, or ``ERROR``."""

    HELLO = 1
    CTX_CREATE = 2
    CTX_FORK = 3
    GET_HEAD = 4
    APPEND_TURN = 5
    GET_LAST = 6
    GET_BEFORE = 7  # reserved by the protocol and unknown to its servers: an extension of ours
    GET_RANGE_BY_DEPTH = 8  # reserved, and used by nobody
    GET_BLOB = 9
    ATTACH_FS = 10
    PUT_BLOB = 11
    ERROR = 255


class FrameFlags(IntFlag):
    """The bits of a request's header that mean something; all others are ignored."""

    FS_ROOT = 1  # an APPEND_TURN ends with the root hash of a file system
    REBASE = 2  # an extension: the parent of an APPEND_TURN may be of another conversation, as it may be elsewhere


class AnswerFlags(IntFlag):
    """The bits of an answer's header, an extension: the protocol's own servers set none, and no client reads them."""

    REPLAYED = 1  # the turn was there before, under the key that the APPEND_TURN had


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame as it came. ``msg_type`` may be a number that nobody knows; ``payload`` is read-only and not shown."""

    msg_type: int
    req_id: int
    flags: int = 0
    payload: bytes | memoryview = field(default=b"", repr=False)


def encode_frame(msg_type: int, *, req_id: int, flags: int = 0, parts: Sequence[bytes] = ()) -> bytes:
    """A whole frame, ready for one write; its payload is ``parts``, joined once.

    Raises ``LimitExceeded`` before anything is joined if they are more than ``PAYLOAD_BYTES_MAX``.
    """
    size = sum(map(len, parts))
    refuse_large(size, what="a message")
    return b"".join((pack(HEADER, size, msg_type, flags, req_id, what="a frame header"), *parts))
