"""The structure of MessagePack bytes: where each value begins and ends, before anything is made of them.

A header may claim four thousand million elements; here they are counted in the bytes, so that nothing is allocated for
a claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from perdure.domain.limits import JSON_DEPTH_MAX
from perdure.errors import LegacyArtifact, LimitExceeded

# The deepest JSON value there may be, in a field of a record in a list of another one, with room for two more.
RECORD_DEPTH_MAX: Final = JSON_DEPTH_MAX + 6
RECORD_VALUES_MAX: Final = 100_000  # a byte of payload can become 60 of memory; this bounds what a page of turns takes

_POSITIVE_LAST: Final = 0x7F  # such a byte is the number itself
_NIL: Final = 0xC0


class _Opcode(NamedTuple):
    """What a first byte says: how many bytes of a number follow, or the number; then how much that is a number of."""

    number_bytes: int = 0
    number: int = 0
    children_each: int = 0  # values inside for each that is counted: 1 for an array, 2 for a map, 0 for no container
    more: int = 0  # the byte that names an extension's kind
    is_key: bool = False
    is_extension: bool = False


def _opcodes() -> tuple[_Opcode | None, ...]:
    table: dict[int, _Opcode] = {first: _Opcode(is_key=True) for first in range(_POSITIVE_LAST + 1)}
    table |= {0x80 + count: _Opcode(number=count, children_each=2) for count in range(16)}
    table |= {0x90 + count: _Opcode(number=count, children_each=1) for count in range(16)}
    table |= {0xA0 + length: _Opcode(number=length, is_key=True) for length in range(32)}
    table |= {0xC0: _Opcode(), 0xC2: _Opcode(), 0xC3: _Opcode(), 0xCA: _Opcode(number=4), 0xCB: _Opcode(number=8)}
    for step in range(3):
        size = 1 << step
        table[0xC4 + step] = _Opcode(number_bytes=size)
        table[0xC7 + step] = _Opcode(number_bytes=size, more=1, is_extension=True)
        table[0xD9 + step] = _Opcode(number_bytes=size, is_key=True)
    for step in range(2):
        table[0xDC + step] = _Opcode(number_bytes=2 << step, children_each=1)
        table[0xDE + step] = _Opcode(number_bytes=2 << step, children_each=2)
    for step in range(4):
        table[0xCC + step] = table[0xD0 + step] = _Opcode(number=1 << step, is_key=True)
    table |= {0xD4 + step: _Opcode(number=1 << step, more=1, is_extension=True) for step in range(5)}
    table |= {0xE0 + number: _Opcode() for number in range(32)}
    return tuple(table.get(first) for first in range(256))  # all but one: 0xC1 is never used


_OPCODES: Final = _opcodes()
_ARRAY: Final = 1
_MAP: Final = 2
# As many readers parse it: a plus and leading zeros are fine.
_TAG_TEXT: Final = re.compile(r"\+?[0-9]+", re.ASCII)
_TAG_DIGITS_MAX: Final = 40  # twice those of the largest tag; parsing more is work without a result
TAG_END: Final = 2**64  # keys are unsigned integers of 64 bits

ADVICE: Final = "it was written by another program or release: read its bytes as they are"


class Span(NamedTuple):
    """Where one value stands, and whether an extension is anywhere in it."""

    start: int
    end: int
    has_extension: bool


class Scanner:
    """Walks through the values of one payload.

    Raises ``LegacyArtifact`` for bytes that end too early or mean nothing, and ``LimitExceeded`` for more than
    ``RECORD_DEPTH_MAX`` levels or ``RECORD_VALUES_MAX`` values.
    """

    __slots__ = ("_data", "_values")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._values = 0

    def value(self, start: int, *, depth: int) -> Span:
        """The value that begins at ``start``, ``depth`` levels below the top."""
        self._count_value()
        pending, offset, opcode = self._header(start)
        if not opcode.children_each:
            return Span(start, offset, opcode.is_extension)
        has_extension = False
        open_counts: list[int] = []
        while True:
            if opcode.children_each:
                if depth + len(open_counts) >= RECORD_DEPTH_MAX:
                    raise too_deep(depth + len(open_counts) + 1)
                open_counts.append(pending)
            while open_counts and open_counts[-1] == 0:
                open_counts.pop()
            if not open_counts:
                return Span(start, offset, has_extension)
            open_counts[-1] -= 1
            self._count_value()
            pending, offset, opcode = self._header(offset)
            has_extension |= opcode.is_extension

    def pairs(self, start: int, *, depth: int) -> Iterator[tuple[int | str, Span]]:
        """The keys of the map at ``start`` with their values; keys that are tags in digits come as numbers."""
        count, offset = self._map_header(start)
        self._count_value()
        for _ in range(count):
            key, offset = self._key(offset, depth)
            span = self.value(offset, depth=depth + 1)
            yield key, span
            offset = span.end

    def first_key(self, start: int) -> int:
        """Where the first key of the map at ``start`` begins, which is its end if it is empty."""
        return self._map_header(start)[1]

    def items(self, start: int, *, depth: int) -> Iterator[Span]:
        """The values of the array at ``start``, which must be one."""
        count, offset, _ = self._header(start)
        for _ in range(count):
            span = self.value(offset, depth=depth + 1)
            yield span
            offset = span.end

    def is_nil(self, span: Span) -> bool:
        """Whether the value is nothing."""
        return self._data[span.start] == _NIL

    def is_map(self, span: Span) -> bool:
        """Whether the value is a map."""
        return self._opcode(span.start).children_each == _MAP

    def is_array(self, span: Span) -> bool:
        """Whether the value is an array."""
        return self._opcode(span.start).children_each == _ARRAY

    def decode(self, span: Span) -> object:
        """The value itself, which must hold no extension: what those mean is not for bytes to decide."""
        try:
            value: object = msgspec.msgpack.decode(memoryview(self._data)[span.start : span.end])
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise LegacyArtifact(
                f"a record holds text that is not UTF-8, or a key that is a container; {ADVICE}"
            ) from exc
        return value

    def _key(self, start: int, depth: int) -> tuple[int | str, int]:
        if start < len(self._data) and self._data[start] <= _POSITIVE_LAST:  # nearly always: the key is its own byte
            self._count_value()
            return self._data[start], start + 1
        span = self.value(start, depth=depth + 1)
        if self._opcode(start).is_key:
            key = self.decode(span)
            if isinstance(key, int) and key >= 0:
                return key, span.end
            if isinstance(key, str):
                tag = tag_of(key)
                return key if tag is None else tag, span.end
        raise LegacyArtifact(f"a record has a key that is neither a number from 0 on nor text; {ADVICE}")

    def _map_header(self, start: int) -> tuple[int, int]:
        children, offset, opcode = self._header(start)
        if opcode.children_each != _MAP:
            raise LegacyArtifact(f"a record is no MessagePack map; {ADVICE}")
        return children // 2, offset

    def _header(self, offset: int) -> tuple[int, int, _Opcode]:
        """How many values are inside the one that begins here, where the next header is, and its opcode."""
        opcode = self._opcode(offset)
        offset += 1
        number = opcode.number
        if opcode.number_bytes:
            end = self._after(offset, opcode.number_bytes)
            number = int.from_bytes(self._data[offset:end], "big")
            offset = end
        if opcode.children_each:
            return number * opcode.children_each, offset, opcode
        return 0, self._after(offset, number + opcode.more), opcode

    def _opcode(self, offset: int) -> _Opcode:
        opcode = _OPCODES[self._data[offset]] if offset < len(self._data) else None
        if opcode is None:
            if offset >= len(self._data):
                raise _cut_short()
            raise LegacyArtifact(f"a record holds the byte 0xc1, which MessagePack does not have; {ADVICE}")
        return opcode

    def _after(self, offset: int, size: int) -> int:
        if offset + size > len(self._data):
            raise _cut_short()
        return offset + size

    def _count_value(self) -> None:
        self._values += 1
        if self._values > RECORD_VALUES_MAX:
            raise LimitExceeded(
                f"a record holds more than {RECORD_VALUES_MAX} values (record_values_max); keep large data as an "
                "object and record its address",
                limit="record_values_max",
                allowed=RECORD_VALUES_MAX,
                actual=self._values,
            )


def tag_of(key: str) -> int | None:
    """The tag that a text key stands for, if it is one in digits."""
    if len(key) > _TAG_DIGITS_MAX or _TAG_TEXT.fullmatch(key) is None or int(key) >= TAG_END:
        return None
    return int(key)


def too_deep(depth: int) -> LimitExceeded:
    """What is raised for a value that many levels deep, or that contains itself."""
    return LimitExceeded(
        f"a record is nested deeper than {RECORD_DEPTH_MAX} levels (record_depth_max), or contains itself",
        limit="record_depth_max",
        allowed=RECORD_DEPTH_MAX,
        actual=depth,
    )


def _cut_short() -> LegacyArtifact:
    return LegacyArtifact(f"a record ends before its values do; {ADVICE}")
