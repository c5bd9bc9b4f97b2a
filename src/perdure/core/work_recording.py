"""What guards do, and what is found wrong with a unit of work, on its way into telemetry. Nothing waits or raises."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias

from perdure.core.stores import Stores
from perdure.core.telemetry import PlaneTelemetry, Telemetry
from perdure.core.telemetry_capture import ShadowLoggerTelemetryAdapter
from perdure.core.work_asking import Asked
from perdure.core.work_finding import Found
from perdure.domain.canonical import JsonObject
from perdure.domain.scope import Scope
from perdure.domain.telemetry import LogType
from perdure.domain.violations import STATE_DRIFT, Severity, Violation, ViolationKind, drift_violation
from perdure.domain.work import WorkUnit
from perdure.domain.work_hash import AttributeDiff
from perdure.domain.work_results import DriftKind, WorkVerification
from perdure.ports.environment import Environment
from perdure.ports.guards import GuardFailure, GuardianDecision, GuardRecorder, GuardRequest, GuardSubject

Recorders: TypeAlias = Callable[[Scope], GuardRecorder]
"""Who is told, for each scope."""

_NOT_KNOWN: Final = "(not known)"  # of a unit of which nothing can be read any more
_NOT_KEPT: Final = "(not kept)"  # names of variables are, their values never


class TelemetryRecorder:
    """Tells the telemetry of a scope. What it does not take is in its counters of refused entries."""

    def __init__(self, telemetry: Telemetry, *, environment: Environment) -> None:
        self._telemetry = telemetry
        self._environment = environment

    def decision(self, subject: GuardSubject, decision: GuardianDecision) -> None:
        """Record one decision: a GUARDIAN_DECISION."""
        self._adapter(subject).capture_guardian_decision(
            subject.unit_id,
            subject.role_id,
            subject.interaction_id,
            subject.actor_id,
            guardian_name=decision.guardian_name,
            condition=decision.condition,
            decision=decision.decision,
            matched_branch_index=decision.matched_branch_index,
        )

    def denial(self, subject: GuardSubject, violation: Violation) -> None:
        """Record one violation: an ERROR."""
        self._telemetry.record(
            instance_id=subject.instance_id,
            log_type=LogType.ERROR,
            unit_id=subject.unit_id,
            actor_id=subject.actor_id,
            role_id=subject.role_id,
            interaction_id=subject.interaction_id,
            error_metadata={"violation": violation.to_dict()},
            timestamp=violation.timestamp,
        )

    def exception(self, subject: GuardSubject, failure: GuardFailure) -> None:
        """Record one failure: an ERROR."""
        self._adapter(subject).capture_shadow_log_error(
            subject.unit_id,
            subject.role_id,
            subject.interaction_id,
            subject.actor_id,
            error_message=failure.error_message,
            condition=failure.condition,
            variables=dict.fromkeys(failure.variables, _NOT_KEPT),
            error_type=failure.error_type,
            branch_index=failure.branch_index,
        )

    def _adapter(self, subject: GuardSubject) -> ShadowLoggerTelemetryAdapter:
        return ShadowLoggerTelemetryAdapter(self._telemetry, subject.instance_id, environment=self._environment)


def telemetry_recorders(stores: Stores, telemetry: PlaneTelemetry) -> Recorders:
    """Recorders that tell the telemetry of each scope."""

    def of(scope: Scope) -> GuardRecorder:
        """That of one scope."""
        return TelemetryRecorder(Telemetry(scope, stores=stores, plane=telemetry), environment=stores.environment)

    return of


def request_of(found: Found, asked: Asked, *, actor_id: str) -> GuardRequest:
    """What a guard is shown of a save."""
    unit = found.stored.unit
    # A drift that the caller waives with a reason is known and answered for; a ready guard would deny it once more.
    is_waived = asked.waive is not None and found.content != unit.content_hash
    return GuardRequest(
        unit_id=unit.unit_id,
        instance_id=unit.instance_id,
        schema=unit.schema,
        version=unit.version,
        status=unit.status,
        target=asked.new_status if asked.new_status is not None else unit.status,
        interaction_id=unit.interaction_id,
        target_interaction_id=asked.interaction_id if asked.interaction_id is not None else unit.interaction_id,
        actor_id=asked.actor_id if asked.actor_id is not None else actor_id,
        role_id=unit.role_id,
        attributes=asked.merged(found.values),
        stored_hash=None if is_waived else unit.content_hash,
        current_hash=None if is_waived else found.content,
        reasoning=asked.reasoning,
        metadata=asked.metadata,
    )


def subject_of_unit(unit: WorkUnit, *, actor_id: str) -> GuardSubject:
    """Whom a record about a unit is about."""
    return GuardSubject(
        unit_id=unit.unit_id,
        instance_id=unit.instance_id,
        interaction_id=unit.interaction_id,
        actor_id=actor_id,
        role_id=unit.role_id,
    )


def subject_found(found: WorkVerification, *, actor_id: str) -> GuardSubject:
    """Whom a record about a verification is about."""
    return GuardSubject(
        unit_id=found.unit_id,
        instance_id=found.instance_id if found.instance_id is not None else _NOT_KNOWN,
        interaction_id=None,
        actor_id=actor_id,
        role_id=None,
    )


def drift_of(found: Found, *, now: datetime) -> Violation:
    """The violation of a unit that drifted, by the keys of its attributes."""
    keys = {kind: {drift.key: None for drift in found.attributes if drift.kind is kind} for kind in DriftKind}
    changed = [drift.key for drift in found.attributes if drift.kind is DriftKind.CHANGED]
    violation = drift_violation(
        found.stored.unit.unit_id,
        stored_hash=found.stored.unit.content_hash or "",
        current_hash=found.content,
        diff=AttributeDiff(added=keys[DriftKind.ADDED], removed=keys[DriftKind.REMOVED], modified={}),
        timestamp=now,
    )
    details: JsonObject = {**violation.details, "modified": [*changed]}
    return Violation(
        rule_id=violation.rule_id,
        severity=violation.severity,
        kind=violation.kind,
        unit_id=violation.unit_id,
        remedy=violation.remedy,
        timestamp=violation.timestamp,
        details=details,
    )


def verification_violation(found: WorkVerification, *, now: datetime) -> Violation:
    """The violation that a verification found."""
    return Violation(
        rule_id=STATE_DRIFT,
        severity=Severity.CRITICAL,
        kind=ViolationKind.STATE_DRIFT,
        unit_id=found.unit_id,
        remedy="find out who changed it; then save with a waiver and its reason, or quarantine the unit",
        timestamp=now,
        details={
            "check": str(found.check),
            "reason": found.reason,
            "first_bad": found.first_bad,
            "fields": [*found.fields],
            "attributes": [*sorted({drift.key for drift in found.attributes})],
        },
    )
