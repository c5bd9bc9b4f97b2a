"""Guards made of branches, the limits of verdicts, and violations that no guard finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from perdure.core.work_approvals import (
    HighRiskGuard,
)
from perdure.core.work_guards import (
    GUARD_NAME_CHARS_MAX,
    ReadyGuard,
)
from perdure.domain.condition_values import BUILT_IN
from perdure.domain.conditions import Branch, Outcome
from perdure.domain.violations import (
    STATE_DRIFT,
    ZOMBIE_RECLAIM,
    ViolationKind,
    zombie_violation,
)
from perdure.domain.work import HOST_ID_CHARS_MAX, WorkStatus
from perdure.errors import Invalid
from perdure.ports.guards import (
    APPROVAL_DEADLINE_S_MAX,
    APPROVERS_MAX,
    GUARD_TEXT_CHARS_MAX,
    Allow,
    Ask,
    Deny,
    GuardianDecision,
    Verdict,
)
from tests.support.guards import BROKEN, CLOCK, HIGH, REQUEST, UNIT, asked

pytestmark = pytest.mark.fast


async def test_b6_a_drifted_unit_is_denied_before_any_branch_is_evaluated():
    guard = ReadyGuard("router", [BROKEN, HIGH])
    drifted = replace(REQUEST, stored_hash="ab" * 32, current_hash="cd" * 32)

    outcome, recorder = await asked(guard, drifted)

    assert outcome.violation is not None
    assert (outcome.violation.rule_id, outcome.violation.kind) == (STATE_DRIFT, ViolationKind.STATE_DRIFT)
    assert recorder.of("exception") == []
    assert isinstance((await asked(guard, replace(drifted, stored_hash=None)))[0].verdict, Allow)


async def test_branches_decide_and_the_record_says_which_one_did():
    outcome, recorder = await asked(ReadyGuard("router", [Branch(condition="False", decision="deny"), HIGH]))

    assert isinstance(outcome.verdict, Allow)
    assert outcome.verdict.judgement is not None
    assert outcome.verdict.judgement.outcome is Outcome.MATCHED
    assert recorder.of("decision") == [
        GuardianDecision(
            guardian_name="router",
            condition="amount > 50000",
            decision="allow",
            matched_branch_index=1,
            timestamp=CLOCK.now(),
        )
    ]


async def test_each_branch_that_fails_is_recorded_without_values():
    branches = [BROKEN, HIGH, Branch(condition=None, decision="deny", on_error=True)]

    outcome, recorder = await asked(ReadyGuard("router", branches))

    assert isinstance(outcome.verdict, Allow)
    (failure,) = recorder.of("exception")
    assert failure.error_type == "condition_type"
    assert (failure.branch_index, failure.condition, failure.variables) == (0, "card + 1 > 2", ("card",))
    assert "4111" not in repr(recorder.told)


async def test_the_verdict_of_a_decision_is_the_hosts():
    verdicts: dict[str, Verdict] = {
        "HighValue": Ask(reason="over the limit"),
        "Blocked": Deny(reason="blocked", rule_id="HOUSE"),
    }
    branches = [
        Branch(condition="amount > 50000", decision="HighValue"),
        Branch(condition=None, decision="Blocked", default=True),
    ]
    guard = ReadyGuard("router", branches, verdicts=verdicts)

    high, recorder = await asked(guard)
    low, denied = await asked(guard, replace(REQUEST, attributes={"amount": 1}))

    assert isinstance(high.verdict, Ask)
    assert [record.decision for record in recorder.of("decision")] == ["HighValue"]
    assert low.violation is not None
    assert (low.violation.rule_id, low.violation.kind) == ("HOUSE", ViolationKind.GUARD_DENIED)
    assert [record.decision for record in denied.of("decision")] == ["Blocked"]


async def test_a_unit_that_no_branch_decides_about_is_denied():
    for branches in ([Branch(condition="amount < 1", decision="allow")], [BROKEN]):
        outcome, recorder = await asked(ReadyGuard("router", branches))
        assert outcome.violation is not None
        assert outcome.violation.kind is ViolationKind.GUARD_UNDECIDED
        assert "default branch" in outcome.violation.remedy
        assert [record.decision for record in recorder.of("decision")] == ["deny"]


def test_a_ready_guard_finds_mistakes_when_it_is_made():
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: ReadyGuard("router", []), "there are no branches"),
        (lambda: ReadyGuard("router", [Branch(condition="a **", decision="allow")]), "no expression"),
        (lambda: ReadyGuard("router", [Branch(condition="f(a)", decision="allow")]), "'f' is unknown"),
        (lambda: ReadyGuard("router", [Branch(condition="a", decision="Deny")]), "'Deny' has no verdict"),
        (lambda: ReadyGuard("", [HIGH]), "a guard's name has 0 characters"),
        (lambda: ReadyGuard("x" * (GUARD_NAME_CHARS_MAX + 1), [HIGH]), "a guard's name has 101"),
    ]
    for make, words in refused:
        with pytest.raises(Invalid, match=words):
            make()
    functions = BUILT_IN.adding("f", bool)
    guard = ReadyGuard("x" * GUARD_NAME_CHARS_MAX, [Branch(condition="f(a)", decision="deny")], functions=functions)
    assert repr(guard).endswith("1 branches)")


def test_the_texts_of_verdicts_may_be_as_long_as_the_limit_and_no_longer():
    edge, beyond = "x" * GUARD_TEXT_CHARS_MAX, "x" * (GUARD_TEXT_CHARS_MAX + 1)
    assert Deny(reason=edge, remedy=edge, rule_id=edge).remedy == edge
    longest = Ask(reason=edge, approvers=("a" * HOST_ID_CHARS_MAX,) * APPROVERS_MAX, deadline_s=APPROVAL_DEADLINE_S_MAX)
    assert longest.reason == edge
    for wrong in ("", beyond):
        for make in (
            lambda text: Deny(reason=text),
            lambda text: Deny(reason="r", remedy=text),
            lambda text: Deny(reason="r", rule_id=text),
            lambda text: Ask(reason=text),
        ):
            with pytest.raises(Invalid, match="guard_text_chars_max"):
                make(wrong)


def test_a_question_may_have_as_many_approvers_and_as_much_time_as_the_limits_and_no_more():
    for approvers in (("a",) * (APPROVERS_MAX + 1), ("",), ("a" * (HOST_ID_CHARS_MAX + 1),)):
        with pytest.raises(Invalid, match="approvers_max"):
            Ask(reason="r", approvers=approvers)
    for deadline_s in (0, -1, float("nan"), float("inf"), APPROVAL_DEADLINE_S_MAX + 1):
        with pytest.raises(Invalid, match="approval_deadline_s_max"):
            Ask(reason="r", deadline_s=deadline_s)
    with pytest.raises(Invalid, match="approval_deadline_s_max"):
        HighRiskGuard(deadline_s=0)


def test_a_reclaimed_lease_is_a_violation():
    violation = zombie_violation(
        UNIT, status=WorkStatus.ZOMBIED_SOFT, lease_owner="worker-1", heartbeat_at=CLOCK.now(), timestamp=CLOCK.now()
    )
    assert violation.rule_id == ZOMBIE_RECLAIM == "ARTICLE_XIII_ZOMBIE_RECLAIM"
    assert violation.to_dict()["details"] == {
        "status": "ZOMBIED_SOFT",
        "lease_owner": "worker-1",
        "heartbeat_at": "2026-01-01T00:00:00+00:00",
    }
