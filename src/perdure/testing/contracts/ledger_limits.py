"""What is just allowed is kept as it is, and what is one more is refused with both numbers, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perdure.core.plane import Plane, Tenant
from perdure.domain import limits
from perdure.domain.canonical import json_bytes
from perdure.domain.change import Change
from perdure.domain.rendering import render_change
from perdure.errors import Invalid, LimitExceeded
from perdure.testing.contracts.ledger import MAIL, LedgerContract, begin, story

_TEXT_OVERHEAD = len('{"t":""}')


class LimitsContract(LedgerContract):
    """Every ``*_MAX`` that a writer can meet, at its edge."""

    async def test_a_change_takes_so_many_operations_and_not_one_more(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            for _ in range(limits.CHANGE_OPERATIONS_MAX):
                change.step("work", output={})
            refused("change_operations_max", lambda: change.step("one more"))
        assert change.sequence == 3 + 2 * limits.CHANGE_OPERATIONS_MAX
        assert (await acme.runs.get(run.id)).record.total_steps == limits.CHANGE_OPERATIONS_MAX

    async def test_a_change_takes_so_many_bytes_and_not_one_more(self, acme: Tenant) -> None:
        run = await begin(acme)

        def fill(change: Change, chars: int) -> int:
            change.checkpoint({"t": "x" * (limits.CHECKPOINT_BYTES_MAX - _TEXT_OVERHEAD)})
            change.checkpoint({"t": "x" * chars})
            return len(json_bytes(render_change(change)))

        guess = limits.CHANGE_BYTES_MAX - limits.CHECKPOINT_BYTES_MAX - 4_096
        room = limits.CHANGE_BYTES_MAX - fill(acme.change(run)._change, guess)  # noqa: SLF001 - a change nobody sends
        with pytest.raises(LimitExceeded) as caught:
            async with acme.change(run) as change:
                fill(change, guess + room + 1)
        assert (caught.value.detail["limit"], caught.value.detail["actual"]) == (
            "change_bytes_max",
            limits.CHANGE_BYTES_MAX + 1,
        )
        assert await acme.events.last_number() == 3
        async with acme.change(run) as change:
            assert fill(change, guess + room) == limits.CHANGE_BYTES_MAX
        resume = await acme.runs.resume(run.id)
        assert resume.checkpoint is not None
        assert len(resume.checkpoint.checkpoint_data["t"]) == guess + room

    async def test_a_payload_takes_so_many_bytes_and_not_one_more(self, acme: Tenant) -> None:
        run = await begin(acme)
        largest, larger = ({"t": "x" * (limits.PAYLOAD_BYTES_MAX - _TEXT_OVERHEAD + more)} for more in (0, 1))
        async with acme.change(run) as change:
            step = change.step("work", input=largest, output=largest)
            change.tool_call(step, "ocr", args=largest, result=largest)
            for attempt in (
                lambda: change.step("x", input=larger),
                lambda: change.step("x", output=larger),
                lambda: change.tool_call(step, "ocr", args=larger),
                lambda: change.tool_call(step, "ocr", result=larger),
                lambda: change.tool_call(step, "ocr", error={"message": "x" * limits.PAYLOAD_BYTES_MAX}),
                lambda: change.effect(step, "PAGE_ONCALL", larger),
                lambda: change.wait("x", request=larger),
            ):
                refused("payload_bytes_max", attempt)
        told = await story(acme, run)
        assert (told.steps[0].input_context, told.steps[0].output_result) == (largest, largest)
        assert (told.tool_calls[0].tool_args, told.tool_calls[0].result) == (largest, largest)
        with pytest.raises(LimitExceeded):
            await acme.signals.ingest("inbox", "large", larger)
        kept = await acme.signals.ingest("inbox", "large", largest)
        assert kept.normalized_payload == largest

    async def test_a_checkpoint_takes_so_many_bytes_and_not_one_more(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            refused(
                "checkpoint_bytes_max",
                lambda: change.checkpoint({"t": "x" * (limits.CHECKPOINT_BYTES_MAX - _TEXT_OVERHEAD + 1)}),
            )
            change.checkpoint({"t": "x" * (limits.CHECKPOINT_BYTES_MAX - _TEXT_OVERHEAD)})
        (row,) = (await story(acme, run)).checkpoints
        assert row.size_bytes == limits.CHECKPOINT_BYTES_MAX

    async def test_a_run_and_a_step_name_so_many_entities_and_not_one_more(self, acme: Tenant) -> None:
        largest = [("invoice", str(number)) for number in range(limits.ENTITIES_MAX)]
        larger = [*largest, ("invoice", "one more")]
        run = await begin(acme, entities=largest)
        with pytest.raises(LimitExceeded, match="entities_max"):
            await begin(acme, "msg-2", entities=larger)
        async with acme.change(run) as change:
            change.step("work", output={}, entities=largest)
            refused("entities_max", lambda: change.step("more", entities=larger))
        assert len(await acme.history("invoice", "99")) == 4

    async def test_texts_as_long_as_their_columns_are_kept_in_any_alphabet(self, plane: Plane) -> None:
        tenant = plane.scope(
            "t_" + "x" * (limits.TENANT_CHARS_MAX - 2),
            actor="agent:" + "x" * (limits.ACTOR_CHARS_MAX - 6),
            source="api:" + "x" * (limits.SOURCE_CHARS_MAX - 4),
        )
        run = await tenant.runs.start(
            wide(limits.NAME_CHARS_MAX),
            signal=(wide(limits.CHANNEL_CHARS_MAX), wide(limits.SOURCE_ID_CHARS_MAX)),
            orchestrator_version=wide(limits.VERSION_CHARS_MAX),
            entities=[(wide(limits.ENTITY_TYPE_CHARS_MAX), wide(limits.ENTITY_ID_CHARS_MAX))],
        )
        async with tenant.change(run) as change:
            step = change.step(
                wide(limits.NAME_CHARS_MAX),
                key=wide(limits.KEY_CHARS_MAX),
                step_type="SPECIALIST_CALL",
                specialist_id=wide(limits.SPECIALIST_CHARS_MAX),
            )
            change.tool_call(
                step,
                wide(limits.TOOL_NAME_CHARS_MAX),
                key=wide(limits.KEY_CHARS_MAX),
                version=wide(limits.VERSION_CHARS_MAX),
            )
            effect = change.effect(step, "A" * 50, {}, key=wide(limits.KEY_CHARS_MAX), max_retries=limits.RETRIES_MAX)
            change.complete(step)
        assert len(effect.idempotency_key) <= limits.IDEMPOTENCY_KEY_CHARS_MAX
        await tenant.runs.cancel(run, wide(limits.EXIT_REASON_CHARS_MAX))
        told = await story(tenant, run)
        assert told.runs[0].exit_reason == wide(limits.EXIT_REASON_CHARS_MAX)
        assert (told.steps[0].step_key, told.steps[0].name) == (
            wide(limits.KEY_CHARS_MAX),
            wide(limits.NAME_CHARS_MAX),
        )

    async def test_a_text_one_longer_than_its_column_is_refused(self, acme: Tenant, plane: Plane) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("work", output={})
            for limit, attempt in {
                "name_chars_max": lambda: change.step(wide(limits.NAME_CHARS_MAX + 1)),
                "key_chars_max": lambda: change.step("x", key=wide(limits.KEY_CHARS_MAX + 1)),
                "tool_name_chars_max": lambda: change.tool_call(step, wide(limits.TOOL_NAME_CHARS_MAX + 1)),
                "exit_reason_chars_max": lambda: change.cancel_run(wide(limits.EXIT_REASON_CHARS_MAX + 1)),
                "step_wait_s_max": lambda: change.wait("x", request={}, timeout_s=limits.STEP_WAIT_S_MAX + 1),
                "retries_max": lambda: change.effect(step, "XX", {}, max_retries=limits.RETRIES_MAX + 1),
                "actor_chars_max": lambda: plane.scope("t_x", actor="user:" + "x" * (limits.ACTOR_CHARS_MAX - 4)),
            }.items():
                refused(limit, attempt)
            for attempt in (
                lambda: change.step("x", specialist_id=wide(limits.SPECIALIST_CHARS_MAX + 1)),
                lambda: change.tool_call(step, "x", version=wide(limits.VERSION_CHARS_MAX + 1)),
                lambda: plane.scope("t_" + "x" * (limits.TENANT_CHARS_MAX - 1), actor="user:x"),
                lambda: change.effect(step, "A" * 51, {}),
            ):
                with pytest.raises((LimitExceeded, Invalid)):
                    attempt()
        for channel, source_id in (
            (wide(limits.CHANNEL_CHARS_MAX + 1), "x"),
            ("x", wide(limits.SOURCE_ID_CHARS_MAX + 1)),
        ):
            with pytest.raises(LimitExceeded):
                await acme.signals.ingest(channel, source_id, {})

    async def test_json_may_be_so_deep_and_its_integers_so_large(self, acme: Tenant) -> None:
        run = await begin(acme)
        deepest: object = limits.INTEGER_MAX
        for _ in range(limits.JSON_DEPTH_MAX - 1):
            deepest = [deepest]
        async with acme.change(run) as change:
            change.step("work", output={"deep": deepest})
            refused("json_depth_max", lambda: change.step("x", output={"deep": [deepest]}))
            with pytest.raises(Invalid, match="beyond 2"):
                change.step("x", output={"n": limits.INTEGER_MAX + 1})
        assert (await story(acme, run)).steps[0].output_result == {"deep": deepest}

    async def test_a_page_holds_so_many_and_not_one_more(self, acme: Tenant) -> None:
        await begin(acme)
        assert len(await acme.events.after(0, limit=limits.PAGE_SIZE_MAX)) == 3
        with pytest.raises(LimitExceeded):
            await acme.events.after(0, limit=limits.PAGE_SIZE_MAX + 1)

    async def test_an_effect_may_be_as_large_as_a_payload_with_its_key(self, acme: Tenant) -> None:
        run = await begin(acme)
        async with acme.change(run) as change:
            step = change.step("notify", output={})
            key = change.effect(step, "SEND_EMAIL", MAIL, key="small").idempotency_key
            room = limits.PAYLOAD_BYTES_MAX - len(
                json_bytes({"t": "", "idempotency_key": key.replace("small", "large")})
            )
            change.effect(step, "PAGE_ONCALL", {"t": "x" * room}, key="large")
            refused(
                "payload_bytes_max", lambda: change.effect(step, "PAGE_ONCALL", {"t": "x" * (room + 1)}, key="large")
            )
        assert len((await story(acme, run)).outbox) == 2


def wide(chars: int) -> str:
    """So many characters, more than one byte each."""
    return "ü" * chars


def refused(limit: str, attempt: Callable[[], object]) -> None:
    """It raises ``LimitExceeded`` naming the limit, with both numbers."""
    with pytest.raises(LimitExceeded) as caught:
        attempt()
    detail = caught.value.detail
    assert detail["limit"] == limit
    assert isinstance(detail["allowed"], int | float)
    assert isinstance(detail["actual"], int | float)
    assert detail["actual"] > detail["allowed"]
