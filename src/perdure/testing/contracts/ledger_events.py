"""The event log: dense, in order, and causally whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.core.plane import Plane, Tenant
from perdure.domain.event import Event, EventType, check_event_data
from perdure.domain.handles import Run
from perdure.errors import Invalid, NotFound
from perdure.testing.contracts.ledger import MAIL, LedgerContract, begin, everything, story


class EventsContract(LedgerContract):
    """What is promised of events whatever wrote them."""

    async def test_sequence_numbers_are_dense_and_each_tenant_has_its_own(self, acme: Tenant, other: Tenant) -> None:
        await asyncio.gather(*(live(tenant, f"msg-{number}") for tenant in (acme, other) for number in range(6)))
        for tenant in (acme, other):
            events = await everything(tenant)
            assert [event.sequence_number for event in events] == list(range(1, len(events) + 1))
            assert await tenant.events.last_number() == len(events)
            assert {event.tenant_id for event in events} == {tenant.scope.tenant_id}

    async def test_a_refused_change_uses_no_number(self, acme: Tenant) -> None:
        run = await begin(acme)
        await acme.runs.complete(run)
        before = await acme.events.last_number()
        for _ in range(3):
            with pytest.raises(Exception, match="finished run"):
                await acme.runs.fail(await acme.runs.get(run.id), "LATE")
        await begin(acme, "msg-2")
        assert await acme.events.last_number() == before + 3

    async def test_every_event_fits_the_contract_of_its_type(self, acme: Tenant) -> None:
        for number in range(3):
            await live(acme, f"msg-{number}")
        events = await everything(acme)
        for event in events:
            check_event_data(event.event_type, data=event.event_data, committed=True)
        assert len({event.event_type for event in events}) >= 16

    async def test_every_event_says_who_what_why_and_where_from(self, plane: Plane) -> None:
        tenant = plane.scope("t_acme", actor="user:ada", source="webhook:stripe")
        run = await live(tenant, "msg-1")
        told = await story(tenant, run)
        assert {(event.actor, event.source) for event in told.events} == {("user:ada", "webhook:stripe")}
        assert {event.correlation_id for event in told.events} == {run.correlation_id}
        rows: list[Any] = [*told.steps, *told.tool_calls, *told.effects, *told.outbox, *told.checkpoints, *told.runs]
        assert {(row.actor, row.correlation_id) for row in rows} == {("user:ada", run.correlation_id)}
        known = {event.id for event in told.events}
        announced: list[Any] = [*told.signals, *told.runs, *told.steps, *told.tool_calls, *told.effects]
        assert {row.last_event_id for row in announced} <= known

    async def test_every_event_has_an_earlier_cause_but_the_one_that_began_it_all(self, acme: Tenant) -> None:
        run = await live(acme, "msg-1")
        events = (await story(acme, run)).events
        numbers = {event.id: event.sequence_number for event in events}
        assert [event.event_type for event in events if event.causation_id is None] == [EventType.SIGNAL_RECEIVED]
        for event in events[1:]:
            assert event.causation_id is not None
            assert numbers[event.causation_id] < event.sequence_number, event
        (root,) = await acme.consequences(run.correlation_id)
        assert {node.event.id for node in root.walk()} == set(numbers)
        chain = await acme.causes(events[-1].id)
        assert (chain[0], chain[-1]) == (events[0], events[-1])

    async def test_a_later_run_of_the_same_signal_hangs_on_the_same_root(self, acme: Tenant) -> None:
        first = await live(acme, "msg-1")
        second = await acme.runs.rerun(first)
        assert len(await acme.consequences(second.correlation_id)) == 1

    async def test_a_follower_misses_nothing(self, acme: Tenant) -> None:
        run = await begin(acme)
        seen: list[Event] = []

        async def follow() -> None:
            async for event in acme.events.follow(after=0, poll_s=0.01):
                seen.append(event)
                if len(seen) == 3 + 8 * 10 * 2:
                    return

        async def write(writer: int) -> None:
            for number in range(10):
                async with acme.change(run) as change:
                    change.step("work", key=f"{writer}-{number}", output={})

        await asyncio.gather(follow(), *map(write, range(8)))
        assert [event.sequence_number for event in seen] == list(range(1, len(seen) + 1))
        assert seen == list(await everything(acme))

    async def test_a_follower_goes_on_from_the_number_it_kept(self, acme: Tenant) -> None:
        await live(acme, "msg-1")
        events = await everything(acme)
        following = acme.events.follow(after=4)
        assert [await anext(following) for _ in events[4:]] == list(events[4:])
        with pytest.raises(Invalid, match="has events 1 to"):
            await anext(acme.events.follow(after=len(events) + 1))

    async def test_an_event_is_found_by_its_id_in_its_tenant_only(self, acme: Tenant, other: Tenant) -> None:
        run = await begin(acme)
        event = (await story(acme, run)).events[0]
        assert await acme.events.get(event.id) == event
        with pytest.raises(NotFound):
            await other.events.get(event.id)


async def live(tenant: Tenant, source_id: str) -> Run:
    """A run that does everything a run can do, and ends."""
    run = await begin(tenant, source_id, entities=[("invoice", source_id)], metadata={"priority": "high"})
    async with tenant.change(run) as change:
        step = change.step("classify", output={"label": "high"}, input={"n": 1}, duration_ms=3, metadata={"m": 1})
        change.tool_call(step, "ocr", args={"page": 1}, result={"text": "..."}, duration_ms=2)
        change.tool_call(step, "ocr", args={"page": 2}, error="unreadable", duration_ms=1)
        change.effect(step, "SEND_EMAIL", MAIL, key="mail")
        change.checkpoint({"at": 1})
        wait = change.wait("approve", request={"amount": 7})
        work = change.step("work")
    async with tenant.change(run) as change:
        change.decide(wait, "APPROVE")
        late = change.tool_call(work, "grep", args={}, pending=True)
        change.effect(work, "PAGE_ONCALL", {"team": "x"}, independent=True)
    async with tenant.change(run) as change:
        change.finish_call(late, result=[1])
        change.tool_call(work, "grep", key="more", args={}, error={"message": "no"})
        change.fail(work, error="boom")
    async with tenant.change(run) as change:
        change.retry(work, output={"n": 2})
        change.skip(change.step("unneeded"), reason="not needed")
        change.step("open")
        change.checkpoint([1, 2, 3])
    await tenant.runs.fail(run, "TOO_HARD")
    return run
