"""JSON to payloads: what is appended over HTTP, with tags for keys where a descriptor says which."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from perdure.adapters.cxdb.http_server.descriptors import FieldDescriptor, Items, TypeVersion
from perdure.adapters.cxdb.http_server.limits import PAYLOAD_DEPTH_MAX, PAYLOAD_VALUES_MAX
from perdure.adapters.cxdb.http_server.registry import Registry
from perdure.domain.turn_records.wire import tag_of
from perdure.errors import Invalid, LimitExceeded

_UNSIGNED: Final[Mapping[str, int]] = {"u8": 8, "uint8": 8, "u16": 16, "u32": 32, "uint32": 32, "u64": 64, "uint64": 64}
_SIGNED: Final[Mapping[str, int]] = {"i8": 8, "i16": 16, "i32": 32, "int32": 32, "i64": 64, "int64": 64}
_TIMES: Final = frozenset({"unix_ms", "time_ms", "timestamp_ms"})
_BYTES: Final = frozenset({"bytes", "typed_blob"})
_FLOATS: Final = frozenset({"f32", "f64"})
_INTEGER_MIN: Final = -(2**63)
_INTEGER_END: Final = 2**64
_INTEGER_TEXT: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_BYTE_END: Final = 256
_ENCODER: Final = msgspec.msgpack.Encoder()


def encode_payload(data: object, version: TypeVersion | None, *, registry: Registry) -> bytes:
    """The MessagePack of JSON data: the same bytes for the same data.

    With a descriptor, an object's fields come first, in the order of their tags. Raises ``Invalid``, naming the field,
    for one that is missing or of another type, and ``LimitExceeded`` as ``read_map``.
    """
    encoding = _Encoding(registry)
    if version is not None and isinstance(data, dict):
        return _ENCODER.encode(encoding.record(data, version, "data", 1))
    return _ENCODER.encode(encoding.generic(data, "data", 0))


class _Encoding:
    """One payload on its way; ``at`` says where a value stands."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._values = 0

    def record(self, data: Mapping[str, object], version: TypeVersion, at: str, depth: int) -> dict[int | str, object]:
        """The fields of a record by tag, then the members that its type does not have."""
        _check_depth(depth)
        fields: dict[int | str, object] = {}
        taken: set[str] = set()
        for tag, item in sorted(version.fields.items()):
            # What a reader calls unknown comes back under its tag.
            name = item.name if item.name in data else str(tag)
            if name in data:
                taken.add(name)
                fields[tag] = self._field(item, data[name], f"{at}.{item.name}", depth)
            elif not item.optional:
                raise Invalid(f"{_shown(at)}.{_shown(item.name)} is missing; expected {_shown(item.type)}")
        for name in sorted(data.keys() - taken):
            key = _key(name)
            if key not in fields:
                fields[key] = self.generic(data[name], f"{at}.{name}", depth)
        return fields

    def generic(self, value: object, at: str, depth: int) -> object:
        """A value that nothing describes: keys sorted, those in digits as numbers."""
        self._count()
        if isinstance(value, dict):
            _check_depth(depth + 1)
            return {_key(key): self.generic(value[key], f"{at}.{key}", depth + 1) for key in sorted(value)}
        if isinstance(value, list):
            _check_depth(depth + 1)
            return [self.generic(each, f"{at}[{index}]", depth + 1) for index, each in enumerate(value)]
        if isinstance(value, int) and not isinstance(value, bool) and not _INTEGER_MIN <= value < _INTEGER_END:
            raise _mismatch(at, "an integer of 64 bits")
        return value

    def _field(self, item: FieldDescriptor, value: object, at: str, depth: int) -> object:
        self._count()
        if value is None and item.optional:
            return None
        if item.enum is not None and isinstance(value, str):
            number = self._registry.number(item.enum, value)
            if number is not None:
                return number
        if item.type in ("ref", "map") and item.ref is not None:
            return self._nested(item.ref, value, at, depth)
        if item.type == "array":
            return self._array(item.items, value, at, depth)
        return self._simple(item.type, value, at, depth)

    def _array(self, items: Items | None, value: object, at: str, depth: int) -> object:
        if not isinstance(value, list):
            raise _mismatch(at, "a list")
        _check_depth(depth + 1)
        return [self._item(items, each, f"{at}[{index}]", depth + 1) for index, each in enumerate(value)]

    def _item(self, items: Items | None, value: object, at: str, depth: int) -> object:
        if items is None or items.type == "array":
            return self.generic(value, at, depth)
        if items.ref is not None:
            return self._nested(items.ref, value, at, depth)
        return self._simple(items.type, value, at, depth)

    def _nested(self, type_id: str, value: object, at: str, depth: int) -> object:
        version = self._registry.find_latest(type_id)
        if version is None or not isinstance(value, dict):
            return self.generic(value, at, depth)
        return self.record(value, version, at, depth + 1)

    def _simple(self, kind: str, value: object, at: str, depth: int) -> object:
        if kind in _UNSIGNED:
            return _integer(value, 0, 2 ** _UNSIGNED[kind], at, kind)
        if kind in _SIGNED:
            half: int = 2 ** (_SIGNED[kind] - 1)
            return _integer(value, -half, half, at, kind)
        if kind in _TIMES:
            return _time(value, at)
        if kind in _BYTES:
            return _bytes(value, at)
        if kind in _FLOATS:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _mismatch(at, "a number")
            return _float(value, at)
        if kind == "string" and not isinstance(value, str):
            raise _mismatch(at, "text")
        if kind == "bool" and not isinstance(value, bool):
            raise _mismatch(at, "true or false")
        return self.generic(value, at, depth)

    def _count(self) -> None:
        self._values += 1
        if self._values > PAYLOAD_VALUES_MAX:
            raise _beyond("payload_values_max", PAYLOAD_VALUES_MAX, "values")


