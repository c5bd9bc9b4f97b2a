"""Lists of turns, and the three forms in which servers send them.

Asked for payloads, every server sends a length and the payload. Asked for none, servers omit both, the official clients
read a length all the same, and one description keeps the length and omits the bytes. Which it is must be found in the
answer itself: the reading that consumes it exactly, and in which each turn follows the one before. Exactness alone is
not enough: where the second of two turns has a depth of 8 more than the length of its type id, two readings are exact.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple

from perdure.adapters.cxdb.codec.fields import U32, MalformedMessage, Reader, pack, pack_hash, pack_text, refuse_large
from perdure.errors import Invalid

_ITEM_IDS: Final = struct.Struct("<QQII")  # turn, parent, depth, length of the type id
_ITEM_CONTENT: Final = struct.Struct("<IIII32s")  # version, encoding, compression, raw length, hash
_ITEM_BYTES_MIN: Final = _ITEM_IDS.size + _ITEM_CONTENT.size  # what a count is checked against
ITEM_BYTES: Final = _ITEM_BYTES_MIN + U32.size  # of a turn besides its type id and its payload
_SHORT: Final = "list of turns too short"


class PayloadForm(Enum):
    """How a list of turns holds payloads. What it is cannot be seen in the bytes: it follows from the request."""

    SENT = "sent"  # a length and the payload
    OMITTED = "omitted"  # neither; what servers send for a request without payload
    EMPTIED = "emptied"  # a length alone; what the official clients can read


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnItem:
    """One turn of a list. ``payload`` is never compressed, and None where the list's form has none."""

    turn_id: int
    parent_turn_id: int
    depth: int
    type_id: str
    type_version: int
    encoding: int
    compression: int
    uncompressed_len: int
    content_hash: bytes
    payload: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnList:
    """Turns, oldest first; the answer to GET_LAST and GET_BEFORE."""

    items: tuple[TurnItem, ...]
    form: PayloadForm = PayloadForm.SENT


def turn_list_parts(turns: TurnList) -> tuple[bytes, ...]:
    """The payload of a list, in parts. Raises as ``encode_answer``, and ``LimitExceeded`` before any part is made."""
    refuse_large(_bytes_min(turns), what="a list of turns")
    count = pack(U32, len(turns.items), what="a number of turns")
    return (count, *(part for item in turns.items for part in _item_parts(item, turns.form)))


def _bytes_min(turns: TurnList) -> int:
    size = sum(_ITEM_BYTES_MIN + len(item.type_id) for item in turns.items)
    if turns.form is PayloadForm.SENT:
        size += sum(len(item.payload or b"") for item in turns.items)
    return size


def _item_parts(item: TurnItem, form: PayloadForm) -> Iterator[bytes]:
    type_id = pack_text(item.type_id, what="a type id")
    yield pack(_ITEM_IDS, item.turn_id, item.parent_turn_id, item.depth, len(type_id), what="a turn")
    yield type_id
    yield pack(
        _ITEM_CONTENT,
        item.type_version,
        item.encoding,
        item.compression,
        item.uncompressed_len,
        pack_hash(item.content_hash, what="a content hash"),
        what="a turn",
    )
    if form is PayloadForm.SENT:
        if item.payload is None:
            raise Invalid("a turn has no payload, in a list that sends them; expected bytes, empty ones included")
        yield pack(U32, len(item.payload), what="a payload's length")
        yield item.payload
    elif form is PayloadForm.EMPTIED:
        yield pack(U32, 0, what="a payload's length")


def decode_turn_list(payload: bytes | memoryview, *, include_payload: bool) -> TurnList:
    """The list in an answer to a request with this ``include_payload``; without, whichever form fits exactly.

    Raises ``MalformedMessage`` for a list that is shorter than it says, or of no known form.
    """
    if include_payload:
        return TurnList(items=_items(Reader(payload, short=_SHORT), _SENT, keep=True))
    for layout in _WITHOUT_PAYLOAD:
        reader = Reader(payload, short=_SHORT)
        try:
            items = _items(reader, layout, keep=False)
        except MalformedMessage:
            continue
        if reader.remaining == 0 and _are_linked(items):
            form = PayloadForm.EMPTIED if layout.has_length else PayloadForm.OMITTED
            return TurnList(items=items, form=form)
    raise MalformedMessage("list of turns without payloads has no known form", actual_bytes=len(payload))


def _are_linked(items: tuple[TurnItem, ...]) -> bool:
    return all(later.parent_turn_id == earlier.turn_id for earlier, later in pairwise(items))


class _Layout(NamedTuple):
    has_length: bool
    has_bytes: bool


_SENT: Final = _Layout(has_length=True, has_bytes=True)
# In this order: the first is what servers do, and a length of 0 fits both others.
_WITHOUT_PAYLOAD: Final = (
    _Layout(has_length=False, has_bytes=False),
    _SENT,
    _Layout(has_length=True, has_bytes=False),
)


def _items(reader: Reader, layout: _Layout, *, keep: bool) -> tuple[TurnItem, ...]:
    count = reader.u32()
    bytes_min = _ITEM_BYTES_MIN + (U32.size if layout.has_length else 0)
    if count * bytes_min > reader.remaining:  # before anything is made of a count that may be any number
        raise MalformedMessage(_SHORT, count=count, remaining_bytes=reader.remaining)
    return tuple(_item(reader, layout, keep=keep) for _ in range(count))


def _item(reader: Reader, layout: _Layout, *, keep: bool) -> TurnItem:
    turn_id, parent_turn_id, depth, type_size = reader.numbers(_ITEM_IDS)
    type_id = reader.text(type_size, wrong="type_id not utf8")
    version, encoding, compression, raw_size, content_hash = reader.numbers(_ITEM_CONTENT)
    size = reader.u32() if layout.has_length else 0
    payload = None
    if keep:
        payload = reader.content(size)
    elif layout.has_bytes:
        reader.skip(size)
    return TurnItem(
        turn_id=turn_id,
        parent_turn_id=parent_turn_id,
        depth=depth,
        type_id=type_id,
        type_version=version,
        encoding=encoding,
        compression=compression,
        uncompressed_len=raw_size,
        content_hash=content_hash,
        payload=payload,
    )
