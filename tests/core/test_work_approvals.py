"""Approvals: which saves need one, and what an approval, a rejection and a waiver come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.core.work_approvals import (
    APPROVAL_REQUIRED,
    Approval,
    ApprovalAnswer,
    HighRiskGuard,
    settle_approval,
)
from perdure.core.work_guards import (
    GuardOutcome,
)
from perdure.domain.violations import (
    ViolationKind,
)
from perdure.domain.work import WorkStatus
from perdure.errors import Forbidden, Invalid
from perdure.ports.guards import (
    GUARD_TEXT_CHARS_MAX,
    Allow,
    Ask,
)
from tests.support.guards import CLOCK, REQUEST, Recorded, asked

pytestmark = pytest.mark.fast


async def test_b10_a_high_risk_save_that_is_approved_may_go_on():
    outcome, _ = await asked(HighRiskGuard(approvers=("user:ada",), deadline_s=300))
    assert outcome.verdict == Ask(
        reason="a unit becomes COMPLETED only with approval", approvers=("user:ada",), deadline_s=300
    )
    recorder = Recorded()
    approval = Approval(answer=ApprovalAnswer.APPROVED, approver="user:ada")

    settled = settle_approval(approval, REQUEST, recorder=recorder, clock=CLOCK, approvers=("user:ada",))

    assert settled == GuardOutcome(verdict=Allow())
    assert [record.decision for record in recorder.of("decision")] == ["approved"]
    assert recorder.of("denial") == []
    assert approval.metadata() == {"approval": {"answer": "approved", "by": "user:ada", "reason": None}}


async def test_b11_a_high_risk_save_that_is_rejected_says_by_what_it_is_blocked_and_why():
    recorder = Recorded()
    approval = Approval(answer=ApprovalAnswer.REJECTED, approver="user:ada", reason="the amount is wrong")

    settled = settle_approval(approval, REQUEST, recorder=recorder, clock=CLOCK)

    assert settled.violation is not None
    assert settled.violation.kind is ViolationKind.APPROVAL_REJECTED
    assert settled.violation.details["blocked_by"] == APPROVAL_REQUIRED == "PILOT_APPROVAL_REQUIRED"
    refusal = settled.refusal()
    assert refusal is not None
    assert "the amount is wrong" in refusal.message
    assert [told for told, _, _ in recorder.told] == ["decision", "denial"]


async def test_b12_a_waiver_is_kept_with_its_reason():
    recorder = Recorded()
    approval = Approval(answer=ApprovalAnswer.WAIVED, approver="user:ada", reason="outage")

    settled = settle_approval(approval, REQUEST, recorder=recorder, clock=CLOCK)

    assert isinstance(settled.verdict, Allow)
    assert [record.decision for record in recorder.of("decision")] == ["waived"]
    assert approval.metadata() == {"constitutional_waiver": {"answer": "waived", "by": "user:ada", "reason": "outage"}}


@pytest.mark.parametrize("target", sorted(set(WorkStatus) - {WorkStatus.COMPLETED, WorkStatus.FAILED}))
async def test_b13_a_low_risk_save_asks_nobody(target: WorkStatus):
    outcome, recorder = await asked(HighRiskGuard(), replace(REQUEST, target=target))

    assert outcome.verdict == Allow()
    assert [record.guardian_name for record in recorder.of("decision")] == ["high_risk"]


async def test_a_save_that_stays_in_a_high_risk_status_asks_nobody():
    staying = replace(REQUEST, status=WorkStatus.COMPLETED)
    assert (await asked(HighRiskGuard(), staying))[0].verdict == Allow()
    own = HighRiskGuard({WorkStatus.ARCHIVED})
    assert isinstance((await asked(own, replace(REQUEST, target=WorkStatus.ARCHIVED)))[0].verdict, Ask)


async def test_an_approval_is_given_by_an_approver():
    recorder = Recorded()
    approval = Approval(answer=ApprovalAnswer.APPROVED, approver="user:eve")
    with pytest.raises(Forbidden) as refused:
        settle_approval(approval, REQUEST, recorder=recorder, clock=CLOCK, approvers=("user:ada",))
    assert refused.value.code == "not_an_approver"
    assert recorder.told == []


def test_a_rejection_and_a_waiver_have_a_reason():
    for answer in (ApprovalAnswer.REJECTED, ApprovalAnswer.WAIVED):
        with pytest.raises(Invalid, match="needs a reason"):
            Approval(answer=answer, approver="user:ada")
    with pytest.raises(Invalid, match="say who answered"):
        Approval(answer=ApprovalAnswer.APPROVED, approver="")
    with pytest.raises(Invalid, match="guard_text_chars_max"):
        Approval(answer=ApprovalAnswer.REJECTED, approver="a", reason="x" * (GUARD_TEXT_CHARS_MAX + 1))


async def test_the_longest_reason_of_a_rejection_still_denies():
    approval = Approval(answer=ApprovalAnswer.REJECTED, approver="a", reason="x" * GUARD_TEXT_CHARS_MAX)
    assert settle_approval(approval, REQUEST, recorder=Recorded(), clock=CLOCK).violation is not None
