"""Guards around a save: what is allowed, denied and asked, what stays as it was, and what telemetry hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from perdure.core.work_approvals import HighRiskGuard
from perdure.core.work_guards import ReadyGuard
from perdure.domain.conditions import Branch
from perdure.domain.telemetry import LogType, TelemetryEntry
from perdure.domain.work import METADATA_BYTES_MAX, HistoryEvent, WorkStatus
from perdure.domain.work_results import Work
from perdure.errors import Forbidden, HashDrift, IllegalTransition, Invalid, LimitExceeded, StaleVersion
from perdure.ports.guards import Allow, Ask, Deny, GuardRequest, Verdict
from tests.core.work_worlds import OWNER, World, make_driver, open_world

PILOT = "user:pilot"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(make_driver("memory", tmp_path)()) as opened:
        yield opened


async def active(world: World, **attributes: int) -> Work:
    unit = await world.work.create(instance="i", interaction="a", role="approver", attributes=dict(attributes))
    return await world.work.checkout(unit, owner=OWNER)


async def told(world: World, unit: Work) -> list[TelemetryEntry]:
    """What telemetry heard of a unit."""
    await world.acme.telemetry.flush()
    return list((await world.acme.telemetry.logs(unit=str(unit.unit_id))).items)


async def violations(world: World, unit: Work) -> list[dict[str, Any]]:
    """The violations of a unit."""
    entries = await told(world, unit)
    found = [entry.error_metadata["violation"] for entry in entries if "violation" in (entry.error_metadata or {})]
    return [dict(one) for one in found]


async def allow(request: GuardRequest) -> Verdict:
    """Allow everything."""
    del request
    return Allow()


async def deny(request: GuardRequest) -> Verdict:
    """Deny everything."""
    return Deny(reason=f"not to {request.target}", remedy="ask the owner")


async def fail(request: GuardRequest) -> Verdict:
    """Break."""
    raise RuntimeError(f"secret {request.attributes}")


async def ask(request: GuardRequest) -> Verdict:
    """Ask somebody."""
    return Ask(reason=f"may it be {request.target}?", approvers=(PILOT,), deadline_s=60)


async def test_an_authorised_save_is_done_and_leaves_no_violation(world: World) -> None:
    unit = await world.work.save(await active(world, n=1), new_status="COMPLETED", guard=allow)
    assert unit.status is WorkStatus.COMPLETED
    assert await violations(world, unit) == []
    (entry,) = await told(world, unit)
    assert (entry.log_type, entry.instance_id, entry.role_id) == (LogType.GUARDIAN_DECISION, "i", "approver")
    assert entry.event_details["decision"] == "allow"


async def test_r70_a_denial_leaves_the_unit_byte_identical_and_one_violation(world: World) -> None:
    unit = await active(world, n=1)
    before = await world.documents(unit)
    with pytest.raises(Forbidden) as caught:
        await world.work.save(unit, new_status="COMPLETED", attributes={"n": 2}, guard=deny)
    assert caught.value.code == "guard_denied"
    assert await world.documents(unit) == before
    (violation,) = await violations(world, unit)
    assert (violation["rule_id"], violation["severity"]) == ("ARTICLE_I_GUARD_AUTHORIZATION", "CRITICAL")
    assert violation["remedy"] == "ask the owner"
    assert violation.keys() == {"rule_id", "severity", "kind", "unit_id", "remedy", "timestamp", "details"}
    assert [entry.log_type for entry in await told(world, unit)].count(LogType.GUARDIAN_DECISION) == 1


async def test_r71_an_exception_of_a_guard_is_a_denial_and_its_text_is_kept_nowhere(world: World) -> None:
    unit = await active(world, n=4_711)
    before = await world.documents(unit)
    with pytest.raises(Forbidden) as caught:
        await world.work.save(unit, new_status="COMPLETED", guard=fail)
    assert await world.documents(unit) == before
    entries = await told(world, unit)
    assert (
        "4711"
        not in f"{caught.value.message}{caught.value.detail}{[(e.event_details, e.error_metadata) for e in entries]}"
    )
    assert len(await violations(world, unit)) == 1
    failure = next(entry for entry in entries if "error_message" in (entry.error_metadata or {}))
    assert failure.error_metadata["error_type"] == "RuntimeError"


async def test_r71_a_guard_that_does_not_answer_has_denied(world: World) -> None:
    unit = await active(world)

    async def wait(request: GuardRequest) -> Verdict:
        """Never answer."""
        del request
        await asyncio.Event().wait()
        return Allow()

    with pytest.raises(Forbidden):
        await world.work.save(unit, new_status="COMPLETED", guard=wait, guard_timeout_s=0.01)
    assert (await world.work.get(unit)).unit == unit.unit


async def test_a_guard_is_asked_outside_the_transaction_and_the_version_is_checked_again(world: World) -> None:
    unit = await active(world, n=1)

    async def meddle(request: GuardRequest) -> Verdict:
        """Save the same unit meanwhile: nothing is held while a guard thinks."""
        await world.work.save(unit, attributes={"n": 2})
        assert request.version == unit.version
        return Allow()

    with pytest.raises(StaleVersion):
        await world.work.save(unit, new_status="COMPLETED", guard=meddle)
    now = await world.work.get(unit)
    assert (now.status, now.attributes["n"]) == (WorkStatus.ACTIVE, 2)


async def test_what_a_guard_changes_in_what_it_is_shown_is_not_saved(world: World) -> None:
    unit = await world.work.create(instance="i", attributes={"lines": [1]})

    async def change(request: GuardRequest) -> Verdict:
        """Change the copy."""
        request.attributes["lines"].append(2)  # type: ignore[union-attr]  # it is a list
        assert request.attributes["more"] == 1
        return Allow()

    saved = await world.work.save(unit, attributes={"more": 1}, guard=change)
    assert dict((await world.work.get(saved)).attributes) == {"lines": [1], "more": 1}


async def test_a_drift_is_reported_with_one_violation_by_a_save_and_by_verifying_only_when_asked(
    world: World,
) -> None:
    unit = await active(world, n=1)
    await world.replace_text(unit, "v", b"1]", b"7]")
    assert not (await world.work.verify(unit)).ok
    assert await violations(world, unit) == []
    assert not (await world.work.verify(unit, report=True)).ok
    (violation,) = await violations(world, unit)
    assert (violation["rule_id"], violation["kind"]) == ("ARTICLE_XVII_STATE_DRIFT", "STATE_DRIFT")
    with pytest.raises(HashDrift):
        await world.work.save(unit, new_status="COMPLETED", guard=allow)
    assert [one["details"].get("modified") for one in await violations(world, unit)] == [None, ["n"]]


async def test_low_risk_skips_the_pilot_and_high_risk_waits_for_approval(world: World) -> None:
    guard = HighRiskGuard()
    unit = await world.work.save(await active(world), attributes={"n": 1}, guard=guard)
    assert unit.status is WorkStatus.ACTIVE
    parked = await world.work.save(unit, new_status="COMPLETED", guard=guard)
    assert (parked.is_parked, parked.unit.target) == (True, WorkStatus.COMPLETED)


async def test_a_unit_that_was_approved_goes_to_its_target_with_the_change_that_waited(world: World) -> None:
    unit = await active(world, n=1, gone=1)
    parked = await world.work.save(
        unit,
        new_status="COMPLETED",
        attributes={"n": 2},
        removed=["gone"],
        new_interaction_id="the end",
        reasoning="it is done",
        metadata={"score": 0.5},
        guard=ask,
    )
    assert (parked.status, dict(parked.attributes)) == (WorkStatus.PENDING_PILOT_APPROVAL, {"n": 1, "gone": 1})
    assert (parked.unit.target, parked.unit.content_hash) == (WorkStatus.COMPLETED, unit.unit.content_hash)
    entry = (await world.work.get_history(unit))[-1]
    assert entry.reasoning == "may it be COMPLETED?"
    assert entry.transition_metadata is not None
    pending = entry.transition_metadata["pending"]
    assert isinstance(pending, dict)
    assert (pending["reasoning"], pending["metadata"]) == ("it is done", {"score": 0.5})
    for attempt in ({"attributes": {"n": 9}}, {"new_status": "COMPLETED"}, {"new_status": "FAILED"}):
        with pytest.raises(IllegalTransition):
            await world.work.save(parked, **attempt)
    with pytest.raises(Forbidden) as caught:
        await world.work.approve(parked, actor_id="user:stranger")
    assert caught.value.code == "not_an_approver"
    done = await world.work.approve(parked, actor_id=PILOT, reasoning="looks right")
    assert (done.status, done.unit.interaction_id, done.unit.target) == (WorkStatus.COMPLETED, "the end", None)
    assert dict((await world.work.get(done)).attributes) == {"n": 2}
    override = (await world.work.get_history(unit))[-1]
    assert (override.event, override.actor_id, override.reasoning) == (
        HistoryEvent.PILOT_OVERRIDE,
        PILOT,
        "looks right",
    )
    assert (await world.work.verify(unit)).ok
    decisions = [one.event_details["decision"] for one in await told(world, unit) if one.event_details]
    assert decisions == ["ask", "approved"]


async def test_what_waits_stays_what_it_is_under_a_waiver(world: World) -> None:
    parked = await world.work.save(await active(world, n=1), new_status="COMPLETED", guard=ask)
    changed = await world.work.save(parked, attributes={"note": 1}, waive="the pilot wants a note")
    assert (changed.is_parked, changed.unit.target) == (True, WorkStatus.COMPLETED)
    done = await world.work.approve(changed, actor_id=PILOT)
    assert (done.status, dict(done.attributes)) == (WorkStatus.COMPLETED, {"n": 1, "note": 1})
    assert (await world.work.verify(done)).ok


async def test_a_unit_that_was_rejected_is_blocked_by_the_approval_with_its_reason(world: World) -> None:
    parked = await world.work.save(await active(world, n=1), new_status="COMPLETED", attributes={"n": 2}, guard=ask)
    done = await world.work.reject(parked, actor_id=PILOT, reasoning="not like that")
    assert (done.status, dict(done.attributes)) == (WorkStatus.FAILED, {"n": 1})
    (violation,) = await violations(world, parked)
    assert violation["kind"] == "APPROVAL_REJECTED"
    assert violation["details"]["blocked_by"] == "PILOT_APPROVAL_REQUIRED"
    assert "not like that" in violation["details"]["reason"]
    assert (await world.work.get_history(parked))[-1].reasoning == "not like that"


async def test_a_waiver_of_the_pilot_is_recorded_with_its_metadata(world: World) -> None:
    parked = await world.work.save(await active(world), new_status="COMPLETED", guard=ask)
    done = await world.work.approve(parked, actor_id=PILOT, waive="the deadline is today", metadata={"ticket": 7})
    waiver, override = (await world.work.get_history(done))[-2:]
    assert (waiver.event, waiver.reasoning) == (HistoryEvent.CONSTITUTIONAL_WAIVER, "the deadline is today")
    assert override.transition_metadata == {
        "ticket": 7,
        "constitutional_waiver": {"answer": "waived", "by": PILOT, "reason": "the deadline is today"},
    }
    assert (await world.work.verify(done)).ok


async def test_an_answer_that_never_comes_makes_a_parked_unit_a_zombie(world: World) -> None:
    asked = await world.work.save(await active(world), new_status="COMPLETED", guard=ask)
    parked = await world.work.save(await active(world), new_status="PENDING_PILOT_APPROVAL")
    world.clock.advance(61)
    assert (await world.work.sweep()).overdue == (asked.unit_id,)
    world.clock.advance(240)
    assert (await world.work.sweep()).overdue == (parked.unit_id,)
    entry = (await world.work.get_history(asked))[-1]
    assert (entry.new_status, entry.reasoning) == (WorkStatus.ZOMBIED_SOFT, "no answer for 60 seconds")
    with pytest.raises(IllegalTransition):
        await world.work.approve(await world.work.get(asked), actor_id=PILOT)


async def test_a_sweep_leaves_one_violation_for_each_lease_it_took(world: World) -> None:
    unit = await active(world)
    world.clock.advance(301)
    await world.work.sweep()
    (violation,) = await violations(world, unit)
    assert (violation["rule_id"], violation["details"]["lease_owner"]) == ("ARTICLE_XIII_ZOMBIE_RECLAIM", OWNER)


async def test_where_nobody_can_wait_a_question_writes_nothing(world: World) -> None:
    unit = await world.work.create(instance="i")
    with pytest.raises(IllegalTransition) as caught:
        await world.work.save(unit, new_status="ACTIVE", guard=ask)
    assert caught.value.code == "work.cannot_park"
    ready = await active(world)
    with pytest.raises(IllegalTransition):
        await world.work.save(ready, new_status="PAUSED", guard=ask)
    large = {"text": "x" * METADATA_BYTES_MAX}
    with pytest.raises(LimitExceeded):
        await world.work.save(ready, new_status="COMPLETED", attributes=large, guard=ask)
    with pytest.raises(Invalid):
        await world.work.save(ready, new_status="PENDING_PILOT_APPROVAL", metadata={"pending": {}})
    assert (await world.work.get(ready)).unit == ready.unit


async def test_a_ready_guard_decides_by_branches_and_telemetry_says_which(world: World) -> None:
    guard = ReadyGuard(
        "InvoiceRouter",
        [
            Branch(condition="amount > 50000", decision="ask"),
            Branch(condition="amount < 0", decision="deny"),
            Branch(condition=None, decision="allow", default=True),
        ],
    )
    low = await world.work.save(await active(world, amount=10), new_status="COMPLETED", guard=guard)
    high = await world.work.save(await active(world, amount=60_000), new_status="COMPLETED", guard=guard)
    assert (low.status, high.is_parked) == (WorkStatus.COMPLETED, True)
    (entry,) = await told(world, high)
    assert entry.event_details["guardian_name"] == "InvoiceRouter"
    assert (entry.event_details["condition"], entry.event_details["matched_branch_index"]) == ("amount > 50000", 0)


async def test_a_guard_does_not_wait_inside_somebody_elses_transaction(world: World) -> None:
    unit = await active(world)
    for manner in ({"guard": allow}, {"on_drift": "quarantine"}):
        with pytest.raises(Invalid):
            await world.work.save(unit, connection=object(), **manner)  # type: ignore[arg-type]  # refused before


async def test_a_ready_guard_does_not_deny_a_drift_that_is_waived(world: World) -> None:
    guard = ReadyGuard("Router", [Branch(condition=None, decision="allow", default=True)])
    unit = await active(world, n=1)
    await world.replace_text(unit, "v", b"1]", b"7]")
    with pytest.raises(HashDrift):
        await world.work.save(unit, new_status=WorkStatus.FAILED, guard=guard)
    done = await world.work.save(unit, new_status=WorkStatus.FAILED, guard=guard, waive="repaired by hand")
    assert done.status == WorkStatus.FAILED
