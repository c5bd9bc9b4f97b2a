"""What the documents of a unit of work hold.

In the unit's own partition, so that a save is one commit:

* the **unit**, small, because every heartbeat rewrites it; what stays of a deleted unit is its number of lives
* its **attributes** in their newest versions, in one document, which says at which version of the unit it was written
* a document for each **history entry**, put where nothing is: an entry never changes, and tells who wrote a number
* a document for each **version of an attribute** and for each **request** that was done, of the unit's current life
* a mark for each **child** that it counts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final
from uuid import UUID

import msgspec

from perdure.adapters.documents import work_keys
from perdure.adapters.documents.decoding import decoded
from perdure.domain.row import Instant
from perdure.domain.work import AttributeChange, AttributeVersion, HistoryEntry, HistoryEvent, WorkStatus, WorkUnit
from perdure.errors import Corrupt, Invalid
from perdure.ports.documents import Document, Expect, Put


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a child has to say to its parent, since which of its versions."""

    adopted: bool = False
    finished: bool = False
    at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The body of a unit's document; ``unit`` is None once it was deleted.

    ``made`` and ``listed`` name the commits that announced it where it is listed: for good, and by its status.
    ``attributes_at`` is the unit's version at which its attributes were written last, 0 if never.
    """

    unit: WorkUnit | None
    life: int = 1
    made: str = ""
    listed: str = ""
    attributes_at: int = 0
    told: Told = field(default_factory=Told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The body of a request that was done."""

    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What a commit leaves to do after it, announced before it; taken away by whoever did it.

    ``listings`` are what it may leave behind, by status: the unit is listed by one of them. ``token`` is that of the
    commit.
    """

    token: str
    unit_id: UUID
    instance_id: str
    parent_id: UUID | None
    created_at: Instant
    life: int
    made: str
    listings: Sequence[tuple[WorkStatus, str]]
    settled_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The body of what announces a lease. Until ``settled_at`` the commit that it announces may be on its way."""

    settled_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    token: str
    history_id: UUID
    instance_id: str
    unit_id: UUID
    sequence: int
    event: HistoryEvent
    previous_status: WorkStatus | None
    new_status: WorkStatus
    previous_state_hash: str | None
    new_state_hash: str
    previous_interaction_id: str | None
    new_interaction_id: str | None
    actor_id: str | None
    transition_timestamp: Instant
    reasoning: str | None
    transition_metadata: dict[str, Any] | None
    changes: tuple[AttributeChange, ...]
    hash_scheme: str
    previous_entry_hash: str | None
    entry_hash: str


class _Newest(msgspec.Struct, array_like=True, frozen=True):
    key: str
    version: int
    sequence: int
    writer: int  # among those of the document, most of which wrote several
    is_kept: bool
    value: msgspec.Raw  # as it came: every digit comes back, and no quote of it is written in two


class _Attributes(msgspec.Struct, frozen=True):
    at: int
    writers: list[tuple[str | None, Instant]]
    versions: list[_Newest]


class _Version(msgspec.Struct, frozen=True):
    sequence: int
    actor_id: str | None
    recorded_at: Instant
    is_kept: bool
    value: msgspec.Raw


UNIT: Final = msgspec.json.Decoder(Unit)
REQUEST: Final = msgspec.json.Decoder(Request)
TOLD: Final = msgspec.json.Decoder(Told)
UNFINISHED: Final = msgspec.json.Decoder(Unfinished)
LEASE: Final = msgspec.json.Decoder(Lease)
_ENTRY: Final = msgspec.json.Decoder(_Entry)
_ATTRIBUTES: Final = msgspec.json.Decoder(_Attributes)
_VERSION: Final = msgspec.json.Decoder(_Version)
_JSON: Final = msgspec.json.Decoder(msgspec.Raw)
_ENTRY_FIELDS: Final = tuple(part.name for part in fields(HistoryEntry))


# --- writing ----------------------------------------------------------------------------------------------------------


