"""What a caller may ask of a unit of work: checked, copied and encoded before anything is read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, cast
from uuid import UUID

from perdure.domain.canonical import JsonObject, check_json_object
from perdure.domain.change_values import refuse_above
from perdure.domain.ids import check_text
from perdure.domain.typed_values import TypedValue, canonical_bytes, decode_value, encode_value
from perdure.domain.work import (
    ATTRIBUTE_CHANGES_MAX,
    ATTRIBUTE_KEY_CHARS_MAX,
    ATTRIBUTES_BYTES_MAX,
    ATTRIBUTES_MAX,
    HOST_ID_CHARS_MAX,
    METADATA_BYTES_MAX,
    REASONING_CHARS_MAX,
    AttributeVersion,
    WorkStatus,
    WorkUnit,
)
from perdure.domain.work_results import Work
from perdure.errors import Corrupt, Invalid

SCHEMA_DEFAULT: Final = "work"

_SAID_BYTES_MAX: Final = 64 * 1_048_576  # beyond what any request holds that passed the other checks

UnitRef = Work | WorkUnit | UUID | str
"""A unit as it was read, or its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one save asks for. ``values`` are encoded; None means that nothing is asked about it."""

    new_status: WorkStatus | None = None
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    removed: tuple[str, ...] = ()
    interaction_id: str | None = None
    actor_id: str | None = None
    reasoning: str | None = field(default=None, repr=False)
    metadata: JsonObject | None = field(default=None, repr=False)
    waive: str | None = field(default=None, repr=False)
    lease_owner: str | None = None
    request_id: str | None = None

    @property
    def fingerprint(self) -> str | None:
        """By which a repeated request is told from another one under its id."""
        if self.request_id is None:
            return None
        said: dict[str, TypedValue] = {
            "new_status": None if self.new_status is None else self.new_status.value,
            "values": dict(self.values),
            "removed": list(self.removed),
            "interaction_id": self.interaction_id,
            "actor_id": self.actor_id,
            "reasoning": self.reasoning,
            "metadata": cast("TypedValue", self.metadata),
            "waive": self.waive,
            "lease_owner": self.lease_owner,
        }
        return hashlib.sha256(
            canonical_bytes(said, what="the request", bytes_max=_SAID_BYTES_MAX, limit="request_bytes_max")
        ).hexdigest()

    def merged(self, current: Mapping[str, TypedValue]) -> dict[str, TypedValue]:
        """The attributes as they would be."""
        kept = {key: value for key, value in current.items() if key not in self.removed}
        return {**kept, **{key: decode_value(text) for key, text in self.values.items()}}

    def refuse_large(self, known: Mapping[str, AttributeVersion]) -> None:
        """Raise ``LimitExceeded`` if the unit would have too many attributes, or too large ones."""
        texts = {key: version.value for key, version in known.items()}
        texts |= dict(self.values) | dict.fromkeys(self.removed)
        # Removed ones count too: their last version is read with all others.
        refuse_above("attributes_max", ATTRIBUTES_MAX, len(texts))
        size = sum(len(key.encode()) + len(text.encode()) for key, text in texts.items() if text is not None)
        refuse_above("attributes_bytes_max", ATTRIBUTES_BYTES_MAX, size)


def asked(
    *,
    new_status: WorkStatus | str | None = None,
    attributes: Mapping[str, TypedValue] | None = None,
    removed: Collection[str] = (),
    interaction_id: str | None = None,
    actor_id: str | None = None,
    reasoning: str | None = None,
    metadata: Mapping[str, object] | None = None,
    waive: str | None = None,
    lease_owner: str | None = None,
    request_id: str | None = None,
) -> Asked:
    """Check all of it. Raises ``Invalid`` and ``LimitExceeded``, naming what is wrong and never its value."""
    given = {} if attributes is None else dict(attributes)
    gone = tuple(dict.fromkeys((removed,) if isinstance(removed, str) else removed))
    for key in (*given, *gone):
        check_attribute_key(key)
    both = sorted(given.keys() & set(gone))
    if both:
        raise Invalid(f"attribute {both[0]!r} is both set and removed by one save; say one of them", key=both[0])
    refuse_above("attribute_changes_max", ATTRIBUTE_CHANGES_MAX, len(given) + len(gone))
    return Asked(
        new_status=None if new_status is None else check_status(new_status),
        values={key: encode_value(value, what=f"attribute {key!r}") for key, value in given.items()},
        removed=gone,
        interaction_id=check_host_id(interaction_id, what="an interaction"),
        actor_id=check_host_id(actor_id, what="an actor"),
        reasoning=check_reasoning(reasoning, what="a reasoning"),
        metadata=check_metadata(metadata),
        waive=None if waive is None else _check_reason(waive),
        lease_owner=check_host_id(lease_owner, what="a lease owner"),
        request_id=check_host_id(request_id, what="a request id"),
    )


def check_status(value: WorkStatus | str) -> WorkStatus:
    """A status. Raises ``Invalid`` for any other text."""
    try:
        return WorkStatus(value)
    except ValueError as exc:
        raise Invalid(f"{str(value)[:40]!r} is no status of a unit of work; one of: {', '.join(WorkStatus)}") from exc


def check_host_id(value: str | None, *, what: str) -> str | None:
    """An id of the host: one line of at most ``HOST_ID_CHARS_MAX`` characters, or None."""
    if value is None:
        return None
    return check_text(
        str(value), what=what, limit="host_id_chars_max", chars_max=HOST_ID_CHARS_MAX, blank_edges_allowed=True
    )


def check_attribute_key(key: str) -> str:
    """The key of an attribute: one line of at most ``ATTRIBUTE_KEY_CHARS_MAX`` characters."""
    return check_text(
        key,
        what="an attribute's key",
        limit="attribute_key_chars_max",
        chars_max=ATTRIBUTE_KEY_CHARS_MAX,
        blank_edges_allowed=True,
    )


def check_reasoning(text: str | None, *, what: str) -> str | None:
    """Why something was done: any text of at most ``REASONING_CHARS_MAX`` characters without U+0000."""
    if text is None:
        return None
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Invalid(f"{what} must be text without U+0000 and lone surrogates")
    refuse_above("reasoning_chars_max", REASONING_CHARS_MAX, len(text))
    return text


def check_metadata(metadata: Mapping[str, object] | None) -> JsonObject | None:
    """A copy of a JSON object of at most ``METADATA_BYTES_MAX`` bytes."""
    if metadata is None:
        return None
    return check_json_object(
        dict(metadata), what="the metadata", bytes_max=METADATA_BYTES_MAX, limit="metadata_bytes_max"
    )


def unit_id_of(unit: UnitRef) -> UUID:
    """The id of a unit that is given as it was read, or by its id. Raises ``Invalid``."""
    if isinstance(unit, Work | WorkUnit):
        return unit.unit_id
    if isinstance(unit, UUID):
        return unit
    try:
        return UUID(unit)
    except (ValueError, AttributeError, TypeError) as exc:
        raise Invalid("a unit of work is named by its UUID, or given as it was read") from exc


def expected_of(unit: UnitRef, expected_version: int | None) -> int:
    """The version that a save expects: the one given, or that of the unit as it was read. Raises ``Invalid``."""
    if expected_version is None:
        if not isinstance(unit, Work | WorkUnit):
            raise Invalid(
                "pass the unit as it was read, or expected_version=; a save never overwrites what it has not seen"
            )
        return unit.version
    if expected_version < 1:
        raise Invalid(f"expected_version is {expected_version}; versions are whole numbers from 1")
    return expected_version


def decoded(attributes: Mapping[str, AttributeVersion]) -> tuple[dict[str, TypedValue], tuple[str, ...]]:
    """The values of attributes that are there, and the keys of those that cannot be read."""
    values: dict[str, TypedValue] = {}
    unreadable = []
    for key, version in attributes.items():
        if version.value is None:
            continue
        try:
            values[key] = decode_value(version.value)
        except Corrupt:
            unreadable.append(key)
    return values, tuple(sorted(unreadable))


def _check_reason(text: str) -> str:
    check_reasoning(text, what="the reason of a waiver")
    if not text.strip():
        raise Invalid("a waiver needs its reason: the history keeps it")
    return text
