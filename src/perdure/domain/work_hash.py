"""Hash scheme v1 of work units: what is hashed, byte for byte, so that anybody can verify it without this library.

``docs/reference/work-hash-v1.md`` is the specification and ``tests/golden/work_hash_v1.json`` its vectors. Both are
published: what they say of v1 never changes, and a different rule is another scheme with another id.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final
from uuid import UUID

from perdure.domain.typed_values import TypedMap, TypedValue, canonical_bytes
from perdure.errors import Invalid

if TYPE_CHECKING:
    from perdure.domain.work import HistoryEntry

HASH_SCHEME: Final = "v1"  # SHA-256
HASH_SCHEME_KEYED: Final = "v1-hmac"  # HMAC-SHA-256: whoever may write the database still cannot make a hash
HASH_KEY_BYTES_MIN: Final = 32  # as long as the digest, which RFC 2104 recommends; a shorter one can be guessed
HASH_KEY_BYTES_MAX: Final = 1_024  # a longer one is a file given by mistake
CONTENT_BYTES_MAX: Final = 1_048_576  # what is hashed at once, in canonical form: each save and each check pays for it

_CONTENT: Final = "perdure.work.content"
_ENTRY: Final = "perdure.work.entry"
_VALUE: Final = "perdure.work.value"
_HASH: Final = re.compile(r"[0-9a-f]{64}")


def hash_scheme(key: bytes | None) -> str:
    """The id that stands beside a hash made with ``key``, or without one."""
    return HASH_SCHEME if key is None else HASH_SCHEME_KEYED


def content_hash(attributes: TypedMap, *, unit_id: UUID, schema: str, key: bytes | None = None) -> str:
    """The hash of a unit's attributes: 64 lower-case hexadecimal digits of SHA-256, or of HMAC-SHA-256 with ``key``.

    The same attributes have another hash in another unit and under another schema.

    Raises:
        Invalid: what is no typed value, naming its place; an empty schema; a key of a wrong length.
        LimitExceeded: nested too deep, or larger than ``CONTENT_BYTES_MAX``.
    """
    return _digest(content_preimage(attributes, unit_id=unit_id, schema=schema, key=key), key)


def entry_hash(previous_hash: str | None, entry: TypedMap, *, key: bytes | None = None) -> str:
    """The hash of a history entry, which covers ``entry`` and, by ``previous_hash``, every entry before it.

    ``previous_hash`` is None for the first entry of a unit. Raises as ``content_hash``, and ``Invalid`` for a previous
    hash that is none.
    """
    return _digest(entry_preimage(previous_hash, entry, key=key), key)


def history_entry_hash(entry: HistoryEntry, *, key: bytes | None = None) -> str:
    """The hash that ``entry`` must have, from its other fields. Raises as ``entry_hash``."""
    return entry_hash(entry.previous_entry_hash, entry_fields(entry), key=key)


def value_digest(encoded: str, *, key: bytes | None = None) -> str:
    """The digest by which a history entry names the value of an attribute, given as ``encode_value`` wrote it."""
    return _digest(_preimage(_VALUE, key, ("the value", encoded)), key)


def content_preimage(attributes: TypedMap, *, unit_id: UUID, schema: str, key: bytes | None = None) -> bytes:
    """The bytes of which ``content_hash`` is the digest."""
    if not schema:
        raise Invalid("a schema is empty; name the shape of the attributes, as in invoice/1")
    unit = ("the unit's id", str(unit_id))
    return _preimage(_CONTENT, key, unit, ("the schema", schema), ("the attributes", dict(attributes)))


def entry_preimage(previous_hash: str | None, entry: TypedMap, *, key: bytes | None = None) -> bytes:
    """The bytes of which ``entry_hash`` is the digest."""
    if previous_hash is not None and _HASH.fullmatch(previous_hash) is None:
        raise Invalid("the hash of the previous entry is none; expected 64 lower-case hexadecimal digits, or None")
    return _preimage(_ENTRY, key, ("the previous hash", previous_hash), ("the history entry", dict(entry)))


def entry_fields(entry: HistoryEntry) -> dict[str, TypedValue]:
    """What ``entry_hash`` covers of an entry: every field but the two hashes of the chain, absent ones as None."""
    named: dict[str, TypedValue] = {
        part.name: getattr(entry, part.name)
        for part in fields(entry)
        if part.name not in {"changes", "previous_entry_hash", "entry_hash"}
    }
    named["changes"] = [
        {"key": change.key, "version": change.version, "digest": change.digest} for change in entry.changes
    ]
    return named


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeDifference:
    """What an attribute was and is. The values are left out of the representation, which ends up in logs."""

    previous: TypedValue = field(repr=False)
    current: TypedValue = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeDiff:
    """How attributes differ, by key and in the order of keys. Equal is what hashes equal: 1 and 1.0, but not True."""

    added: Mapping[str, TypedValue] = field(repr=False)
    removed: Mapping[str, TypedValue] = field(repr=False)
    modified: Mapping[str, AttributeDifference]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.modified)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of every attribute that differs, in order."""
        return tuple(sorted([*self.added, *self.removed, *self.modified]))


def attribute_diff(before: TypedMap, after: TypedMap) -> AttributeDiff:
    """What was added, removed and modified between two states of a unit's attributes. Raises as ``content_hash``."""
    both = sorted(before.keys() & after.keys())
    return AttributeDiff(
        added={key: after[key] for key in sorted(after.keys() - before.keys())},
        removed={key: before[key] for key in sorted(before.keys() - after.keys())},
        modified={
            key: AttributeDifference(previous=before[key], current=after[key])
            for key in both
            if _canonical(before[key]) != _canonical(after[key])
        },
    )


def _preimage(domain: str, key: bytes | None, *parts: tuple[str, object]) -> bytes:
    # The parts stand in one JSON array, so that no two lists of parts give the same bytes, whatever they contain.
    written = [_canonical(part, what=what) for what, part in (("", domain), ("", hash_scheme(key)), *parts)]
    return b"[" + b",".join(written) + b"]"


def _canonical(value: object, *, what: str = "the attribute") -> bytes:
    return canonical_bytes(value, what=what, bytes_max=CONTENT_BYTES_MAX, limit="content_bytes_max")


def _digest(preimage: bytes, key: bytes | None) -> str:
    if key is None:
        return hashlib.sha256(preimage).hexdigest()
    if not HASH_KEY_BYTES_MIN <= len(key) <= HASH_KEY_BYTES_MAX:
        raise Invalid(
            f"a hash key has {len(key)} bytes; expected {HASH_KEY_BYTES_MIN} to {HASH_KEY_BYTES_MAX} random ones"
        )
    return hmac.digest(key, preimage, "sha256").hex()
