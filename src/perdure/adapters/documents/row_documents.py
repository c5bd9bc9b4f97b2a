"""A row as a document: what is known about it, and then its value as it came.

The value is the tail of the body, never parsed and never encoded again, so that every digit and space of it comes back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from perdure.domain.row import Instant
from perdure.domain.versioned import VersionedRow
from perdure.errors import Corrupt
from perdure.ports.documents import Document

_VALUE: Final = b',"value":'  # in JSON text a quote has a backslash before it, so no key can look like this
_ID_BITS: Final = 11  # beside milliseconds they fit a double's 53 bits until the year 2109


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The pointer that announces the end of a row: when it is due, and the version it was written at."""

    at: Instant
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRow:
    """A row as it is stored, expired or not. ``due`` tells of a pointer that is never later than the row's end."""

    row: VersionedRow
    document: Document = field(repr=False)
    due: Due | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    key: str
    version: int
    incarnation: str
    created_at: Instant
    updated_at: Instant
    expires_at: Instant | None = None
    due: Due | None = None


_HEAD: Final = msgspec.json.Decoder(_Head)


def row_body(row: VersionedRow, *, due: Due | None) -> bytes:
    """The body of a row's document."""
    head = _Head(
        key=row.key,
        version=row.version,
        incarnation=row.incarnation,
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
        due=due,
    )
    return b"%b%b%b}" % (msgspec.json.encode(head)[:-1], _VALUE, row.value)


def kept_row(document: Document) -> KeptRow:
    """The row of a document. Raises ``Corrupt`` for what is none."""
    head_bytes, found, value = document.body.partition(_VALUE)
    try:
        if not found:
            raise msgspec.ValidationError("it has no value")
        head = _HEAD.decode(head_bytes + b"}")
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Corrupt(
            "a document stands where a row should be and is none; was it written by something else?",
            sort=document.sort,
        ) from exc
    row = VersionedRow(
        key=head.key,
        value=value[:-1],
        version=head.version,
        incarnation=head.incarnation,
        created_at=head.created_at,
        updated_at=head.updated_at,
        expires_at=head.expires_at,
    )
    return KeptRow(row=row, document=document, due=head.due)


def is_over(row: VersionedRow, now: datetime) -> bool:
    """Whether a row's lifetime is over: it ends at ``expires_at``, not after it."""
    return row.expires_at is not None and now >= row.expires_at


def first_version(incarnation: str, now: datetime) -> int:
    """The version of the document of a new row: above all that an earlier row there can have had.

    A row's own version begins at 1 again, the document's must not: a write that expects the row before this one would
    find it. A row is written less than twice a microsecond, so time outruns its versions; the rest of the number is
    there for clocks that stand.
    """
    rest = int.from_bytes(hashlib.sha256(incarnation.encode()).digest()[:4], "big") % 2**_ID_BITS
    return (int(now.timestamp() * 1000) << _ID_BITS) + rest
