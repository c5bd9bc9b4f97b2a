"""What a change hands back before it is committed: references to the rows it will write.

A reference has its id from the start; what only the commit knows (``index``, ``status`` of a row recorded earlier) is
None until then. ``Run`` is the one handle that lives longer than a change: the run one works on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from perdure.domain.ids import default_key
from perdure.domain.records import RunRecord, Step
from perdure.domain.run import RunStatus, StepStatus, StepType, ToolCallStatus


@dataclass(slots=True, kw_only=True, eq=False)
class StepRef:
    """A step of a run. ``index`` is its place in the run, known after the commit."""

    id: UUID
    run_id: UUID
    key: str
    name: str
    step_type: StepType
    retry_count: int
    status: StepStatus
    started_event_id: UUID
    ended_event_id: UUID | None = None
    index: int | None = None
    output: Any = field(default=None, repr=False)
    call_keys: set[str] = field(default_factory=set, repr=False)
    effect_keys: set[str] = field(default_factory=set, repr=False)
    recorded: bool = False
    """True when this key had been recorded before, so that this change added nothing for it."""


@dataclass(slots=True, kw_only=True, eq=False)
class ToolCallRef:
    """A tool call of a step; ``recorded`` as for a step."""

    id: UUID
    step: StepRef
    key: str
    tool_name: str
    status: ToolCallStatus
    called_event_id: UUID
    recorded: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class EffectRef:
    """A requested effect. ``idempotency_key`` is what its receiver will see, the same after every restart."""

    id: UUID
    outbox_id: UUID
    step: StepRef
    effect_type: str
    key: str
    idempotency_key: str
    recorded: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class CheckpointRef:
    """A checkpoint of a run; ``index`` is known after the commit."""

    id: UUID
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLease:
    """The right to drive a run. Changes made under it are fenced by ``token`` and renew it by ``lease_s`` seconds."""

    token: UUID = field(repr=False)
    worker: str
    lease_s: float


def free_key(name: str, *, taken: Collection[str]) -> str:
    """The default key of the next thing called ``name``: the first occurrence after those that are ``taken``.

    Looked for by doubling and halving, so that the ten-thousandth step of a name costs no more than the tenth. Where
    occurrences were given back in the middle, it may pass them over.
    """

    def is_taken(occurrence: int) -> bool:
        return default_key(name, occurrence=occurrence) in taken

    free = 1
    while is_taken(free):
        free *= 2
    last_taken = free // 2
    while free - last_taken > 1:
        middle = (last_taken + free) // 2
        if is_taken(middle):
            last_taken = middle
        else:
            free = middle
    return default_key(name, occurrence=free)


class Run:
    """The run one works on: what is known of it, its lease if it was claimed, and the steps it has recorded.

    Handles of one run in different tasks and processes do not know of each other; the ledger does.
    """

    __slots__ = ("_recorded", "_reserved", "lease", "record")

    def __init__(self, record: RunRecord, *, lease: RunLease | None = None, steps: tuple[Step, ...] = ()) -> None:
        self.record = record
        self.lease = lease
        self._reserved: set[str] = set()
        self._recorded: dict[str, Mapping[str, Any]] = {}
        for step in steps:
            if step.status is StepStatus.COMPLETED:
                self._recorded[step.step_key] = step.output_result or {}

    @property
    def id(self) -> UUID:
        """The run's id."""
        return self.record.id

    @property
    def name(self) -> str:
        """What the run was started as."""
        return self.record.name

    @property
    def status(self) -> RunStatus:
        """The status when the run was read; the ledger decides."""
        return self.record.status

    @property
    def correlation_id(self) -> UUID:
        """The id that everything this run causes carries; ``trace`` takes it."""
        return self.record.correlation_id

    @property
    def signal_id(self) -> UUID:
        """The signal the run is for."""
        return self.record.signal_id

    def done(self, key: str) -> Mapping[str, Any] | None:
        """The recorded output of the step ``key`` if it is COMPLETED, else None.

        An empty mapping is the output of a step that recorded none. Knows what was recorded when the run was started,
        claimed or read, and what changes of this handle committed since.
        """
        return self._recorded.get(key)

    def reserve_key(self, name: str) -> str:
        """The default key of the next step called ``name``: its name, then ``name#2``, ... as this handle counts."""
        key = free_key(name, taken=self._reserved)
        self._reserved.add(key)
        return key

    def hold_keys(self, keys: set[str]) -> None:
        """Take keys that were given back, because their change is sent again after all."""
        self._reserved |= keys

    def release_keys(self, keys: set[str]) -> None:
        """Give back keys of a change that was not committed, so that rebuilding it gives the same ones."""
        self._reserved -= keys

    def remember(self, key: str, output: Mapping[str, Any] | None) -> None:
        """Note that the step ``key`` is COMPLETED, as a change of this handle has just committed it."""
        self._recorded[key] = output or {}

    def __repr__(self) -> str:
        leased = f", leased by {self.lease.worker}" if self.lease else ""
        return f"Run({self.name!r}, id={self.id}, status={self.status}{leased})"
