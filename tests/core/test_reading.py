"""Looking back through the facades: pages, traces, causes, and following the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from perdure.core.plane import Tenant
from perdure.core.reading import Events
from perdure.domain import limits
from perdure.domain.event import Event
from perdure.errors import ChainBroken, Invalid, LimitExceeded, NotFound
from perdure.ports.ledger_reads import LedgerReader
from tests.support.databases import Database
from tests.support.stories import ACTOR, failure, plane_on, triage

NOBODY = UUID("019ab000-0000-7000-8000-000000000000")


@pytest.fixture
async def acme(database: Database) -> AsyncIterator[Tenant]:
    async with plane_on(database) as plane:
        yield plane.scope("t_acme", actor=ACTOR)


async def test_a_trace_is_found_by_any_id_and_by_its_source(acme: Tenant):
    story = await triage(acme)
    trace = await acme.trace(story.run.correlation_id)
    for identifier in (
        str(story.run.id),
        str(story.classify.id).upper(),
        story.ocr.id,
        story.mail.id,
        story.mail.outbox_id,
        trace.events[-1].id,
        "billing/msg-42",
    ):
        assert await acme.trace(identifier) == trace
    with pytest.raises(NotFound, match="CHANNEL/SOURCE-ID"):
        await acme.trace(NOBODY)
    with pytest.raises(NotFound):
        await acme.trace("billing/msg-43")
    with pytest.raises(Invalid, match="neither an id nor"):
        await acme.trace("billing")


async def test_a_source_with_slashes_is_found_and_an_ambiguous_one_is_refused(acme: Tenant):
    first = await acme.signals.ingest("mail/in", "a/b", {})
    assert (await acme.trace("mail/in/a/b")).correlation_id == first.correlation_id
    second = await acme.signals.ingest("mail", "in/a/b", {})
    with pytest.raises(Invalid, match=str(second.correlation_id)):
        await acme.trace("mail/in/a/b")


async def test_causes_lead_from_the_root_to_the_event(acme: Tenant):
    story = await triage(acme)
    trace = await acme.trace(story.run.id)
    requested = next(event for event in trace.events if event.event_type == "EFFECT_REQUESTED")
    chain = await acme.causes(requested.id)
    assert (chain[0].event_type, chain[-1]) == ("SIGNAL_RECEIVED", requested)
    assert [event.causation_id for event in chain[1:]] == [event.id for event in chain[:-1]]
    with pytest.raises(NotFound):
        await acme.causes(NOBODY)


async def test_a_cycle_of_causes_is_corruption_and_the_tree_still_shows_it(acme: Tenant, database: Database):
    story = await triage(acme)
    database.query(
        "SET session_replication_role = replica; UPDATE perdure.orchestration_events SET causation_id = id "
        "WHERE event_type = 'RUN_STARTED'"
    )
    events = (await acme.trace(story.run.id)).events
    with pytest.raises(ChainBroken, match="its own cause"):
        await acme.causes(events[-1].id)
    forest = await acme.consequences(story.run.correlation_id)
    assert sum(1 for root in forest for _ in root.walk()) == len(events)
    assert any(root.detached for root in forest)


async def test_consequences_are_a_tree_from_the_signal(acme: Tenant):
    story = await failure(acme)
    [root] = await acme.consequences(story.run.correlation_id)
    kinds = {node.event.event_type for node in root.walk()}
    assert root.event.event_type == "SIGNAL_RECEIVED"
    assert {"TOOL_FAILED", "STEP_FAILED", "RUN_FAILED", "EFFECT_DEAD_LETTERED", "SIGNAL_PROCESSING_FAILED"} <= kinds
    with pytest.raises(NotFound):
        await acme.consequences(NOBODY)


async def test_pages_join_without_a_gap_and_a_cursor_is_bound_to_its_question(acme: Tenant):
    for number in range(5):
        await triage(acme, number)
    seen = []
    cursor = None
    while True:
        page = await acme.runs.list(name="invoice-triage", cursor=cursor, limit=2)
        seen += [run.id for run in page]
        if (cursor := page.next_cursor) is None:
            break
        last = cursor
    assert len(seen) == len(set(seen)) == 5
    with pytest.raises(Invalid, match="cursor"):
        await acme.runs.list(name="another", cursor=last)
    with pytest.raises(Invalid, match="cursor"):
        await acme.signals.list(cursor=last)
    everything = [event async for event in _paged(acme)]
    assert [event.sequence_number for event in everything] == list(range(1, len(everything) + 1))


async def _paged(acme: Tenant) -> AsyncIterator[Event]:
    cursor = None
    while True:
        page = await acme.events.list(cursor=cursor, limit=7)
        for event in page:
            yield event
        if (cursor := page.next_cursor) is None:
            return


async def test_a_page_has_from_one_item_to_page_size_max(acme: Tenant):
    assert len(await acme.runs.list(limit=limits.PAGE_SIZE_MAX)) == 0
    with pytest.raises(LimitExceeded, match="page_size_max"):
        await acme.runs.list(limit=limits.PAGE_SIZE_MAX + 1)
    with pytest.raises(Invalid, match="at least 1"):
        await acme.events.list(limit=0)
    with pytest.raises(LimitExceeded, match="page_size_max"):
        await acme.events.after(0, limit=limits.PAGE_SIZE_MAX + 1)


async def test_a_time_without_a_zone_is_refused(acme: Tenant):
    with pytest.raises(Invalid, match="no zone"):
        await acme.runs.list(started_from=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
    assert len(await acme.signals.list(received_before=datetime(2026, 1, 1, tzinfo=UTC))) == 0


async def test_history_activity_timeline_and_provenance_page(acme: Tenant):
    story = await triage(acme)
    history = await acme.history("invoice", "42", limit=4)
    rest = await acme.history("invoice", "42", cursor=history.next_cursor)
    numbers = [event.sequence_number for event in (*history, *rest)]
    assert numbers == sorted(set(numbers))
    assert rest.next_cursor is None
    activity = await acme.activity(ACTOR, limit=3)
    older = await acme.activity(ACTOR, cursor=activity.next_cursor, limit=3)
    assert activity.items[-1].sequence_number == older.items[0].sequence_number + 1
    timeline = await acme.timeline("billing/msg-42", limit=5)
    later = await acme.timeline(story.run.id, cursor=timeline.next_cursor)
    trace = await acme.trace(story.run.id)
    rows = len(trace.signals) + len(trace.runs) + len(trace.steps) + len(trace.tool_calls) + len(trace.effects)
    assert len(timeline) + len(later) == rows + len(trace.events)
    assert (await acme.provenance("billing", "msg-42")).signal.id == story.run.signal_id
    with pytest.raises(NotFound):
        await acme.provenance("billing", "msg-43")


async def test_the_parts_of_a_run_are_listed(acme: Tenant):
    story = await triage(acme, steps=3)
    first = await acme.runs.steps(story.run.id, limit=2)
    second = await acme.runs.steps(story.run.id, cursor=first.next_cursor, limit=2)
    assert [step.step_index for step in (*first, *second)] == [0, 1, 2]
    assert [call.id for call in await acme.runs.tool_calls(story.run.id)] == [story.ocr.id]
    assert [effect.id for effect in await acme.runs.effects(story.run.id)] == [story.mail.id]
    assert [entry.id for entry in await acme.runs.outbox(story.run.id)] == [story.mail.outbox_id]
    assert [one.checkpoint_index for one in await acme.runs.checkpoints(story.run.id)] == [0]
    assert [run.id for run in await acme.runs.of_signal(story.run.signal_id)] == [story.run.id]
    of_row = await acme.events.list(aggregate=("STEP", story.classify.id))
    assert [event.event_type for event in of_row] == ["STEP_STARTED", "STEP_COMPLETED"]
    of_correlation = await acme.events.list(correlation_id=story.run.correlation_id)
    assert len(of_correlation) == len((await acme.trace(story.run.id)).events)
    with pytest.raises(Invalid, match="not of both"):
        await acme.events.list(correlation_id=NOBODY, aggregate=("STEP", NOBODY))


async def test_a_follower_sees_every_event_once_in_order_while_others_write(acme: Tenant):
    await triage(acme, 1)
    seen: list[int] = []
    last = await acme.events.last_number()

    async def follow() -> None:
        async for event in acme.events.follow(after=2, poll_s=0.01):
            seen.append(event.sequence_number)
            if event.event_type == "RUN_CANCELLED":
                return

    follower = asyncio.create_task(follow())
    stories = await asyncio.gather(*(triage(acme, number) for number in range(2, 8)))
    await acme.runs.cancel(stories[0].run, "NOT_NEEDED")
    await asyncio.wait_for(follower, 30)
    assert seen == list(range(3, seen[-1] + 1))
    assert seen[-1] > last


async def _follow_into(seen: list[int], acme: Tenant, *, after: int = 0) -> None:
    async for event in acme.events.follow(after=after):
        seen.append(event.sequence_number)  # noqa: PERF401 - what was seen before an error counts


async def test_a_missing_number_stops_the_follower(acme: Tenant, database: Database):
    await triage(acme)
    database.query(
        "SET session_replication_role = replica; DELETE FROM perdure.orchestration_events WHERE sequence_number = 3"
    )
    seen: list[int] = []
    with pytest.raises(ChainBroken, match="event 3 is missing, 4 follows 2"):
        await _follow_into(seen, acme)
    assert seen == [1, 2]


async def test_a_place_that_the_tenant_has_not_reached_is_refused(acme: Tenant):
    await triage(acme)
    last = await acme.events.last_number()
    for after in (last + 1, -1):
        with pytest.raises(Invalid, match="another tenant or database"):
            await _follow_into([], acme, after=after)


async def test_a_follower_waits_only_when_there_is_nothing_new(acme: Tenant):
    await triage(acme)
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)
        await triage(acme, 100 + len(waited))

    reader: LedgerReader = acme.events._reader
    last = await acme.events.last_number()
    async for event in Events(reader, acme.scope, wait=wait).follow(poll_s=7):
        if event.sequence_number > last:
            break
    assert waited == [7]
