"""A session's journal: every record says what it belongs to, and a subagent is found under the call that began it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from perdure.core.journal_labels import session_label, sessions_label
from perdure.core.journal_links import Correlation
from perdure.core.session_journal import SessionJournal, ToolCall
from perdure.domain.turn import NO_TURN, split_turn_id
from tests.support.recorded_turns import FaultKind, FaultyTurns, Kept, every_context, kinds, records_of, watched
from tests.support.scripted_session import BEGAN_AT, EXPIRES_AT, Script

CORRELATION = Correlation(
    run_id="run-1",
    pipeline_context_id="7",
    node_id="plan",
    stage_attempt_id="plan:attempt:1",
    node_visit=1,
    branch_id="left",
    parent_turn_id="77",
)


async def test_every_record_says_what_the_session_belongs_to_and_the_first_where_it_began() -> None:
    turns = await Kept().client()
    session = SessionJournal(
        watched(turns, mode="required").recorder,
        session_id="s",
        correlation=CORRELATION,
        thread_key="main",
        retention_class="short",
        expires_at=EXPIRES_AT,
    )
    await session.session_started(at=BEGAN_AT)
    await session.user_turn_appended(content="Hello.")
    await session.session_ended(final_state="completed", reason="done")
    records = await records_of(turns, session.context_id or "")
    for record in records:
        assert {
            "run_id": "run-1",
            "pipeline_context_id": "7",
            "node_id": "plan",
            "stage_attempt_id": "plan:attempt:1",
            "node_visit": 1,
            "branch_id": "left",
            "agent_session_id": "s",
            "thread_key": "main",
        }.items() <= record.values.items()
    started, said, ended = records
    assert (started.values["agent_context_id"], started.values["parent_turn_id"]) == (session.context_id, "77")
    assert (started.values["timestamp"], started.values["retention_class"]) == (1_770_710_400_000, "short")
    assert started.values["context_metadata"]["provenance"] == {
        "parent_context_id": 7,
        "spawn_reason": "stage",
        "correlation_id": "run-1",
    }
    assert "parent_turn_id" not in said.values
    assert (ended.values["final_state"], ended.values["reason"]) == ("completed", "done")


async def test_a_record_under_way_belongs_to_the_stage_at_which_it_was_told() -> None:
    gate, reached = asyncio.Event(), asyncio.Event()

    class Held(FaultyTurns):
        async def append(self, context_id: str, payload: bytes, **rest: Any) -> Any:
            reached.set()
            await gate.wait()
            return await super().append(context_id, payload, **rest)

    turns = Held(await Kept().client())
    session = SessionJournal(watched(turns, mode="required").recorder, session_id="s", correlation=CORRELATION)
    first = asyncio.create_task(session.user_turn_appended(content="one"))
    second = asyncio.create_task(session.user_turn_appended(content="two"))
    await reached.wait()
    session.work_for(replace(CORRELATION, node_id="review"))
    third = asyncio.create_task(session.user_turn_appended(content="three"))
    gate.set()
    await asyncio.gather(first, second, third)
    records = await records_of(turns.target, session.context_id or "")
    assert [record.values["node_id"] for record in records] == ["plan", "plan", "review"]


async def test_a_session_is_found_by_its_run_even_if_the_link_to_it_is_lost() -> None:
    turns = FaultyTurns(await Kept().client(), faults=lambda number, _: "down" if number == 11 else None)
    told = watched(turns, mode="best_effort")
    await Script(told.recorder).tell()
    assert [warning.record_type for warning in told.warnings] == ["forge.link.stage_to_agent"]
    (found, child) = await turns.target.contexts(label=sessions_label("run-1"))
    assert found.labels[0] == session_label("session-1")
    assert split_turn_id(int(child.base_turn_id))[0] == int(found.context_id)
    first, *_ = await records_of(turns.target, found.context_id)
    assert first.values["run_id"] == "run-1"


async def test_a_session_goes_on_after_its_last_record() -> None:
    kept = Kept()
    story = await Script(watched(await kept.client(), mode="required").recorder).tell(stops_at_checkpoint=True)
    turns = await kept.client()
    session = SessionJournal(watched(turns, mode="required").recorder, session_id="session-1")
    await session.resume()
    assert (session.next_sequence_no, session.head_turn_id) == (17, story.session.head_turn_id)
    await session.user_turn_appended(content="One more.")
    last = (await records_of(turns, session.context_id or ""))[-1]
    assert last.values["idempotency_key"] == "forge-agent:v1|9:session-1|17|13:turn_appended"
    assert "context_metadata" not in last.values


async def test_a_subagent_that_said_nothing_yet_begins_at_nought_when_it_is_resumed() -> None:
    kept = Kept()
    recorder = watched(await kept.client(), mode="required").recorder
    parent = SessionJournal(recorder, session_id="s")
    await parent.session_started()
    child = await parent.subagent_spawned(subagent_id="sub", session_id="s.1")
    again = SessionJournal(watched(await kept.client(), mode="required").recorder, session_id="s.1")
    await again.resume()
    assert (again.context_id, again.next_sequence_no) == (child.context_id, 0)


async def test_a_session_of_which_nothing_is_kept_begins_a_context_when_it_is_resumed() -> None:
    turns = await Kept().client()
    session = SessionJournal(watched(turns, mode="required").recorder, session_id="s")
    await session.resume()
    await session.user_turn_appended(content="Hello.")
    (context,) = await every_context(turns)
    (record,) = await records_of(turns, context.context_id)
    assert (context.base_turn_id, record.values["sequence_no"]) == (NO_TURN, 0)
    assert "context_metadata" in record.values


async def test_a_subagent_is_forked_from_the_call_that_began_it_and_named_when_it_ends() -> None:
    turns = await Kept().client()
    parent = SessionJournal(watched(turns, mode="required").recorder, session_id="s")
    await parent.session_started()
    call = await parent.tool_call_started(call=ToolCall(call_id="c", name="delegate"))
    await parent.tool_call_started(call=ToolCall(call_id="other", name="read"))
    child = await parent.subagent_spawned(subagent_id="sub", session_id="s.1", call_id="c", thread_key="deep")
    await child.session_started()
    await child.tool_call_started(call=ToolCall(call_id="x", name="read", arguments={}))
    await child.tool_call_ended(call_id="x", tool_name="read", output="no", is_error=True, duration_ms=1)
    await parent.subagent_closed(subagent_id="sub", child=child, final_state="failed")
    assert call is not None
    context = next(one for one in await every_context(turns) if one.context_id == child.context_id)
    assert context.base_turn_id == call.turn_id
    spawn, close = (await records_of(turns, parent.context_id or ""))[-2:]
    assert (spawn.values["spawning_call_id"], spawn.values["parent_turn_id"]) == ("c", call.turn_id)
    assert {
        "child_context_id": child.context_id,
        "child_head_turn_id": child.head_turn_id,
        "final_state": "failed",
        "tool_call_count": 1,
        "tool_error_count": 1,
    }.items() <= close.values.items()
    first, *_ = await records_of(turns, context.context_id)
    provenance = first.values["context_metadata"]["provenance"]
    assert (provenance["parent_context_id"], provenance["spawn_reason"]) == (int(parent.context_id or 0), "subagent")
    assert (first.values["parent_turn_id"], first.values["thread_key"]) == (call.turn_id, "deep")


async def test_a_subagent_without_a_context_gets_one_with_its_first_record() -> None:
    fault: list[FaultKind | None] = [None]
    turns = FaultyTurns(await Kept().client(), faults=lambda _, name: fault[0] if name == "fork" else None)
    told = watched(turns, mode="best_effort")
    parent = SessionJournal(told.recorder, session_id="s")
    await parent.session_started()
    fault[0] = "down"
    child = await parent.subagent_spawned(subagent_id="sub", session_id="s.1")
    fault[0] = None
    await child.session_started()
    await parent.subagent_closed(subagent_id="sub", child=child, final_state="completed")
    assert [warning.step for warning in told.warnings] == ["create_context", "encode"]
    records = await records_of(turns.target, parent.context_id or "")
    assert kinds(records) == {"session_start": 1, "subagent_close": 1}
    assert records[-1].values["child_context_id"] == child.context_id
    assert records[-1].values["gap"]["lost"] == 1


async def test_off_a_session_records_nothing_and_its_snapshot_is_empty() -> None:
    turns = FaultyTurns(await Kept().client())
    session = SessionJournal(watched(turns, mode="off").recorder, session_id="s")
    await session.open()
    await session.retry()
    assert await session.session_started() is None
    assert (session.snapshot().context_id, session.snapshot().head_turn_id, turns.calls) == (None, NO_TURN, [])
