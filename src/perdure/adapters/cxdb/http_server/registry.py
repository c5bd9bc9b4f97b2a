"""The registry: what all bundles together say, and what a further one may not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from perdure.adapters.cxdb.http_server.descriptors import Bundle, FieldDescriptor, TypeVersion
from perdure.errors import Conflict, Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Types and enums by their ids. It never changes: a bundle makes another registry, or an error and nothing."""

    types: Mapping[str, Mapping[int, TypeVersion]] = field(default_factory=dict)
    enums: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    last_bundle_id: str | None = None

    def find(self, type_id: str, version: int) -> TypeVersion | None:
        """One version of a type."""
        return self.types.get(type_id, {}).get(version)

    def latest(self, type_id: str) -> int | None:
        """The highest version of a type that is there."""
        return max(self.types.get(type_id, {}), default=None)

    def find_latest(self, type_id: str) -> TypeVersion | None:
        """The highest version of a type, itself."""
        version = self.latest(type_id)
        return None if version is None else self.find(type_id, version)

    def label(self, enum_id: str, number: int) -> str | None:
        """What a number of an enum is called."""
        return self.enums.get(enum_id, {}).get(number)

    def number(self, enum_id: str, label: str) -> int | None:
        """The number that has this label."""
        return next((number for number, each in self.enums.get(enum_id, {}).items() if each == label), None)

    def plus(self, bundle: Bundle) -> Registry:
        """The registry with a bundle. Raises ``Conflict`` for what it may not change, ``Invalid`` for a missing enum.

        An existing version keeps its fields and gets a renderer once, a tag keeps its type and enum through all
        versions, an enum keeps its labels.
        """
        enums = dict(self.enums)
        for enum_id, labels in bundle.enums.items():
            if enums.setdefault(enum_id, labels) != labels:
                raise Conflict(f"enum {enum_id!a} has other labels; a changed one needs an id of its own")
        types = dict(self.types)
        for type_id, versions in bundle.types.items():
            types[type_id] = _merged(type_id, self.types.get(type_id, {}), versions)
            for version in versions.values():
                _check_enums(type_id, version, enums)
        return replace(self, types=types, enums=enums, last_bundle_id=bundle.bundle_id)


EMPTY: Final = Registry()


def _merged(
    type_id: str, existing: Mapping[int, TypeVersion], added: Mapping[int, TypeVersion]
) -> Mapping[int, TypeVersion]:
    merged = dict(existing)
    kept: dict[int, tuple[str, str | None]] = {}
    for known in existing.values():
        kept |= {tag: _signature(item) for tag, item in known.fields.items()}
    for number, version in sorted(added.items()):
        before = existing.get(number)
        if before is None:
            _check_tags(type_id, version, kept)
            merged[number] = version
            continue
        if before.fields != version.fields:
            raise Conflict(f"type {type_id!a} version {number} has other fields; a change needs a new version")
        if version.renderer is not None and before.renderer not in (None, version.renderer):
            raise Conflict(f"type {type_id!a} version {number} has another renderer; a change needs a new version")
        merged[number] = replace(before, renderer=before.renderer or version.renderer)
    return merged


def _check_tags(type_id: str, version: TypeVersion, kept: dict[int, tuple[str, str | None]]) -> None:
    for tag, item in version.fields.items():
        if kept.setdefault(tag, _signature(item)) != _signature(item):
            raise Conflict(
                f"tag {tag} of type {type_id!a} has another type or enum in a version before; "
                "a changed field needs a tag of its own"
            )


def _signature(item: FieldDescriptor) -> tuple[str, str | None]:
    return item.type, item.enum


def _check_enums(type_id: str, version: TypeVersion, enums: Mapping[str, Mapping[int, str]]) -> None:
    for item in version.fields.values():
        if item.enum is not None and item.enum not in enums:
            raise Invalid(f"type {type_id!a} names enum {item.enum!a}, which is in no bundle; add it to this one")
