"""What a type checker sees of the public API, in both colours. Never run: test_api.py gives it to mypy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, assert_type
from uuid import UUID

import perdure
import perdure.sync
from perdure.domain.handles import CheckpointRef, EffectRef, Run, StepRef, ToolCallRef
from perdure.domain.ids import Mode
from perdure.domain.records import OutboxEntry, Page, Signal
from perdure.domain.scope import Scope
from perdure.domain.trace import Trace


def change_has_no_colour(change: perdure.Change, run: Run) -> None:
    step = assert_type(change.step("classify", output={"label": "high"}), StepRef)
    assert_type(step.index, int | None)
    assert_type(change.tool_call(step, "ocr", args={"page": 1}, result={"text": "..."}), ToolCallRef)
    assert_type(change.effect(step, "SEND_EMAIL", {"to": "cfo@acme.test"}, key="mail"), EffectRef)
    assert_type(change.checkpoint({"page": 1}), CheckpointRef)
    assert_type(run.done("classify"), Mapping[str, Any] | None)


async def asynchronous(entry_id: UUID) -> None:
    opening = assert_type(perdure.open(), AbstractAsyncContextManager[perdure.Plane])
    async with opening as plane:
        assert_type(plane.mode, Mode)
        acme = assert_type(plane.scope(tenant="t_acme", actor="agent:planner"), perdure.Tenant)
        assert_type(acme.scope, Scope)
        run = assert_type(await acme.runs.start("triage", signal=("billing", "msg-7"), input={"invoice": 42}), Run)
        async with acme.change(run) as change:
            assert_type(change, perdure.Change)
        assert_type(await acme.runs.claim(limit=10, lease_s=30), list[Run])
        assert_type(await acme.runs.complete(run), None)
        assert_type(await acme.signals.ingest("billing", "msg-8", {"invoice": 43}), Signal)
        assert_type(await acme.signals.find("billing", "msg-8"), Signal | None)
        assert_type(await acme.signals.pending(), Page[Signal])
        assert_type(await acme.trace(run.correlation_id), Trace)
        assert_type(await acme.outbox.requeue(entry_id, reason="the receiver is back"), OutboxEntry)
        assert_type(acme.events.follow(after=7), AsyncIterator[perdure.Event])
        async for event in acme.events.follow():
            assert_type(event, perdure.Event)


def synchronous(entry_id: UUID) -> None:
    opening = assert_type(perdure.sync.open(), AbstractContextManager[perdure.sync.Plane])
    with opening as plane:
        assert_type(plane.mode, Mode)
        acme = assert_type(plane.scope(tenant="t_acme", actor="agent:planner"), perdure.sync.Tenant)
        assert_type(acme.scope, Scope)
        run = assert_type(acme.runs.start("triage", signal=("billing", "msg-7"), input={"invoice": 42}), Run)
        with acme.change(run) as change:
            assert_type(change, perdure.Change)
        assert_type(acme.runs.claim(limit=10, lease_s=30), list[Run])
        assert_type(acme.runs.complete(run), None)
        assert_type(acme.signals.ingest("billing", "msg-8", {"invoice": 43}), Signal)
        assert_type(acme.signals.find("billing", "msg-8"), Signal | None)
        assert_type(acme.signals.pending(), Page[Signal])
        assert_type(acme.trace(run.correlation_id), Trace)
        assert_type(acme.outbox.requeue(entry_id, reason="the receiver is back"), OutboxEntry)
        assert_type(acme.events.follow(after=7), Iterator[perdure.Event])
        for event in acme.events.follow():
            assert_type(event, perdure.Event)


def joining_is_for_the_asynchronous_api(acme: perdure.sync.Tenant, run: Run) -> None:
    acme.change(run, connection=None)  # type: ignore[call-arg]  # an unused ignore is an error, so this must stay one
