"""Rows as they are read back. Fields are named like their columns; what only the database needs is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

from perdure.domain.event import Aggregate
from perdure.domain.row import FromRow, Instant
from perdure.domain.run import (
    EffectStatus,
    OutboxStatus,
    RunStatus,
    RunType,
    SignalStatus,
    SignalType,
    StepStatus,
    StepType,
    ToolCallStatus,
)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """One page of a list. ``next_cursor`` opens the next one and is None on the last."""

    items: tuple[Item, ...]
    next_cursor: str | None = None

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(FromRow):
    """An input from outside, kept before anything is done with it."""

    tenant_id: UUID
    id: UUID
    signal_type: SignalType
    source_channel: str
    source_id: str
    source_hash: str
    normalized_payload: Any = field(default=None, repr=False)
    received_at: Instant
    ingested_at: Instant
    processed_at: Instant | None = None
    status: SignalStatus
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str
    source: str
    ingested_by: str
    last_event_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(FromRow):
    """One execution for one signal. ``causation_id`` is the run that it repeats or continues."""

    tenant_id: UUID
    id: UUID
    signal_id: UUID
    run_type: RunType
    name: str
    started_at: Instant
    completed_at: Instant | None = None
    completion_requested_at: Instant | None = None
    status: RunStatus
    exit_reason: str | None = None
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str
    source: str
    orchestrator_version: str | None = None
    total_steps: int = 0
    failed_steps: int = 0
    open_steps: int = 0
    total_effects: int = 0
    open_effects: int = 0
    total_checkpoints: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    locked_by: str | None = None
    locked_until: Instant | None = None
    last_event_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(FromRow):
    """One step of a run; trying it again is another step with ``retry_of``."""

    tenant_id: UUID
    id: UUID
    run_id: UUID
    step_index: int
    step_type: StepType
    name: str
    step_key: str
    retry_count: int = 0
    retry_of: UUID | None = None
    started_at: Instant
    completed_at: Instant | None = None
    wait_until: Instant | None = None
    status: StepStatus
    input_context: Any = field(default=None, repr=False)
    output_result: Any = field(default=None, repr=False)
    specialist_id: str | None = None
    error_details: Any = field(default=None, repr=False)
    metadata: Any = None
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str
    last_event_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(FromRow):
    """One call of a tool within a step, with what it returned or how it failed."""

    tenant_id: UUID
    id: UUID
    run_id: UUID
    step_id: UUID
    call_index: int
    call_key: str
    tool_name: str
    tool_version: str | None = None
    tool_args: Any = field(default=None, repr=False)
    called_at: Instant
    completed_at: Instant | None = None
    status: ToolCallStatus
    result: Any = field(default=None, repr=False)
    error_details: Any = field(default=None, repr=False)
    execution_duration_ms: int | None = None
    cache_hit: bool = False
    metadata: Any = None
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str
    last_event_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect(FromRow):
    """Something to be done outside, requested by a step and delivered through the outbox."""

    tenant_id: UUID
    id: UUID
    run_id: UUID
    step_id: UUID
    effect_type: str
    effect_spec: dict[str, Any] = field(repr=False)
    idempotency_key: str
    requested_at: Instant
    executed_at: Instant | None = None
    status: EffectStatus
    execution_result: Any = field(default=None, repr=False)
    error_details: Any = field(default=None, repr=False)
    retry_count: int = 0
    max_retries: int = 3
    next_retry_at: Instant | None = None
    metadata: Any = None
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str
    last_event_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry(FromRow):
    """The relay's own row of an effect: what is due, who works on it, and what came of it.

    ``aggregate_id`` is the effect, ``ordering_key`` its run.
    """

    tenant_id: UUID
    id: UUID
    event_type: str
    payload: dict[str, Any] = field(repr=False)
    idempotency_key: str
    created_at: Instant
    processed_at: Instant | None = None
    status: OutboxStatus
    retry_count: int = 0
    max_retries: int = 3
    next_retry_at: Instant | None = None
    result: Any = field(default=None, repr=False)
    error_details: Any = field(default=None, repr=False)
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str
    aggregate_type: Aggregate = Aggregate.EFFECT
    aggregate_id: UUID
    locked_by: str | None = None
    locked_until: Instant | None = None
    ordering_key: UUID
    ordering_seq: int
    independent: bool = False
    last_event_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(FromRow):
    """What a run needs to go on: its state and the number of the last event that is part of it."""

    tenant_id: UUID
    id: UUID
    run_id: UUID
    checkpoint_index: int
    checkpoint_data: Any = field(default=None, repr=False)
    last_sequence_number: int
    expires_at: Instant
    size_bytes: int
    created_at: Instant
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityReference(FromRow):
    """That a run or a step concerns an entity of the user's own system; never a copy of the entity."""

    tenant_id: UUID
    id: UUID
    entity_type: str
    entity_id: str
    run_id: UUID
    aggregate_type: Aggregate
    aggregate_id: UUID
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str
    created_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(FromRow):
    """Who did what to whom, for people who answer for it; not part of the event log."""

    tenant_id: UUID
    id: UUID
    action: str
    resource_type: str
    resource_id: UUID | None = None
    actor: str
    occurred_at: Instant
    context: dict[str, Any] = field(default_factory=dict)
    correlation_id: UUID | None = None
    pii_redacted: bool = False
    redacted_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(FromRow):
    """The right to work on a run or an outbox entry until ``locked_until``; ``lock_token`` is the fence.

    What is written without the current token is refused, however late its writer wakes up.
    """

    tenant_id: UUID
    id: UUID
    lock_token: UUID = field(repr=False)
    locked_by: str
    locked_until: Instant
