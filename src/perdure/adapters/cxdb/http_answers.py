"""What is in the JSON of a CXDB server, of any age: ids as text or as numbers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from perdure.adapters.cxdb.codec.requests import COMPRESSION_NONE
from perdure.adapters.cxdb.codec.responses import ContextHead
from perdure.adapters.cxdb.codec.turn_lists import TurnItem
from perdure.errors import LimitExceeded, PersistenceError

CONTEXTS_FETCH_MAX: Final = 999  # contexts of one list or search: servers of others cannot go on from somewhere
ID_MAX: Final = 2**64 - 1  # an id that no server gives

_Read = TypeVar("_Read")


def read_turns(found: Any) -> tuple[TurnItem, ...]:
    """The turns of a page of raw turns."""
    return tuple(_read(found, "turns", _turn))


def read_contexts(found: Any, *, total: int) -> Sequence[ContextHead]:
    """The contexts of a list or a search. Raises ``LimitExceeded`` if in all they are too many."""
    if total > CONTEXTS_FETCH_MAX:
        raise LimitExceeded(
            f"{total} contexts, of which {CONTEXTS_FETCH_MAX} can be told (contexts_fetch_max). Use a label that fewer "
            "have",
            limit="contexts_fetch_max",
            allowed=CONTEXTS_FETCH_MAX,
            actual=total,
        )
    return _read(found, "contexts", _context)


def following(found: Any) -> str | None:
    """Where a search goes on that looked at a part of the contexts; None after one that looked at all of them."""
    if found.get("truncated") is not True:
        return None
    cursor = found.get("next_cursor")
    if not isinstance(cursor, str) or not cursor:
        raise LimitExceeded(
            "the server looked at a part of its contexts only (truncated) and does not say how to go on, so there may "
            "be others; install the version of perdure there that is here",
            limit="scan_contexts_max",
        )
    return cursor


def _read(found: Any, name: str, each: Callable[[Any], _Read]) -> list[_Read]:
    return [each(item) for item in read_member(found, name, list)]


def _context(found: Any) -> ContextHead:
    return ContextHead(
        context_id=read_id(read_member(found, "context_id", (str, int))),
        head_turn_id=read_id(read_member(found, "head_turn_id", (str, int))),
        head_depth=read_count(found, "head_depth"),
    )


def _turn(found: Any) -> TurnItem:
    declared = read_member(found, "declared_type", dict)
    try:
        payload = base64.b64decode(read_member(found, "bytes_b64", str), validate=True)
        content_hash = bytes.fromhex(read_member(found, "content_hash_b3", str))
    except (binascii.Error, ValueError) as exc:
        raise _strange("bytes_b64, content_hash_b3") from exc
    return TurnItem(
        turn_id=read_id(read_member(found, "turn_id", (str, int))),
        parent_turn_id=read_id(read_member(found, "parent_turn_id", (str, int))),
        depth=read_count(found, "depth"),
        type_id=read_member(declared, "type_id", str),
        type_version=read_count(declared, "type_version"),
        encoding=read_count(found, "encoding"),
        compression=COMPRESSION_NONE,
        uncompressed_len=len(payload),
        content_hash=content_hash,
        payload=payload,
    )


def read_id(value: object) -> int:
    """An id of 64 bits, as text or as a number: which one depends on the age of the server."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) <= len(str(ID_MAX)) else -1
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= ID_MAX:
        raise _strange("an id")
    return value


def read_count(found: Any, name: str) -> int:
    """A number that is not negative."""
    number = read_member(found, name, int)
    if isinstance(number, bool) or number < 0:
        raise _strange(name)
    return int(number)


def read_member(found: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    """A member of an answer, of a type. Raises ``PersistenceError`` where the answer has none."""
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, kind):
        raise _strange(name)
    return value


def _strange(name: str) -> PersistenceError:
    return PersistenceError(f"the server's answer has no {name} as the protocol says; is it a CXDB server?")
