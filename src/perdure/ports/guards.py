"""What a host's guards are asked before a unit of work is saved, what they may answer, and who is told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, TypeAlias
from uuid import UUID

from perdure.domain import limits
from perdure.domain.canonical import JsonObject
from perdure.domain.conditions import Decision
from perdure.domain.typed_values import TypedValue
from perdure.domain.violations import GUARD_AUTHORIZATION, Violation
from perdure.domain.work import HOST_ID_CHARS_MAX, WorkStatus
from perdure.errors import Invalid

GUARD_TEXT_CHARS_MAX: Final = 1_000  # of a reason or remedy: it ends up in an error and in telemetry
APPROVERS_MAX: Final = 20  # who may answer one question; more is a group, and a group has one name
APPROVAL_DEADLINE_S_MAX: Final = limits.STEP_WAIT_S_MAX  # an approval that is open for longer is forgotten

DENIAL_REMEDY: Final = "ask for the right to do it, or change the unit so that its guard allows it"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRequest:
    """What a save wants to do to a unit.

    ``version`` is that of the unit as it was read, and it is checked again when the save is committed, so what a guard
    allowed is what happens. ``attributes`` are those that the unit would have, as a copy. ``stored_hash`` is the
    content hash that the unit has, ``current_hash`` that of its stored attributes: if they differ, it drifted. Both
    are None for a unit that was never saved, and for a drift that the save waives with a reason.
    """

    unit_id: UUID
    instance_id: str
    schema: str
    version: int
    status: WorkStatus
    target: WorkStatus
    interaction_id: str | None = None
    target_interaction_id: str | None = None
    actor_id: str | None = None
    role_id: str | None = None
    attributes: Mapping[str, TypedValue] = field(default_factory=dict, repr=False)
    stored_hash: str | None = None
    current_hash: str | None = None
    reasoning: str | None = field(default=None, repr=False)
    metadata: JsonObject | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """The save may go on. ``judgement`` is how branches came to it, if branches did."""

    judgement: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """The save must not happen. The caller is shown ``reason`` and ``remedy``, and both are recorded."""

    reason: str
    rule_id: str = GUARD_AUTHORIZATION
    remedy: str = DENIAL_REMEDY
    judgement: Decision | None = None

    def __post_init__(self) -> None:
        _check_text("the reason of a denial", self.reason)
        _check_text("the rule of a denial", self.rule_id)
        _check_text("the remedy of a denial", self.remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Somebody must approve first: the unit is parked, with its target kept.

    ``approvers`` are who may answer, anybody if empty; without an answer in ``deadline_s`` the unit counts as stale.
    """

    reason: str
    approvers: tuple[str, ...] = ()
    deadline_s: float | None = None
    judgement: Decision | None = None

    def __post_init__(self) -> None:
        _check_text("the reason of a question", self.reason)
        if len(self.approvers) > APPROVERS_MAX or any(not 0 < len(a) <= HOST_ID_CHARS_MAX for a in self.approvers):
            raise Invalid(
                f"a question has at most {APPROVERS_MAX} approvers (approvers_max), "
                f"each of 1 to {HOST_ID_CHARS_MAX} characters"
            )
        deadline_s = self.deadline_s
        if deadline_s is not None and not (math.isfinite(deadline_s) and 0 < deadline_s <= APPROVAL_DEADLINE_S_MAX):
            raise Invalid(
                f"the deadline of a question is {deadline_s} s; expected more than 0 and at most "
                f"{APPROVAL_DEADLINE_S_MAX} (approval_deadline_s_max)"
            )


Verdict: TypeAlias = Allow | Deny | Ask


class Guard(Protocol):
    """Judges saves. It is asked outside of any transaction, and may take its time up to the timeout it was given."""

    async def __call__(self, request: GuardRequest, /) -> Verdict:
        """The verdict on one save. Whatever it raises is a denial, and so is anything else that it returns."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSubject:
    """Whom a record of a guard is about."""

    unit_id: UUID
    instance_id: str
    interaction_id: str | None
    actor_id: str | None
    role_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardianDecision:
    """One evaluation of one guard: ``decision`` is the word of the branch that decided, or of the verdict."""

    guardian_name: str
    condition: str | None
    decision: str
    matched_branch_index: int | None
    timestamp: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardFailure:
    """What went wrong inside a guard: a branch that could not be evaluated, an exception, or a timeout.

    ``error_type`` is the code of the branch's error or the name of the exception's class. ``error_message`` is ours:
    the text of an exception is never kept, because it may hold what the guard saw. ``variables`` are names only.
    """

    guardian_name: str
    error_type: str
    error_message: str
    condition: str | None
    branch_index: int | None
    variables: tuple[str, ...]
    timestamp: datetime


class GuardRecorder(Protocol):
    """Who is told of everything that guards do. Its methods never wait and never raise."""

    def decision(self, subject: GuardSubject, decision: GuardianDecision) -> None:
        """Take one decision: exactly one for each evaluation, whatever came of it."""
        ...

    def denial(self, subject: GuardSubject, violation: Violation) -> None:
        """Take the violation of a denial: exactly one for each evaluation that ended in one."""
        ...

    def exception(self, subject: GuardSubject, failure: GuardFailure) -> None:
        """Take one failure: one for each branch that failed, and one for an exception or a timeout."""
        ...


def _check_text(what: str, text: str) -> None:
    if not 0 < len(text) <= GUARD_TEXT_CHARS_MAX:
        raise Invalid(f"{what} has {len(text)} characters; expected 1 to {GUARD_TEXT_CHARS_MAX} (guard_text_chars_max)")
