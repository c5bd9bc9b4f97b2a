"""How work enters: a signal kept before anything is done with it, and the run that takes it up.

Three changes, each rendered for one commit: keep a signal; keep it and start its run; start a run for a kept one. The
commit finds out whether the signal is new; ``Recorded`` says what it found instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from perdure.domain.canonical import JsonObject, body_digest
from perdure.domain.change_values import Entities, checked_entities, checked_json, checked_object
from perdure.domain.event import Aggregate, EventType, check_event_data
from perdure.domain.ids import check_channel, check_name, check_source_id, check_text
from perdure.domain.limits import VERSION_CHARS_MAX
from perdure.domain.rendering import Rendered
from perdure.domain.run import RunType, SignalStatus, SignalType
from perdure.domain.scope import Scope
from perdure.domain.signal import validate_payload
from perdure.errors import Invalid

_VALIDATION_FAILED = "VALIDATION_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDraft:
    """A signal that is about to be kept. ``problems`` is what its declared type finds wrong with its payload."""

    id: UUID
    correlation_id: UUID
    signal_type: SignalType
    channel: str
    source_id: str
    digest: str
    payload: JsonObject = field(repr=False)
    received_at: datetime
    declared: bool
    problems: tuple[str, ...]
    received_event_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDraft:
    """A run that is about to start. ``locked_by``, ``lock_token`` and ``lease_s`` come together or not at all."""

    id: UUID
    name: str
    run_type: RunType
    started_event_id: UUID
    parent_run_id: UUID | None = None
    orchestrator_version: str | None = None
    metadata: Any = None
    entities: tuple[tuple[UUID, str, str], ...] = ()
    locked_by: str | None = None
    lock_token: UUID | None = None
    lease_s: float | None = None


def draft_signal(
    channel: str,
    source_id: str,
    payload: Mapping[str, Any],
    *,
    signal_type: SignalType | str | None,
    received_at: datetime,
    new_id: Callable[[], UUID],
) -> SignalDraft:
    """Check and copy what came in. A type that is not declared is API_CALL, and only declared types are validated."""
    if received_at.utcoffset() is None:
        raise Invalid(f"received_at {received_at} has no time zone; whose clock is meant?")
    kind = SignalType.API_CALL if signal_type is None else SignalType(signal_type)
    declared = signal_type is not None
    body = checked_object(payload, "the payload of a signal")
    return SignalDraft(
        id=new_id(),
        correlation_id=new_id(),
        signal_type=kind,
        channel=check_channel(channel),
        source_id=check_source_id(source_id),
        digest=body_digest(kind, payload=body),
        payload=body,
        received_at=received_at,
        declared=declared,
        problems=tuple(validate_payload(kind, payload=body, declared=declared)),
        received_event_id=new_id(),
    )


def draft_run(
    name: str,
    *,
    run_type: RunType | str,
    new_id: Callable[[], UUID],
    parent_run_id: UUID | None = None,
    orchestrator_version: str | None = None,
    metadata: Any = None,
    entities: Entities = (),
    locked_by: str | None = None,
    lease_s: float | None = None,
) -> RunDraft:
    """Check and copy how a run starts."""
    if orchestrator_version is not None:
        check_text(orchestrator_version, what="a version", limit="version_chars_max", chars_max=VERSION_CHARS_MAX)
    return RunDraft(
        id=new_id(),
        name=check_name(name),
        run_type=RunType(run_type),
        started_event_id=new_id(),
        parent_run_id=parent_run_id,
        orchestrator_version=orchestrator_version,
        metadata=checked_json(metadata, "the metadata of a run"),
        entities=checked_entities(entities, new_id=new_id),
        locked_by=locked_by if lease_s is not None else None,
        lock_token=new_id() if lease_s is not None else None,
        lease_s=lease_s,
    )


def render_signal(scope: Scope, signal: SignalDraft, *, new_id: Callable[[], UUID]) -> Rendered:
    """The change that keeps a signal: PENDING, or FAILED with its reasons when it does not fit its declared type."""
    events = [_received(signal)]
    row: Rendered = {"id": str(signal.id), "received": 0, "status": SignalStatus.PENDING}
    row["last_event_id"] = events[0]["id"]
    if signal.problems:
        started = _event(
            new_id(),
            EventType.SIGNAL_PROCESSING_STARTED,
            Aggregate.SIGNAL,
            signal.id,
            {"signal_id": signal.id},
            cause=signal.received_event_id,
        )
        failure = {"signal_id": signal.id, "reason": _VALIDATION_FAILED}
        failed = _event(
            new_id(),
            EventType.SIGNAL_PROCESSING_FAILED,
            Aggregate.SIGNAL,
            signal.id,
            failure | {"error": {"code": _VALIDATION_FAILED, "problems": list(signal.problems)}},
            cause=UUID(started["id"]),
        )
        events += [started, failed]
        row |= {"status": SignalStatus.FAILED, "last_event_id": failed["id"]}
    return _envelope(scope, signal.correlation_id) | {"signal": row, "events": events}


def render_start(
    scope: Scope,
    run: RunDraft,
    *,
    signal: SignalDraft | None,
    signal_id: UUID,
    correlation_id: UUID,
    cause: UUID,
    take_up: bool,
    new_id: Callable[[], UUID],
) -> Rendered:
    """The change that starts a run.

    With ``signal`` it keeps that new signal too; with ``take_up`` it takes up the kept PENDING one ``signal_id``, which
    ``cause`` announced; with neither, the run repeats or continues another on a signal that was taken up before.
    """
    events: list[Rendered] = []
    rendered = _envelope(scope, correlation_id)
    if signal is not None:
        events.append(_received(signal))
    if signal is not None or take_up:
        data = {"signal_id": signal_id, "run_id": run.id}
        started = _event(new_id(), EventType.SIGNAL_PROCESSING_STARTED, Aggregate.SIGNAL, signal_id, data, cause=cause)
        events.append(started)
        cause = UUID(started["id"])
        row: Rendered = {"id": str(signal_id), "last_event_id": started["id"]}
        row |= {"take_up": True} if signal is None else {"received": 0, "status": SignalStatus.PROCESSING}
        rendered["signal"] = row
    content = {
        "run_id": run.id,
        "signal_id": signal_id,
        "run_type": run.run_type,
        "name": run.name,
        "orchestrator_version": run.orchestrator_version,
        "parent_run_id": run.parent_run_id,
        "metadata": run.metadata,
        "entities": [[kind, entity_id] for _, kind, entity_id in run.entities] or None,
    }
    events.append(_event(run.started_event_id, EventType.RUN_STARTED, Aggregate.RUN, run.id, content, cause=cause))
    row = {"id": str(run.id), "started": len(events) - 1, "last_event_id": str(run.started_event_id)}
    if run.lock_token is not None:
        row |= {"locked_by": run.locked_by, "lock_token": str(run.lock_token), "lease_s": run.lease_s}
    rendered |= {"run_id": str(run.id), "run": row, "events": events}
    if run.entities:
        rendered["entities"] = [
            {
                "id": str(reference_id),
                "type": kind,
                "entity_id": entity_id,
                "aggregate": Aggregate.RUN,
                "aggregate_id": str(run.id),
                "cause": str(run.started_event_id),
            }
            for reference_id, kind, entity_id in run.entities
        ]
    return rendered


def _received(signal: SignalDraft) -> Rendered:
    data = {
        "signal_id": signal.id,
        "signal_type": signal.signal_type,
        "source_channel": signal.channel,
        "source_id": signal.source_id,
        "source_hash": signal.digest,
        "received_at": signal.received_at,
        "normalized_payload": signal.payload,
        "declared": signal.declared,
    }
    return _event(signal.received_event_id, EventType.SIGNAL_RECEIVED, Aggregate.SIGNAL, signal.id, data, cause=None)


def _envelope(scope: Scope, correlation_id: UUID) -> Rendered:
    return {"correlation_id": str(correlation_id), "actor": scope.actor, "source": scope.source}


def _event(
    event_id: UUID,
    event_type: EventType,
    aggregate: Aggregate,
    aggregate_id: UUID,
    data: Rendered,
    *,
    cause: UUID | None,
) -> Rendered:
    said = {name: value for name, value in data.items() if value is not None}
    check_event_data(event_type, data=said, committed=False)
    event: Rendered = {"id": str(event_id), "type": event_type, "aggregate": aggregate}
    event |= {"aggregate_id": str(aggregate_id), "data": said}
    return event if cause is None else event | {"cause": str(cause)}
