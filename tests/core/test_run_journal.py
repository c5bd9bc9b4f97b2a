"""A run's journal goes on where what is kept ends, and leads from the run to everything that belongs to it."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from perdure.core.journal_labels import branches_label, fork_label, run_label, session_label, sessions_label
from perdure.core.journal_links import Stage
from perdure.core.journal_resuming import ResumePoint
from perdure.core.recorder_limits import RecorderLimits
from perdure.core.run_journal import RunJournal, SavedCheckpoint
from perdure.core.session_journal import SessionJournal
from perdure.domain.turn import LABEL_CHARS_MAX, NO_TURN
from perdure.errors import Invalid, PersistenceError, Unsupported
from tests.support.recorded_turns import (
    FaultKind,
    FaultyTurns,
    Kept,
    TurnsOver,
    every_context,
    kinds,
    records_of,
    turns_of,
    watched,
)
from tests.support.scripted_session import Script

STAGE = Stage(node_id="plan")


async def stopped(kept: Kept) -> ResumePoint:
    """A run that stopped at its checkpoint."""
    story = await Script(watched(await kept.client(), mode="required").recorder).tell(stops_at_checkpoint=True)
    return point_of(story.checkpoint)


def point_of(checkpoint: SavedCheckpoint | None, *, turn_id: str | None = None) -> ResumePoint:
    assert checkpoint is not None
    return ResumePoint(
        node_id="fan",
        checkpoint_id=checkpoint.checkpoint_id,
        sequence_no=checkpoint.sequence_no,
        checkpoint_hash="c1",
        turn_id=turn_id,
    )


def run_on(turns: TurnsOver | FaultyTurns, **rest: object) -> RunJournal:
    rest.setdefault("mode", "required")
    return RunJournal(watched(turns, **rest).recorder, run_id="run-1", graph_id="g")  # type: ignore[arg-type]  # passed on


async def test_a_run_is_resumed_in_its_context_if_its_checkpoint_is_the_last_record() -> None:
    kept = Kept()
    point = await stopped(kept)
    turns = await kept.client()
    run = run_on(turns)
    await run.resume(point=point)
    assert run.next_sequence_no == point.sequence_no + 1 == 10
    await run.run_resumed()
    (context,) = await turns.contexts(label=run_label("run-1"))
    *_, checkpoint, resumed = await records_of(turns, context.context_id)
    assert resumed.values["sequence_no"] == 10
    assert {
        "resume_node_id": "fan",
        "resume_sequence_no": 9,
        "checkpoint_id": "cp-9",
        "checkpoint_hash": "c1",
        "resumed_from_context_id": context.context_id,
    }.items() <= resumed.values.items()
    assert "context_metadata" not in resumed.values
    assert checkpoint.values["checkpoint_id"] == "cp-9"


@pytest.mark.parametrize("knows_turn", [True, False])
async def test_a_run_that_went_beyond_its_checkpoint_is_resumed_in_a_fork_and_its_tail_stays(
    *, knows_turn: bool
) -> None:
    kept = Kept()
    story = await Script(watched(await kept.client(), mode="required").recorder).tell(stops_at_checkpoint=True)
    assert story.checkpoint is not None
    fan = Stage(node_id="fan")
    await story.run.stage_started(stage=fan)
    await story.run.parallel_started(stage=fan, branch_count=1)
    branch = await story.run.branch_started(stage=fan, branch_id="a", branch_index=0, target_node_id="x")
    await branch.stage_started(stage=Stage(node_id="x"))
    turns = await kept.client()
    run = run_on(turns)
    await run.resume(point=point_of(story.checkpoint, turn_id=story.checkpoint.turn_id if knows_turn else None))
    # Numbers go on after those of the branch, which were the highest.
    assert run.next_sequence_no == 14
    ref = await run.run_resumed()
    assert ref is not None
    first, second = await turns.contexts(label=run_label("run-1"))
    assert (second.base_turn_id, second.context_id) == (story.checkpoint.turn_id, run.context_id)
    (resumed,) = await records_of(turns, second.context_id)
    assert (resumed.values["resumed_from_turn_id"], resumed.values["resumed_from_context_id"]) == (
        story.checkpoint.turn_id,
        first.context_id,
    )
    assert kinds(await records_of(turns, first.context_id))["parallel_started"] == 1
    chain = await turns_of(turns, second.context_id, own=False)
    assert len(chain) == 10


async def test_a_run_is_resumed_again_in_its_newest_context() -> None:
    kept = Kept()
    story = await Script(watched(await kept.client(), mode="required").recorder).tell(stops_at_checkpoint=True)
    await story.run.stage_started(stage=STAGE)
    turns = await kept.client()
    for _ in range(2):
        run = run_on(turns)
        await run.resume(point=point_of(story.checkpoint))
        await run.run_resumed()
    contexts = await turns.contexts(label=run_label("run-1"))
    assert len(contexts) == 3
    numbers = [(await records_of(turns, context.context_id))[-1].values["sequence_no"] for context in contexts]
    assert numbers == [10, 11, 12]


async def test_a_run_of_which_nothing_is_kept_begins_a_context_when_it_is_resumed() -> None:
    turns = await Kept().client()
    run = run_on(turns)
    await run.resume(point=ResumePoint(node_id="fan", checkpoint_id="cp-9", sequence_no=9))
    await run.run_resumed()
    (context,) = await every_context(turns)
    (resumed,) = await records_of(turns, context.context_id)
    assert (resumed.values["sequence_no"], context.base_turn_id) == (1, NO_TURN)
    assert resumed.values["context_metadata"]["labels"] == ["run:run-1"]


async def test_an_outage_while_resuming_loses_records_and_no_number_is_used_twice() -> None:
    kept = Kept()
    point = await stopped(kept)
    fault: list[FaultKind | None] = ["down"]
    turns = FaultyTurns(await kept.client(), faults=lambda _number, _name: fault[0])
    told = watched(turns, mode="best_effort")
    run = RunJournal(told.recorder, run_id="run-1", graph_id="g")
    await run.resume(point=point)
    assert await run.run_resumed() is None
    fault[0] = None
    assert await run.stage_started(stage=STAGE) is not None
    (context,) = await turns.target.contexts(label=run_label("run-1"))
    last = (await records_of(turns.target, context.context_id))[-1]
    assert last.values["sequence_no"] == 11
    assert last.values["gap"] == {"lost": 1, "first_lost_sequence_no": 10, "last_lost_sequence_no": 10}


async def test_branches_that_begin_in_an_outage_while_resuming_are_forked_and_numbered_when_it_is_over() -> None:
    kept = Kept()
    point = await stopped(kept)
    fault: list[FaultKind | None] = ["down"]
    turns = FaultyTurns(await kept.client(), faults=lambda _number, _name: fault[0])
    told = watched(turns, mode="best_effort", limits=RecorderLimits(failures_max=100))
    run = RunJournal(told.recorder, run_id="run-1", graph_id="g")
    await run.resume(point=point)
    fan = Stage(node_id="fan")
    await run.parallel_started(stage=fan, branch_count=1)
    branch = await run.branch_started(stage=fan, branch_id="a", branch_index=0, target_node_id="x")
    fault[0] = None
    await branch.stage_started(stage=Stage(node_id="x"))
    await run.branch_completed(stage=fan, branch=branch, status="success")
    (context,) = await turns.target.contexts(label=branches_label("run-1"))
    (root,) = await turns.target.contexts(label=run_label("run-1"))
    *_, checkpoint, completed = await records_of(turns.target, root.context_id)
    assert context.base_turn_id == checkpoint.turn.turn_id
    (started,) = await records_of(turns.target, context.context_id)
    assert (started.values["sequence_no"], started.values["gap"]["lost"]) == (12, 2)
    assert (completed.values["sequence_no"], completed.values["branch_context_id"]) == (13, context.context_id)


async def test_what_another_program_appended_does_not_hide_the_last_record() -> None:
    kept = Kept()
    point = await stopped(kept)
    turns = await kept.client()
    (context,) = await turns.contexts(label=run_label("run-1"))
    for number in range(40):
        await turns.append(context.context_id, b"\xff", type_id="someone.else", idempotency_key=f"{number}")
    await turns.append(context.context_id, b"no record", type_id="forge.agent.event", idempotency_key="x")
    run = run_on(turns)
    await run.resume(point=point)
    assert (run.next_sequence_no, run.context_id) == (10, context.context_id)


async def test_a_run_that_was_not_resumed_does_not_say_so() -> None:
    run = run_on(await Kept().client())
    with pytest.raises(Invalid, match="call resume first"):
        await run.run_resumed()
    await run.run_initialized()
    with pytest.raises(Invalid, match="open already"):
        await run.resume(point=ResumePoint(node_id="n", checkpoint_id="c", sequence_no=1))


async def test_a_required_run_is_not_resumed_where_nothing_answers() -> None:
    turns = FaultyTurns(await Kept().client(), faults=lambda _, name: "down" if name == "contexts" else None)
    with pytest.raises(PersistenceError) as failed:
        await run_on(turns).resume(point=ResumePoint(node_id="n", checkpoint_id="c", sequence_no=1))
    assert failed.value.detail["step"] == "read"


async def test_a_link_is_there_before_the_agent_says_anything_and_again_when_it_is_done() -> None:
    turns = await Kept().client()
    recorder = watched(turns, mode="required").recorder
    run = RunJournal(recorder, run_id="run-1", graph_id="g", lineage_root_run_id="run-0", lineage_attempt=2)
    session = SessionJournal(recorder, session_id="s", correlation=run.correlation(STAGE))
    await run.agent_attached(stage=STAGE, session=session)
    (link,) = await records_of(turns, run.context_id or "")
    assert (link.values["link_kind"], link.values["agent_context_id"]) == ("attached", session.context_id)
    assert (link.values["lineage_root_run_id"], link.values["lineage_attempt"]) == ("run-0", 2)
    assert await turns_of(turns, session.context_id or "") == []


async def test_one_session_that_serves_two_stages_gives_each_its_own_range() -> None:
    turns = await Kept().client()
    recorder = watched(turns, mode="required").recorder
    run = RunJournal(recorder, run_id="run-1", graph_id="g")
    session = SessionJournal(recorder, session_id="s")
    heads = []
    for name in ("a", "b"):
        stage = Stage(node_id=name)
        session.work_for(run.correlation(stage))
        attached = await run.agent_attached(stage=stage, session=session)
        await session.user_turn_appended(content=name)
        await session.tool_call_ended(call_id=name, tool_name="t", output="", is_error=True, duration_ms=0)
        await run.agent_completed(stage=stage, session=session, attached=attached)
        heads.append(session.head_turn_id)
    links = await records_of(turns, run.context_id or "")
    assert [
        (
            record.values["node_id"],
            record.values["link_kind"],
            record.values["agent_base_turn_id"],
            record.values.get("agent_head_turn_id"),
            record.values.get("tool_error_count"),
        )
        for record in links
    ] == [
        ("a", "attached", NO_TURN, NO_TURN, None),
        ("a", "completed", NO_TURN, heads[0], 1),
        ("b", "attached", heads[0], heads[0], None),
        ("b", "completed", heads[0], heads[1], 1),
    ]
    said = await records_of(turns, session.context_id or "")
    assert [record.values["node_id"] for record in said] == ["a", "a", "b", "b"]


async def test_branches_at_the_same_time_share_the_numbers_of_the_run() -> None:
    turns = await Kept().client()
    run = run_on(turns)
    fan = Stage(node_id="fan", visit=2)
    await run.parallel_started(stage=fan, branch_count=3)

    async def go(name: str, index: int) -> None:
        branch = await run.branch_started(stage=fan, branch_id=name, branch_index=index, target_node_id=name)
        for _ in range(5):
            await branch.stage_started(stage=Stage(node_id=name))
        await run.branch_completed(stage=fan, branch=branch, status="success")

    await asyncio.gather(*(go(name, index) for index, name in enumerate("abc")))
    contexts = await turns.contexts(label=branches_label("run-1"))
    assert len(contexts) == 3
    numbers: list[int] = []
    for context in [*contexts, *await turns.contexts(label=run_label("run-1"))]:
        own = [record.values["sequence_no"] for record in await records_of(turns, context.context_id)]
        assert own == sorted(own)
        numbers += own
    assert sorted(numbers) == list(range(1, 23))


async def test_a_branch_within_a_branch_is_forked_from_it() -> None:
    turns = await Kept().client()
    run = run_on(turns)
    fan, inner = Stage(node_id="fan"), Stage(node_id="inner")
    await run.parallel_started(stage=fan, branch_count=1)
    outer = await run.branch_started(stage=fan, branch_id="a", branch_index=0, target_node_id="inner")
    started = await outer.parallel_started(stage=inner, branch_count=1)
    nested = await outer.branch_started(stage=inner, branch_id="a.1", branch_index=0, target_node_id="x")
    await nested.stage_started(stage=Stage(node_id="x"))
    assert started is not None
    context = next(one for one in await every_context(turns) if one.context_id == nested.context_id)
    assert context.base_turn_id == started.turn_id
    (record,) = await records_of(turns, context.context_id)
    provenance = record.values["context_metadata"]["provenance"]
    assert (provenance["parent_context_id"], provenance["root_context_id"]) == (
        int(outer.context_id or 0),
        int(run.context_id or 0),
    )


async def test_where_nothing_can_be_found_by_a_label_a_run_makes_its_context() -> None:
    class Unlabelled(FaultyTurns):
        async def contexts(self, **_: object) -> object:  # type: ignore[override]  # it never answers
            raise Unsupported("this backend finds nothing by a label")

    turns = Unlabelled(await Kept().client())
    assert await run_on(turns).run_initialized() is not None


async def test_a_time_without_a_zone_is_refused() -> None:
    run = run_on(await Kept().client())
    with pytest.raises(PersistenceError, match="no zone"):
        await run.run_initialized(at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


@pytest.mark.parametrize("make", [run_label, branches_label, session_label, sessions_label])
def test_any_id_makes_a_label(make: object) -> None:
    assert callable(make)
    ids = ["a", "a" * 200, "b" * 200, "two\nlines", "é🚀", "", "\ud800"]
    labels = [make(value) for value in ids]
    assert len(set(labels)) == len(ids)
    assert all(len(label) <= LABEL_CHARS_MAX for label in labels)
    assert labels[0].endswith(":a")


def test_labels_of_forks_tell_their_parts_apart() -> None:
    assert fork_label("branch", "a", "bc") != fork_label("branch", "ab", "c")
    assert len(fork_label("branch", "x" * 1_000)) <= LABEL_CHARS_MAX
