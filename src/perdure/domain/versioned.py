"""A versioned row: a JSON value under a key in a container. Tables and blackboards are made of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from perdure.errors import Invalid, LimitExceeded

KEY_BYTES_MAX: Final = 512  # part of a key on every engine, after encoding
VALUE_BYTES_MAX: Final = 262_144  # below every engine's item limit, whatever it adds
ROW_WRITES_MAX: Final = 50  # rows of one atomic write
ROW_WRITES_BYTES_MAX: Final = 1_048_576  # values of one atomic write: fits the narrowest engine's commit
ROWS_GET_MAX: Final = 100  # keys of one get
ROWS_PAGE_MAX: Final = 500  # rows of one page
ROWS_PAGE_BYTES_MAX: Final = 4 * 1_048_576  # values of one page; the first row always fits
TABLE_CHARS_MAX: Final = 63  # the longest name of a table that databases agree on


@dataclass(frozen=True, slots=True, kw_only=True)
class RowVersion:
    """The state of a row that a write expects. ``version`` 0 means that there is none.

    Versions begin at 1 again when a row is made anew; with ``incarnation`` the write also expects that it was not.
    """

    version: int
    incarnation: str | None = None


NO_ROW: Final = RowVersion(version=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionedRow:
    """A kept row. ``value`` is JSON in UTF-8, byte for byte as it was written."""

    key: str
    value: bytes = field(repr=False)
    version: int
    incarnation: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRow:
    """Write a row, whatever is there (``expected`` None) or only over the state expected."""

    key: str
    value: bytes = field(repr=False)
    expected: RowVersion | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRow:
    """Remove a row. Without ``expected`` it is fine that there is none; to expect that there is none is ``Invalid``."""

    key: str
    expected: RowVersion | None = None


RowWrite: TypeAlias = PutRow | DeleteRow


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPage:
    """Rows in the byte order of their keys; ``more`` says that the range goes on."""

    rows: Sequence[VersionedRow]
    more: bool


def check_row_key(value: str) -> str:
    """A row's key: 1 to ``KEY_BYTES_MAX`` bytes of UTF-8, any characters but U+0000 and lone surrogates."""
    if not isinstance(value, str):
        raise Invalid(f"a key is text, not {type(value).__name__}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as exc:
        raise Invalid(f"a key holds half a character (a lone surrogate) at {exc.start}; it is not text") from exc
    if size > KEY_BYTES_MAX:
        raise LimitExceeded(
            f"a key is too long: {size} bytes of UTF-8, at most {KEY_BYTES_MAX} (key_bytes_max)",
            limit="key_bytes_max",
            allowed=KEY_BYTES_MAX,
            actual=size,
        )
    if not value or "\0" in value:
        raise Invalid("a key must not be empty and must not hold U+0000")
    return value


def prefix_end(prefix: str) -> str | None:
    """The least text above everything that begins with ``prefix``; None if everything from it on begins with it.

    The order is that of code points, which is that of UTF-8 bytes.
    """
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if 0xD800 <= following <= 0xDFFF:  # noqa: PLR2004 - the surrogates, which are no characters
        following = 0xE000
    return stem[:-1] + chr(following)
