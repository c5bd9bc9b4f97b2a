"""Approvals of units of work: which saves need somebody's word, and what that word comes to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from perdure.core.work_guards import GuardOutcome, Telling, subject_of
from perdure.domain.canonical import JsonObject
from perdure.domain.violations import ViolationKind
from perdure.domain.work import HOST_ID_CHARS_MAX, WorkStatus
from perdure.errors import Forbidden, Invalid
from perdure.ports.environment import Clock
from perdure.ports.guards import GUARD_TEXT_CHARS_MAX, Allow, Ask, Deny, GuardRecorder, GuardRequest, Verdict

HIGH_RISK_DEFAULT: Final = frozenset({WorkStatus.COMPLETED, WorkStatus.FAILED})
APPROVAL_REQUIRED: Final = "PILOT_APPROVAL_REQUIRED"

_GUARDIAN: Final = "approval"


class ApprovalAnswer(StrEnum):
    """What somebody said about a parked unit."""

    APPROVED = "approved"
    REJECTED = "rejected"
    WAIVED = "waived"  # it may go on although a rule is against it, which the history keeps with its reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An answer and who gave it. A rejection and a waiver have a reason."""

    answer: ApprovalAnswer
    approver: str
    reason: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.approver) <= HOST_ID_CHARS_MAX:
            raise Invalid(f"an approver is 1 to {HOST_ID_CHARS_MAX} characters; say who answered")
        if self.answer is not ApprovalAnswer.APPROVED and not self.reason:
            raise Invalid(f"a unit that is {self.answer} needs a reason, for whoever reads its history")
        if self.reason is not None and len(self.reason) > GUARD_TEXT_CHARS_MAX:
            raise Invalid(
                f"the reason of an approval has {len(self.reason)} characters; at most {GUARD_TEXT_CHARS_MAX} "
                "(guard_text_chars_max)"
            )

    def metadata(self) -> JsonObject:
        """What the history keeps of it, under ``approval`` or ``constitutional_waiver``, with who and why."""
        name = "constitutional_waiver" if self.answer is ApprovalAnswer.WAIVED else "approval"
        return {name: {"answer": str(self.answer), "by": self.approver, "reason": self.reason}}


class HighRiskGuard:
    """Asks for approval of each save that brings a unit into one of ``statuses``; all others it allows."""

    name: Final = "high_risk"

    def __init__(
        self,
        statuses: Collection[WorkStatus] = HIGH_RISK_DEFAULT,
        *,
        approvers: tuple[str, ...] = (),
        deadline_s: float | None = None,
    ) -> None:
        self._statuses = frozenset(statuses)
        self._approvers = approvers
        self._deadline_s = deadline_s
        self._ask(WorkStatus.COMPLETED)

    async def __call__(self, request: GuardRequest, /) -> Verdict:
        """The verdict on one save."""
        if request.target in self._statuses and request.target is not request.status:
            return self._ask(request.target)
        return Allow()

    def _ask(self, target: WorkStatus) -> Ask:
        return Ask(
            reason=f"a unit becomes {target} only with approval", approvers=self._approvers, deadline_s=self._deadline_s
        )


def settle_approval(
    approval: Approval,
    request: GuardRequest,
    *,
    recorder: GuardRecorder,
    clock: Clock,
    approvers: Collection[str] = (),
) -> GuardOutcome:
    """What an answer to an ``Ask`` comes to: an approval and a waiver allow the save, a rejection denies it.

    ``request`` has the parked unit's intended target. Raises ``Forbidden`` (``not_an_approver``), and records nothing,
    if ``approvers`` are named and who answered is none of them.
    """
    if approvers and approval.approver not in approvers:
        raise Forbidden(
            f"{approval.approver!r:.150} may not answer for this unit; one of its approvers may", code="not_an_approver"
        )
    told = Telling(recorder, subject_of(request), _GUARDIAN, clock.now())
    if approval.answer is not ApprovalAnswer.REJECTED:
        told.decided(str(approval.answer), None)
        return GuardOutcome(verdict=Allow())
    denial = Deny(
        reason=f"the approval was refused: {approval.reason}"[:GUARD_TEXT_CHARS_MAX],
        remedy="change the unit as the reason says, and ask again",
    )
    return told.denied(denial, ViolationKind.APPROVAL_REJECTED, blocked_by=APPROVAL_REQUIRED)
