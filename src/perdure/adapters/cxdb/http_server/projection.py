"""Projection: a payload with tags to JSON with names, as a registry describes it.

What does not fit its field becomes null, what no field describes is shown as it is or left out; nothing here fails but
a payload that is no map or beyond the bounds. The rules are those of the servers of this protocol, in their order.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias, TypeGuard

from perdure.adapters.cxdb.http_server.descriptors import FieldDescriptor, Items, TypeVersion
from perdure.adapters.cxdb.http_server.registry import Registry
from perdure.adapters.cxdb.http_server.values import Pairs, Value, by_tag, read_map

BytesRender: TypeAlias = Literal["base64", "hex", "len_only"]
EnumRender: TypeAlias = Literal["label", "number", "both"]
TimeRender: TypeAlias = Literal["iso", "unix_ms"]
U64Format: TypeAlias = Literal["string", "number"]

_I64_MAX: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The first and the last millisecond of the years that Python knows, 1 to 9999.
_TIME_MS_MIN: Final = -62_135_596_800_000
_TIME_MS_MAX: Final = 253_402_300_799_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How values are shown that JSON has no one form for."""

    u64_format: U64Format = "string"
    bytes_render: BytesRender = "base64"
    enum_render: EnumRender = "label"
    time_render: TimeRender = "iso"
    include_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Projected:
    """A payload as JSON values: its fields by name, and what the type does not have by tag."""

    data: Mapping[str, object]
    unknown: Mapping[str, object]


def render_bytes(value: bytes, how: BytesRender) -> str | int:
    """Bytes as text, or their number."""
    if how == "hex":
        return value.hex()
    return len(value) if how == "len_only" else base64.b64encode(value).decode()


def project(payload: bytes, version: TypeVersion, *, registry: Registry, rendering: Rendering) -> Projected:
    """A payload as its type's version describes it.

    Raises ``Invalid`` for what is no map, ``LimitExceeded`` above ``PAYLOAD_DEPTH_MAX`` or ``PAYLOAD_VALUES_MAX``.
    """
    return _Projection(registry, rendering).record(read_map(payload), version)


class _Projection:
    """One payload on its way; how deep it goes was bounded when it was read."""

    def __init__(self, registry: Registry, rendering: Rendering) -> None:
        self._registry = registry
        self._rendering = rendering

    def record(self, pairs: Pairs, version: TypeVersion) -> Projected:
        """The fields of a record, and the rest."""
        data: dict[str, object] = {}
        unknown: dict[str, object] = {}
        for tag, value in by_tag(pairs).items():
            item = version.fields.get(tag)
            if item is not None:
                data[item.name] = self._field(item, value)
            elif self._rendering.include_unknown:
                unknown[str(tag)] = self._generic(value)
        return Projected(data=data, unknown=unknown)

    def _field(self, item: FieldDescriptor, value: Value) -> object:
        if item.enum is not None and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            label = self._registry.label(item.enum, value)
            if label is not None:
                return self._enum(value, label)
        if item.type in ("ref", "map") and item.ref is not None:
            return self._nested(item.ref, value)
        if item.type == "array":
            if not isinstance(value, list):
                return None
            return [self._item(item.items, each) for each in value]
        return self._simple(item.type, value)

    def _item(self, items: Items | None, value: Value) -> object:
        if items is None:
            return self._generic(value)
        if items.ref is not None:
            return self._nested(items.ref, value)
        if items.type == "array":
            return [self._generic(each) for each in value] if isinstance(value, list) else None
        return self._simple(items.type, value)

    def _nested(self, type_id: str, value: Value) -> object:
        version = self._registry.find_latest(type_id)
        if version is None or not isinstance(value, Pairs):
            return self._generic(value)
        projected = self.record(value, version)
        if not projected.unknown:
            return projected.data
        return {**projected.data, "_unknown": projected.unknown}

    def _simple(self, kind: str, value: Value) -> object:
        render = _SIMPLE.get(kind)
        return self._generic(value) if render is None else render(value, self._rendering)

    def _enum(self, number: int, label: str) -> object:
        how = self._rendering.enum_render
        if how == "number":
            return number
        return label if how == "label" else {"label": label, "value": number}

    def _generic(self, value: Value) -> object:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | float):
            return _number(value, self._rendering)
        if isinstance(value, bytes):
            return render_bytes(value, self._rendering.bytes_render)
        if isinstance(value, list):
            return [self._generic(each) for each in value]
        if isinstance(value, Pairs):
            return {_key(key): self._generic(inner) for key, inner in value.items}
        return None


def _number(value: float, rendering: Rendering) -> object:
    if _is_integer(value):
        return value if value < 0 else _wide(value, rendering)
    return value if math.isfinite(value) else 0


def _wide(value: Value, rendering: Rendering) -> object:
    if not _is_integer(value) or value < 0:
        return None
    return str(value) if rendering.u64_format == "string" else value


def _narrow(value: Value, _: Rendering) -> object:
    return value if _is_integer(value) and value <= _I64_MAX else None


def _text(value: Value, _: Rendering) -> object:
    return value if isinstance(value, str) else None


def _bool(value: Value, _: Rendering) -> object:
    return value if isinstance(value, bool) else None


def _bytes(value: Value, rendering: Rendering) -> object:
    return render_bytes(value, rendering.bytes_render) if isinstance(value, bytes) else None


def _time(value: Value, rendering: Rendering) -> object:
    if not _is_integer(value):
        return None
    return value if rendering.time_render == "unix_ms" else iso_time(value)


def iso_time(unix_ms: int) -> str | None:
    """RFC 3339 with three digits of a second, none if they are zero; None outside the years 1 to 9999."""
    if not _TIME_MS_MIN <= unix_ms <= _TIME_MS_MAX:
        return None
    when = _EPOCH + timedelta(milliseconds=unix_ms)
    return when.isoformat(timespec="milliseconds" if when.microsecond else "seconds")


def _is_integer(value: Value) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _key(key: Value) -> str:
    if isinstance(key, str):
        return key
    return str(key) if _is_integer(key) else ""


_SIMPLE: Final[Mapping[str, Callable[[Value, Rendering], object]]] = {
    **dict.fromkeys(("u64", "uint64", "int64", "i64"), _wide),
    **dict.fromkeys(("u32", "uint32", "u8", "uint8", "int32"), _narrow),
    **dict.fromkeys(("bytes", "typed_blob"), _bytes),
    **dict.fromkeys(("unix_ms", "time_ms", "timestamp_ms"), _time),
    "string": _text,
    "bool": _bool,
}
