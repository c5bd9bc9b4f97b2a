"""Asks guards: with a time limit, on a copy, and so that everything they do is recorded once.

A guard that raises, does not answer in time or gives something else than a verdict has denied. What it said beside the
name of its exception's class is not kept, because it may hold what the guard was shown.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from perdure.domain.condition_values import BUILT_IN, ConditionFunctions
from perdure.domain.conditions import Branch, Decision, Outcome, check_branches, decide
from perdure.domain.violations import STATE_DRIFT, Severity, Violation, ViolationKind
from perdure.errors import Forbidden, Invalid
from perdure.ports.environment import Clock
from perdure.ports.guards import (
    Allow,
    Ask,
    Deny,
    Guard,
    GuardFailure,
    GuardianDecision,
    GuardRecorder,
    GuardRequest,
    GuardSubject,
    Verdict,
)

GUARD_TIMEOUT_S_DEFAULT: Final = 5.0  # a save waits for it; a person notices
GUARD_TIMEOUT_S_MAX: Final = 60.0  # who needs longer asks a person: that is what Ask is for
GUARD_NAME_CHARS_MAX: Final = 100  # a word to group by

ALLOW: Final = "allow"
DENY: Final = "deny"
ASK: Final = "ask"

DEFAULT_VERDICTS: Final[Mapping[str, Verdict]] = MappingProxyType(
    {
        ALLOW: Allow(),
        DENY: Deny(reason="a branch of the guard denies it"),
        ASK: Ask(reason="a branch of the guard asks for approval"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardOutcome:
    """What came of asking a guard. ``violation`` is there exactly if the verdict is a denial."""

    verdict: Verdict
    violation: Violation | None = None

    def refusal(self) -> Forbidden | None:
        """The error for the caller of the save, with code ``guard_denied``; None if it was not denied."""
        if not isinstance(self.verdict, Deny) or self.violation is None:
            return None
        return Forbidden(
            f"a guard denied this save: {self.verdict.reason}; {self.violation.remedy}",
            code="guard_denied",
            rule_id=self.violation.rule_id,
            kind=str(self.violation.kind),
            unit_id=str(self.violation.unit_id),
            reason=self.verdict.reason,
            remedy=self.violation.remedy,
        )


class ReadyGuard:
    """A guard made of ordered branches: their conditions read the unit's attributes, and nothing is executed.

    The decision of a branch is looked up in ``verdicts``; a host with words of its own (``HighValue``) gives its own.
    A unit that drifted is denied before any branch is evaluated, and so is one that no branch decides about.

    Raises:
        Invalid: a branch that ``check_branches`` refuses, or whose decision has no verdict.
        LimitExceeded: too many branches, or a condition beyond its limits.
    """

    def __init__(
        self,
        name: str,
        branches: Sequence[Branch],
        *,
        verdicts: Mapping[str, Verdict] = DEFAULT_VERDICTS,
        functions: ConditionFunctions = BUILT_IN,
    ) -> None:
        parsed = check_branches(branches, functions=functions)
        for branch in branches:
            if branch.decision not in verdicts:
                known = ", ".join(sorted(verdicts))
                raise Invalid(f"the decision {branch.decision!r} has no verdict; give one, or use one of: {known}")
        self.name = _checked_name(name)
        self._branches = tuple(branches)
        self._verdicts = dict(verdicts)
        self._functions = functions
        self._parsed = {condition.text: condition for condition in parsed}

    def __repr__(self) -> str:
        return f"ReadyGuard({self.name!r}, {len(self._branches)} branches)"

    async def __call__(self, request: GuardRequest, /) -> Verdict:
        """The verdict of the branches on one save."""
        judged = decide(
            self._branches,
            request.attributes,
            functions=self._functions,
            parsed=self._parsed,
            stored_hash=request.stored_hash,
            current_hash=request.current_hash,
        )
        if judged.decision is not None:
            return replace(self._verdicts[judged.decision], judgement=judged)
        if judged.outcome is Outcome.DRIFT:
            return Deny(
                reason="the state hash does not match: the attributes are not those that were hashed",
                rule_id=STATE_DRIFT,
                remedy="verify the unit and find out who changed it",
                judgement=judged,
            )
        return Deny(
            reason=f"no branch decided, and {len(judged.errors)} failed",
            remedy="add a default branch, and one for errors",
            judgement=judged,
        )


async def evaluate(
    guard: Guard,
    request: GuardRequest,
    *,
    recorder: GuardRecorder,
    clock: Clock,
    name: str | None = None,
    timeout_s: float = GUARD_TIMEOUT_S_DEFAULT,
) -> GuardOutcome:
    """What a guard says about a save, within ``timeout_s``; ``recorder`` is told of all of it.

    To be called outside of any transaction: the version in ``request`` is to be compared when the save is committed. A
    guard that goes on after its time is cancelled and not waited for. Raises ``Invalid`` for a timeout out of bounds.
    """
    if not 0 < timeout_s <= GUARD_TIMEOUT_S_MAX:
        raise Invalid(f"timeout_s is {timeout_s}; expected more than 0 and at most {GUARD_TIMEOUT_S_MAX}")
    guardian = _checked_name(name if name is not None else _name_of(guard))
    answer = await _answer(guard, request, timeout_s)
    told = Telling(recorder, subject_of(request), guardian, clock.now())
    if isinstance(answer, Failed):
        told.failed(answer)
        return told.denied(Deny(reason=answer.reason, remedy=answer.remedy), answer.kind, error_type=answer.error_type)
    judged = answer.judgement
    for error in () if judged is None else judged.errors:
        failed = Failed(kind=ViolationKind.GUARD_EXCEPTION, error_type=error.kind, reason=error.message, remedy="")
        told.failed(failed, condition=error.condition, branch_index=error.branch_index, variables=error.names)
    if isinstance(answer, Deny):
        return told.denied(answer, _kind_of(answer))
    told.decided(judged.decision if judged and judged.decision else ALLOW if isinstance(answer, Allow) else ASK, judged)
    return GuardOutcome(verdict=answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A guard that gave no verdict, in words of ours."""

    kind: ViolationKind
    error_type: str
    reason: str
    remedy: str


