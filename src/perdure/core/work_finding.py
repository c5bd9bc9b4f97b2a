"""A unit of work as it was loaded: its values, and whether they are those that its stored hash is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from perdure.core.work_asking import decoded
from perdure.core.work_chain import SCHEMES
from perdure.core.work_verifying import content_of
from perdure.domain.typed_values import TypedValue
from perdure.domain.work import StoredWork, WorkUnit
from perdure.domain.work_hash import HASH_SCHEME, HASH_SCHEME_KEYED
from perdure.domain.work_results import AttributeDrift, DriftKind
from perdure.errors import Forbidden, HashDrift, LegacyArtifact

KEYS_NAMED_MAX: Final = 20  # drifted attributes that an entry or an error names; verify names all


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A unit as it was loaded: its values, and whether they are those that its stored hash is of."""

    stored: StoredWork
    values: dict[str, TypedValue]
    unreadable: tuple[str, ...]
    content: str
    drifted: bool
    attributes: tuple[AttributeDrift, ...] = ()


def inspect(stored: StoredWork, *, key: bytes | None) -> Found:
    """Compare the attributes of a unit with its stored hash.

    Raises ``Forbidden`` (``work.key_missing``) for a keyed hash without a key here, ``LegacyArtifact`` for an unknown
    scheme.
    """
    unit = stored.unit
    values, unreadable = decoded(stored.attributes)
    content = "" if unreadable else content_of(stored, key=key)
    drifted = content != unit.content_hash
    if unit.content_hash is None:
        drifted = unit.history_sequence > 0
    elif unit.hash_scheme not in SCHEMES:
        raise LegacyArtifact(
            f"unit of work {unit.unit_id} was hashed under a scheme that this release does not know; use a newer one"
        )
    elif unit.hash_scheme == HASH_SCHEME_KEYED and key is None:
        raise key_missing(unit)
    elif unit.hash_scheme == HASH_SCHEME and key is not None:
        # Anybody may have made that hash: signing what stands there would vouch for it.
        drifted = True
    return Found(stored=stored, values=values, unreadable=unreadable, content=content, drifted=drifted)


def key_missing(unit: WorkUnit) -> Forbidden:
    """What to raise for a keyed hash where there is no key."""
    return Forbidden(
        f"the hash of unit of work {unit.unit_id} is keyed, and this plane has no key; open it with work_key=",
        code="work.key_missing",
        unit_id=str(unit.unit_id),
    )


def drift_error(found: Found, *, version: int | None = None) -> HashDrift:
    """What to raise for a unit that drifted; ``version`` is that of the quarantine, if it was put there."""
    unit = found.stored.unit
    keys = keys_by_kind(found.attributes)
    named = ", ".join(key for kind in keys.values() for key in kind) or "its stored hash"
    done = (
        "nothing was written; look at it with verify, then save with waive= and a reason, or on_drift='quarantine'"
        if version is None
        else "it is in FAILED_SECURITY_BREACH now, and the save was not done"
    )
    return HashDrift(
        f"unit of work {unit.unit_id} was changed from outside ({named[:200]}): {done}",
        unit_id=str(unit.unit_id),
        quarantined=version is not None,
        version=unit.version if version is None else version,
        added=keys["added"],
        changed=keys["changed"],
        removed=keys["removed"],
    )


def keys_by_kind(drifts: Sequence[AttributeDrift]) -> dict[str, list[str]]:
    """The first keys of attributes that drifted, by how."""
    return {
        kind.value: sorted({drift.key for drift in drifts if drift.kind is kind})[:KEYS_NAMED_MAX] for kind in DriftKind
    }
