"""What a field of each type may hold. A copy comes back, so that nobody who holds the original can change it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

from perdure.domain.turn_records.fields import INTEGERS
from perdure.domain.turn_records.wire import RECORD_DEPTH_MAX, too_deep

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_INTEGER_MIN: Final = -(2**63)  # the integers of MessagePack
_INTEGER_END: Final = 2**64


class Mismatch(Exception):
    """A value does not fit its field. The way to it is built while this passes up, so that it costs nothing before."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected)
        self.path: list[str | int] = []
        self.expected = expected
        self.found = found

    def at(self) -> str:
        """Where the value stands, from the record on."""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{ascii(step)[1:-1]}" for step in self.path)[1:]


def scalar(kind: str, value: object, depth: int) -> object:
    """The value of a field (or item) of that type, ``depth`` levels below the top. Raises ``Mismatch``."""
    bounds = INTEGERS.get(kind)
    if bounds is not None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Mismatch(f"an integer ({kind})", kind_of(value))
        if not bounds[0] <= value <= bounds[1]:
            raise Mismatch(f"an integer from {bounds[0]} to {bounds[1]} ({kind})", "outside")
        return int(value)
    if kind == "any":
        return any_value(value, depth)
    return _OTHERS[kind](value)


def any_value(value: object, depth: int) -> object:
    """What JSON has, and bytes; maps in the order of their keys."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int | float):
        return _bounded(value) if isinstance(value, int) else _finite(value)
    if isinstance(value, bytes):
        return bytes(value)
    return _container(value, depth)


def _container(value: object, depth: int) -> object:
    if depth >= RECORD_DEPTH_MAX:
        raise too_deep(depth + 1)
    if isinstance(value, list | tuple):
        return [within(index, "any", each, depth + 1) for index, each in enumerate(value)]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise Mismatch("a map with text for keys", "one with another key")
        # By code points, as their UTF-8 bytes sort: the order in which it was built leaves no trace.
        return {text(key): within(key, "any", value[key], depth + 1) for key in sorted(value)}
    raise Mismatch("a value that JSON or MessagePack has", kind_of(value))


def within(step: str | int, kind: str, value: object, depth: int) -> object:
    """As ``scalar``, for what stands under ``step`` of a list or map."""
    try:
        return scalar(kind, value, depth)
    except Mismatch as exc:
        exc.path.insert(0, step)
        raise


def text(value: object) -> str:
    """Text that UTF-8 can hold."""
    if not isinstance(value, str):
        raise Mismatch("text", kind_of(value))
    plain = str.__str__(value)  # an enumeration's member too
    if not plain.isascii() and _SURROGATE.search(plain) is not None:
        raise Mismatch("text", "half a character (a lone surrogate)")
    return plain


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise Mismatch("true or false", kind_of(value))
    return value


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Mismatch("a number", kind_of(value))
    return _finite(float(_bounded(value) if isinstance(value, int) else value))


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise Mismatch("bytes", kind_of(value))
    return bytes(value)


def _bounded(value: int) -> int:
    if not _INTEGER_MIN <= value < _INTEGER_END:
        raise Mismatch("an integer of 64 bits", "beyond")
    return int(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise Mismatch("a finite number", str(float(value)))
    return float(value)


def kind_of(value: object) -> str:
    """What a value is, for a message: never the value itself."""
    return "nothing" if value is None else f"of type {type(value).__name__}"


def mismatch_at(name: str, expected: str, found: str) -> Mismatch:
    """A mismatch of the field of that name."""
    mismatch = Mismatch(expected, found)
    mismatch.path.append(name)
    return mismatch


_OTHERS: Final[Mapping[str, Callable[[object], object]]] = {
    "string": text,
    "bool": _bool,
    "f64": _float,
    "bytes": _bytes,
    "typed_blob": _bytes,
}
