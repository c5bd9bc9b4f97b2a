"""A change is written whole and once, however often and by however many it is sent."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.plane import Tenant
from perdure.domain.event import EventType
from perdure.domain.handles import StepRef
from perdure.domain.run import StepStatus
from perdure.errors import Conflict, IllegalTransition, KeyReused, PerdureError
from perdure.testing.contracts.ledger import MAIL, LedgerContract, begin, everything, story, types, types_after


class ChangesContract(LedgerContract):
    """``change``: atomic, idempotent by key, and no task in another's way."""

    async def test_a_change_writes_rows_events_and_outbox_entry_together(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("classify", output={"label": "high"}, input={"invoice": 42})
            call = change.tool_call(step, "ocr", args={"page": 1}, result={"text": "..."}, duration_ms=12)
            effect = change.effect(step, "SEND_EMAIL", MAIL, key="mail")
            checkpoint = change.checkpoint({"at": 1})
            assert (step.index, checkpoint.index, change.sequence) == (None, None, None)
        assert (step.index, checkpoint.index) == (0, 0)
        told = await story(acme, run)
        assert types_after(told.events, 3) == [
            EventType.STEP_STARTED,
            EventType.TOOL_CALLED,
            EventType.TOOL_COMPLETED,
            EventType.STEP_COMPLETED,
            EventType.EFFECT_REQUESTED,
            EventType.RUN_CHECKPOINT_CREATED,
        ]
        assert change.sequence == told.events[-1].sequence_number == 9
        assert [(row.id, row.output_result) for row in told.steps] == [(step.id, {"label": "high"})]
        assert [(row.id, row.result) for row in told.tool_calls] == [(call.id, {"text": "..."})]
        assert [(row.id, row.idempotency_key) for row in told.effects] == [(effect.id, effect.idempotency_key)]
        assert [(row.id, row.aggregate_id, row.payload) for row in told.outbox] == [
            (effect.outbox_id, effect.id, told.effects[0].effect_spec)
        ]
        assert [row.id for row in told.checkpoints] == [checkpoint.id]

    async def test_a_failed_expectation_writes_nothing(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("classify")
        elsewhere = await acme.runs.get(run.id)
        async with acme.change(elsewhere) as change:
            change.complete(step, output={})
        before = await story(acme, run)
        step.status = StepStatus.RUNNING  # what a worker that read it earlier still believes
        with pytest.raises(IllegalTransition):  # noqa: PT012 - leaving the block is what is refused
            async with acme.change(run) as change:
                other = change.step("next", output={})
                change.tool_call(other, "ocr", result=1)
                change.effect(other, "SEND_EMAIL", MAIL)
                change.checkpoint({"at": 2})
                change.fail(step, error="too late")
        assert await story(acme, run) == before
        async with acme.change(run) as change:
            change.step("next", output={})
        assert change.sequence == before.events[-1].sequence_number + 2

    async def test_an_exception_in_the_block_sends_nothing_and_gives_its_keys_back(self, acme: Tenant) -> None:
        run = await begin(acme)
        with pytest.raises(ZeroDivisionError):
            async with acme.change(run) as change:
                change.step("work", output={"share": 1 / 0})
        assert await acme.events.last_number() == 3
        async with acme.change(run) as change:
            assert change.step("work").key == "work"

    async def test_an_empty_change_does_nothing(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            pass
        assert change.sequence is None
        assert await acme.events.last_number() == 3

    async def test_the_same_change_twice_is_written_once(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("work", output={"n": 1})
            change.tool_call(step, "ocr", result=1)
            change.effect(step, "SEND_EMAIL", MAIL)
            change.checkpoint({"at": 1})
        before = await story(acme, run)
        for _ in range(2):
            await acme.commit(change)
            assert step.index == 0
        assert await story(acme, run) == before

    async def test_the_same_signal_twice_is_the_same_run(self, acme: Tenant) -> None:
        first = await begin(acme, "msg-7")
        async with acme.change(first) as change:
            change.step("classify", output={"label": "high"})
        again = await begin(acme, "msg-7")
        assert again.id == first.id
        assert again.done("classify") == {"label": "high"}
        assert await acme.events.last_number() == 5

    async def test_steps_are_named_by_their_keys_and_default_to_name_and_occurrence(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            steps = [change.step("work"), change.step("work"), change.step("work", key="mine")]
        assert [(step.key, step.index) for step in steps] == [("work", 0), ("work#2", 1), ("mine", 2)]
        assert [row.step_key for row in (await story(acme, run)).steps] == ["work", "work#2", "mine"]

    async def test_recording_a_step_again_gives_the_recorded_one_and_adds_the_rest(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            first = change.step("classify", output={"label": "high"}, input={"n": 1})
            call = change.tool_call(first, "ocr", args={"page": 1}, result={"text": "..."})
            effect = change.effect(first, "SEND_EMAIL", MAIL, key="mail")
        restarted = await acme.runs.get(run.id)
        assert restarted.done("classify") == {"label": "high"}
        async with acme.change(restarted) as change:
            again = change.step("classify", output={"label": "high"}, input={"n": 1})
            called = change.tool_call(again, "ocr", args={"page": 1}, result={"text": "..."})
            asked = change.effect(again, "SEND_EMAIL", MAIL, key="mail")
            after = change.step("answer", output={"text": "done"})
        assert (again.recorded, again.id, again.index) == (True, first.id, 0)
        assert (called.recorded, called.id) == (True, call.id)
        assert (asked.recorded, asked.id, asked.idempotency_key) == (True, effect.id, effect.idempotency_key)
        assert (after.recorded, after.index) == (False, 1)
        told = await story(acme, run)
        assert [len(rows) for rows in (told.steps, told.tool_calls, told.effects, told.outbox)] == [2, 1, 1, 1]
        assert types_after(told.events, 8) == [EventType.STEP_STARTED, EventType.STEP_COMPLETED]
        assert restarted.done("answer") == {"text": "done"}

    async def test_a_step_that_was_only_begun_is_ended_by_recording_it_again(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            begun = change.step("work")
        restarted = await acme.runs.get(run.id)
        async with acme.change(restarted) as change:
            again = change.step("work", output={"n": 1})
        assert (again.recorded, again.id, again.status) == (True, begun.id, StepStatus.COMPLETED)
        told = await story(acme, run)
        assert [(row.id, row.status, row.output_result) for row in told.steps] == [
            (begun.id, StepStatus.COMPLETED, {"n": 1})
        ]
        assert types_after(told.events, 3) == [EventType.STEP_STARTED, EventType.STEP_COMPLETED]

    @pytest.mark.parametrize(
        "other",
        [
            {"output": {"label": "low"}},
            {"output": {"label": "high"}, "input": {"n": 2}},
            {"output": {"label": "high"}, "step_type": "TOOL_SEQUENCE"},
        ],
        ids=["output", "input", "type"],
    )
    async def test_a_key_with_other_content_is_refused(self, acme: Tenant, other: dict[str, object]) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            change.step("classify", output={"label": "high"})
        before = await acme.events.last_number()
        with pytest.raises(KeyReused, match="'classify' is recorded already with another"):  # noqa: PT012 - leaving the block is what is refused
            async with acme.change(await acme.runs.get(run.id)) as change:
                change.step("classify", **other)  # type: ignore[arg-type] # one keyword at a time
                change.step("innocent", output={})
        assert await acme.events.last_number() == before

    async def test_another_effect_or_tool_call_under_a_recorded_key_is_refused(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("notify")
            change.effect(step, "SEND_EMAIL", MAIL, key="mail")
            change.tool_call(step, "ocr", args={"page": 1}, result=1, key="ocr")
        before = await acme.events.last_number()
        with pytest.raises(KeyReused, match="effect 'mail'"):
            async with acme.change(run) as change:
                change.effect(step, "SEND_EMAIL", {"to": "ceo@acme.test"}, key="mail")
        with pytest.raises(KeyReused, match="tool call 'ocr'"):
            async with acme.change(run) as change:
                change.tool_call(step, "ocr", args={"page": 2}, result=1, key="ocr")
        assert await acme.events.last_number() == before

    async def test_sixty_four_tasks_add_steps_to_one_run_and_none_is_in_conflict(self, acme: Tenant) -> None:
        run = await begin(acme)

        async def add(number: int) -> int | None:
            async with acme.change(run) as change:
                step = change.step("work", key=f"work-{number}", output={"number": number})
            return step.index

        assert sorted(index or 0 for index in await asyncio.gather(*map(add, range(64)))) == list(range(64))
        told = await story(acme, run)
        assert [step.step_index for step in told.steps] == list(range(64))
        assert (told.runs[0].total_steps, told.runs[0].open_steps) == (64, 0)
        assert [event.sequence_number for event in await everything(acme)] == list(range(1, 3 + 128 + 1))

    async def test_sixty_four_tasks_with_default_keys_of_one_handle_are_sixty_four_steps(self, acme: Tenant) -> None:
        run = await begin(acme)

        async def add() -> str:
            async with acme.change(run) as change:
                step = change.step("work")
            return step.key

        assert len(set(await asyncio.gather(*(add() for _ in range(64))))) == 64
        assert [step.step_index for step in (await story(acme, run)).steps] == list(range(64))

    async def test_of_two_who_end_one_step_the_second_is_told(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("work")

        async def end(number: int) -> bool:
            try:
                async with acme.change(run) as change:
                    change.complete(replicate(step), output={"by": number})
            except Conflict:
                return False
            return True

        assert sorted(await asyncio.gather(*map(end, range(4)))) == [False, False, False, True]
        assert types(await everything(acme)).count(EventType.STEP_COMPLETED) == 1

    async def test_one_bad_change_among_many_that_wait_together_harms_no_other(self, acme: Tenant) -> None:
        run = await begin(acme)
        finished = await begin(acme, "msg-2")
        await acme.runs.complete(finished)
        before = await acme.events.last_number()

        async def add(number: int) -> PerdureError | None:
            try:
                async with acme.change(finished if number % 5 == 3 else run) as change:
                    change.step("work", key=f"work-{number}", output={})
            except PerdureError as exc:
                return exc
            return None

        answers = await asyncio.gather(*map(add, range(40)))
        assert [number for number, answer in enumerate(answers) if answer is not None] == list(range(3, 40, 5))
        assert all(isinstance(answer, IllegalTransition) for answer in answers if answer is not None)
        told = await story(acme, run)
        assert {step.step_key for step in told.steps} == {f"work-{number}" for number in range(40) if number % 5 != 3}
        assert [event.sequence_number for event in await everything(acme)] == list(range(1, before + 64 + 1))


def replicate(step: StepRef) -> StepRef:
    """The same step as another handle sees it."""
    return StepRef(
        id=step.id,
        run_id=step.run_id,
        key=step.key,
        name=step.name,
        step_type=step.step_type,
        retry_count=step.retry_count,
        status=StepStatus.RUNNING,
        started_event_id=step.started_event_id,
        index=step.index,
    )
