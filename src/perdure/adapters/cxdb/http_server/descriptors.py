"""Descriptors: what a registry bundle says about types, and what of it readers use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from perdure.adapters.cxdb.http_server.limits import BUNDLE_BODY_BYTES_MAX, BUNDLE_NAME_CHARS_MAX
from perdure.domain.turn import TYPE_VERSION_MAX
from perdure.domain.turn_records.wire import tag_of
from perdure.errors import Invalid, LimitExceeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What an array holds: values of a simple type, or records of one."""

    type: str
    ref: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDescriptor:
    """One field of a type's version."""

    name: str
    type: str
    enum: str | None = None
    ref: str | None = None
    optional: bool = False
    items: Items | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderer:
    """Where a type's display is; nothing here loads it."""

    esm_url: str
    component: str | None = None
    integrity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeVersion:
    """One version of a type: its fields by tag."""

    fields: Mapping[int, FieldDescriptor]
    renderer: Renderer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle as it was sent; whether it fits a registry is not for it to say."""

    bundle_id: str
    types: Mapping[str, Mapping[int, TypeVersion]]
    enums: Mapping[str, Mapping[int, str]]


class _Field(msgspec.Struct, frozen=True):
    name: str
    type: str
    enum: str | None = None
    ref: str | None = None
    optional: bool | None = None
    items: object = None


class _Renderer(msgspec.Struct, frozen=True):
    esm_url: str
    component: str | None = None
    integrity: str | None = None


class _Version(msgspec.Struct, frozen=True):
    fields: dict[str, _Field] = msgspec.field(default_factory=dict)
    renderer: _Renderer | None = None


class _Type(msgspec.Struct, frozen=True):
    versions: dict[str, _Version] = msgspec.field(default_factory=dict)


class _Bundle(msgspec.Struct, frozen=True):
    registry_version: int
    bundle_id: str
    types: dict[str, _Type] = msgspec.field(default_factory=dict)
    enums: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)


_In = TypeVar("_In")
_Out = TypeVar("_Out")
_DECODER: Final = msgspec.json.Decoder(_Bundle)
_TAG_MAX: Final = 2**64 - 1


def parse_bundle(raw: bytes) -> Bundle:
    """The bundle in a body. Raises ``Invalid``; ``LimitExceeded`` above ``BUNDLE_BODY_BYTES_MAX``."""
    if len(raw) > BUNDLE_BODY_BYTES_MAX:
        raise LimitExceeded(
            f"a bundle has {len(raw)} bytes, at most {BUNDLE_BODY_BYTES_MAX} (bundle_body_bytes_max)",
            limit="bundle_body_bytes_max",
            allowed=BUNDLE_BODY_BYTES_MAX,
            actual=len(raw),
        )
    try:
        sent = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Invalid(
            "the body is no registry bundle: expected JSON with registry_version, bundle_id, types and enums"
        ) from exc
    if not 0 < sent.registry_version <= TYPE_VERSION_MAX:
        raise Invalid(f"registry_version must be 1 to {TYPE_VERSION_MAX}")
    if not 0 < len(sent.bundle_id) <= BUNDLE_NAME_CHARS_MAX:
        raise Invalid(f"bundle_id must have 1 to {BUNDLE_NAME_CHARS_MAX} characters (bundle_name_chars_max)")
    return Bundle(
        bundle_id=sent.bundle_id,
        types={
            type_id: _numbered(entry.versions, _type_version, greatest=TYPE_VERSION_MAX, what="version")
            for type_id, entry in sent.types.items()
        },
        enums={
            enum_id: _numbered(labels, str, greatest=_TAG_MAX, what="number of an enum")
            for enum_id, labels in sent.enums.items()
        },
    )


def describe(version: TypeVersion) -> dict[str, object]:
    """A type's version as the registry answers it."""
    fields = {str(tag): _described(item) for tag, item in version.fields.items()}
    if version.renderer is None:
        return {"fields": fields}
    return {"fields": fields, "renderer": describe_renderer(version.renderer)}


def describe_renderer(renderer: Renderer) -> dict[str, object]:
    """A renderer as the registry answers it."""
    described: dict[str, object] = {"esm_url": renderer.esm_url}
    if renderer.component is not None:
        described["component"] = renderer.component
    if renderer.integrity is not None:
        described["integrity"] = renderer.integrity
    return described


def _described(item: FieldDescriptor) -> dict[str, object]:
    described: dict[str, object] = {"name": item.name, "type": item.type}
    if item.enum is not None:
        described["enum"] = item.enum
    if item.ref is not None:
        described["ref"] = item.ref
    if item.optional:
        described["optional"] = True
    if item.items is not None:
        is_ref = item.items.ref is not None
        described["items"] = {"type": "ref", "ref": item.items.ref} if is_ref else item.items.type
    return described


def _type_version(sent: _Version) -> TypeVersion:
    renderer = None
    if sent.renderer is not None:
        renderer = Renderer(
            esm_url=sent.renderer.esm_url, component=sent.renderer.component, integrity=sent.renderer.integrity
        )
    return TypeVersion(fields=_numbered(sent.fields, _field, greatest=_TAG_MAX, what="tag"), renderer=renderer)


def _field(sent: _Field) -> FieldDescriptor:
    return FieldDescriptor(
        name=sent.name,
        type=sent.type,
        enum=sent.enum,
        ref=sent.ref,
        optional=bool(sent.optional),
        items=_items(sent.items),
    )


def _items(sent: object) -> Items | None:
    if isinstance(sent, str):
        return Items(type=sent)
    if not isinstance(sent, dict):
        return None
    ref = sent.get("ref")
    kind = sent.get("type", "ref")
    if kind == "ref" and isinstance(ref, str):
        return Items(type="ref", ref=ref)
    return Items(type=kind) if isinstance(kind, str) and kind != "ref" else None


def _numbered(entries: Mapping[str, _In], make: Callable[[_In], _Out], *, greatest: int, what: str) -> dict[int, _Out]:
    found: dict[int, _Out] = {}
    for text, entry in entries.items():
        number = tag_of(text)
        if number is None or number > greatest:
            raise Invalid(f"{ascii(text)[:40]} is no {what}: expected 0 to {greatest}, in digits")
        if number in found:
            raise Invalid(f"the {what} {number} is there twice; expected each once")
        found[number] = make(entry)
    return found
