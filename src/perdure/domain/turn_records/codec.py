"""Records to bytes and back: compact MessagePack maps whose keys are tags, in ascending order.

Equal values give equal bytes in every process. What a later release added survives: its fields are kept as they are
and written back in their places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from perdure.domain.turn import TURN_PAYLOAD_BYTES_MAX
from perdure.domain.turn_records.fields import Enumeration, Field, RecordType
from perdure.domain.turn_records.values import Mismatch, any_value, kind_of, mismatch_at, scalar, text, within
from perdure.domain.turn_records.wire import ADVICE, TAG_END, Scanner, Span, tag_of
from perdure.errors import Invalid, LegacyArtifact, LimitExceeded

Unknown: TypeAlias = Mapping[int | str, bytes]

_ENCODER: Final = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedRecord:
    """What a payload holds: the fields of its type by name, and the bytes of those that the type does not have."""

    record_type: RecordType = field(repr=False)
    values: Mapping[str, object] = field(repr=False)
    unknown: Unknown = field(repr=False)


class NestedValues(dict[str, object]):
    """The fields of a record inside a record. A plain dict, except that it carries its unknown fields along."""

    __slots__ = ("unknown",)

    def __init__(self, values: Mapping[str, object], *, unknown: Unknown) -> None:
        super().__init__(values)
        self.unknown = unknown


def encode(record_type: RecordType, values: Mapping[str, object], *, unknown: Unknown | None = None) -> bytes:
    """The bytes of a record: the same for the same values, whatever order they are given in.

    A value of None leaves an optional field out. ``unknown`` are fields that the type does not have, as ``decode`` gave
    them: with it, even empty, this is a record that was read, and the type's rules for writers (its event kinds and
    what each requires) are not applied, so that what a later release wrote can be written back.

    Raises ``Invalid``, naming the field, for one that is missing, of another type or not of this record, and for a
    number that is not finite; ``LimitExceeded`` for more than ``TURN_PAYLOAD_BYTES_MAX`` bytes, ``RECORD_DEPTH_MAX``
    levels or ``RECORD_VALUES_MAX`` values.
    """
    try:
        fields = _wire(record_type, values, unknown=unknown, depth=1)
        if unknown is None:
            _check_rules(record_type, values)
    except Mismatch as exc:
        raise Invalid(
            f"{record_type.type_id} cannot be written: {exc.at()} must be {exc.expected}, and is {exc.found}",
            record_type=record_type.type_id,
            field=exc.at(),
        ) from exc
    payload = _ENCODER.encode(fields)
    _refuse_large(payload)
    # What is written can be read: the same walk counts its values, among them those of unknown fields.
    Scanner(payload).value(0, depth=0)
    return payload


def decode(record_type: RecordType, payload: bytes) -> DecodedRecord:
    """The fields of a payload. Keys are tags, as numbers or in digits; nil in an optional field means it is absent.

    Written back without a change, what ``encode`` wrote (in this or any later release) gives the same bytes. A payload
    of another writer that is not in the compact form does not: whoever copies turns copies their bytes. Raises
    ``LegacyArtifact`` for what is no such record, and ``LimitExceeded`` as ``encode``. Extensions are never
    interpreted: in an unknown field they stay bytes, elsewhere they are refused.
    """
    _refuse_large(payload)
    scanner = Scanner(payload)
    try:
        values, unknown, end = _read(scanner, payload, record_type, start=0, depth=0)
    except Mismatch as exc:
        raise LegacyArtifact(
            f"a payload is no {record_type.type_id} of version {record_type.version}: {exc.at()} should be "
            f"{exc.expected}, and is {exc.found}; {ADVICE}",
            record_type=record_type.type_id,
            field=exc.at(),
        ) from exc
    if end != len(payload):
        raise LegacyArtifact(f"{len(payload) - end} bytes follow a {record_type.type_id}; {ADVICE}")
    return DecodedRecord(record_type=record_type, values=values, unknown=unknown)


def _refuse_large(payload: bytes) -> None:
    if len(payload) > TURN_PAYLOAD_BYTES_MAX:
        raise LimitExceeded(
            f"a record has {len(payload)} bytes, at most {TURN_PAYLOAD_BYTES_MAX} (turn_payload_bytes_max); keep large "
            "data as an object and record its address",
            limit="turn_payload_bytes_max",
            allowed=TURN_PAYLOAD_BYTES_MAX,
            actual=len(payload),
        )


def _wire(
    record_type: RecordType, values: Mapping[str, object], *, unknown: Unknown | None, depth: int
) -> dict[int | str, object]:
    for name in values:
        if name not in record_type.by_name:
            raise mismatch_at(str(name), f"a field of {record_type.type_id}", "none")
    fields: dict[int | str, object] = {}
    for item in record_type.fields:
        value = values.get(item.name)
        if value is None:
            if item.optional:
                continue
            if item.name not in values:
                raise mismatch_at(item.name, "given", "missing")
        try:
            fields[item.tag] = _wire_value(item, value, depth)
        except Mismatch as exc:
            exc.path.insert(0, item.name)
            raise
    return _in_place(record_type, fields, unknown) if unknown else fields


def _in_place(record_type: RecordType, fields: dict[int | str, object], unknown: Unknown) -> dict[int | str, object]:
    for key, raw in unknown.items():
        if key in record_type.by_tag or not _is_key(key):
            raise mismatch_at(str(key), "a tag that this type does not have, or a name", "another key")
        if not isinstance(raw, bytes):
            raise mismatch_at(str(key), "the bytes of one MessagePack value", kind_of(raw))
        try:
            whole = Scanner(raw).value(0, depth=1).end == len(raw)
        except LegacyArtifact as exc:
            raise mismatch_at(str(key), "the bytes of one MessagePack value", "damaged") from exc
        if not whole:
            raise mismatch_at(str(key), "the bytes of one MessagePack value", "more than one")
        fields[key] = msgspec.Raw(raw)
    tags = sorted(key for key in fields if isinstance(key, int))
    names = sorted(key for key in fields if isinstance(key, str))
    ordered: list[int | str] = [*tags, *names]
    return {key: fields[key] for key in ordered}


def _is_key(key: object) -> bool:
    # A name that reads as a tag would come back as that tag.
    if isinstance(key, str):
        return text(key) == key and tag_of(key) is None
    return isinstance(key, int) and not isinstance(key, bool) and 0 <= key < TAG_END


def _wire_value(item: Field, value: object, depth: int) -> object:
    if item.type == "ref" and item.ref is not None:
        return _wire_nested(item.ref, value, depth)
    if item.type == "array":
        return _wire_array(item, value, depth)
    if item.type == "map":
        kept = any_value(value, depth)
        if not isinstance(kept, dict):
            raise Mismatch("a map with text for keys", kind_of(value))
        if isinstance(item.items, str):
            for key, inner in kept.items():
                within(key, item.items, inner, depth + 1)
        return kept
    if item.enum is not None and isinstance(value, str):
        return _number(item.enum, value)
    return scalar(item.type, value, depth)


def _wire_array(item: Field, value: object, depth: int) -> list[object]:
    if not isinstance(value, list | tuple):
        raise Mismatch("a list", kind_of(value))
    inner = item.items if item.items is not None else "any"
    kept: list[object] = []
    for index, each in enumerate(value):
        try:
            if isinstance(inner, RecordType):
                kept.append(_wire_nested(inner, each, depth + 1))
            else:
                kept.append(scalar(inner, each, depth + 1))
        except Mismatch as exc:
            exc.path.insert(0, index)
            raise
    return kept


def _wire_nested(record_type: RecordType, value: object, depth: int) -> dict[int | str, object]:
    if not isinstance(value, Mapping):
        raise Mismatch(f"a mapping, the fields of {record_type.type_id}", kind_of(value))
    unknown = value.unknown if isinstance(value, NestedValues) else None
    return _wire(record_type, value, unknown=unknown, depth=depth + 1)


def _number(enum: Enumeration, label: str) -> int:
    number = enum.numbers.get(label)
    if number is None:
        raise Mismatch(f"one of {', '.join(enum.numbers)}", "another text")
    return number


def _check_rules(record_type: RecordType, values: Mapping[str, object]) -> None:
    present = {name for name, value in values.items() if value is not None}
    if record_type.event_kinds and values.get("event_kind") not in record_type.event_kinds:
        raise mismatch_at("event_kind", f"one of {', '.join(record_type.event_kinds)}", "another text")
    for requirement in record_type.requirements:
        if values.get(requirement.name) == requirement.value:
            for name in requirement.present:
                if name not in present:
                    raise mismatch_at(name, f"given when {requirement.name} is {requirement.value}", "missing")
    if record_type.exactly_one:
        given = [name for name in record_type.exactly_one if name in present]
        if len(given) != 1:
            either = " or ".join(record_type.exactly_one)
            raise mismatch_at(
                given[0] if given else record_type.exactly_one[0],
                f"given as the only one of {either}",
                "given with another" if given else "missing",
            )


def _read(
    scanner: Scanner, payload: bytes, record_type: RecordType, *, start: int, depth: int
) -> tuple[dict[str, object], dict[int | str, bytes], int]:
    values: dict[str, object] = {}
    unknown: dict[int | str, bytes] = {}
    seen: set[int | str] = set()
    end = scanner.first_key(start)
    for key, span in scanner.pairs(start, depth=depth):
        if key in seen:
            # Readers differ in which of the two they take.
            raise mismatch_at(str(key), "given once", "there twice")
        seen.add(key)
        end = span.end
        item = record_type.by_tag.get(key) if isinstance(key, int) else None
        if item is None:
            unknown[key] = payload[span.start : span.end]
        elif not (item.optional and scanner.is_nil(span)):
            try:
                values[item.name] = _read_value(scanner, payload, item, span, depth + 1)
            except Mismatch as exc:
                exc.path.insert(0, item.name)
                raise
    for item in record_type.fields:
        if not item.optional and item.name not in values:
            raise mismatch_at(item.name, "there", "missing")
    return values, unknown, end


def _read_value(scanner: Scanner, payload: bytes, item: Field, span: Span, depth: int) -> object:
    if item.type == "ref" and item.ref is not None:
        return _read_nested(payload, item.ref, span, depth)
    if isinstance(item.items, RecordType):
        return _read_array(scanner, payload, item.items, span, depth)
    if span.has_extension:
        raise Mismatch("a value of its type", "an extension")
    value = scanner.decode(span)
    if item.enum is None:
        return _wire_value(item, value, depth)
    number = scalar(item.type, value, depth)
    # A number of a later release has no label here, and is written back as it is.
    return item.enum.labels.get(number, number) if isinstance(number, int) else number


def _read_array(scanner: Scanner, payload: bytes, inner: RecordType, span: Span, depth: int) -> list[object]:
    if not scanner.is_array(span):
        raise Mismatch("a list", "another value")
    found: list[object] = []
    for index, each in enumerate(Scanner(payload).items(span.start, depth=depth)):
        try:
            found.append(_read_nested(payload, inner, each, depth + 1))
        except Mismatch as exc:
            exc.path.insert(0, index)
            raise
    return found


def _read_nested(payload: bytes, record_type: RecordType, span: Span, depth: int) -> NestedValues:
    scanner = Scanner(payload)  # the values were counted when the whole was walked through
    if not scanner.is_map(span):
        raise Mismatch(f"a map, the fields of {record_type.type_id}", "another value")
    values, unknown, _ = _read(scanner, payload, record_type, start=span.start, depth=depth)
    return NestedValues(values, unknown=unknown)
