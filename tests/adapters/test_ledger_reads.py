"""The questions a ledger answers, asked of real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from perdure.adapters.postgres.ledger_reads import PostgresLedgerReader
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.core.plane import Tenant
from perdure.domain import limits
from perdure.domain.event import Aggregate
from perdure.domain.reading import AuditFilter, RunFilter, SignalFilter
from perdure.domain.run import RunStatus, RunType, SignalStatus, SignalType
from perdure.domain.scope import make_scope
from perdure.errors import Forbidden, LimitExceeded, NotFound
from tests.support.databases import ALL, Database, engines
from tests.support.stories import ACTOR, failure, plane_on, triage

NOBODY = UUID("019ab000-0000-7000-8000-000000000000")
SCOPE = make_scope("t_acme", actor=ACTOR, mode="lab", env="dev")


@pytest.fixture
async def acme(database: Database) -> AsyncIterator[Tenant]:
    async with plane_on(database) as plane:
        yield plane.scope("t_acme", actor=ACTOR)


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[PostgresLedgerReader]:
    session = Session(database.dsn("app"), settings=PoolSettings(connections_max=2))
    await session.open()
    yield PostgresLedgerReader(session)
    await session.close()


@engines(*ALL)
async def test_a_run_is_read_back_as_it_was_written(acme: Tenant, reader: PostgresLedgerReader):
    story = await triage(acme)
    run, steps = await reader.get_run(SCOPE, story.run.id)
    assert (run.name, run.status, run.total_steps, run.open_effects) == ("invoice-triage", RunStatus.RUNNING, 1, 1)
    assert [(step.step_key, step.output_result, step.input_context) for step in steps] == [
        ("classify", {"label": "high"}, None)
    ]
    [call] = await reader.tool_calls_of_run(SCOPE, run.id, after=None, limit=10)
    assert (call.id, call.tool_name, call.execution_duration_ms) == (story.ocr.id, "ocr", 7)
    [effect] = await reader.effects_of_run(SCOPE, run.id, after=None, limit=10)
    [entry] = await reader.outbox_of_run(SCOPE, run.id, after=None, limit=10)
    assert (effect.id, entry.aggregate_id, entry.id) == (story.mail.id, story.mail.id, story.mail.outbox_id)
    [checkpoint] = await reader.checkpoints_of_run(SCOPE, run.id, after=-1, limit=10)
    assert checkpoint.checkpoint_data is None
    latest = await reader.latest_checkpoint(SCOPE, run.id)
    assert latest is not None
    assert (latest.id, latest.checkpoint_data) == (checkpoint.id, {"label": "high"})
    signal = await reader.find_signal(SCOPE, "billing", "msg-42")
    assert signal == await reader.get_signal(SCOPE, run.signal_id)
    assert [one.id for one in await reader.runs_of_signal(SCOPE, run.signal_id)] == [run.id]


async def test_get_raises_not_found_and_find_gives_none(reader: PostgresLedgerReader):
    for get in (reader.get_run, reader.get_signal, reader.resume):
        with pytest.raises(NotFound, match=str(NOBODY)):
            await get(SCOPE, NOBODY)
    assert await reader.find_signal(SCOPE, "billing", "never") is None
    assert await reader.find_event(SCOPE, NOBODY) is None
    assert await reader.latest_checkpoint(SCOPE, NOBODY) is None
    assert await reader.provenance(SCOPE, "billing", source_id="never", limit=1) is None
    assert await reader.find_correlations(SCOPE, NOBODY) == []
    assert await reader.causes(SCOPE, NOBODY) == []
    assert await reader.tenant_sequence(SCOPE) == 0


async def test_another_tenant_sees_nothing_of_it(acme: Tenant, reader: PostgresLedgerReader):
    story = await triage(acme)
    other = make_scope("t_other", actor=ACTOR, mode="lab", env="dev")
    with pytest.raises(NotFound):
        await reader.get_run(other, story.run.id)
    assert await reader.list_runs(other, RunFilter(), after=None, limit=10) == []
    assert await reader.find_correlations(other, story.run.correlation_id) == []
    assert await reader.events_after(other, 0, limit=10) == []
    assert (await reader.trace(other, story.run.correlation_id)).runs == ()


async def test_a_user_who_is_no_member_is_refused(acme: Tenant, reader: PostgresLedgerReader):
    await triage(acme)
    stranger = make_scope("t_acme", actor=ACTOR, mode="lab", env="dev", user=NOBODY)
    with pytest.raises(Forbidden, match="not a member"):
        await reader.list_runs(stranger, RunFilter(), after=None, limit=10)


async def test_lists_give_every_row_once_page_by_page(acme: Tenant, reader: PostgresLedgerReader):
    stories = [await triage(acme, number) for number in range(7)]
    for story in stories[:3]:
        await acme.runs.cancel(story.run, "NOT_NEEDED")
    seen: list[UUID] = []
    after = None
    while page := await reader.list_runs(SCOPE, RunFilter(), after=after, limit=2):
        assert len(page) <= 2
        seen += [run.id for run in page]
        after = (page[-1].started_at, page[-1].id)
    assert seen == [story.run.id for story in reversed(stories)]
    signals = []
    after = None
    while batch := await reader.list_signals(SCOPE, SignalFilter(), after=after, limit=3, oldest_first=True):
        signals += [signal.source_id for signal in batch]
        after = (batch[-1].received_at, batch[-1].id)
    assert signals == [f"msg-{number}" for number in range(7)]


async def test_runs_are_found_by_status_type_name_and_time(acme: Tenant, reader: PostgresLedgerReader):
    first, second = await triage(acme, 1), await triage(acme, 2)
    await acme.runs.cancel(first.run, "NOT_NEEDED")

    async def ids(wanted: RunFilter) -> list[UUID]:
        return [run.id for run in await reader.list_runs(SCOPE, wanted, after=None, limit=10)]

    assert await ids(RunFilter(status=RunStatus.CANCELLED)) == [first.run.id]
    assert await ids(RunFilter(status=RunStatus.FAILED)) == []
    assert await ids(RunFilter(run_type=RunType.CONTINUATION)) == []
    assert await ids(RunFilter(name="invoice-triage")) == [second.run.id, first.run.id]
    assert await ids(RunFilter(name="something-else")) == []
    later = second.run.record.started_at
    assert await ids(RunFilter(started_from=later)) == [second.run.id]
    assert await ids(RunFilter(started_before=later)) == [first.run.id]


async def test_signals_are_found_by_status_type_and_age(acme: Tenant, reader: PostgresLedgerReader):
    old = await acme.signals.ingest("mail", "1", {"a": 1}, received_at=datetime(2026, 1, 1, tzinfo=UTC))
    new = await acme.signals.ingest("mail", "2", {"a": 2})

    async def ids(wanted: SignalFilter) -> list[UUID]:
        found = await reader.list_signals(SCOPE, wanted, after=None, limit=10, oldest_first=False)
        return [signal.id for signal in found]

    assert await ids(SignalFilter(status=SignalStatus.PENDING)) == [new.id, old.id]
    assert await ids(SignalFilter(received_before=new.received_at - timedelta(days=1))) == [old.id]
    assert await ids(SignalFilter(signal_type=SignalType.EMAIL)) == []
    assert await ids(SignalFilter(status=SignalStatus.FAILED)) == []


async def test_a_correlation_is_found_by_every_id_in_it(acme: Tenant, reader: PostgresLedgerReader):
    story = await triage(acme)
    trace = await reader.trace(SCOPE, story.run.correlation_id)
    rows = (trace.signals, trace.runs, trace.steps, trace.tool_calls, trace.effects, trace.outbox, trace.checkpoints)
    identifiers = [row.id for kind in rows for row in kind] + [event.id for event in trace.events]
    assert len(identifiers) == 7 + len(trace.events)
    for identifier in [trace.correlation_id, *identifiers]:
        assert await reader.find_correlations(SCOPE, identifier) == [trace.correlation_id]
    readings = [("billing", "msg-42"), ("other", "x")]
    assert await reader.find_correlations_by_source(SCOPE, readings) == [trace.correlation_id]


@engines(*ALL)
async def test_a_trace_holds_everything_of_its_correlation_and_nothing_else(acme: Tenant, reader: PostgresLedgerReader):
    await triage(acme, 1)
    story = await failure(acme, 2)
    trace = await reader.trace(SCOPE, story.run.correlation_id)
    assert [run.id for run in trace.runs] == [story.run.id]
    assert [step.name for step in trace.steps_of(story.run.id)] == ["classify", "book"]
    assert [call.tool_name for call in trace.tool_calls_of(story.classify.id)] == ["ocr"]
    assert [effect.status for effect in trace.effects_of(story.classify.id)] == ["DEAD_LETTER"]
    assert {event.correlation_id for event in trace.events} == {story.run.correlation_id}
    numbers = [event.sequence_number for event in trace.events]
    assert numbers == sorted(numbers)
    assert sum(1 for node in trace.tree() for _ in node.walk()) == len(trace.events)


async def test_a_trace_above_its_limit_is_refused_with_the_number(
    acme: Tenant, reader: PostgresLedgerReader, monkeypatch: pytest.MonkeyPatch
):
    story = await triage(acme)
    events = len((await reader.trace(SCOPE, story.run.correlation_id)).events)
    monkeypatch.setattr(limits, "TRACE_EVENTS_MAX", events)
    assert len((await reader.trace(SCOPE, story.run.correlation_id)).events) == events
    monkeypatch.setattr(limits, "TRACE_EVENTS_MAX", events - 1)
    with pytest.raises(LimitExceeded, match=f"has {events} events") as refused:
        await reader.trace(SCOPE, story.run.correlation_id)
    assert refused.value.detail == {"limit": "trace_events_max", "allowed": events - 1, "actual": events}


async def test_a_run_resumes_after_its_latest_checkpoint(acme: Tenant, reader: PostgresLedgerReader):
    story = await triage(acme)
    async with acme.change(story.run) as change:
        change.checkpoint({"label": "higher"})
    fresh = await reader.resume(SCOPE, story.run.id)
    assert fresh.checkpoint is not None
    assert (fresh.checkpoint.checkpoint_data, fresh.expired, fresh.events) == ({"label": "higher"}, False, ())
    async with acme.change(story.run) as change:
        change.step("after", output={})
    later = await reader.resume(SCOPE, story.run.id)
    assert [event.event_type for event in later.events] == ["STEP_STARTED", "STEP_COMPLETED"]
    assert all(event.sequence_number > fresh.checkpoint.last_sequence_number for event in later.events)


async def test_a_checkpoint_says_when_it_has_expired(acme: Tenant, reader: PostgresLedgerReader, database: Database):
    story = await triage(acme)
    database.query(
        "CREATE OR REPLACE FUNCTION perdure.instant() RETURNS timestamptz LANGUAGE sql VOLATILE "
        "AS $$SELECT clock_timestamp() + interval '8 days'$$"
    )
    found = await reader.resume(SCOPE, story.run.id)
    assert (found.checkpoint is not None, found.expired) == (True, True)
    database.query("DELETE FROM perdure.run_checkpoints")
    gone = await reader.resume(SCOPE, story.run.id)
    assert (gone.checkpoint, gone.expired) == (None, True)
    assert len(gone.events) > len(found.events)


async def test_causes_cross_correlations_and_end_at_the_root(acme: Tenant, reader: PostgresLedgerReader):
    story = await triage(acme)
    events = (await reader.trace(SCOPE, story.run.correlation_id)).events
    requested = next(event for event in events if event.event_type == "EFFECT_REQUESTED")
    chain = await reader.causes(SCOPE, requested.id)
    assert {event.event_type for event in chain} >= {"SIGNAL_RECEIVED", "RUN_STARTED", "EFFECT_REQUESTED"}


async def test_events_are_found_by_row_by_actor_and_by_number(acme: Tenant, reader: PostgresLedgerReader):
    story = await triage(acme)
    everything = await reader.events_after(SCOPE, 0, limit=100)
    assert [event.sequence_number for event in everything] == list(range(1, len(everything) + 1))
    assert await reader.tenant_sequence(SCOPE) == len(everything)
    of_step = await reader.events_of_aggregate(SCOPE, story.classify.id, aggregate=Aggregate.STEP, after=0, limit=10)
    assert [event.event_type for event in of_step] == ["STEP_STARTED", "STEP_COMPLETED"]
    by_actor = await reader.events_of_actor(SCOPE, ACTOR, before=None, limit=3)
    assert [event.sequence_number for event in by_actor] == [len(everything) - back for back in range(3)]
    assert await reader.events_of_actor(SCOPE, "agent:nobody", before=None, limit=3) == []
    assert await reader.find_event(SCOPE, everything[0].id) == everything[0]


async def test_an_entity_has_the_history_of_its_runs_and_steps(acme: Tenant, reader: PostgresLedgerReader):
    of_run = await triage(acme, 7)
    other = await triage(acme, 8)
    async with acme.change(other.run) as change:
        step = change.step("compare", output={}, entities=[("invoice", "7")])
        change.tool_call(step, "diff", args={}, result={})
        change.effect(step, "NOTIFY_USER", {"user_id": "u1"})
        change.step("unrelated", output={})
    events = await reader.events_of_entity(SCOPE, "invoice", entity_id="7", after=0, limit=100)
    run_events = [event for event in events if event.event_data.get("run_id") == str(of_run.run.id)]
    step_events = [event for event in events if event not in run_events]
    assert {"RUN_STARTED", "TOOL_CALLED", "EFFECT_REQUESTED"} <= {event.event_type for event in run_events}
    assert [event.event_type for event in step_events] == [
        "STEP_STARTED",
        "TOOL_CALLED",
        "TOOL_COMPLETED",
        "STEP_COMPLETED",
        "EFFECT_REQUESTED",
    ]
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    paged = await reader.events_of_entity(SCOPE, "invoice", entity_id="7", after=numbers[3], limit=2)
    assert [event.sequence_number for event in paged] == numbers[4:6]


async def test_a_timeline_is_everything_by_time_page_by_page(acme: Tenant, reader: PostgresLedgerReader):
    story = await triage(acme)
    correlation_id = story.run.correlation_id
    whole = await reader.timeline(SCOPE, correlation_id, after=None, limit=100)
    assert {entry.kind for entry in whole} == {"SIGNAL", "RUN", "STEP", "TOOL_CALL", "EFFECT", "EVENT"}
    assert [entry.occurred_at for entry in whole] == sorted(entry.occurred_at for entry in whole)
    paged = []
    after = None
    while page := await reader.timeline(SCOPE, correlation_id, after=after, limit=3):
        paged += page
        after = page[-1]
    assert paged == whole


async def test_provenance_names_the_signal_and_its_runs(acme: Tenant, reader: PostgresLedgerReader):
    story = await triage(acme)
    await acme.runs.cancel(story.run, "NOT_NEEDED")
    again = await acme.runs.rerun(story.run)
    found = await reader.provenance(SCOPE, "billing", source_id="msg-42", limit=10)
    assert found is not None
    assert found.signal.id == story.run.signal_id
    assert [(run.id, run.causation_id) for run in found.runs] == [(story.run.id, None), (again.id, story.run.id)]


async def test_the_audit_trail_is_listed_newest_first(acme: Tenant, reader: PostgresLedgerReader):
    story = await triage(acme)
    async with acme.change(story.run) as change:
        approval = change.wait("approve", request={"amount": 10})
        change.audit("EXPORTED", resource_type="RUN", resource_id=story.run.id, context={})
    async with acme.change(story.run) as change:
        change.decide(approval, "APPROVE")
    entries = await reader.list_audit(SCOPE, AuditFilter(), before=None, limit=10)
    assert [entry.action for entry in entries] == ["APPROVAL_DECIDED", "EXPORTED"]
    older = await reader.list_audit(SCOPE, AuditFilter(actor=ACTOR), before=entries[0].id, limit=10)
    assert [entry.action for entry in older] == ["EXPORTED"]
    of_step = AuditFilter(resource_id=approval.id, action="APPROVAL_DECIDED")
    assert [entry.id for entry in await reader.list_audit(SCOPE, of_step, before=None, limit=1)] == [entries[0].id]
