"""The envelope of stream events: what a producer says, what its scope adds, and what comes back.

Unknown fields, at the top and inside, survive as they came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from perdure.domain.canonical import JsonObject, JsonValue, exact_json, exact_value
from perdure.domain.ids import check_text
from perdure.domain.log import ENTRY_BYTES_MAX, Entry, NewEntry, check_entry_id
from perdure.domain.scope import Scope
from perdure.errors import Corrupt, Forbidden, Invalid

Persist: TypeAlias = Literal["always", "sampled", "never"]

ENVELOPE_VERSION: Final = 1
EVENT_TYPE_CHARS_MAX: Final = 200  # a word to select by; what it says belongs into data
SAMPLE_EVERY_DEFAULT: Final = 10  # of the events marked ``sampled``, one in this many is kept
PERSISTS: Final[tuple[Persist, ...]] = ("always", "sampled", "never")
PRIORITIES: Final = ("truth", "gesture", "info")
SEVERITIES: Final = ("debug", "info", "warning", "error", "critical")
STORAGE_CLASSES: Final = ("ops", "audit", "stream", "cost")
ACTOR_TYPES: Final = ("human", "agent", "system")

_META_DEFAULTS: Final[Mapping[str, JsonValue]] = {
    "schema_version": "1",
    "priority": "info",
    "persist": "always",
    "severity": "info",
    "storage_class": "stream",
}
_META_CHOICES: Final = {
    "priority": PRIORITIES,
    "persist": PERSISTS,
    "severity": SEVERITIES,
    "storage_class": STORAGE_CLASSES,
}
_ACTOR_TYPE_OF: Final = {"agent": "agent", "user": "human", "system": "system", "external": "system"}
_TOP: Final = ("v", "type", "ts", "seq", "event_id", "trace_id", "span_id", "ids", "routing", "data", "meta")
_CONTRACT: Final = (
    ("routing", "mode"),
    ("ids", "request_id"),
    ("ids", "run_id"),
    ("ids", "step_id"),
    ("meta", "schema_version"),
    ("meta", "severity"),
    ("meta", "storage_class"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """An event of a stream.

    A producer gives ``type`` and ``data``, and what it knows of the rest: ``event_id`` makes appending idempotent,
    ``ts`` is informational (order is ``sequence`` alone), ``ids`` correlate (request_id, correlation_id, run_id,
    step_id), ``routing`` says for whom (tenant_id, project_id, surface_id, thread_id, actor_id, ...) and must agree
    with the scope, ``meta`` how to treat it (priority, persist, severity, storage_class, ...). ``extra`` are top-level
    fields that this release does not know. ``sequence`` is None before the event is kept, and for ever if it never is.
    """

    type: str
    data: JsonObject = field(default_factory=dict)
    event_id: str | None = None
    ts: datetime | None = None
    trace_id: str | None = None
    span_id: str | None = None
    ids: JsonObject = field(default_factory=dict)
    routing: JsonObject = field(default_factory=dict)
    meta: JsonObject = field(default_factory=dict)
    extra: JsonObject = field(default_factory=dict)
    v: int = ENVELOPE_VERSION
    sequence: int | None = None

    @property
    def persist(self) -> Persist:
        """Whether it is kept: always, one in some, or never."""
        found = self.meta.get("persist", "always")
        return next((known for known in PERSISTS if known == found), "always")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPage:
    """A page of a stream. ``next_cursor`` resumes after its last event; ``head_sequence`` was the last number given."""

    events: tuple[StreamEvent, ...]
    next_cursor: str
    head_sequence: int
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHead:
    """Where a stream ends. ``cursor`` reads what comes after; ``earliest`` is the first number still kept."""

    sequence: int
    earliest: int
    epoch: int
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendedEvent:
    """What became of an event. ``sequence`` and ``cursor`` are None if it was not kept (``persist``)."""

    event_id: str
    sequence: int | None
    cursor: str | None
    duplicate: bool = False


def complete(event: StreamEvent, scope: Scope, *, event_id: str, now: datetime) -> StreamEvent:
    """The event with what the scope knows and the producer left out. Raises ``Invalid``, ``Forbidden``.

    What the producer says about tenant, mode, env, project, surface and app must be what the scope says; every field
    that is not is named in the one ``Forbidden`` (code ``identity_override``).
    """
    check_text(event.type, what="an event type", limit="event_type_chars_max", chars_max=EVENT_TYPE_CHARS_MAX)
    _check_shape(event)
    for name, choices in _META_CHOICES.items():
        if name in event.meta and event.meta[name] not in choices:
            raise Invalid(f"meta.{name} is {str(event.meta[name])[:80]!r}; one of: {', '.join(choices)}")
    if event.ts is not None and event.ts.tzinfo is None:
        raise Invalid("ts of an event needs a zone, as in datetime.now(UTC)")
    return StreamEvent(
        type=event.type,
        data=event.data,
        event_id=event.event_id if event.event_id is not None else event_id,
        ts=event.ts if event.ts is not None else now,
        trace_id=event.trace_id if event.trace_id is not None else scope.trace_id,
        span_id=event.span_id,
        ids={**_known({"request_id": scope.request_id}), **event.ids},
        routing=_routing(event.routing, scope),
        meta={**_META_DEFAULTS, **event.meta},
        extra=event.extra,
        v=event.v,
    )


def refuse_incomplete(event: StreamEvent) -> None:
    """Raise ``Invalid`` naming, in order, everything that the strict contract of events wants and this one lacks."""
    parts = {"routing": event.routing, "ids": event.ids, "meta": event.meta}
    missing = [f"{part}.{name}" for part, name in _CONTRACT if parts[part].get(name) is None]
    if event.trace_id is None:
        missing.append("trace_id")
    if missing:
        raise Invalid(f"the event lacks what the strict contract wants: {', '.join(sorted(missing))}")


def fingerprint(event: StreamEvent) -> str:
    """SHA-256 of what the producer said, before the scope and the clock add to it: one event id means one of these."""
    said = to_json(event)
    said.pop("event_id", None)
    said.pop("seq", None)
    return hashlib.sha256(_sorted_bytes(said)).hexdigest()


def to_entry(event: StreamEvent, *, content: str) -> NewEntry:
    """The entry that keeps a completed event. Raises ``Invalid``, and ``LimitExceeded`` for more than 256 KiB."""
    assert event.event_id is not None, "complete() gives every event an id"
    check_entry_id(event.event_id, what="an event id")
    body = exact_json(
        to_json(event), what=f"event {event.event_id[:80]}", bytes_max=ENTRY_BYTES_MAX, limit="entry_bytes_max"
    )
    return NewEntry(entry_id=event.event_id, fingerprint=content, body=body)


def to_json(event: StreamEvent) -> JsonObject:
    """The event as it travels and is kept; fields that are not set are left out."""
    ts = None if event.ts is None else event.ts.astimezone(UTC).isoformat().replace("+00:00", "Z")
    known: JsonObject = {
        "v": event.v,
        "type": event.type,
        "ts": ts,
        "seq": event.sequence,
        "event_id": event.event_id,
        "trace_id": event.trace_id,
        "span_id": event.span_id,
        "ids": event.ids,
        "routing": event.routing,
        "data": event.data,
        "meta": event.meta,
    }
    clash = event.extra.keys() & set(_TOP)
    if clash:
        raise Invalid(f"extra holds fields of the envelope itself: {', '.join(sorted(clash))}")
    return {**_known(known), **event.extra}


def event_of(entry: Entry) -> StreamEvent:
    """The event that an entry keeps. Raises ``Corrupt`` if it is none."""
    return parse(exact_value(entry.body), sequence=entry.sequence)


def parse(value: JsonValue, *, sequence: int | None = None) -> StreamEvent:
    """An event from its JSON, unknown fields included. Raises ``Corrupt`` for what is no event."""
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise Corrupt("a stored event is not an envelope with a type; it was changed from outside")
    return StreamEvent(
        v=_integer(value.get("v", ENVELOPE_VERSION)),
        type=str(value["type"]),
        ts=_time(value.get("ts")),
        event_id=_text(value.get("event_id")),
        trace_id=_text(value.get("trace_id")),
        span_id=_text(value.get("span_id")),
        ids=_object(value.get("ids")),
        routing=_object(value.get("routing")),
        data=_object(value.get("data")),
        meta=_object(value.get("meta")),
        extra={name: item for name, item in value.items() if name not in _TOP},
        sequence=sequence,
    )


def _check_shape(event: StreamEvent) -> None:
    # What has another type would be kept, and come back as something else.
    for name in ("data", "ids", "routing", "meta", "extra"):
        found = getattr(event, name)
        if not isinstance(found, dict):
            raise Invalid(f"{name} of an event is a JSON object, not {type(found).__name__}")
    for name in ("trace_id", "span_id"):
        if not isinstance(getattr(event, name), str | None):
            raise Invalid(f"{name} of an event is text, or None")
    version: object = event.v
    if isinstance(version, bool) or not isinstance(version, int):
        raise Invalid("v of an event is a whole number")


def _routing(given: JsonObject, scope: Scope) -> JsonObject:
    kind = scope.actor.partition(":")[0]
    ours: JsonObject = {
        "tenant_id": scope.tenant,
        "mode": scope.mode,
        "env": scope.env,
        "project_id": scope.project,
        "surface_id": scope.surface,
        "app_id": scope.app,
        "session_id": scope.session,
        "actor_id": scope.actor,
        "actor_type": _ACTOR_TYPE_OF.get(kind, "system"),
    }
    isolating = ("tenant_id", "mode", "env", "project_id", "surface_id", "app_id")
    wrong = [name for name in isolating if name in given and given[name] != ours[name]]
    if wrong:
        raise Forbidden(
            f"the event says other than its scope about {', '.join(wrong)}; leave them out, or use that scope",
            code="identity_override",
            fields=wrong,
        )
    if "actor_type" in given and given["actor_type"] not in ACTOR_TYPES:
        raise Invalid(f"routing.actor_type is one of: {', '.join(ACTOR_TYPES)}")
    return {**_known(ours), **given}


def _known(values: JsonObject) -> JsonObject:
    return {name: value for name, value in values.items() if value is not None}


def _sorted_bytes(value: JsonObject) -> bytes:
    return exact_json(_ordered(value), what="the event", bytes_max=2 * ENTRY_BYTES_MAX, limit="entry_bytes_max")


def _ordered(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    return value


def _time(value: JsonValue) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(str(value))
    except ValueError as exc:
        raise Corrupt("a stored event has a ts that is no time; it was changed from outside") from exc


def _integer(value: JsonValue) -> int:
    if not isinstance(value, int):
        raise Corrupt("a stored event has a version that is no number; it was changed from outside")
    return value


def _text(value: JsonValue) -> str | None:
    return None if value is None else str(value)


def _object(value: JsonValue) -> JsonObject:
    return dict(value) if isinstance(value, dict) else {}
