"""What a change adds to a run: steps and how they end, tool calls, effects, approvals, checkpoints."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure.core.plane import Tenant
from perdure.domain.event import EventType
from perdure.domain.run import EffectStatus, OutboxStatus, StepStatus, StepType, ToolCallStatus
from perdure.errors import Conflict, IllegalTransition, Invalid
from perdure.testing.contracts.ledger import MAIL, LedgerClock, LedgerContract, begin, story, types_after


class AdditionsContract(LedgerContract):
    """Everything that ``Change`` can add."""

    # --- steps --------------------------------------------------------------------------------------------------------

    async def test_a_step_ends_in_a_later_change_as_it_does_in_its_own(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            done, failed, skipped = (change.step(name) for name in ("done", "failed", "skipped"))
            at_once = change.step("at-once")
            change.fail(at_once, error={"message": "no", "code": 7}, retryable=False)
        async with acme.change(run) as change:
            change.complete(done, output={"n": 1})
            change.fail(failed, error="boom")
            change.skip(skipped, reason="not needed")
        told = await story(acme, run)
        rows = {row.name: row for row in told.steps}
        assert {name: row.status for name, row in rows.items()} == {
            "done": StepStatus.COMPLETED,
            "failed": StepStatus.FAILED,
            "skipped": StepStatus.SKIPPED,
            "at-once": StepStatus.FAILED,
        }
        assert rows["done"].output_result == {"n": 1}
        assert (rows["failed"].error_details, rows["at-once"].error_details) == (
            {"message": "boom"},
            {"message": "no", "code": 7},
        )
        assert all(row.completed_at is not None and row.completed_at >= row.started_at for row in told.steps)
        record = told.runs[0]
        assert (record.total_steps, record.failed_steps, record.open_steps) == (4, 2, 0)
        assert types_after(told.events, 8) == [
            EventType.STEP_COMPLETED,
            EventType.STEP_FAILED,
            EventType.STEP_SKIPPED,
        ]

    async def test_a_step_keeps_how_long_it_took(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            change.step("slow", output={}, duration_ms=1_500)
        told = await story(acme, run)
        (row,) = told.steps
        assert row.completed_at is not None
        assert row.completed_at - row.started_at == timedelta(milliseconds=1_500)
        assert told.events[-1].event_data["duration_ms"] == 1_500

    async def test_a_failed_step_is_tried_again_as_the_next_one_with_its_cause(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            first = change.step("work")
            change.fail(first, error="boom")
        async with acme.change(run) as change:
            change.step("between", output={})
            second = change.retry(first)
        async with acme.change(run) as change:
            change.fail(second, error="boom again")
            third = change.retry(second, output={"n": 1})
        assert [(step.index, step.retry_count, step.key) for step in (first, second, third)] == [
            (0, 0, "work"),
            (2, 1, "work"),
            (3, 2, "work"),
        ]
        told = await story(acme, run)
        assert [row.retry_of for row in told.steps] == [None, None, first.id, second.id]
        retried = [event for event in told.events if event.event_type is EventType.STEP_RETRIED]
        assert [(event.aggregate_id, event.event_data["retry_count"]) for event in retried] == [
            (second.id, 1),
            (third.id, 2),
        ]
        assert run.done("work") == {"n": 1}
        assert (await acme.runs.get(run.id)).done("work") == {"n": 1}

    async def test_only_a_failed_step_is_tried_again(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            running, done = change.step("running"), change.step("done", output={})
            for step in (running, done):
                with pytest.raises(IllegalTransition, match="only a FAILED step is retried"):
                    change.retry(step)

    async def test_an_ended_step_does_not_end_again(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("work", output={})
            with pytest.raises(IllegalTransition, match="is COMPLETED"):
                change.complete(step)
            with pytest.raises(IllegalTransition, match="is COMPLETED"):
                change.skip(step, reason="not needed")
        assert [row.status for row in (await story(acme, run)).steps] == [StepStatus.COMPLETED]

    async def test_every_step_type_is_kept_and_a_specialist_is_named(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            for kind in set(StepType) - {StepType.WAIT}:
                change.step(kind, step_type=kind, specialist_id="agent-7", metadata={"p": 1})
            with pytest.raises(Invalid, match="names no specialist"):
                change.step("x", step_type=StepType.SPECIALIST_CALL)
        rows = (await story(acme, run)).steps
        assert {row.step_type for row in rows} == set(StepType) - {StepType.WAIT}
        assert {(row.specialist_id, row.metadata["p"]) for row in rows} == {("agent-7", 1)}

    # --- tool calls ---------------------------------------------------------------------------------------------------

    async def test_tool_calls_are_numbered_densely_within_their_step(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("work")
            change.tool_call(step, "ocr", args={"page": 1}, result=1)
            change.tool_call(step, "ocr", args={"page": 2}, error="unreadable", duration_ms=2.4)
            change.tool_call(change.step("other"), "ocr", result=2, version="1.0", cache_hit=True)

        async def call_late(number: int) -> None:
            async with acme.change(run) as change:
                change.tool_call(step, "late", key=f"late-{number}", result=number)

        await asyncio.gather(*map(call_late, range(8)))
        told = await story(acme, run)
        calls = told.tool_calls_of(step.id)
        assert [call.call_index for call in calls] == list(range(10))
        assert [(call.call_key, call.status) for call in calls[:2]] == [
            ("ocr", ToolCallStatus.COMPLETED),
            ("ocr#2", ToolCallStatus.FAILED),
        ]
        assert (calls[1].error_details, calls[1].execution_duration_ms) == ({"message": "unreadable"}, 2)
        (other,) = told.tool_calls_of(told.steps[1].id)
        assert (other.call_index, other.cache_hit, other.tool_version) == (0, True, "1.0")
        announced = [e.event_data for e in told.events if e.event_type is EventType.TOOL_CALLED]
        assert {(data["tool_call_id"], data["call_index"]) for data in announced} == {
            (str(call.id), call.call_index) for call in told.tool_calls
        }

    async def test_a_pending_tool_call_ends_once_in_a_later_change(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            call = change.tool_call(change.step("work"), "grep", args={"q": "x"}, pending=True)
        assert [row.status for row in (await story(acme, run)).tool_calls] == [ToolCallStatus.PENDING]
        async with acme.change(run) as change:
            change.finish_call(call, result=["a"], duration_ms=5)
        (row,) = (await story(acme, run)).tool_calls
        assert (row.status, row.result, row.execution_duration_ms) == (ToolCallStatus.COMPLETED, ["a"], 5)
        call.status = ToolCallStatus.PENDING  # what another handle still believes
        with pytest.raises(IllegalTransition):
            async with acme.change(run) as change:
                change.finish_call(call, error="no")

    async def test_a_tool_call_recorded_again_is_the_recorded_one(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("work")
        for recorded in (False, True):
            async with acme.change(run) as change:
                call = change.tool_call(step, "ocr", key="page-1", args={"page": 1}, result=1)
            assert call.recorded is recorded
        assert [(row.call_index, row.call_key) for row in (await story(acme, run)).tool_calls] == [(0, "page-1")]

    # --- effects ------------------------------------------------------------------------------------------------------

    async def test_an_effect_waits_in_the_outbox_under_a_key_that_names_run_step_and_effect(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("notify", output={})
            mail = change.effect(step, "SEND_EMAIL", MAIL, key="mail")
            page = change.effect(step, "PAGE_ONCALL", {"team": "x"}, independent=True, max_retries=7)
        assert mail.idempotency_key == f"{run.id}/notify/mail"
        told = await story(acme, run)
        assert [(row.status, row.max_retries) for row in told.effects_of(step.id)] == [
            (EffectStatus.PENDING, 3),
            (EffectStatus.PENDING, 7),
        ]
        entries = [told.outbox_of(effect.id) for effect in (mail, page)]
        assert [
            (entry.status, entry.ordering_seq, entry.independent, entry.idempotency_key) for entry in entries if entry
        ] == [
            (OutboxStatus.PENDING, 0, False, mail.idempotency_key),
            (OutboxStatus.PENDING, 1, True, page.idempotency_key),
        ]
        assert (told.runs[0].total_effects, told.runs[0].open_effects) == (2, 2)

    async def test_a_retried_step_does_not_request_again_what_its_first_attempt_requested(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("notify")
            first = change.effect(step, "SEND_EMAIL", MAIL, key="mail")
            change.fail(step, error="boom")
        async with acme.change(run) as change:
            second = change.retry(step, output={})
            again = change.effect(second, "SEND_EMAIL", MAIL, key="mail")
            other = change.effect(second, "SEND_EMAIL", MAIL, key="other")
        assert (second.recorded, second.index) == (False, 1)
        assert (again.recorded, again.id, again.idempotency_key) == (True, first.id, first.idempotency_key)
        assert not other.recorded
        assert len((await story(acme, run)).outbox) == 2

    async def test_a_secret_in_an_effect_is_refused(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("notify", output={})
            with pytest.raises(Invalid, match="secret"):
                change.effect(step, "PAGE_ONCALL", {"auth": {"api_key": "x"}})

    # --- approvals ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("decision", ["APPROVE", "DENY"])
    async def test_an_approval_is_decided_once_by_somebody_who_is_named(self, acme: Tenant, decision: str) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            wait = change.wait("approve-payment", request={"amount": 7}, timeout_s=60)
        async with acme.change(run) as change:
            change.decide(wait, decision, reason="because")
        (row,) = (await story(acme, run)).steps
        assert (row.step_type, row.status, row.input_context) == (
            StepType.WAIT,
            StepStatus.COMPLETED,
            {"amount": 7},
        )
        assert row.output_result == {"decision": decision, "decided_by": "agent:tester", "reason": "because"}
        assert row.wait_until is not None
        assert row.wait_until - row.started_at == timedelta(seconds=60)
        wait.status = StepStatus.RUNNING  # what a second person still sees
        with pytest.raises(Conflict):
            async with acme.change(run) as change:
                change.decide(wait, "DENY")

    async def test_only_a_wait_is_decided_and_only_with_a_decision(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            with pytest.raises(Invalid, match="not a WAIT"):
                change.decide(change.step("work"), "APPROVE")
            with pytest.raises(Invalid, match="is not a decision"):
                change.decide(change.wait("approve", request={}), "MAYBE")

    # --- checkpoints --------------------------------------------------------------------------------------------------

    async def test_a_checkpoint_knows_the_last_event_that_is_part_of_it(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            change.step("one", output={})
            first = change.checkpoint({"at": 1})
        async with acme.change(run) as change:
            second, third = change.checkpoint({"at": 2}), change.checkpoint({"at": 3})
        async with acme.change(run) as change:
            after = change.step("after", output={})
        assert [ref.index for ref in (first, second, third)] == [0, 1, 2]
        told = await story(acme, run)
        announced = {
            event.event_data["checkpoint_id"]: event.sequence_number
            for event in told.events
            if event.event_type is EventType.RUN_CHECKPOINT_CREATED
        }
        assert {str(row.id): row.last_sequence_number for row in told.checkpoints} == announced
        resume = await acme.runs.resume(run.id)
        assert resume.checkpoint is not None
        assert (resume.checkpoint.id, resume.checkpoint.checkpoint_data) == (third.id, {"at": 3})
        assert not resume.expired
        assert [event.aggregate_id for event in resume] == [after.id, after.id]

    async def test_a_checkpoint_expires(self, acme: Tenant, clock: LedgerClock) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            change.checkpoint({"at": 1}, ttl_s=60)
        await clock.advance(59)
        assert not (await acme.runs.resume(run.id)).expired
        await clock.advance(2)
        assert (await acme.runs.resume(run.id)).expired
