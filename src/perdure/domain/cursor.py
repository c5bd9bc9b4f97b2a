"""Opaque cursors of keyset pages: where the last page ended, bound to the question and the tenant that asked it.

The checksum is no seal: a cursor gives nothing that row-level security does not. It turns a cursor that was cut,
edited or taken from another question into an error instead of a page from the wrong place.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import UTC, datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from perdure.domain import limits
from perdure.errors import Invalid

CursorKey: TypeAlias = str | int | UUID | datetime | None

_CHECKSUM_BYTES: Final = 6
_BAD: Final = "the cursor is not one that this list gave for this tenant; start again without a cursor"


def encode_cursor(query: str, *, tenant_id: UUID, keys: tuple[CursorKey, ...]) -> str:
    """The cursor after a row with these sort keys. ``query`` names the list and its filters, exactly as decoding will.

    Raises ``Invalid`` for a key of another type and for a time without a zone.
    """
    body = msgspec.json.encode([_tagged(key) for key in keys])
    return _to_text(_checksum(query, tenant_id, body) + body)


def decode_cursor(cursor: str, *, query: str, tenant_id: UUID) -> tuple[CursorKey, ...]:
    """The sort keys of a cursor. Raises ``Invalid`` unless it was made for this query and this tenant, unchanged."""
    if len(cursor) > limits.CURSOR_CHARS_MAX:
        raise Invalid(_BAD)
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Invalid(_BAD) from exc
    checksum, body = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
    # The last letter of base64 has spare bits: only the one spelling that we write is accepted.
    if _to_text(raw) != cursor or checksum != _checksum(query, tenant_id, body):
        raise Invalid(_BAD)
    try:
        pairs = msgspec.json.decode(body, type=list[tuple[str, str | int | None]])
        return tuple(_untagged(tag, value) for tag, value in pairs)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise Invalid(_BAD) from exc


def _tagged(key: CursorKey) -> tuple[str, str | int | None]:
    match key:
        case None:
            return "n", None
        case bool():
            raise Invalid("a cursor key is text, a number, a UUID, a time or None, not a truth value")
        case str() if any(character < " " for character in key):
            # JSON spells a control character in six: a key full of them would not fit a cursor.
            return "b", base64.b64encode(key.encode()).decode()
        case str():
            return "s", key
        case int():
            return "i", key
        case UUID():
            return "u", str(key)
        case datetime():
            if key.tzinfo is None:
                raise Invalid("a time in a cursor needs a zone")
            return "t", key.astimezone(UTC).isoformat()
    raise Invalid(f"a cursor key is text, a number, a UUID, a time or None, not {type(key).__name__}")


def _untagged(tag: str, value: str | int | None) -> CursorKey:
    match tag, value:
        case ("n", None):
            return None
        case ("s", str()):
            return value
        case ("b", str(text)):
            return base64.b64decode(text, validate=True).decode()
        case ("i", int()):
            return value
        case ("u", str(text)):
            return UUID(text)
        case ("t", str(text)):
            return datetime.fromisoformat(text)
        case _:
            raise Invalid(_BAD)


def _checksum(query: str, tenant_id: UUID, body: bytes) -> bytes:
    seed = len(query.encode()).to_bytes(4, "big") + query.encode() + tenant_id.bytes + body
    return hashlib.sha256(seed).digest()[:_CHECKSUM_BYTES]


def _to_text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
