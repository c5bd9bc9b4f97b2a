"""The tables of records: a type is its fields, and each field has a tag that means it for ever.

The encoder, the decoder and the registry bundle are all read from these tables; nothing else knows a tag.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from perdure.domain.turn import TYPE_ID_CHARS_MAX, TYPE_VERSION_MAX
from perdure.errors import Invalid

TAG_MAX: Final = 127  # a tag is one byte in every turn for ever; larger ones would take two
ENUM_LABELS_MAX: Final = 256  # the numbers of one byte
FIELD_NAME_CHARS_MAX: Final = 64  # a column of a table that people read
TIMESTAMP_MS_MAX: Final = 253_402_300_799_999  # the last moment of the year 9999; RFC 3339 has no later one

# The least and the greatest of each type of integer, as CXDB renders it. It shows a negative int64 or i64 as null, so
# these begin at 0 here. It shows an int32 as a number of either sign, and an i8, i16 or i32 in its generic way, which
# turns 0 into text and leaves -1 a number: what may be negative, an exit code for instance, is an int32.
INTEGERS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "u64": (0, 2**64 - 1),
        "uint64": (0, 2**64 - 1),
        "int64": (0, 2**63 - 1),
        "i64": (0, 2**63 - 1),
        "u32": (0, 2**32 - 1),
        "uint32": (0, 2**32 - 1),
        "u8": (0, 2**8 - 1),
        "uint8": (0, 2**8 - 1),
        "int32": (-(2**31), 2**31 - 1),
        "i32": (-(2**31), 2**31 - 1),
        "i16": (-(2**15), 2**15 - 1),
        "i8": (-(2**7), 2**7 - 1),
        "unix_ms": (0, TIMESTAMP_MS_MAX),
        "time_ms": (0, TIMESTAMP_MS_MAX),
        "timestamp_ms": (0, TIMESTAMP_MS_MAX),
    }
)
# No f32: a value would not come back as it was given.
SCALARS: Final = frozenset({*INTEGERS, "string", "bool", "bytes", "typed_blob", "f64", "any"})
TYPES: Final = SCALARS | {"array", "map", "ref"}
_ENUM_TYPES: Final = frozenset({"u8", "uint8", "u32", "uint32", "u64", "uint64"})  # only these are shown as labels

_FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_TYPE_ID: Final = re.compile(r"[A-Za-z0-9_.:-]+")  # part of an address that CXDB does not decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumeration:
    """Numbers with labels. Both are fixed for ever: a registry refuses a changed mapping, even a longer one."""

    enum_id: str
    labels: Mapping[int, str] = field(hash=False)
    numbers: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_id(self.enum_id, what="an enumeration's id")
        if not 1 <= len(self.labels) <= ENUM_LABELS_MAX:
            raise Invalid(f"{self.enum_id} has {len(self.labels)} labels; expected 1 to {ENUM_LABELS_MAX}")
        for number, label in self.labels.items():
            if not is_integer(number, 0, ENUM_LABELS_MAX - 1):
                raise Invalid(f"{self.enum_id} has the number {ascii(number)[:40]}; expected 0 to 255")
            _check_name(label, of=self.enum_id)
        numbers = {label: number for number, label in self.labels.items()}
        if len(numbers) < len(self.labels):
            raise Invalid(f"{self.enum_id} has one label for two numbers; name them apart")
        object.__setattr__(self, "labels", MappingProxyType(dict(sorted(self.labels.items()))))
        object.__setattr__(self, "numbers", MappingProxyType(numbers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field: its tag and type are fixed for ever, its name may change with a new version of its record.

    ``ref`` is the nested record of a ``ref``, ``items`` what an ``array`` (or the values of a ``map``) holds, anything
    if None, and ``enum`` the labels of an unsigned integer.
    """

    tag: int
    name: str
    type: str
    optional: bool = False
    ref: RecordType | None = None
    items: str | RecordType | None = None
    enum: Enumeration | None = None

    def __post_init__(self) -> None:
        _check_name(self.name, of="a record")
        if not is_integer(self.tag, 1, TAG_MAX):
            raise Invalid(
                f"the field {self.name} has the tag {ascii(self.tag)[:40]}; expected 1 to {TAG_MAX} (tag_max)"
            )
        if self.type not in TYPES:
            raise Invalid(
                f"the field {self.name} has the type {ascii(self.type)[:40]}; expected one of "
                f"{', '.join(sorted(TYPES))}"
            )
        if (self.type == "ref") != (self.ref is not None):
            raise Invalid(f"the field {self.name} must have the type ref and a nested record, or neither")
        if self.enum is not None and self.type not in _ENUM_TYPES:
            raise Invalid(f"the field {self.name} has labels, so its type is one of {', '.join(sorted(_ENUM_TYPES))}")
        self._check_items()

    def _check_items(self) -> None:
        if self.items is None:
            return
        if self.type not in {"array", "map"}:
            raise Invalid(f"the field {self.name} is no array and no map, so it has no items")
        if isinstance(self.items, RecordType):
            if self.type == "map":
                raise Invalid(f"the field {self.name} is a map of records, which readers cannot show; use an array")
        elif self.items not in SCALARS:
            raise Invalid(
                f"the field {self.name} holds items of type {ascii(self.items)[:40]}; expected a record or one of "
                f"{', '.join(sorted(SCALARS))}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """When the field ``name`` is ``value``, the fields ``present`` are not optional."""

    name: str
    value: str
    present: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordType:
    """One version of a type: what its payloads hold.

    ``event_kinds`` are what its field of that name may say, anything if empty; ``exactly_one`` are fields of which one
    is given and no second. These and ``requirements`` bind writers only: readers take what later releases wrote.
    """

    type_id: str
    version: int = 1
    fields: tuple[Field, ...]
    event_kinds: tuple[str, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    exactly_one: tuple[str, ...] = ()
    by_name: Mapping[str, Field] = field(init=False, repr=False, compare=False)
    by_tag: Mapping[int, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_id(self.type_id, what="a type id")
        if not is_integer(self.version, 0, TYPE_VERSION_MAX):
            raise Invalid(
                f"{self.type_id} has the version {ascii(self.version)[:40]}; expected 0 to {TYPE_VERSION_MAX}"
            )
        if not self.fields:
            raise Invalid(f"{self.type_id} has no fields; a record holds something")
        ordered = sorted(self.fields, key=lambda item: item.tag)
        self._refuse_twice("tag", [item.tag for item in ordered])
        self._refuse_twice("name", [item.name for item in ordered])
        object.__setattr__(self, "fields", tuple(ordered))
        object.__setattr__(self, "by_name", MappingProxyType({item.name: item for item in ordered}))
        object.__setattr__(self, "by_tag", MappingProxyType({item.tag: item for item in ordered}))
        self._check_rules()

    @property
    def enums(self) -> tuple[Enumeration, ...]:
        """The enumerations of its fields, each once, in the order of their ids."""
        found = {item.enum.enum_id: item.enum for item in self.fields if item.enum is not None}
        return tuple(found[enum_id] for enum_id in sorted(found))

    @property
    def nested(self) -> tuple[RecordType, ...]:
        """The records inside its fields, each once, in the order of their tags."""
        found: list[RecordType] = []
        for item in self.fields:
            inner = item.ref if item.ref is not None else item.items
            if isinstance(inner, RecordType) and inner not in found:
                found.append(inner)
        return tuple(found)

    def _refuse_twice(self, what: str, values: list[int] | list[str]) -> None:
        twice = [value for value, count in Counter[int | str](values).items() if count > 1]
        if twice:
            raise Invalid(f"{self.type_id} has the {what} {twice[0]} twice; each {what} means one field")

    def _check_rules(self) -> None:
        named = [*self.exactly_one]
        if self.event_kinds:
            named.append("event_kind")
        for requirement in self.requirements:
            named += [requirement.name, *requirement.present]
        for name in named:
            if name not in self.by_name:
                raise Invalid(f"a rule of {self.type_id} is about {ascii(name)[:80]}, which is no field of it")


def is_integer(value: object, least: int, greatest: int) -> bool:
    """Whether a value is an integer within bounds; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= greatest


def _check_name(name: object, *, of: str) -> None:
    if not isinstance(name, str) or len(name) > FIELD_NAME_CHARS_MAX or _FIELD_NAME.fullmatch(name) is None:
        raise Invalid(
            f"{ascii(name)[:80]} is no name in {of}: expected a lower-case letter, then letters, digits and "
            f"underscores, {FIELD_NAME_CHARS_MAX} at most (field_name_chars_max)"
        )


def _check_id(value: object, *, what: str) -> None:
    if not isinstance(value, str) or len(value) > TYPE_ID_CHARS_MAX or _TYPE_ID.fullmatch(value) is None:
        raise Invalid(
            f"{ascii(value)[:80]} is not {what}: expected letters, digits, dots, colons, dashes and underscores, "
            f"{TYPE_ID_CHARS_MAX} at most (type_id_chars_max)"
        )
