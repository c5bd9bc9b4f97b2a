"""How a run ends, what becomes of its signal, and of what it left open."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.plane import Tenant
from perdure.domain.event import EventType
from perdure.domain.handles import Run
from perdure.domain.run import EffectStatus, OutboxStatus, RunStatus, SignalStatus, StepStatus, ToolCallStatus
from perdure.errors import Conflict, IllegalTransition
from perdure.testing.contracts.ledger import MAIL, LedgerContract, begin, story, types_after


class EndingsContract(LedgerContract):
    """``runs.complete``, ``fail`` and ``cancel``, alone or at the end of a change."""

    async def test_a_completed_run_says_what_it_did_and_ends_its_signal(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            change.step("one", output={})
            change.skip(change.step("two"), reason="not needed")
        await acme.runs.complete(run)
        assert run.status is RunStatus.COMPLETED
        told = await story(acme, run)
        assert types_after(told.events, 7) == [EventType.RUN_COMPLETED, EventType.SIGNAL_PROCESSED]
        data = told.events[-2].event_data
        assert (data["total_steps"], data["failed_steps"]) == (2, 0)
        assert (told.runs[0].status, told.signals[0].status) == (RunStatus.COMPLETED, SignalStatus.PROCESSED)
        assert told.runs[0].completed_at == told.signals[0].processed_at == told.events[-1].occurred_at

    async def test_a_run_ends_in_the_change_that_does_its_last_step(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            change.step("only", output={})
            change.complete_run()
            with pytest.raises(IllegalTransition, match="ends the run"):
                change.step("more")
        assert change.sequence == await acme.events.last_number() == 7
        assert (await acme.runs.get(run.id)).status is RunStatus.COMPLETED

    async def test_a_run_with_a_step_still_running_does_not_complete(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("work")
        with pytest.raises(IllegalTransition, match="1 steps still RUNNING") as caught:
            await acme.runs.complete(run)
        assert caught.value.code == "run_not_done"
        assert (await acme.runs.get(run.id)).status is RunStatus.RUNNING
        async with acme.change(run) as change:
            change.complete(step)
            change.complete_run()
        assert (await acme.runs.get(run.id)).status is RunStatus.COMPLETED

    async def test_a_failed_step_keeps_a_run_from_completing_until_a_retry_makes_it_good(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("work")
            change.fail(step, error="boom")
        with pytest.raises(IllegalTransition, match="no retry made good"):
            await acme.runs.complete(run)
        async with acme.change(run) as change:
            change.retry(step, output={})
        await acme.runs.complete(run)
        record = (await story(acme, run)).runs[0]
        assert (record.status, record.total_steps, record.failed_steps) == (RunStatus.COMPLETED, 2, 1)

    async def test_a_run_with_effects_outstanding_asks_to_complete_and_takes_nothing_more(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            change.effect(change.step("notify", output={}), "SEND_EMAIL", MAIL)
        before = await acme.events.last_number()
        await acme.runs.complete(run)
        assert run.status is RunStatus.RUNNING
        read = await acme.runs.get(run.id)
        assert (read.status, read.record.open_effects) == (RunStatus.RUNNING, 1)
        assert read.record.completion_requested_at is not None
        assert await acme.events.last_number() == before
        with pytest.raises(IllegalTransition, match="only waits for its effects"):
            async with acme.change(run) as change:
                change.step("more")

    @pytest.mark.parametrize("how", ["fail", "cancel"])
    async def test_ending_a_run_early_buries_what_it_has_not_delivered(self, acme: Tenant, how: str) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("work")
            change.tool_call(step, "grep", pending=True)
            for number in range(2):
                change.effect(step, "SEND_EMAIL", MAIL, key=f"mail-{number}")
        before = await acme.events.last_number()
        await end(acme, run, how)
        told = await story(acme, run)
        status = RunStatus.FAILED if how == "fail" else RunStatus.CANCELLED
        assert (told.runs[0].status, told.runs[0].exit_reason) == (status, "BORED")
        assert (told.runs[0].open_steps, told.runs[0].open_effects) == (0, 0)
        assert told.signals[0].status is SignalStatus.FAILED
        assert [row.status for row in told.steps] == [StepStatus.SKIPPED]
        assert [row.status for row in told.tool_calls] == [ToolCallStatus.FAILED]
        assert [row.status for row in told.effects] == [EffectStatus.DEAD_LETTER] * 2
        assert [row.status for row in told.outbox] == [OutboxStatus.DEAD_LETTER] * 2
        assert {row.error_details["code"] for row in told.effects} == {"RUN_CANCELLED"}
        assert {row.error_details["code"] for row in told.outbox} == {"RUN_CANCELLED"}
        assert types_after(told.events, before) == [
            EventType.RUN_FAILED if how == "fail" else EventType.RUN_CANCELLED,
            EventType.TOOL_FAILED,
            EventType.STEP_SKIPPED,
            EventType.EFFECT_DEAD_LETTERED,
            EventType.EFFECT_DEAD_LETTERED,
            EventType.SIGNAL_PROCESSING_FAILED,
        ]
        ending = told.events[before]
        assert {event.causation_id for event in told.events[before + 1 :]} == {ending.id}

    async def test_a_failed_run_keeps_its_error(self, acme: Tenant) -> None:
        run = await begin(acme)
        await acme.runs.fail(run, "TOO_HARD", error={"message": "gave up", "tries": 3})
        failed = (await story(acme, run)).events[3]
        assert (failed.event_data["exit_reason"], failed.event_data["error"]) == (
            "TOO_HARD",
            {"message": "gave up", "tries": 3},
        )

    async def test_a_cancelled_run_says_who_asked(self, acme: Tenant) -> None:
        run = await begin(acme)
        await acme.runs.cancel(run, "changed my mind")
        assert (await story(acme, run)).events[3].event_data["requested_by"] == "agent:tester"

    @pytest.mark.parametrize("first", ["complete", "fail", "cancel"])
    async def test_a_finished_run_neither_ends_again_nor_takes_more(self, acme: Tenant, first: str) -> None:
        run = await begin(acme)
        await end(acme, run, first)
        before = await story(acme, run)
        for how in ("complete", "fail", "cancel"):
            with pytest.raises(IllegalTransition, match="a finished run takes nothing more"):
                await end(acme, await acme.runs.get(run.id), how)
        with pytest.raises(Conflict):
            async with acme.change(run) as change:
                change.step("more")
        assert await story(acme, run) == before

    async def test_of_endings_at_the_same_time_one_happens(self, acme: Tenant) -> None:
        run = await begin(acme)
        handles = [await acme.runs.get(run.id) for _ in range(6)]
        answers = await asyncio.gather(
            *(end(acme, handle, how) for handle, how in zip(handles, ["complete", "fail", "cancel"] * 2, strict=True)),
            return_exceptions=True,
        )
        assert [isinstance(answer, IllegalTransition) for answer in answers].count(False) == 1
        assert len(types_after((await story(acme, run)).events, 3)) == 2


async def end(tenant: Tenant, run: Run, how: str) -> None:
    """End a run in one of its three ways."""
    if how == "complete":
        await tenant.runs.complete(run)
    elif how == "fail":
        await tenant.runs.fail(run, "BORED")
    else:
        await tenant.runs.cancel(run, "BORED")
