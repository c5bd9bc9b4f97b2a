"""Which snapshots may go, and whether another one fits: exact arithmetic, no reading of disks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from perdure.domain.tasklists.settings import PersistenceMode, RetentionPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFile:
    """A file with a canonical name. ``size`` is 0 for what is no regular file."""

    timestamp_ms: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Bytes of regular files below a root. What is in quarantine is counted apart: it must not stop writing."""

    used_bytes: int
    quarantine_bytes: int


class Pressure(StrEnum):
    """How full the budget is."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"
    AT_CAPACITY = "at_capacity"


class BudgetDecision(StrEnum):
    """What follows for a write, by the names of the contract."""

    BELOW_WARNING = "BelowWarning"
    WARNING = "Warning80"
    CRITICAL = "Warning90"
    STRICT_FAIL = "StrictFailAtCapacity"
    DEGRADED_SKIP = "DegradedSkipAtCapacity"


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePlan:
    """What is deleted before a write, oldest first, and how full the budget will be after it and its own trimming."""

    delete_first: Sequence[SnapshotFile]
    pressure: Pressure
    projected_bytes: int


def pressure_of(used_bytes: int, policy: RetentionPolicy) -> Pressure:
    """How full the budget is with so many bytes; each bound is met at exactly its percentage."""
    budget = policy.storage_budget_bytes
    if used_bytes >= budget:
        return Pressure.AT_CAPACITY
    if used_bytes * 100 >= budget * policy.critical_threshold_percent:
        return Pressure.CRITICAL
    if used_bytes * 100 >= budget * policy.warning_threshold_percent:
        return Pressure.WARNING
    return Pressure.NORMAL


def decision_of(pressure: Pressure, mode: PersistenceMode) -> BudgetDecision:
    """What a pressure means in a mode. Warnings never stop a write."""
    match pressure:
        case Pressure.NORMAL:
            return BudgetDecision.BELOW_WARNING
        case Pressure.WARNING:
            return BudgetDecision.WARNING
        case Pressure.CRITICAL:
            return BudgetDecision.CRITICAL
        case Pressure.AT_CAPACITY:
            is_strict = mode is PersistenceMode.STRICT
            return BudgetDecision.STRICT_FAIL if is_strict else BudgetDecision.DEGRADED_SKIP


def surplus(files: Sequence[SnapshotFile], *, keep: int, verified_ms: int | None) -> Sequence[SnapshotFile]:
    """What retention deletes of a list's snapshots, oldest first: all but the newest ``keep``, at least one.

    The newest that is known to load (``verified_ms``) is never among them, also where newer ones are in the way that
    cannot be loaded. None: nothing is known to load, and then nothing is deleted.
    """
    if verified_ms is None:
        return []
    newest_first = sorted(files, key=lambda file: file.timestamp_ms, reverse=True)
    old = newest_first[max(1, keep) :]
    return [file for file in reversed(old) if file.timestamp_ms != verified_ms]


def plan_write(
    files: Sequence[SnapshotFile],
    *,
    incoming_bytes: int,
    used_bytes: int,
    verified_ms: int | None,
    policy: RetentionPolicy,
) -> WritePlan:
    """Whether a snapshot of ``incoming_bytes`` fits, what is to go before it, and how full the budget is then.

    What the write itself makes superfluous does not count. It is deleted after the write, unless the write would not
    fit beside it: then before, down to one less than is kept, where that leaves one that loads.
    """
    keep = policy.checkpoints_to_keep
    # Once it is written the new one is the newest that loads, so it protects no older one any more.
    after = surplus(files, keep=keep - 1, verified_ms=-1) if keep > 1 else files
    projected = used_bytes + incoming_bytes - sum(file.size for file in after)
    pressure = pressure_of(projected, policy)
    is_tight = pressure_of(used_bytes + incoming_bytes, policy) is Pressure.AT_CAPACITY
    first: Sequence[SnapshotFile] = []
    if is_tight and pressure is not Pressure.AT_CAPACITY:
        first = surplus(files, keep=keep - 1, verified_ms=verified_ms)
    return WritePlan(delete_first=first, pressure=pressure, projected_bytes=projected)
