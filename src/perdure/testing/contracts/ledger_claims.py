"""A run is in the hands of one worker at a time, and who lost it writes nothing."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.plane import Tenant
from perdure.domain import limits
from perdure.domain.handles import Run
from perdure.errors import Conflict, Invalid, LeaseLost, LimitExceeded
from perdure.testing.contracts.ledger import MAIL, LedgerClock, LedgerContract, begin, story


class ClaimsContract(LedgerContract):
    """``runs.claim``, ``extend``, ``release``, and changes under a lease."""

    async def test_running_runs_are_claimed_oldest_first_and_by_name(self, acme: Tenant) -> None:
        runs = [await begin(acme, f"msg-{number}") for number in range(3)]
        wanted = await begin(acme, "msg-3", name="escalation")
        assert [run.id for run in await acme.runs.claim(10, name="escalation")] == [wanted.id]
        assert [run.id for run in await acme.runs.claim(2)] == [run.id for run in runs[:2]]
        assert [run.id for run in await acme.runs.claim(10)] == [runs[2].id]
        assert await acme.runs.claim(10) == []

    async def test_no_run_is_handed_to_two_workers(self, acme: Tenant) -> None:
        runs = [await begin(acme, f"msg-{number}") for number in range(20)]
        claimed = [run.id for some in await asyncio.gather(*(acme.runs.claim(5) for _ in range(8))) for run in some]
        while more := await acme.runs.claim(5):  # two that look at the same moment may both come short, never over
            claimed += [run.id for run in more]
        assert len(claimed) == len(set(claimed))
        assert set(claimed) == {run.id for run in runs}

    async def test_a_run_of_another_tenant_is_not_handed_out(self, acme: Tenant, other: Tenant) -> None:
        await begin(other)
        assert await acme.runs.claim(10) == []

    async def test_a_claimed_run_knows_which_of_its_steps_are_done(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            change.step("classify", output={"label": "high"})
            change.step("unfinished")
        (claimed,) = await acme.runs.claim()
        assert claimed.done("classify") == {"label": "high"}
        assert claimed.done("unfinished") is None

    async def test_a_run_started_with_a_lease_belongs_to_who_started_it(self, acme: Tenant, clock: LedgerClock) -> None:
        run = await begin(acme, lease_s=30)
        assert run.lease is not None
        assert await acme.runs.claim(10) == []
        await clock.advance(31)
        assert [claimed.id for claimed in await acme.runs.claim(10)] == [run.id]
        with pytest.raises(LeaseLost):
            await add_step(acme, run)

    async def test_a_worker_past_its_lease_is_fenced(self, acme: Tenant, clock: LedgerClock) -> None:
        run = await begin(acme)
        (late,) = await acme.runs.claim(lease_s=10)
        await clock.advance(11)
        (owner,) = await acme.runs.claim(lease_s=60)
        before = await acme.events.last_number()
        with pytest.raises(LeaseLost, match="another worker"):
            await add_step(acme, late)
        with pytest.raises(LeaseLost):
            await acme.runs.complete(late)
        with pytest.raises(LeaseLost):
            await acme.runs.extend(late)
        await acme.runs.release(late)
        assert await acme.events.last_number() == before
        assert await acme.runs.claim(10) == []
        await add_step(acme, owner)
        assert [step.name for step in (await story(acme, run)).steps] == ["work"]

    async def test_a_lease_that_ran_out_unnoticed_still_holds_until_somebody_takes_it(
        self, acme: Tenant, clock: LedgerClock
    ) -> None:
        await begin(acme)
        (claimed,) = await acme.runs.claim(lease_s=10)
        await clock.advance(11)
        await add_step(acme, claimed)
        assert await acme.runs.claim(10) == []

    async def test_each_commit_under_the_lease_renews_it(self, acme: Tenant, clock: LedgerClock) -> None:
        await begin(acme)
        (claimed,) = await acme.runs.claim(lease_s=10)
        for _ in range(3):
            await clock.advance(8)
            await add_step(acme, claimed)
        await clock.advance(8)
        assert await acme.runs.claim(10) == []

    async def test_a_lease_is_prolonged_without_a_change(self, acme: Tenant, clock: LedgerClock) -> None:
        await begin(acme)
        (claimed,) = await acme.runs.claim(lease_s=10)
        before = await acme.events.last_number()
        await acme.runs.extend(claimed, lease_s=100)
        await clock.advance(90)
        assert await acme.runs.claim(10) == []
        assert await acme.events.last_number() == before
        assert claimed.lease is not None
        assert claimed.lease.lease_s == 100

    async def test_a_released_run_is_handed_out_at_once(self, acme: Tenant) -> None:
        run = await begin(acme)
        (claimed,) = await acme.runs.claim()
        await acme.runs.release(claimed)
        assert [again.id for again in await acme.runs.claim()] == [run.id]
        with pytest.raises(Conflict, match="was not claimed by this handle"):
            await acme.runs.extend(claimed)

    async def test_a_run_that_waits_for_an_approval_is_not_handed_out_until_it_is_decided(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            wait = change.wait("approve", request={"amount": 7})
        assert await acme.runs.claim(10) == []
        async with acme.change(run) as change:
            change.decide(wait, "APPROVE")
        (claimed,) = await acme.runs.claim(10)
        assert claimed.id == run.id
        decision = claimed.done("approve")
        assert decision is not None
        assert decision["decision"] == "APPROVE"

    async def test_a_run_that_only_waits_for_its_effects_is_not_handed_out(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            change.effect(change.step("notify", output={}), "SEND_EMAIL", MAIL)
        await acme.runs.complete(run)
        assert await acme.runs.claim(10) == []

    async def test_a_finished_run_is_not_handed_out(self, acme: Tenant) -> None:
        completed, failed, cancelled = [await begin(acme, f"msg-{number}") for number in range(3)]
        await acme.runs.complete(completed)
        await acme.runs.fail(failed, "STOP")
        await acme.runs.cancel(cancelled, "STOP")
        assert await acme.runs.claim(10) == []

    async def test_a_claim_out_of_bounds_is_refused(self, acme: Tenant) -> None:
        await begin(acme)
        assert len(await acme.runs.claim(limits.CLAIM_MAX, lease_s=limits.LEASE_S_MAX)) == 1
        for limit, lease_s, expected in (
            (limits.CLAIM_MAX + 1, 60, LimitExceeded),
            (1, limits.LEASE_S_MAX + 1, LimitExceeded),
            (0, 60, Invalid),
            (1, limits.LEASE_S_MIN / 2, Invalid),
            (1, float("nan"), Invalid),
        ):
            with pytest.raises(expected):
                await acme.runs.claim(limit, lease_s=lease_s)


async def add_step(tenant: Tenant, run: Run) -> None:
    """Add a step, which only who may drive the run can do."""
    async with tenant.change(run) as change:
        change.step("work", output={})
