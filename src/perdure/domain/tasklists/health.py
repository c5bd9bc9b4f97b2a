"""How a store of snapshots is: a value, and what each event makes of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from perdure.domain.tasklists.frequency import CheckpointFrequency, HostPolicyEnvelope
from perdure.domain.tasklists.retention import Pressure
from perdure.domain.tasklists.settings import PersistenceMode


class HealthState(StrEnum):
    """Whether snapshots can be relied on."""

    STARTING_UP = "starting_up"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"


class RecoveryOutcome(StrEnum):
    """What a start found."""

    LOADED_SNAPSHOT = "loaded_snapshot"
    EMPTY_STORE = "empty_store"
    DEGRADED_FALLBACK = "degraded_fallback"
    STRICT_INIT_FAILURE = "strict_init_failure"
    UNSUPPORTED_LEGACY = "unsupported_legacy_encrypted_artifact"


class ErrorCode(StrEnum):
    """The codes of ``last_error``, the least serious first."""

    BUDGET_WARNING = "budget_warning"
    BUDGET_CRITICAL = "budget_critical"
    BUDGET_AT_CAPACITY = "budget_at_capacity"
    CHECKPOINT_FAILURE = "checkpoint_failure"
    STARTUP_LOAD_FAILURE = "startup_load_failure"
    UNSUPPORTED_LEGACY = "unsupported_legacy_encrypted_artifact"
    STRICT_INITIALIZATION_FAILURE = "strict_initialization_failure"


_SEVERITY: Final = {code: severity for severity, code in enumerate(ErrorCode)}
_REMEDIES: Final = {
    ErrorCode.BUDGET_WARNING: "raise retention_storage_budget_bytes, or remove lists that nobody needs",
    ErrorCode.BUDGET_CRITICAL: "raise retention_storage_budget_bytes, or remove lists that nobody needs, soon",
    ErrorCode.BUDGET_AT_CAPACITY: "raise retention_storage_budget_bytes, or remove lists that nobody needs: nothing is "
    "written until then",
    ErrorCode.CHECKPOINT_FAILURE: "look at the disk of the root: space, permissions, the system's log",
    ErrorCode.STARTUP_LOAD_FAILURE: "look at the skipped snapshots and at the disk; the state comes back from peers",
    ErrorCode.UNSUPPORTED_LEGACY: "snapshots are kept in the plaintext format only: export the list with the release "
    "that encrypted it, or move the file away; the state comes back from peers",
    ErrorCode.STRICT_INITIALIZATION_FAILURE: "see the message, put it right, and start again",
}
_BUDGET_CODES: Final = {
    Pressure.WARNING: ErrorCode.BUDGET_WARNING,
    Pressure.CRITICAL: ErrorCode.BUDGET_CRITICAL,
    Pressure.AT_CAPACITY: ErrorCode.BUDGET_AT_CAPACITY,
}
_STATE_ORDER: Final = (HealthState.READY, HealthState.STARTING_UP, HealthState.DEGRADED, HealthState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthError:
    """What is wrong, and what to do about it."""

    code: ErrorCode
    message: str
    remediation: str

    def as_document(self) -> dict[str, str]:
        """The contract's own names and values."""
        return {"code": self.code.value, "message": self.message, "remediation": self.remediation}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How it is now."""

    mode: PersistenceMode
    state: HealthState = HealthState.STARTING_UP
    degraded: bool = False
    last_recovery_outcome: RecoveryOutcome | None = None
    last_error: HealthError | None = None
    budget_pressure: Pressure = Pressure.NORMAL

    def as_document(self) -> dict[str, Any]:
        """The contract's own names and values."""
        return {
            "mode": self.mode.value,
            "state": self.state.value,
            "degraded": self.degraded,
            "last_recovery_outcome": None if self.last_recovery_outcome is None else self.last_recovery_outcome.value,
            "last_error": None if self.last_error is None else self.last_error.as_document(),
            "budget_pressure": self.budget_pressure.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an operator sees: health, the frequency of checkpoints, and the bounds that the host sets it."""

    health: Health
    checkpoint_frequency: CheckpointFrequency = field(default_factory=CheckpointFrequency)
    checkpoint_frequency_bounds: HostPolicyEnvelope = field(default_factory=HostPolicyEnvelope)

    def as_document(self) -> dict[str, Any]:
        """The contract: one object of three members."""
        return {
            "health": self.health.as_document(),
            "checkpoint_frequency": self.checkpoint_frequency.as_document(),
            "checkpoint_frequency_bounds": self.checkpoint_frequency_bounds.as_document(),
        }


def recovered(health: Health, outcome: RecoveryOutcome) -> Health:
    """After a start that loaded a snapshot, or found that there is none yet."""
    return replace(
        health, state=HealthState.READY, degraded=False, last_recovery_outcome=outcome, last_error=_budget(health)
    )


def fell_back(health: Health, outcome: RecoveryOutcome, message: str) -> Health:
    """After a start that went on with nothing, in degraded."""
    is_legacy = outcome is RecoveryOutcome.UNSUPPORTED_LEGACY
    code = ErrorCode.UNSUPPORTED_LEGACY if is_legacy else ErrorCode.STARTUP_LOAD_FAILURE
    changed = replace(health, state=HealthState.DEGRADED, degraded=True, last_recovery_outcome=outcome)
    return _with_error(changed, code, message)


def initialization_failed(health: Health, message: str, *, is_legacy: bool) -> Health:
    """After a start that strict refused."""
    outcome = RecoveryOutcome.UNSUPPORTED_LEGACY if is_legacy else RecoveryOutcome.STRICT_INIT_FAILURE
    code = ErrorCode.UNSUPPORTED_LEGACY if is_legacy else ErrorCode.STRICT_INITIALIZATION_FAILURE
    changed = replace(health, state=HealthState.FAILED, degraded=True, last_recovery_outcome=outcome)
    return _with_error(changed, code, message)


def checkpoint_failed(health: Health, message: str, *, code: ErrorCode = ErrorCode.CHECKPOINT_FAILURE) -> Health:
    """After a checkpoint that was not written. What the start found stays what it was."""
    is_strict = health.mode is PersistenceMode.STRICT
    state = HealthState.FAILED if is_strict or health.state is HealthState.FAILED else HealthState.DEGRADED
    return _with_error(replace(health, state=state, degraded=True), code, message)


def checkpoint_succeeded(health: Health) -> Health:
    """After a checkpoint that was written: degraded heals, failed stays until a restart."""
    if health.state is not HealthState.DEGRADED:
        return health
    return replace(health, state=HealthState.READY, degraded=False, last_error=_budget(health))


def budget_moved(health: Health, pressure: Pressure, message: str) -> Health:
    """After the budget was judged. A more serious error stays; going below the warning clears the budget's own."""
    changed = replace(health, budget_pressure=pressure)
    current = health.last_error
    if current is not None and current.code not in _BUDGET_CODES.values():
        return changed
    code = _BUDGET_CODES.get(pressure)
    if code is None:
        return replace(changed, last_error=None)
    return replace(changed, last_error=_error(code, message))


def combined_health(mode: PersistenceMode, healths: Iterable[Health]) -> Health:
    """The health of a store: that of its worst list, since one is as urgent as all; ready if it has none."""
    worst = Health(mode=mode, state=HealthState.READY)
    for health in healths:
        if worst.last_recovery_outcome is None or _urgency(health) > _urgency(worst):
            worst = health
    return worst


def _urgency(health: Health) -> tuple[int, int]:
    severity = -1 if health.last_error is None else _SEVERITY[health.last_error.code]
    return _STATE_ORDER.index(health.state), severity


def _with_error(health: Health, code: ErrorCode, message: str) -> Health:
    current = health.last_error
    if current is not None and _SEVERITY[current.code] > _SEVERITY[code]:
        return health
    return replace(health, last_error=_error(code, message))


def _error(code: ErrorCode, message: str) -> HealthError:
    return HealthError(code=code, message=message, remediation=_REMEDIES[code])


def _budget(health: Health) -> HealthError | None:
    code = _BUDGET_CODES.get(health.budget_pressure)
    return None if code is None else _error(code, f"the storage budget is {health.budget_pressure.value}")
