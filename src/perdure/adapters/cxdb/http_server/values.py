"""MessagePack as it is on the wire: bytes of any writer to values, with bounds, and without deciding what they mean.

Maps stay lists of pairs, because their keys may be anything, and the same key may be there twice.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from perdure.adapters.cxdb.http_server.limits import PAYLOAD_DEPTH_MAX, PAYLOAD_VALUES_MAX
from perdure.domain.turn_records.wire import tag_of
from perdure.errors import Invalid, LimitExceeded


class Special(Enum):
    """A value that has no form in JSON."""

    EXTENSION = "extension"


class Pairs(NamedTuple):
    """A map as it was written."""

    items: tuple[tuple[Value, Value], ...]


Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | Pairs | Special | None"

_SIZES: Final = {  # first byte -> (bytes of the length, kind)
    0xC4: (1, "bin"),
    0xC5: (2, "bin"),
    0xC6: (4, "bin"),
    0xC7: (1, "ext"),
    0xC8: (2, "ext"),
    0xC9: (4, "ext"),
    0xD9: (1, "str"),
    0xDA: (2, "str"),
    0xDB: (4, "str"),
    0xDC: (2, "array"),
    0xDD: (4, "array"),
    0xDE: (2, "map"),
    0xDF: (4, "map"),
}
_NUMBERS: Final = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_CONSTANTS: Final[dict[int, bool | None]] = {0xC0: None, 0xC2: False, 0xC3: True}
_FIXED_EXTENSIONS: Final = {0xD4 + step: 1 << step for step in range(5)}
_FIXMAP, _FIXARRAY, _FIXSTR, _NIL, _NEGATIVE = 0x80, 0x90, 0xA0, 0xC0, 0xE0


def read_map(payload: bytes) -> Pairs:
    """The map that a payload is; what follows it is ignored.

    Raises ``Invalid`` for anything else, ``LimitExceeded`` above ``PAYLOAD_DEPTH_MAX`` levels or
    ``PAYLOAD_VALUES_MAX`` values. Text that is not UTF-8 is read as empty.
    """
    value = _Reader(payload).value(0)
    if not isinstance(value, Pairs):
        raise Invalid("payload is not a map")
    return value


def by_tag(pairs: Pairs) -> dict[int, Value]:
    """The values of a map whose keys are tags, as numbers or in digits; the last of equal tags, others left out."""
    found: dict[int, Value] = {}
    for key, value in pairs.items:
        tag = tag_from(key)
        if tag is not None:
            found[tag] = value
    return found


def tag_from(key: Value) -> int | None:
    """The tag that a key stands for, or None."""
    if isinstance(key, str):
        return tag_of(key)
    if isinstance(key, int) and not isinstance(key, bool) and key >= 0:
        return key
    return None


class _Reader:
    """Reads one payload from its beginning."""

    __slots__ = ("_data", "_offset", "_values")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0
        self._values = 0

    def value(self, depth: int) -> Value:
        """The next value, ``depth`` levels below the top."""
        self._values += 1
        if self._values > PAYLOAD_VALUES_MAX:
            raise _beyond("payload_values_max", PAYLOAD_VALUES_MAX, "values")
        first = self._take(1)[0]
        if not _FIXMAP <= first < _NEGATIVE:
            return first if first < _FIXMAP else first - 256
        if first < _NIL:
            return self._short(first, depth)
        number = _NUMBERS.get(first)
        if number is not None:
            (found,) = number.unpack(self._take(number.size))
            return found  # type: ignore[no-any-return]  # struct cannot say which number it is
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if first in _FIXED_EXTENSIONS:
            self._take(1 + _FIXED_EXTENSIONS[first])
            return Special.EXTENSION
        if first not in _SIZES:
            raise Invalid("payload is not MessagePack: it holds the byte 0xc1")
        length_bytes, kind = _SIZES[first]
        return self._sized(kind, int.from_bytes(self._take(length_bytes), "big"), depth)

    def _short(self, first: int, depth: int) -> Value:
        if first < _FIXARRAY:
            return self._sized("map", first - _FIXMAP, depth)
        if first < _FIXSTR:
            return self._sized("array", first - _FIXARRAY, depth)
        return self._sized("str", first - _FIXSTR, depth)

    def _sized(self, kind: str, size: int, depth: int) -> Value:
        if kind == "str":
            try:
                return self._take(size).decode()
            except UnicodeDecodeError:
                return ""  # what servers of this protocol show for it
        if kind == "bin":
            return self._take(size)
        if kind == "ext":
            self._take(1 + size)
            return Special.EXTENSION
        if depth >= PAYLOAD_DEPTH_MAX:
            raise _beyond("payload_depth_max", PAYLOAD_DEPTH_MAX, "levels")
        if size > len(self._data) - self._offset:  # each has a byte at least, and nothing is made for a claim
            raise _cut_short()
        if kind == "array":
            return [self.value(depth + 1) for _ in range(size)]
        return Pairs(tuple((self.value(depth + 1), self.value(depth + 1)) for _ in range(size)))

    def _take(self, size: int) -> bytes:
        end = self._offset + size
        if end > len(self._data):
            raise _cut_short()
        taken = self._data[self._offset : end]
        self._offset = end
        return taken


def _cut_short() -> Invalid:
    return Invalid("payload is not MessagePack: it ends before its values do")


def _beyond(limit: str, allowed: int, of: str) -> LimitExceeded:
    return LimitExceeded(
        f"payload has more than {allowed} {of} ({limit}); ask for view=raw and decode it",
        limit=limit,
        allowed=allowed,
        actual=allowed + 1,
    )
