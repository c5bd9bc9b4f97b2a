"""Violations: what was about to happen to a unit of work, or had happened to it, against a rule of its host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from perdure.domain.canonical import JsonObject, JsonValue
from perdure.domain.work_hash import AttributeDiff

GUARD_AUTHORIZATION: Final = "ARTICLE_I_GUARD_AUTHORIZATION"
ZOMBIE_RECLAIM: Final = "ARTICLE_XIII_ZOMBIE_RECLAIM"
STATE_DRIFT: Final = "ARTICLE_XVII_STATE_DRIFT"


class Severity(StrEnum):
    """How bad it is."""

    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class ViolationKind(StrEnum):
    """What happened."""

    GUARD_DENIED = "GUARD_DENIED"
    GUARD_EXCEPTION = "GUARD_EXCEPTION"
    GUARD_TIMEOUT = "GUARD_TIMEOUT"
    GUARD_UNDECIDED = "GUARD_UNDECIDED"  # it gave no verdict, or none of its branches decided
    APPROVAL_REJECTED = "APPROVAL_REJECTED"
    STATE_DRIFT = "STATE_DRIFT"
    ZOMBIE_RECLAIM = "ZOMBIE_RECLAIM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One violation. ``remedy`` says what to do; ``details`` are JSON values, and never those of attributes."""

    rule_id: str
    severity: Severity
    kind: ViolationKind
    unit_id: UUID
    remedy: str
    timestamp: datetime
    details: Mapping[str, JsonValue] = field(default_factory=dict)

    def to_dict(self) -> JsonObject:
        """The violation as JSON, with the names of the fields as keys."""
        return {
            "rule_id": self.rule_id,
            "severity": str(self.severity),
            "kind": str(self.kind),
            "unit_id": str(self.unit_id),
            "remedy": self.remedy,
            "timestamp": self.timestamp.isoformat(),
            "details": dict(self.details),
        }


def drift_violation(
    unit_id: UUID, *, stored_hash: str, current_hash: str, diff: AttributeDiff | None, timestamp: datetime
) -> Violation:
    """The violation of a unit whose attributes are not those that were hashed; ``diff`` adds the keys that differ."""
    details: JsonObject = {"stored_hash": stored_hash, "current_hash": current_hash}
    if diff is not None:
        details |= {"added": [*diff.added], "removed": [*diff.removed], "modified": [*diff.modified]}
    return Violation(
        rule_id=STATE_DRIFT,
        severity=Severity.CRITICAL,
        kind=ViolationKind.STATE_DRIFT,
        unit_id=unit_id,
        remedy="find out who changed the attributes; then save with a waiver and its reason, or quarantine the unit",
        timestamp=timestamp,
        details=details,
    )


def zombie_violation(
    unit_id: UUID, *, status: str, lease_owner: str | None, heartbeat_at: datetime | None, timestamp: datetime
) -> Violation:
    """The violation of a unit whose lease was reclaimed, and which ``status`` it has now."""
    return Violation(
        rule_id=ZOMBIE_RECLAIM,
        severity=Severity.WARNING,
        kind=ViolationKind.ZOMBIE_RECLAIM,
        unit_id=unit_id,
        remedy="see what became of the owner of the lease; the unit goes on when it is made ACTIVE again",
        timestamp=timestamp,
        details={
            "status": str(status),
            "lease_owner": lease_owner,
            "heartbeat_at": None if heartbeat_at is None else heartbeat_at.isoformat(),
        },
    )