def _integer(value: object, least: int, end: int, at: str, kind: str) -> int:
    if isinstance(value, str) and _INTEGER_TEXT.fullmatch(value) is not None:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < end:
        raise _mismatch(at, f"an integer from {least} to {end - 1} ({kind})")
    return value


def _float(value: float, at: str) -> float:
    try:
        return float(value)
    except OverflowError as exc:
        raise _mismatch(at, "a number of 64 bits") from exc


def _time(value: object, at: str) -> int:
    """Milliseconds as they are, or the moment in RFC 3339 that readers are shown."""
    if isinstance(value, str) and _INTEGER_TEXT.fullmatch(value) is None:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as exc:
            raise _mismatch(at, "milliseconds since 1970, or a time in RFC 3339") from exc
        if moment.tzinfo is None:
            raise _mismatch(at, "a time with its zone")
        return round(moment.timestamp() * 1_000)
    return _integer(value, _INTEGER_MIN, 2**63, at, "milliseconds")


def _bytes(value: object, at: str) -> bytes:
    if isinstance(value, str):
        return _from_base64(value) or _from_hex(value) or value.encode()
    if isinstance(value, list):
        if all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < _BYTE_END for each in value):
            return bytes(value)
    elif isinstance(value, dict):
        text = value.get("base64")
        decoded = _from_base64(text) if isinstance(text, str) else None
        text = value.get("hex")
        if decoded is None and isinstance(text, str):
            decoded = _from_hex(text)
        if decoded is not None:
            return decoded
    raise _mismatch(at, 'base64, hex, a list of bytes, {"base64": …} or {"hex": …}')


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _from_hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _key(name: str) -> int | str:
    tag = tag_of(name)
    return name if tag is None else tag


def _check_depth(depth: int) -> None:
    if depth > PAYLOAD_DEPTH_MAX:
        raise _beyond("payload_depth_max", PAYLOAD_DEPTH_MAX, "levels")


def _beyond(limit: str, allowed: int, of: str) -> LimitExceeded:
    return LimitExceeded(
        f"data has more than {allowed} {of} ({limit})", limit=limit, allowed=allowed, actual=allowed + 1
    )


def _shown(text: str) -> str:
    return ascii(text)[1:-1][-120:]


def _mismatch(at: str, expected: str) -> Invalid:
    return Invalid(f"{_shown(at)} has another type; expected {expected}")
