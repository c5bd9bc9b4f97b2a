"""The fields that messages are made of. Reading never trusts a length, writing checks before it copies."""

from __future__ import annotations

import struct
from typing import Any, Final

from perdure.errors import Corrupt, Invalid, LimitExceeded

HASH_BYTES: Final = 32  # BLAKE3-256
PAYLOAD_BYTES_MAX: Final = 64 * 1_048_576  # of one frame; the protocol's own limit, servers hang up on more

U16: Final = struct.Struct("<H")
U32: Final = struct.Struct("<I")
U64: Final = struct.Struct("<Q")


class MalformedMessage(Corrupt):
    """Bytes of the other side are no message of this protocol; ``message`` is the protocol's own text for it.

    Corrupt, not refused: a garbled answer does not tell whether its request was done, so whoever sent the request
    decides what the failure means. A server answers 422 with the text, or hangs up.
    """

    code = "malformed_message"


class Reader:
    """The fields of one payload, in order. Each is checked against what is there before it is touched.

    ``short`` is the text of the ``MalformedMessage`` for a payload that ends too early.
    """

    __slots__ = ("_at", "_short", "_view")

    def __init__(self, payload: bytes | memoryview, *, short: str) -> None:
        self._view = memoryview(payload)
        self._at = 0
        self._short = short

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._view) - self._at

    def numbers(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The values of a fixed layout."""
        start = self._pass(layout.size)
        return layout.unpack_from(self._view, start)

    def u32(self) -> int:
        """One number of four bytes, often a length that is still to be believed."""
        number: int = self.numbers(U32)[0]
        return number

    def u64(self) -> int:
        """One number of eight bytes."""
        number: int = self.numbers(U64)[0]
        return number

    def content(self, size: int) -> bytes:
        """The next bytes, in their only copy."""
        start = self._pass(size)
        return bytes(self._view[start : start + size])

    def text(self, size: int, *, wrong: str) -> str:
        """The next bytes as text; ``wrong`` is what the ``MalformedMessage`` says if they are not UTF-8."""
        start = self._pass(size)
        try:
            return str(self._view[start : start + size], "utf-8")
        except UnicodeDecodeError:
            # The cause would carry the bytes themselves into a log.
            raise MalformedMessage(wrong) from None

    def skip(self, size: int) -> None:
        """Pass over bytes without a copy."""
        self._pass(size)

    def _pass(self, size: int) -> int:
        if size > self.remaining:
            raise MalformedMessage(self._short, expected_bytes=size, remaining_bytes=self.remaining)
        start = self._at
        self._at += size
        return start


def pack(layout: struct.Struct, *values: int | bytes, what: str) -> bytes:
    """The bytes of a fixed layout. Raises ``Invalid`` for a number that its field cannot hold."""
    try:
        return layout.pack(*values)
    except struct.error as exc:
        raise Invalid(f"{what} has a number outside its field; expected what fits {layout.format!r}") from exc


def pack_hash(value: bytes, *, what: str) -> bytes:
    """A hash, as it is. Raises ``Invalid`` for another length."""
    if len(value) != HASH_BYTES:
        raise Invalid(f"{what} has {len(value)} bytes; expected {HASH_BYTES}, the raw BLAKE3-256", what=what)
    return value


def pack_text(text: str, *, what: str) -> bytes:
    """The UTF-8 of a text. Raises ``LimitExceeded`` for one that fits no frame, ``Invalid`` for a lone surrogate."""
    refuse_large(len(text), what=what)  # no text has fewer bytes than characters
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} holds a lone surrogate, which UTF-8 does not have; expected text", what=what) from None


def refuse_large(size: int, *, what: str, bytes_max: int = PAYLOAD_BYTES_MAX, limit: str = "payload_bytes_max") -> None:
    """Raise ``LimitExceeded`` if ``size`` bytes are more than ``bytes_max``, which ``limit`` names."""
    if size > bytes_max:
        raise LimitExceeded(
            f"{what} is too large: {size} bytes, at most {bytes_max} ({limit}); send less at once",
            limit=limit,
            allowed=bytes_max,
            actual=size,
        )
