"""A save that guards judge in tests, and a recorder that keeps what it is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from perdure.core.work_guards import GUARD_TIMEOUT_S_DEFAULT, GuardOutcome, evaluate
from perdure.domain.conditions import Branch
from perdure.domain.violations import Violation
from perdure.domain.work import WorkStatus
from perdure.ports.guards import (
    Deny,
    Guard,
    GuardFailure,
    GuardianDecision,
    GuardRequest,
    GuardSubject,
    Verdict,
)
from perdure.testing.environment import FakeClock

UNIT = UUID(int=7)
CLOCK = FakeClock()
REQUEST = GuardRequest(
    unit_id=UNIT,
    instance_id="inst-1",
    schema="invoice/1",
    version=3,
    status=WorkStatus.ACTIVE,
    target=WorkStatus.COMPLETED,
    interaction_id="review",
    actor_id="agent:reviewer",
    role_id="beta",
    attributes={"amount": 60_000, "lines": [{"sku": "A"}], "card": "4111-secret"},
    metadata={"note": "n"},
)
SUBJECT = GuardSubject(
    unit_id=UNIT, instance_id="inst-1", interaction_id="review", actor_id="agent:reviewer", role_id="beta"
)
HIGH = Branch(condition="amount > 50000", decision="allow")
BROKEN = Branch(condition="card + 1 > 2", decision="allow")


@dataclass
class Recorded:
    """A recorder that keeps what it is told."""

    told: list[tuple[str, GuardSubject, Any]] = field(default_factory=list)

    def decision(self, subject: GuardSubject, decision: GuardianDecision) -> None:
        self.told.append(("decision", subject, decision))

    def denial(self, subject: GuardSubject, violation: Violation) -> None:
        self.told.append(("denial", subject, violation))

    def exception(self, subject: GuardSubject, failure: GuardFailure) -> None:
        self.told.append(("exception", subject, failure))

    def of(self, kind: str) -> list[Any]:
        return [record for told, _, record in self.told if told == kind]


def giving(verdict: Any) -> Guard:
    async def gate(_request: GuardRequest) -> Verdict:
        await asyncio.sleep(0)
        answer: Verdict = verdict
        return answer

    return gate


async def asked(
    guard: Guard, request: GuardRequest = REQUEST, *, timeout_s: float = GUARD_TIMEOUT_S_DEFAULT
) -> tuple[GuardOutcome, Recorded]:
    recorder = Recorded()
    outcome = await evaluate(guard, request, recorder=recorder, clock=CLOCK, timeout_s=timeout_s)
    assert all(subject == SUBJECT for _, subject, _ in recorder.told)
    assert len(recorder.of("decision")) == 1
    assert recorder.of("denial") == ([] if outcome.violation is None else [outcome.violation])
    assert isinstance(outcome.verdict, Deny) == (outcome.violation is not None) == (outcome.refusal() is not None)
    return outcome, recorder
