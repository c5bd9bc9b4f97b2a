"""Typed values: JSON plus decimals, times, UUIDs, bytes and integers of any size, as text and back without loss.

One rule carries the rest: in a JSON object a key that begins with one ``$`` is a tag, and a key of the caller that
begins with ``$`` is written with one more. ``docs/reference/work-hash-v1.md`` specifies the two forms byte for byte.

The module needs nothing but the standard library and ``rfc8785``, so that any interpreter can check the vectors.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Final, TypeAlias
from uuid import UUID

import rfc8785

from perdure.errors import Corrupt, Invalid, LimitExceeded

TypedValue: TypeAlias = (
    "bool | int | float | str | Decimal | datetime | UUID | bytes | list[TypedValue] | dict[str, TypedValue] | None"
)
TypedMap: TypeAlias = "Mapping[str, TypedValue]"

VALUE_DEPTH_MAX: Final = 64  # lists and maps in one another; half of what the strictest JSON parsers take
VALUE_BYTES_MAX: Final = 102_400  # one value as text; the narrowest engine keeps a unit's attributes side by side
VALUE_DIGITS_MAX: Final = 640  # of an integer or decimal: what Python converts to text whatever its settings
DECIMAL_EXPONENT_MAX: Final = 6_144  # either way, as in decimal128; a reader that writes it out makes that many zeros

_SAFE_INTEGER_MAX: Final = 2**53 - 1
_INTEGER_END: Final = 10**VALUE_DIGITS_MAX
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]*)")
# Notation must not follow the context of whichever thread converts.
_NOTATION: Final = Context(capitals=1)
_EXACT: Final = "$float"
# Of fractions from here on, Python and ECMAScript write the same; and of text, both escape the same.
_SAME_NOTATION_MIN: Final = 1e-4
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))


def canonical_bytes(value: object, *, what: str = "the value", bytes_max: int, limit: str) -> bytes:
    """The one form in which typed values are compared and hashed (RFC 8785 over tags).

    Equal values give equal bytes in every process and language; a float with an integral value is that integer.

    Raises:
        Invalid: what is no typed value, naming its place.
        LimitExceeded: deeper than ``VALUE_DEPTH_MAX``, or larger than ``bytes_max``, which ``limit`` names.
    """
    body = _Writer(what, exact=False).text(value).encode()
    _refuse_large(len(body), what, bytes_max, limit)
    return body


def encode_value(value: object, *, what: str = "the value") -> str:
    """The text as which a backend keeps a typed value; ``decode_value`` gives the value back with its types.

    It is the canonical form, except that a float with an integral value stays a float.

    Raises:
        Invalid: what is no typed value, naming its place.
        LimitExceeded: deeper than ``VALUE_DEPTH_MAX`` or larger than ``VALUE_BYTES_MAX``.
    """
    text = _Writer(what, exact=True).text(value)
    _refuse_large(len(text.encode()), what, VALUE_BYTES_MAX, "value_bytes_max")
    return text


def decode_value(text: str) -> TypedValue:
    """The value of a text that ``encode_value`` made.

    Raises ``Corrupt`` for any other text, also one that only a space or an escape tells apart: what is kept was changed
    from outside, and whoever changed it must not go unseen.
    """
    try:
        value = from_json(_DECODER.decode(text))
        same = encode_value(value) == text
    except (ValueError, RecursionError, Invalid, LimitExceeded) as exc:
        raise Corrupt("a stored value is not one that was written here; it was changed from outside") from exc
    if not same:
        raise Corrupt("a stored value is not in the form in which it was written; it was changed from outside")
    return value


def to_json(value: object, *, what: str = "the value") -> object:
    """The JSON tree of a typed value, with its tags: what ``encode_value`` writes, of any size. Raises as it does."""
    return _Writer(what, exact=True).write(value, _TOP)


def from_json(tree: object, *, what: str = "the value") -> TypedValue:
    """The typed value of a JSON tree with tags; ``to_json`` gives the tree back.

    Raises:
        Invalid: an unknown tag or one whose text is not in normal form, naming its place, or no JSON at all.
        LimitExceeded: deeper than ``VALUE_DEPTH_MAX``.
    """
    return _Reader(what).read(tree, _TOP)


class _Path:
    """Where a value stands, as a chain to the top: it is written out only when something is wrong there."""

    __slots__ = ("depth", "key", "parent")

    def __init__(self, key: str | int = "$", parent: _Path | None = None) -> None:
        self.key = key
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1

    def __str__(self) -> str:
        if self.parent is None:
            return "$"
        return f"{self.parent}[{self.key}]" if isinstance(self.key, int) else f"{self.parent}.{ascii(self.key)[1:-1]}"


_TOP: Final = _Path()


class _Writer:
    """From a value to its JSON tree; ``exact`` keeps floats with integral values apart from integers."""

    __slots__ = ("_exact", "_plain", "_what")

    def __init__(self, what: str, *, exact: bool) -> None:
        self._what = what
        self._exact = exact
        self._plain = True

    def text(self, value: object) -> str:
        """The value in the form of RFC 8785."""
        tree = self.write(value, _TOP)
        if self._plain:
            return _ENCODER.encode(tree)
        return rfc8785.dumps(tree).decode()  # type: ignore[arg-type]  # JSON by construction

    def write(self, value: object, path: _Path) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, int):
            return self._integer(int(value), path)
        if isinstance(value, float):
            return self._float(float(value), path)
        if isinstance(value, dict | list):
            return self._container(value, path)
        return self._tagged(value, path)

    def _tagged(self, value: object, path: _Path) -> dict[str, str]:
        if isinstance(value, Decimal):
            return {"$decimal": self._decimal(value, path)}
        if isinstance(value, datetime):
            return {"$datetime": self._time(value, path)}
        if isinstance(value, UUID):
            return {"$uuid": str(UUID(int=value.int))}
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode()}
        if isinstance(value, tuple | set | frozenset):
            raise self._holds(f"a {type(value).__name__}, which is no list; make it one", path)
        raise self._holds(f"{type(value).__name__}, which has no form; convert it, for instance to text", path)

    def _integer(self, value: int, path: _Path) -> object:
        if -_SAFE_INTEGER_MAX <= value <= _SAFE_INTEGER_MAX:
            return value
        if abs(value) >= _INTEGER_END:
            raise self._holds(f"an integer of more than {VALUE_DIGITS_MAX} digits (value_digits_max)", path)
        return {"$int": str(value)}

    def _float(self, value: float, path: _Path) -> object:
        if not math.isfinite(value):
            raise self._holds(f"{value}, which is no number; send null or text", path)
        if not value.is_integer():
            self._plain = self._plain and abs(value) >= _SAME_NOTATION_MIN
            return value
        if self._exact:
            return {_EXACT: "-0" if value == 0 and math.copysign(1, value) < 0 else str(int(value))}
        return self._integer(int(value), path)

    def _decimal(self, value: Decimal, path: _Path) -> str:
        if not value.is_finite():
            raise self._holds("a decimal that is not finite, which is no number; send null or text", path)
        _, digits, exponent = value.as_tuple()
        if len(digits) > VALUE_DIGITS_MAX:
            raise self._holds(f"a decimal of more than {VALUE_DIGITS_MAX} digits (value_digits_max)", path)
        if not isinstance(exponent, int) or abs(exponent) > DECIMAL_EXPONENT_MAX:
            raise self._holds(f"a decimal with an exponent beyond {DECIMAL_EXPONENT_MAX} (decimal_exponent_max)", path)
        return _NOTATION.to_sci_string(Decimal(value))

    def _time(self, value: datetime, path: _Path) -> str:
        if value.utcoffset() is None:
            raise self._holds("a time without an offset, which names no moment; use an aware datetime", path)
        # Some libraries derive finer times from datetime, and what is dropped could not be verified.
        if getattr(value, "nanosecond", 0):
            raise self._holds("a time finer than a microsecond; round it first", path)
        try:
            at = value.astimezone(UTC)
        except (OverflowError, ValueError) as exc:
            raise self._holds("a time outside the years 1 to 9999 in UTC", path) from exc
        day = f"{at.year:04}-{at.month:02}-{at.day:02}"
        return f"{day}T{at.hour:02}:{at.minute:02}:{at.second:02}.{at.microsecond:06}Z"

    def _text(self, value: str, path: _Path) -> str:
        # str.__str__ gives the plain text of an enumeration's member too; str() may give its Python name.
        text = str.__str__(value)
        if not text.isascii() and _SURROGATE.search(text) is not None:
            raise self._holds("text with a lone surrogate, which is not Unicode; decode it properly first", path)
        return text

    def _container(self, value: dict[object, object] | list[object], path: _Path) -> object:
        _refuse_deep(self._what, path)
        if isinstance(value, list):
            return [self.write(item, _Path(index, path)) for index, item in enumerate(value)]
        written: dict[str, object] = {}
        ascii_keys = True
        for key, item in value.items():
            if not isinstance(key, str):
                raise self._holds(f"a key of type {type(key).__name__}; keys of maps are text", path)
            name = self._text(key, path)
            ascii_keys = ascii_keys and name.isascii()
            written["$" + name if name.startswith("$") else name] = self.write(item, _Path(name, path))
        if len(written) != len(value):
            raise self._holds("two keys of the same text", path)
        # Keys stand in the order of their UTF-16 units; for ASCII that is the order of the texts.
        return {key: written[key] for key in sorted(written, key=None if ascii_keys else _utf16)}

    def _holds(self, found: str, path: _Path) -> Invalid:
        return Invalid(f"{self._what} cannot be kept: at {path} it holds {found}", path=str(path))


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be")


class _Reader:
    """From a JSON tree to its value."""

    __slots__ = ("_what", "_writer")

    def __init__(self, what: str) -> None:
        self._what = what
        self._writer = _Writer(what, exact=True)

    def read(self, tree: object, path: _Path) -> TypedValue:
        if tree is None or isinstance(tree, bool | str | int | float):
            return tree
        if isinstance(tree, list):
            _refuse_deep(self._what, path)
            return [self.read(item, _Path(index, path)) for index, item in enumerate(tree)]
        if not isinstance(tree, dict):
            raise self._wrong(f"{type(tree).__name__}, which JSON does not have", path)
        if any(not isinstance(key, str) for key in tree):
            raise self._wrong("a key that is not text", path)
        if any(key.startswith("$") and not key.startswith("$$") for key in tree):
            return self._tagged(tree, path)
        _refuse_deep(self._what, path)
        return {key.removeprefix("$"): self.read(item, _Path(key, path)) for key, item in tree.items()}

    def _tagged(self, tree: dict[str, object], path: _Path) -> TypedValue:
        tag, text = next(iter(tree.items()))
        read = _READERS.get(tag)
        if len(tree) != 1 or read is None or not isinstance(text, str):
            raise self._wrong(f"no tag of ours; known: {', '.join(sorted(_READERS))}, alone and with text", path)
        try:
            value = read(text)
        except (ValueError, OverflowError, ArithmeticError) as exc:
            raise self._wrong(f"a {tag} whose text is none", path) from exc
        # Parsers take more than one notation; what is hashed has one, so nothing else is taken for it.
        if self._writer.write(value, path) != tree:
            raise self._wrong(f"a {tag} that is not in normal form", path)
        return value

    def _wrong(self, found: str, path: _Path) -> Invalid:
        return Invalid(f"{self._what} cannot be read: at {path} it holds {found}", path=str(path))


def _read_integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None or len(text) > VALUE_DIGITS_MAX + 1:
        raise ValueError("not an integer in normal form")
    return int(text)


def _read_float(text: str) -> float:
    return -0.0 if text == "-0" else float(_read_integer(text))


def _read_time(text: str) -> datetime:
    if not text.endswith("Z"):
        raise ValueError("not a time in UTC")
    return datetime.fromisoformat(text)


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_READERS: Final[Mapping[str, Callable[[str], TypedValue]]] = {
    "$int": _read_integer,
    _EXACT: _read_float,
    "$decimal": Decimal,
    "$datetime": _read_time,
    "$uuid": UUID,
    "$bytes": _read_bytes,
}


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_read_integer)


def _refuse_deep(what: str, path: _Path) -> None:
    if path.depth >= VALUE_DEPTH_MAX:
        raise LimitExceeded(
            f"{what} is nested deeper than {VALUE_DEPTH_MAX} levels (value_depth_max), or contains itself",
            limit="value_depth_max",
            allowed=VALUE_DEPTH_MAX,
            actual=path.depth + 1,
        )


def _refuse_large(size: int, what: str, bytes_max: int, limit: str) -> None:
    if size > bytes_max:
        raise LimitExceeded(
            f"{what} is too large: {size} bytes in canonical form, at most {bytes_max} ({limit}); "
            "keep it elsewhere and record a reference",
            limit=limit,
            allowed=bytes_max,
            actual=size,
        )
