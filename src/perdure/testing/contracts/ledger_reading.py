"""What is read back is what was written, found from any end, and nothing of another tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from perdure.core.plane import Tenant
from perdure.domain.event import Event, EventType
from perdure.domain.run import RunStatus
from perdure.domain.trace import Trace
from perdure.errors import NotFound
from perdure.testing.contracts.ledger import LedgerContract, begin, story
from perdure.testing.contracts.ledger_events import live


class ReadingContract(LedgerContract):
    """``trace``, ``history``, ``provenance``, and the state that events rebuild."""

    async def test_the_state_of_a_run_follows_from_its_events(self, acme: Tenant) -> None:
        for number in range(3):
            run = await live(acme, f"msg-{number}")
            told = await story(acme, run)
            assert replayed(told.events) == kept(told)

    async def test_a_trace_is_found_from_any_of_its_ids(self, acme: Tenant) -> None:
        run = await live(acme, "msg-1")
        await live(acme, "msg-2")
        told = await story(acme, run)
        rows: list[Any] = [*told.signals, *told.runs, *told.steps, *told.tool_calls, *told.effects, *told.outbox]
        for identifier in (*(row.id for row in [*rows, *told.checkpoints, *told.events]), "inbox/msg-1"):
            assert (await acme.trace(identifier)).correlation_id == run.correlation_id
        assert await acme.trace(str(run.id)) == told

    async def test_nothing_of_another_tenant_is_found(self, acme: Tenant, other: Tenant) -> None:
        run = await live(acme, "msg-1")
        told = await story(acme, run)
        for identifier in (run.id, run.correlation_id, told.events[-1].id, "inbox/msg-1"):
            with pytest.raises(NotFound):
                await other.trace(identifier)
        assert list(await other.history("invoice", "msg-1")) == []
        assert list(await other.activity("agent:tester")) == []
        with pytest.raises(NotFound):
            await other.provenance("inbox", "msg-1")

    async def test_an_entity_is_a_reference_and_leads_to_its_history(self, acme: Tenant) -> None:
        whole = await begin(acme, "msg-1", entities=[("invoice", "42")])
        part = await begin(acme, "msg-2")
        async with acme.change(whole) as change:
            change.step("classify", output={})
        async with acme.change(part) as change:
            named = change.step("lookup", output={}, entities=[("invoice", "42"), ("customer", "7")])
            change.tool_call(named, "crm", result=1)
            change.step("unrelated", output={})
        history = list(await acme.history("invoice", "42"))
        of_whole = [event for event in (await story(acme, whole)).events if "run_id" in event.event_data]
        assert [event.id for event in history[: len(of_whole)]] == [event.id for event in of_whole]
        assert {event.event_data["step_id"] for event in history[len(of_whole) :]} == {str(named.id)}
        assert [event.event_type for event in history[len(of_whole) :]] == [
            EventType.STEP_STARTED,
            EventType.TOOL_CALLED,
            EventType.TOOL_COMPLETED,
            EventType.STEP_COMPLETED,
        ]
        assert {event.event_data["step_id"] for event in await acme.history("customer", "7")} == {str(named.id)}

    async def test_an_input_leads_to_everything_that_came_of_it(self, acme: Tenant) -> None:
        first = await live(acme, "msg-1")
        second = await acme.runs.rerun(first)
        found = await acme.provenance("inbox", "msg-1")
        assert found.signal.id == first.signal_id
        assert [record.id for record in found.runs] == [first.id, second.id]


_ENDS = {
    EventType.STEP_COMPLETED: "COMPLETED",
    EventType.STEP_FAILED: "FAILED",
    EventType.STEP_SKIPPED: "SKIPPED",
    EventType.TOOL_COMPLETED: "COMPLETED",
    EventType.TOOL_FAILED: "FAILED",
    EventType.EFFECT_DEAD_LETTERED: "DEAD_LETTER",
    EventType.SIGNAL_PROCESSING_STARTED: "PROCESSING",
    EventType.SIGNAL_PROCESSED: "PROCESSED",
    EventType.SIGNAL_PROCESSING_FAILED: "FAILED",
    EventType.RUN_COMPLETED: RunStatus.COMPLETED,
    EventType.RUN_FAILED: RunStatus.FAILED,
    EventType.RUN_CANCELLED: RunStatus.CANCELLED,
}
_BEGINNINGS: Mapping[EventType, tuple[str, tuple[str, ...]]] = {
    EventType.SIGNAL_RECEIVED: ("PENDING", ("signal_type", "source_channel", "source_id", "source_hash")),
    EventType.RUN_STARTED: ("RUNNING", ("signal_id", "run_type", "name")),
    EventType.STEP_STARTED: ("RUNNING", ("step_index", "step_type", "name", "step_key", "retry_count")),
    EventType.TOOL_CALLED: ("PENDING", ("call_index", "call_key", "tool_name", "tool_args")),
    EventType.EFFECT_REQUESTED: ("PENDING", ("effect_type", "idempotency_key", "effect_spec", "max_retries")),
}
_CONTENTS = ("output_result", "error_details", "result", "exit_reason")


def replayed(events: tuple[Event, ...]) -> dict[UUID, dict[str, Any]]:
    """Rows as the events alone tell them: how they began, how they ended, and what was said then."""
    rows: dict[UUID, dict[str, Any]] = {}
    for event in events:
        row = rows.setdefault(event.aggregate_id, {})
        data = event.event_data
        if event.event_type in _BEGINNINGS:
            status, names = _BEGINNINGS[event.event_type]
            row |= {"status": status, "last_event_id": event.id} | {name: data[name] for name in names}
        elif event.event_type in _ENDS:
            row |= {"status": str(_ENDS[event.event_type]), "last_event_id": event.id}
            if event.event_type not in {EventType.SIGNAL_PROCESSING_FAILED, EventType.EFFECT_DEAD_LETTERED}:
                row |= {name: data[name] for name in _CONTENTS if name in data}
    return rows


def kept(told: Trace) -> dict[UUID, dict[str, Any]]:
    """The same of the rows that the ledger keeps."""
    rows: dict[UUID, dict[str, Any]] = {}
    kinds = (
        (told.signals, EventType.SIGNAL_RECEIVED),
        (told.runs, EventType.RUN_STARTED),
        (told.steps, EventType.STEP_STARTED),
        (told.tool_calls, EventType.TOOL_CALLED),
        (told.effects, EventType.EFFECT_REQUESTED),
    )
    for records, beginning in kinds:
        for record in records:
            names = ("status", "last_event_id", *_BEGINNINGS[beginning][1])
            row = {name: getattr(record, name) for name in names}
            if beginning is not EventType.EFFECT_REQUESTED:
                contents = {name: getattr(record, name, None) for name in _CONTENTS}
                row |= {name: value for name, value in contents.items() if value is not None}
            rows[record.id] = {
                name: str(value) if name == "signal_id" or isinstance(value, str) else value
                for name, value in row.items()
            }
    return rows
