"""An object: bytes under the address that their content gives them. What it may be, and how it is addressed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from blake3 import blake3

from perdure.errors import DigestMismatch, Invalid, LimitExceeded

OBJECT_BYTES_MAX: Final = 5 * 2**30  # the largest that every engine copies or takes in one request
READ_CHUNK_BYTES_MAX: Final = 1_048_576  # what a reader is handed at once: verified at memory speed, and small
SPOOL_BYTES_MAX: Final = 8 * 1_048_576  # of an object in memory while its address is not known; above the least part
OBJECTS_PAGE_MAX: Final = 500  # objects, or spaces, of one page: within one page of every engine
MEDIA_TYPE_CHARS_MAX: Final = 100  # part of a file's name once encoded (160), which has 255

MEDIA_TYPE_DEFAULT: Final = "application/octet-stream"
MEDIA_TYPE_OF_TURNS: Final = "application/vnd.perdure.turns"  # of what nobody put but turns; a collector may remove it

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """A kept object: its address and what is known without reading it.

    ``digest`` is BLAKE3-256 of the bytes as they are, in 64 lower-case hex digits. ``created_at`` is when the bytes
    were put last, and ``media_type`` what they were called then.
    """

    digest: str
    size_bytes: int
    media_type: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPage:
    """Objects in the order of their addresses; ``more`` says that there are others behind them."""

    objects: Sequence[ObjectRef]
    more: bool


def object_digest(content: bytes) -> str:
    """The address of these bytes."""
    return blake3(content).hexdigest()


def check_digest(value: str) -> str:
    """An address: 64 lower-case hex digits. Raises ``Invalid``."""
    if not isinstance(value, str):
        raise Invalid(f"the address of an object is text, not {type(value).__name__}")
    if _DIGEST.fullmatch(value) is None:
        raise Invalid("this is not the address of an object; expected BLAKE3-256 in 64 lower-case hex digits")
    return value


def check_media_type(value: str) -> str:
    """A media type without parameters, in lower case, as in ``application/json``.

    Raises ``Invalid``; ``LimitExceeded`` above ``MEDIA_TYPE_CHARS_MAX`` characters.
    """
    if not isinstance(value, str):
        raise Invalid(f"a media type is text, not {type(value).__name__}")
    if len(value) > MEDIA_TYPE_CHARS_MAX:
        raise LimitExceeded(
            f"a media type of {len(value)} characters; at most {MEDIA_TYPE_CHARS_MAX} (media_type_chars_max)",
            limit="media_type_chars_max",
            allowed=MEDIA_TYPE_CHARS_MAX,
            actual=len(value),
        )
    if _MEDIA_TYPE.fullmatch(value) is None:
        raise Invalid(
            f"{value!a} is not a media type; expected type/subtype in lower case and without parameters, "
            "as in application/json"
        )
    return value


def check_object_size(size_bytes: int) -> int:
    """The size of an object. Raises ``LimitExceeded`` above ``OBJECT_BYTES_MAX``."""
    if size_bytes > OBJECT_BYTES_MAX:
        raise LimitExceeded(
            f"an object of {size_bytes} bytes or more; at most {OBJECT_BYTES_MAX} (object_bytes_max). Keep it in parts",
            limit="object_bytes_max",
            allowed=OBJECT_BYTES_MAX,
            actual=size_bytes,
        )
    return size_bytes


def check_same_digest(expected: str, found: str, *, what: str) -> None:
    """Raise ``DigestMismatch`` unless both are the same address."""
    if expected != found:
        raise DigestMismatch(
            f"{what} do not hash to the address {expected} but to {found}; they are not the bytes that were meant",
            expected=expected,
            found=found,
        )
