"""The event types, what each one says, and how the data of an older release is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias
from uuid import UUID

from perdure.domain.row import FromRow, Instant
from perdure.errors import Invalid, LegacyArtifact


class EventType(StrEnum):
    """What can happen. Names are past tense and never change: history is read by them."""

    SIGNAL_RECEIVED = "SIGNAL_RECEIVED"
    SIGNAL_PROCESSING_STARTED = "SIGNAL_PROCESSING_STARTED"
    SIGNAL_PROCESSED = "SIGNAL_PROCESSED"
    SIGNAL_PROCESSING_FAILED = "SIGNAL_PROCESSING_FAILED"
    RUN_STARTED = "RUN_STARTED"
    RUN_CHECKPOINT_CREATED = "RUN_CHECKPOINT_CREATED"
    RUN_COMPLETED = "RUN_COMPLETED"
    RUN_FAILED = "RUN_FAILED"
    RUN_CANCELLED = "RUN_CANCELLED"
    STEP_STARTED = "STEP_STARTED"
    STEP_COMPLETED = "STEP_COMPLETED"
    STEP_FAILED = "STEP_FAILED"
    STEP_SKIPPED = "STEP_SKIPPED"
    STEP_RETRIED = "STEP_RETRIED"
    STEP_CORRECTED = "STEP_CORRECTED"
    EFFECT_REQUESTED = "EFFECT_REQUESTED"
    EFFECT_EXECUTING = "EFFECT_EXECUTING"
    EFFECT_COMPLETED = "EFFECT_COMPLETED"
    EFFECT_FAILED = "EFFECT_FAILED"
    EFFECT_RETRYING = "EFFECT_RETRYING"
    EFFECT_DEAD_LETTERED = "EFFECT_DEAD_LETTERED"
    TOOL_CALLED = "TOOL_CALLED"
    TOOL_COMPLETED = "TOOL_COMPLETED"
    TOOL_FAILED = "TOOL_FAILED"


class Aggregate(StrEnum):
    """What an event is about."""

    SIGNAL = "SIGNAL"
    RUN = "RUN"
    STEP = "STEP"
    EFFECT = "EFFECT"
    TOOL_CALL = "TOOL_CALL"


# Read, never written: another name that old histories use for the same thing.
EVENT_TYPE_ALIASES: Final = MappingProxyType({"EFFECT_EXECUTED": EventType.EFFECT_COMPLETED})


@dataclass(frozen=True, slots=True, kw_only=True)
class EventContract:
    """What the data of one event type must and may say, in its current version.

    ``assigned`` is the part of ``required`` that only the commit knows (indexes, counters, durations), so that an event
    of a change that is still being built lacks it. A required field may be null.
    """

    type: EventType
    aggregate: Aggregate
    schema_version: int
    required: frozenset[str]
    optional: frozenset[str]
    assigned: frozenset[str]


def _contract(
    event_type: EventType, aggregate: Aggregate, required: str, *, assigned: str = "", optional: str = ""
) -> EventContract:
    return EventContract(
        type=event_type,
        aggregate=aggregate,
        schema_version=1,
        required=frozenset(required.split()) | frozenset(assigned.split()),
        optional=frozenset(optional.split()),
        assigned=frozenset(assigned.split()),
    )


_CONTRACTS: Final = (
    _contract(
        EventType.SIGNAL_RECEIVED,
        Aggregate.SIGNAL,
        "signal_id signal_type source_channel source_id source_hash received_at",
        optional="normalized_payload payload_ref ingested_at ingested_by declared",
    ),
    _contract(EventType.SIGNAL_PROCESSING_STARTED, Aggregate.SIGNAL, "signal_id", optional="run_id"),
    _contract(EventType.SIGNAL_PROCESSED, Aggregate.SIGNAL, "signal_id run_id", assigned="processed_at"),
    _contract(
        EventType.SIGNAL_PROCESSING_FAILED,
        Aggregate.SIGNAL,
        "signal_id reason",
        optional="run_id error processed_at",
    ),
    _contract(
        EventType.RUN_STARTED,
        Aggregate.RUN,
        "run_id signal_id run_type name",
        optional="orchestrator_version parent_run_id metadata entities started_at",
    ),
    _contract(
        EventType.RUN_CHECKPOINT_CREATED,
        Aggregate.RUN,
        "run_id checkpoint_id size_bytes",
        assigned="checkpoint_index last_sequence_number",
        optional="expires_at",
    ),
    _contract(
        EventType.RUN_COMPLETED,
        Aggregate.RUN,
        "run_id",
        assigned="total_steps failed_steps duration_ms",
        optional="exit_reason total_effects",
    ),
    _contract(
        EventType.RUN_FAILED,
        Aggregate.RUN,
        "run_id error exit_reason",
        optional="failed_step_id failed_effect_id total_steps failed_steps duration_ms",
    ),
    _contract(
        EventType.RUN_CANCELLED,
        Aggregate.RUN,
        "run_id exit_reason requested_by",
        optional="total_steps failed_steps duration_ms",
    ),
    _contract(
        EventType.STEP_STARTED,
        Aggregate.STEP,
        "step_id run_id step_type name step_key retry_count",
        assigned="step_index",
        optional="input_context specialist_id retry_of wait_until metadata entities",
    ),
    _contract(
        EventType.STEP_COMPLETED,
        Aggregate.STEP,
        "step_id run_id step_type output_result",
        assigned="step_index duration_ms",
        optional="metadata",
    ),
    _contract(
        EventType.STEP_FAILED,
        Aggregate.STEP,
        "step_id run_id error_details",
        assigned="step_index",
        optional="error step_type retryable duration_ms output_result metadata",
    ),
    _contract(
        EventType.STEP_SKIPPED,
        Aggregate.STEP,
        "step_id run_id reason",
        assigned="step_index",
        optional="step_type duration_ms metadata",
    ),
    _contract(
        EventType.STEP_RETRIED, Aggregate.STEP, "step_id run_id retry_of retry_count", optional="step_index reason"
    ),
    _contract(EventType.STEP_CORRECTED, Aggregate.STEP, "step_id run_id corrected", optional="step_index reason"),
    _contract(
        EventType.EFFECT_REQUESTED,
        Aggregate.EFFECT,
        "effect_id run_id step_id effect_type idempotency_key effect_spec max_retries",
        optional="effect_key outbox_id independent ordering_seq metadata",
    ),
    _contract(
        EventType.EFFECT_EXECUTING,
        Aggregate.EFFECT,
        "effect_id run_id outbox_id attempt worker",
        optional="effect_type",
    ),
    _contract(
        EventType.EFFECT_COMPLETED,
        Aggregate.EFFECT,
        "effect_id run_id effect_type execution_result attempt duration_ms",
        optional="outbox_id worker",
    ),
    _contract(
        EventType.EFFECT_FAILED,
        Aggregate.EFFECT,
        "effect_id run_id effect_type error_code error_message retry_count next_retry_at",
        optional="outbox_id attempt retryable worker duration_ms",
    ),
    _contract(
        EventType.EFFECT_RETRYING,
        Aggregate.EFFECT,
        "effect_id run_id retry_count next_retry_at reason",
        optional="outbox_id effect_type requested_by",
    ),
    _contract(
        EventType.EFFECT_DEAD_LETTERED,
        Aggregate.EFFECT,
        "effect_id run_id outbox_id retry_count error_code error_message",
        optional="effect_type attempt",
    ),
    _contract(
        EventType.TOOL_CALLED,
        Aggregate.TOOL_CALL,
        "tool_call_id step_id run_id tool_name tool_args call_key",
        assigned="call_index",
        optional="tool_version metadata",
    ),
    _contract(
        EventType.TOOL_COMPLETED,
        Aggregate.TOOL_CALL,
        "tool_call_id step_id result execution_duration_ms cache_hit",
        optional="run_id metadata",
    ),
    _contract(
        EventType.TOOL_FAILED,
        Aggregate.TOOL_CALL,
        "tool_call_id step_id error_details execution_duration_ms",
        optional="run_id metadata",
    ),
)

EVENT_CONTRACTS: Final[Mapping[EventType, EventContract]] = MappingProxyType({c.type: c for c in _CONTRACTS})


def parse_event_type(value: str) -> EventType:
    """The event type of a stored name, old aliases included. Raises ``LegacyArtifact`` for a name no release knows."""
    alias = EVENT_TYPE_ALIASES.get(value)
    if alias is not None:
        return alias
    try:
        return EventType(value)
    except ValueError as exc:
        raise LegacyArtifact(
            f"event type {value!r} is unknown to this release; read it with the release that wrote it",
            event_type=str(value),
        ) from exc


def check_event_data(event_type: EventType, *, data: Mapping[str, object], committed: bool = True) -> None:
    """Raise ``Invalid`` unless ``data`` says what its type must say and nothing that its type does not know.

    With ``committed=False`` the fields that the commit assigns may still be missing. A new field is a new version.
    """
    contract = EVENT_CONTRACTS[event_type]
    missing = contract.required - data.keys() - (frozenset() if committed else contract.assigned)
    unknown = data.keys() - contract.required - contract.optional
    if missing or unknown:
        parts = [
            f"{word}: {', '.join(sorted(fields))}"
            for word, fields in (("missing", missing), ("unknown", unknown))
            if fields
        ]
        raise Invalid(
            f"the data of {event_type} does not fit version {contract.schema_version}; {'; '.join(parts)}",
            event_type=str(event_type),
            missing=sorted(missing),
            unknown=sorted(unknown),
        )


Upcaster: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcasters:
    """Pure functions that turn the data of version n into that of n + 1, applied when reading; rows stay as written.

    ``steps`` maps (type, n) to the function; ``current`` says which version each type is written in now.
    """

    steps: Mapping[tuple[EventType, int], Upcaster]
    current: Mapping[EventType, int]

    def gaps(self) -> tuple[tuple[EventType, int], ...]:
        """Each (type, version) from which no path leads to the current version; a release must have none."""
        return tuple(
            (event_type, version)
            for event_type, newest in self.current.items()
            for version in range(1, newest)
            if (event_type, version) not in self.steps
        )

    def upcast(self, event_type: EventType, *, schema_version: int, data: Mapping[str, Any]) -> dict[str, Any]:
        """The data as the current version would have written it.

        Raises ``LegacyArtifact`` for a version from the future, below 1, or without a path to the current one.
        """
        newest = self.current[event_type]
        if not 1 <= schema_version <= newest:
            raise LegacyArtifact(
                f"{event_type} has version {schema_version}; this release reads 1 to {newest}; upgrade perdure",
                event_type=str(event_type),
                schema_version=schema_version,
            )
        upcasted = dict(data)
        for version in range(schema_version, newest):
            step = self.steps.get((event_type, version))
            if step is None:
                raise LegacyArtifact(
                    f"{event_type}: no path from version {version} to {version + 1}",
                    event_type=str(event_type),
                    schema_version=schema_version,
                )
            upcasted = step(upcasted)
        return upcasted


UPCASTERS: Final = Upcasters(
    steps=MappingProxyType({}),
    current=MappingProxyType({event_type: contract.schema_version for event_type, contract in EVENT_CONTRACTS.items()}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(FromRow):
    """One thing that happened, as the log keeps it; ``event_data`` is in the current version of its type."""

    tenant_id: UUID
    id: UUID
    sequence_number: int
    event_type: EventType
    aggregate_type: Aggregate
    aggregate_id: UUID
    event_data: dict[str, Any]
    schema_version: int
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str
    source: str
    occurred_at: Instant

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> Self:
        """The event of a row, its old names and versions read as the current ones.

        Raises ``LegacyArtifact`` for what another release wrote, ``Corrupt`` for a row that is no event.
        """
        values = dict(row)
        if isinstance(name := values.get("event_type"), str):
            values["event_type"] = parse_event_type(name)
        # A class with slots is made twice, so that a bare super() would look at the first one.
        stored = super(Event, cls).from_row(values)
        event_type, version = stored.event_type, stored.schema_version
        data = UPCASTERS.upcast(event_type, schema_version=version, data=stored.event_data)
        if version == UPCASTERS.current[event_type]:
            return stored
        return replace(stored, event_data=data, schema_version=UPCASTERS.current[event_type])