async def _answer(guard: Guard, request: GuardRequest, timeout_s: float) -> Verdict | Failed:
    # A task of its own, so that a guard which ignores that it was cancelled holds nobody up.
    task = asyncio.create_task(_called(guard, request))
    task.add_done_callback(_retrieve)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        return Failed(
            kind=ViolationKind.GUARD_TIMEOUT,
            error_type="TimeoutError",
            reason=f"the guard did not answer within {timeout_s} s",
            remedy="make the guard quicker or give it more time; nothing was saved",
        )
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is not None:
        return Failed(
            kind=ViolationKind.GUARD_EXCEPTION,
            error_type=type(error).__name__,
            reason=f"the guard failed with {type(error).__name__}",
            remedy="repair the guard; nothing was saved",
        )
    verdict: object = task.result()
    if isinstance(verdict, Allow | Deny | Ask):
        return verdict
    return Failed(
        kind=ViolationKind.GUARD_UNDECIDED,
        error_type=type(verdict).__name__,
        reason=f"the guard gave {type(verdict).__name__}, which is no verdict",
        remedy="let the guard return Allow, Deny or Ask; nothing was saved",
    )


async def _called(guard: Guard, request: GuardRequest) -> Verdict:
    # What a guard changes in its copy must not become part of what is saved.
    seen = replace(
        request,
        attributes=copy.deepcopy(dict(request.attributes)),
        metadata=copy.deepcopy(request.metadata),
    )
    return await guard(seen)


def _retrieve(task: asyncio.Task[Verdict]) -> None:
    # Else the loop would log the exception of an abandoned guard, with its text.
    if not task.cancelled():
        task.exception()


class Telling:
    """Tells the recorder of one evaluation."""

    def __init__(self, recorder: GuardRecorder, subject: GuardSubject, guardian: str, now: datetime) -> None:
        self._recorder = recorder
        self._subject = subject
        self._guardian = guardian
        self._now = now

    def decided(self, decision: str, judged: Decision | None) -> None:
        """Record the one decision."""
        record = GuardianDecision(
            guardian_name=self._guardian,
            condition=None if judged is None else judged.condition,
            decision=decision,
            matched_branch_index=None if judged is None else judged.matched_branch_index,
            timestamp=self._now,
        )
        self._recorder.decision(self._subject, record)

    def failed(
        self,
        failed: Failed,
        *,
        condition: str | None = None,
        branch_index: int | None = None,
        variables: tuple[str, ...] = (),
    ) -> None:
        """Record one failure."""
        record = GuardFailure(
            guardian_name=self._guardian,
            error_type=failed.error_type,
            error_message=failed.reason,
            condition=condition,
            branch_index=branch_index,
            variables=variables,
            timestamp=self._now,
        )
        self._recorder.exception(self._subject, record)

    def denied(self, verdict: Deny, kind: ViolationKind, **facts: str) -> GuardOutcome:
        """Record the decision and the violation of a denial, and return what came of it."""
        violation = Violation(
            rule_id=verdict.rule_id,
            severity=Severity.CRITICAL,
            kind=kind,
            unit_id=self._subject.unit_id,
            remedy=verdict.remedy,
            timestamp=self._now,
            details={"guardian_name": self._guardian, "reason": verdict.reason, **facts},
        )
        judged = verdict.judgement
        self.decided(judged.decision if judged and judged.decision else DENY, judged)
        self._recorder.denial(self._subject, violation)
        return GuardOutcome(verdict=verdict, violation=violation)


def _kind_of(verdict: Deny) -> ViolationKind:
    if verdict.rule_id == STATE_DRIFT:
        return ViolationKind.STATE_DRIFT
    if verdict.judgement is not None and verdict.judgement.decision is None:
        return ViolationKind.GUARD_UNDECIDED
    return ViolationKind.GUARD_DENIED


def subject_of(request: GuardRequest) -> GuardSubject:
    """Whom the records of this request are about."""
    return GuardSubject(
        unit_id=request.unit_id,
        instance_id=request.instance_id,
        interaction_id=request.interaction_id,
        actor_id=request.actor_id,
        role_id=request.role_id,
    )


def _name_of(guard: object) -> str:
    for attribute in ("name", "__name__"):
        name = getattr(guard, attribute, None)
        if isinstance(name, str) and name:
            return name[:GUARD_NAME_CHARS_MAX]
    return type(guard).__name__[:GUARD_NAME_CHARS_MAX]


def _checked_name(name: str) -> str:
    if not 0 < len(name) <= GUARD_NAME_CHARS_MAX:
        raise Invalid(f"a guard's name has {len(name)} characters; expected 1 to {GUARD_NAME_CHARS_MAX}")
    return name
