"""The manifest of a root: whose it is, and of which lists a checkpoint was ever written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import blake3

from perdure.domain.canonical import JsonValue, canonical_json
from perdure.domain.tasklists.failures import ManifestInvalid, ManifestUnsupported
from perdure.domain.tasklists.snapshot_json import parse_object
from perdure.errors import Invalid, LimitExceeded

MANIFEST_FORMAT: Final = "perdure-tasklist-store"
MANIFEST_SCHEMA_VERSION: Final = 1
MANIFEST_BYTES_MAX: Final = 32 * 1_048_576  # 100 000 lists with the longest ids; it is rewritten for each new list

_FIELDS: Final = frozenset({"format", "schema_version", "store_id", "created_at_ms", "lists", "integrity"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``lists`` has the moment of the first checkpoint of each list, so that a list that vanished is not a new one."""

    store_id: str
    created_at_ms: int
    lists: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


def with_list(manifest: Manifest, entity_id: str, *, first_checkpoint_ms: int) -> Manifest:
    """The manifest that knows of one more list."""
    return replace(manifest, lists=MappingProxyType({**manifest.lists, entity_id: first_checkpoint_ms}))


def without_list(manifest: Manifest, entity_id: str) -> Manifest:
    """The manifest that knows of one list less."""
    kept = {name: moment for name, moment in manifest.lists.items() if name != entity_id}
    return replace(manifest, lists=MappingProxyType(kept))


def encode_manifest(manifest: Manifest) -> bytes:
    """The file: JSON that people can read, with a digest of its canonical form."""
    body: dict[str, JsonValue] = {
        "format": MANIFEST_FORMAT,
        "schema_version": MANIFEST_SCHEMA_VERSION,
        "store_id": manifest.store_id,
        "created_at_ms": manifest.created_at_ms,
        "lists": dict(sorted(manifest.lists.items())),
    }
    document = {**body, "integrity": {"algorithm": "blake3", "digest_hex": _digest(body)}}
    data = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    if len(data) > MANIFEST_BYTES_MAX:
        raise LimitExceeded(
            f"the manifest would have {len(data)} bytes, at most {MANIFEST_BYTES_MAX} (manifest_bytes_max); "
            "keep some lists below another root",
            limit="manifest_bytes_max",
            allowed=MANIFEST_BYTES_MAX,
            actual=len(data),
        )
    return data


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in a file. Raises ``ManifestUnsupported`` for another schema, ``ManifestInvalid`` for damage."""
    parsed = parse_object(data)
    if parsed is None or parsed.has_duplicates:
        raise _invalid("it is not one JSON object")
    fields = parsed.fields
    version = fields.get("schema_version")
    if type(version) is int and version != MANIFEST_SCHEMA_VERSION:
        raise ManifestUnsupported(
            f"the manifest is of schema {version}; this release reads {MANIFEST_SCHEMA_VERSION}: use the release that "
            "wrote it",
            found=version,
            supported=MANIFEST_SCHEMA_VERSION,
        )
    if fields.keys() != _FIELDS or fields["format"] != MANIFEST_FORMAT:
        raise _invalid("it has other fields than a manifest")
    body = {name: value for name, value in fields.items() if name != "integrity"}
    try:
        expected = {"algorithm": "blake3", "digest_hex": _digest(body)}
    except (Invalid, LimitExceeded) as exc:
        raise _invalid("it holds what canonical JSON does not have") from exc
    store_id, created_at_ms, lists = fields["store_id"], fields["created_at_ms"], fields["lists"]
    if fields["integrity"] != expected:
        raise _invalid("its digest is not that of its content")
    if not isinstance(store_id, str) or type(created_at_ms) is not int or not isinstance(lists, dict):
        raise _invalid("a field has the wrong type")
    moments = {name: moment for name, moment in lists.items() if type(moment) is int}
    if len(moments) != len(lists):
        raise _invalid("a field has the wrong type")
    return Manifest(store_id=store_id, created_at_ms=created_at_ms, lists=MappingProxyType(moments))


def _digest(body: dict[str, JsonValue]) -> str:
    return blake3.blake3(canonical_json(body)).hexdigest()


def _invalid(reason: str) -> ManifestInvalid:
    return ManifestInvalid(
        f"the manifest is damaged: {reason}; restore it from a backup, or move it away and initialise the root again",
        reason=reason,
    )