def unit_put(body: Unit, *, over: Document | None) -> Put:
    """A unit over the very document that was read, or where nothing was."""
    return Put(
        sort=work_keys.UNIT,
        version=1 if over is None else over.version + 1,
        body=msgspec.json.encode(body),
        expect=Expect.ABSENT if over is None else over.version,
        token=None if over is None else over.token,
    )


def attributes_put(attributes: Mapping[str, AttributeVersion], *, at: int, version: int) -> Put:
    """The newest versions of all attributes, in a commit that compares the unit."""
    writers: dict[tuple[str | None, Instant], int] = {}
    versions = [
        _Newest(
            one.key,
            one.version,
            one.sequence,
            writers.setdefault((one.actor_id, one.recorded_at), len(writers)),
            one.value is not None,
            _raw(one),
        )
        for one in attributes.values()
    ]
    body = _Attributes(at=at, writers=list(writers), versions=versions)
    return Put(sort=work_keys.ATTRIBUTES, version=version, body=msgspec.json.encode(body), expect=Expect.ANY)


def version_put(one: AttributeVersion, *, life: int) -> Put:
    """One version of an attribute, where nothing is."""
    body = _Version(one.sequence, one.actor_id, one.recorded_at, one.value is not None, _raw(one))
    sort = work_keys.version_sort(life, one.key, one.version)
    return Put(sort=sort, version=1, body=msgspec.json.encode(body), expect=Expect.ABSENT)


def entry_put(entry: HistoryEntry, *, token: str) -> Put:
    """A history entry at its number, where nothing is."""
    body = b'{"token":%b,%b' % (msgspec.json.encode(token), msgspec.json.encode(entry)[1:])
    return Put(sort=work_keys.entry_sort(entry.sequence), version=1, body=body, expect=Expect.ABSENT)


def check_value(one: AttributeVersion) -> None:
    """Raise ``Invalid`` unless the value of a version is JSON text, which it is kept as."""
    if one.value is None:
        return
    try:
        _JSON.decode(one.value)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        # The codec's own message quotes what it could not read.
        raise Invalid("the value of an attribute is not JSON; encode it first", key=one.key) from None
    if one.value != one.value.strip():
        raise Invalid("the value of an attribute begins or ends with a blank; encode it without", key=one.key)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_unit(document: Document) -> Unit:
    """A unit. Raises ``Corrupt``."""
    return decoded(UNIT, document, what="a unit of work")


def read_attributes(document: Document) -> tuple[int, Mapping[str, AttributeVersion]]:
    """The newest versions by key, and the unit's version at which they were written. Raises ``Corrupt``."""
    body = decoded(_ATTRIBUTES, document, what="the attributes of a unit of work")
    found: dict[str, AttributeVersion] = {}
    for one in body.versions:
        if not 0 <= one.writer < len(body.writers):
            raise Corrupt("an attribute of a unit of work has no writer; was it changed by hand?", sort=document.sort)
        actor_id, recorded_at = body.writers[one.writer]
        found[one.key] = AttributeVersion(
            key=one.key,
            version=one.version,
            value=bytes(one.value).decode() if one.is_kept else None,
            sequence=one.sequence,
            actor_id=actor_id,
            recorded_at=recorded_at,
        )
    return body.at, found


def read_version(document: Document) -> AttributeVersion:
    """A version of an attribute. Raises ``Corrupt``."""
    body = decoded(_VERSION, document, what="a version of an attribute")
    key, version = work_keys.version_of(document.sort)
    return AttributeVersion(
        key=key,
        version=version,
        value=bytes(body.value).decode() if body.is_kept else None,
        sequence=body.sequence,
        actor_id=body.actor_id,
        recorded_at=body.recorded_at,
    )


def read_entry(document: Document) -> tuple[str, HistoryEntry]:
    """A history entry, and who announced it. Raises ``Corrupt``."""
    body = decoded(_ENTRY, document, what="an entry of the history of a unit of work")
    named: dict[str, Any] = {name: getattr(body, name) for name in _ENTRY_FIELDS}
    return body.token, HistoryEntry(**named)


def _raw(one: AttributeVersion) -> msgspec.Raw:
    return msgspec.Raw(b"null" if one.value is None else one.value.encode())
