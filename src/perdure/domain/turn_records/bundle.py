"""Registry bundles: the tables as JSON that a registry publishes, and what a later bundle may not change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

import msgspec

from perdure.domain.turn import BUNDLE_BYTES_MAX, TYPE_VERSION_MAX, check_bundle
from perdure.domain.turn_records.fields import Enumeration, Field, RecordType, is_integer
from perdure.errors import Invalid, LimitExceeded

_Signature: TypeAlias = tuple[str, str | None]  # what a tag keeps for ever: its type and enumeration
_Versions: TypeAlias = "dict[int, dict[int, _Field]]"  # the fields of a type, by version and tag
_INDENT: Final = 2  # a bundle is checked in, and a change of it is read line by line


class ClashKind(Enum):
    """What a registry refuses."""

    FIELDS_CHANGED = "fields_changed"
    TAG_CHANGED = "tag_changed"
    ENUM_CHANGED = "enum_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """One contradiction between two bundles. ``subject`` is the id of the type or enumeration."""

    kind: ClashKind
    subject: str
    version: int | None = None
    tag: int | None = None
    message: str


class _Field(msgspec.Struct, omit_defaults=True, frozen=True):
    name: str
    type: str
    enum: str | None = None
    ref: str | None = None
    optional: bool | None = None
    items: str | dict[str, object] | None = None

    def comparable(self) -> tuple[object, ...]:
        return (self.name, self.type, self.enum, self.ref, bool(self.optional), self._items())

    def signature(self) -> _Signature:
        return (self.type, self.enum)

    def _items(self) -> object:
        # "string", {"type": "string"} and {"ref": T} are short for, or the same as, what others write out.
        if not isinstance(self.items, dict):
            return self.items
        kind, ref = self.items.get("type", "ref"), self.items.get("ref")
        return ("ref", ref) if kind == "ref" else kind


class _Version(msgspec.Struct, frozen=True):
    fields: dict[str, _Field] = msgspec.field(default_factory=dict)


class _Type(msgspec.Struct, frozen=True):
    versions: dict[str, _Version] = msgspec.field(default_factory=dict)


class _Bundle(msgspec.Struct, frozen=True):
    registry_version: int
    bundle_id: str
    types: dict[str, _Type] = msgspec.field(default_factory=dict)
    enums: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)


_DECODER: Final = msgspec.json.Decoder(_Bundle)


def bundle(record_types: Iterable[RecordType], *, bundle_id: str, version: int) -> bytes:
    """The bundle of record types and of all that is nested in them: the same bytes for the same tables.

    Raises ``Invalid`` for two different tables of one type and version, or two enumerations of one id; for an id with
    anything but letters, digits, dots, dashes and underscores; and for a ``version`` below 1.
    """
    if not is_integer(version, 1, TYPE_VERSION_MAX):
        raise Invalid(f"a bundle's version is {ascii(version)[:40]}; expected 1 to {TYPE_VERSION_MAX}")
    tables: dict[tuple[str, int], RecordType] = {}
    enums: dict[str, Enumeration] = {}
    waiting = list(record_types)
    while waiting:
        table = waiting.pop()
        if tables.setdefault((table.type_id, table.version), table) != table:
            raise Invalid(f"{table.type_id} has two tables of version {table.version}; give the second one its own")
        for enum in table.enums:
            if enums.setdefault(enum.enum_id, enum) != enum:
                raise Invalid(f"{enum.enum_id} has two sets of labels; give the second one an id of its own")
        waiting += table.nested
    types: dict[str, _Type] = {}
    for type_id, type_version in sorted(tables):
        described = _described(tables[type_id, type_version])
        types.setdefault(type_id, _Type()).versions[str(type_version)] = described
    labels = {
        enum_id: {str(number): label for number, label in enums[enum_id].labels.items()} for enum_id in sorted(enums)
    }
    content = _Bundle(registry_version=version, bundle_id=bundle_id, types=types, enums=labels)
    raw = msgspec.json.format(msgspec.json.encode(content), indent=_INDENT) + b"\n"
    check_bundle(bundle_id, raw)
    return raw


def clashes(old: bytes, new: bytes) -> tuple[Clash, ...]:
    """What keeps ``new`` from standing in a registry beside ``old``; nothing if it may be published.

    An existing version of a type keeps its fields, a tag of a type keeps its type and enumeration through all versions,
    and an enumeration keeps its mapping. New versions, types and enumerations are welcome, and what ``new`` leaves out
    stays as ``old`` has it. Raises ``Invalid`` for bytes that are no bundle.
    """
    before, after = _parsed(old), _parsed(new)
    found: list[Clash] = []
    for enum_id in sorted(after.enums):
        if before.enums.get(enum_id, after.enums[enum_id]) != after.enums[enum_id]:
            message = f"{enum_id} has other labels; a changed enumeration needs an id of its own"
            found.append(Clash(kind=ClashKind.ENUM_CHANGED, subject=enum_id, message=message))
    for type_id in sorted(after.types):
        found += _type_clashes(type_id, _versions(before, type_id), _versions(after, type_id))
    return tuple(found)


def _type_clashes(type_id: str, before: _Versions, after: _Versions) -> list[Clash]:
    found: list[Clash] = []
    kept: dict[int, _Signature] = {}
    for fields in before.values():
        kept |= {tag: item.signature() for tag, item in fields.items()}
    for version, fields in sorted(after.items()):
        if version in before:
            if _comparable(before[version]) != _comparable(fields):
                message = f"{type_id} version {version} has other fields; a changed table needs a new version"
                found.append(Clash(kind=ClashKind.FIELDS_CHANGED, subject=type_id, version=version, message=message))
            continue
        for tag, item in sorted(fields.items()):
            if kept.setdefault(tag, item.signature()) != item.signature():
                message = (
                    f"{type_id} version {version} uses tag {tag} for another type than before; "
                    "a changed field needs a tag of its own"
                )
                found.append(
                    Clash(kind=ClashKind.TAG_CHANGED, subject=type_id, version=version, tag=tag, message=message)
                )
    return found


def _versions(content: _Bundle, type_id: str) -> _Versions:
    entry = content.types.get(type_id, _Type())
    return {
        _number(version, of=type_id): {_number(tag, of=type_id): item for tag, item in described.fields.items()}
        for version, described in entry.versions.items()
    }


def _comparable(fields: dict[int, _Field]) -> dict[int, tuple[object, ...]]:
    return {tag: item.comparable() for tag, item in fields.items()}


def _number(text: str, *, of: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(2**64))):
        raise Invalid(f"a bundle has {ascii(text)[:40]} where a version or tag of {ascii(of)[:80]} is a number")
    return int(text)


def _described(table: RecordType) -> _Version:
    return _Version(fields={str(item.tag): _described_field(item) for item in table.fields})


def _described_field(item: Field) -> _Field:
    items: str | dict[str, object] | None = None
    if isinstance(item.items, RecordType):
        items = {"type": "ref", "ref": item.items.type_id}  # written out: some servers do not know the short form
    elif item.items is not None:
        items = item.items
    return _Field(
        name=item.name,
        type=item.type,
        enum=item.enum.enum_id if item.enum is not None else None,
        ref=item.ref.type_id if item.ref is not None else None,
        optional=item.optional or None,
        items=items,
    )


def _parsed(raw: bytes) -> _Bundle:
    if len(raw) > BUNDLE_BYTES_MAX:
        raise LimitExceeded(
            f"a bundle has {len(raw)} bytes, at most {BUNDLE_BYTES_MAX} (bundle_bytes_max)",
            limit="bundle_bytes_max",
            allowed=BUNDLE_BYTES_MAX,
            actual=len(raw),
        )
    try:
        parsed = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Invalid("these bytes are no registry bundle; expected JSON with registry_version and bundle_id") from exc
    if parsed.registry_version < 1:
        raise Invalid(f"a bundle has registry_version {parsed.registry_version}; expected 1 or more")
    for type_id in parsed.types:
        _versions(parsed, type_id)
    return parsed
