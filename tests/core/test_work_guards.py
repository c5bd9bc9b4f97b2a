"""Guards: allowing, denying and asking, what is recorded of each, and that a guard which fails has denied."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.work_guards import (
    GUARD_TIMEOUT_S_MAX,
    GuardOutcome,
    evaluate,
)
from perdure.domain.violations import (
    GUARD_AUTHORIZATION,
    STATE_DRIFT,
    Severity,
    ViolationKind,
    drift_violation,
)
from perdure.domain.work_hash import attribute_diff
from perdure.errors import Forbidden, Invalid
from perdure.ports.guards import (
    Allow,
    Ask,
    Deny,
    GuardianDecision,
    GuardRequest,
    Verdict,
)
from tests.support.guards import CLOCK, REQUEST, UNIT, Recorded, asked, giving

pytestmark = pytest.mark.fast


# The thirteen behaviours of guards. Those about heartbeats belong to the store.


async def test_b1_an_authorised_save_has_no_violations():
    outcome, recorder = await asked(giving(Allow()))

    assert outcome == GuardOutcome(verdict=Allow())
    assert recorder.of("decision") == [
        GuardianDecision(
            guardian_name="gate", condition=None, decision="allow", matched_branch_index=None, timestamp=CLOCK.now()
        )
    ]
    assert len(recorder.told) == 1


async def test_b2_an_unauthorised_save_is_an_error_with_one_critical_violation():
    outcome, recorder = await asked(giving(Deny(reason="not yours")))

    (violation,) = recorder.of("denial")
    assert violation.rule_id == GUARD_AUTHORIZATION == "ARTICLE_I_GUARD_AUTHORIZATION"
    assert violation.severity is Severity.CRITICAL
    assert violation.kind is ViolationKind.GUARD_DENIED
    assert violation.details == {"guardian_name": "gate", "reason": "not yours"}
    refusal = outcome.refusal()
    assert isinstance(refusal, Forbidden)
    assert refusal.code == "guard_denied"
    assert "not yours" in refusal.message
    assert refusal.detail["unit_id"] == str(UNIT)
    assert recorder.of("exception") == []


async def test_b3_a_violation_has_a_remedy():
    outcome, _ = await asked(giving(Deny(reason="not yours", remedy="ask the owner")))
    assert outcome.violation is not None
    assert outcome.violation.remedy == "ask the owner"

    outcome, _ = await asked(giving(Deny(reason="not yours")))
    assert outcome.violation is not None
    assert "ask for the right" in outcome.violation.remedy


async def test_b4_a_violation_is_a_dictionary_with_these_keys():
    outcome, _ = await asked(giving(Deny(reason="not yours", rule_id="HOUSE_RULE", remedy="ask")))

    assert outcome.violation is not None
    assert outcome.violation.to_dict() == {
        "rule_id": "HOUSE_RULE",
        "severity": "CRITICAL",
        "kind": "GUARD_DENIED",
        "unit_id": str(UNIT),
        "remedy": "ask",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "details": {"guardian_name": "gate", "reason": "not yours"},
    }


async def test_b5_a_drift_is_one_violation_that_names_the_keys_and_no_value():
    diff = attribute_diff({"amount": 100, "gone": 1}, {"amount": 999_999, "new": 2})
    violation = drift_violation(UNIT, stored_hash="ab" * 32, current_hash="cd" * 32, diff=diff, timestamp=CLOCK.now())

    assert violation.rule_id == STATE_DRIFT == "ARTICLE_XVII_STATE_DRIFT"
    assert violation.to_dict()["details"] == {
        "stored_hash": "ab" * 32,
        "current_hash": "cd" * 32,
        "added": ["new"],
        "removed": ["gone"],
        "modified": ["amount"],
    }
    assert "999999" not in repr(violation)
    bare = drift_violation(UNIT, stored_hash="ab" * 32, current_hash="cd" * 32, diff=None, timestamp=CLOCK.now())
    assert bare.details.keys() == {"stored_hash", "current_hash"}


async def test_r71_an_exception_of_a_guard_is_a_denial_that_keeps_its_class_and_not_its_text():
    async def broken(request: GuardRequest) -> Verdict:
        raise LookupError(f"no such card: {request.attributes['card']!r}")

    outcome, recorder = await asked(broken)

    assert outcome.violation is not None
    assert outcome.violation.kind is ViolationKind.GUARD_EXCEPTION
    assert outcome.violation.rule_id == GUARD_AUTHORIZATION
    assert outcome.violation.details["error_type"] == "LookupError"
    (failure,) = recorder.of("exception")
    assert (failure.guardian_name, failure.error_type) == ("broken", "LookupError")
    assert [record.decision for record in recorder.of("decision")] == ["deny"]
    assert "4111" not in repr((outcome, recorder.told, outcome.refusal()))


@pytest.mark.parametrize("error", [ExceptionGroup("g", [ValueError("x")]), TimeoutError("x"), asyncio.CancelledError()])
async def test_r71_whatever_a_guard_raises_is_a_denial(error: BaseException):
    async def broken(_request: GuardRequest) -> Verdict:
        raise error

    outcome, _ = await asked(broken)

    assert outcome.violation is not None
    assert outcome.violation.details["error_type"] == type(error).__name__


async def test_r71_a_guard_that_cannot_be_awaited_is_a_denial():
    def careless(_request: GuardRequest) -> Verdict:
        return Allow()

    outcome, _ = await asked(careless)  # type: ignore[arg-type]  # what somebody without a type checker does

    assert outcome.violation is not None
    assert outcome.violation.details["error_type"] == "TypeError"


@pytest.mark.parametrize("answer", [None, True, "allow", Allow])
async def test_r71_anything_but_a_verdict_is_a_denial(answer: object):
    outcome, recorder = await asked(giving(answer))

    assert outcome.violation is not None
    assert outcome.violation.kind is ViolationKind.GUARD_UNDECIDED
    assert len(recorder.of("exception")) == 1


async def test_r71_a_guard_that_does_not_answer_in_time_is_a_denial_and_is_cancelled():
    cancelled = asyncio.Event()

    async def slow(_request: GuardRequest) -> Verdict:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Allow()

    outcome, recorder = await asked(slow, timeout_s=0.001)

    assert outcome.violation is not None
    assert outcome.violation.kind is ViolationKind.GUARD_TIMEOUT
    assert [failure.error_type for failure in recorder.of("exception")] == ["TimeoutError"]
    await cancelled.wait()


async def test_a_guard_that_ignores_its_time_holds_nobody_up_and_decides_nothing():
    over, ended = asyncio.Event(), asyncio.Event()

    async def stubborn(_request: GuardRequest) -> Verdict:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue
        ended.set()
        raise RuntimeError("nobody hears this")

    outcome, recorder = await asked(stubborn, timeout_s=0.001)

    assert isinstance(outcome.verdict, Deny)
    over.set()
    await ended.wait()
    assert len(recorder.of("decision")) == 1


async def test_a_save_that_is_cancelled_cancels_its_guard():
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(_request: GuardRequest) -> Verdict:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Allow()

    recorder = Recorded()
    saving = asyncio.create_task(evaluate(slow, REQUEST, recorder=recorder, clock=CLOCK))
    await begun.wait()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    await ended.wait()
    assert recorder.told == []


async def test_r70_what_a_guard_changes_in_its_request_changes_nothing_else():
    async def meddling(request: GuardRequest) -> Verdict:
        assert request.attributes == REQUEST.attributes
        for part in (request.attributes, request.metadata):
            assert isinstance(part, dict)
            part["amount"] = 0
        lines = request.attributes["lines"]
        assert isinstance(lines, list)
        lines.clear()
        return Deny(reason="no")

    outcome, _ = await asked(meddling)

    assert isinstance(outcome.verdict, Deny)
    assert outcome.violation is not None
    assert outcome.violation.kind is ViolationKind.GUARD_DENIED
    assert REQUEST.attributes == {"amount": 60_000, "lines": [{"sku": "A"}], "card": "4111-secret"}
    assert REQUEST.metadata == {"note": "n"}


async def test_a_request_shows_no_attribute_in_its_representation():
    assert "4111" not in repr(REQUEST)
    assert "60000" not in repr(REQUEST)


async def test_a_question_is_recorded_as_one_and_is_no_denial():
    outcome, recorder = await asked(giving(Ask(reason="four eyes")))

    assert outcome.refusal() is None
    assert [record.decision for record in recorder.of("decision")] == ["ask"]


async def test_a_guard_has_as_much_time_as_the_limit_and_no_more():
    assert (await asked(giving(Allow()), timeout_s=GUARD_TIMEOUT_S_MAX))[0].violation is None
    for wrong in (0, -1, GUARD_TIMEOUT_S_MAX + 1, float("nan"), float("inf")):
        with pytest.raises(Invalid, match="timeout_s is"):
            await evaluate(giving(Allow()), REQUEST, recorder=Recorded(), clock=CLOCK, timeout_s=wrong)


async def test_a_guard_is_named_by_its_host_or_by_what_it_is():
    class Nameless:
        async def __call__(self, _request: GuardRequest) -> Verdict:
            return Allow()

    for name, expected in ((None, "Nameless"), ("mine", "mine")):
        recorder = Recorded()
        await evaluate(Nameless(), REQUEST, recorder=recorder, clock=CLOCK, name=name)
        assert [record.guardian_name for record in recorder.of("decision")] == [expected]
