"""A run that has to be recorded ends where it cannot be: at once, with the reason, and so that it can go on later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.core.journal_links import Stage
from perdure.core.recorder_limits import RecorderLimits
from perdure.core.run_journal import RunJournal
from perdure.core.session_journal import SessionJournal
from perdure.domain.turn_records.bundle import bundle
from perdure.domain.turn_records.catalog import BUNDLE_ID, BUNDLE_VERSION, RECORD_TYPES
from perdure.errors import PersistenceError
from tests.support.recorded_turns import (
    Deadlines,
    FaultKind,
    FaultyTurns,
    Kept,
    every_context,
    everything,
    records_of,
    watched,
)
from tests.support.scripted_session import Script, Words

OPERATIONS = 71


@pytest.mark.parametrize("number", range(1, OPERATIONS + 1))
async def test_f5_each_operation_that_fails_ends_the_run_at_once_and_telling_it_again_completes_it(number: int) -> None:
    kept = Kept()
    turns = FaultyTurns(await kept.client(), faults={number: "down"})
    told = watched(turns, mode="required")
    with pytest.raises(PersistenceError) as ended:
        await Script(told.recorder).tell()
    assert len(turns.calls) == number
    assert ended.value.code == "recording_failed"
    assert ended.value.detail["cause"] == "backend_down"
    assert ended.value.detail["retryable"] is False
    assert not told.warnings
    await Script(watched(await kept.client(), mode="required").recorder).tell()
    keys = [turn.idempotency_key for own in (await everything(turns.target)).values() for turn in own]
    assert len(keys) == len(set(keys)) == 61


async def test_an_error_names_the_mode_the_record_its_key_the_step_and_the_cause() -> None:
    turns = FaultyTurns(await Kept().client(), faults=lambda _, name: "down" if name == "append" else None)
    session = SessionJournal(watched(turns, mode="required").recorder, session_id="session-1")
    with pytest.raises(PersistenceError, match=r"append_turn failed for forge\.agent\.user_turn") as failed:
        await session.user_turn_appended(content="Hello.")
    assert failed.value.detail == {
        "mode": "required",
        "record_type": "forge.agent.user_turn",
        "idempotency_key": "forge-agent:v1|9:session-1|0|13:turn_appended",
        "step": "append_turn",
        "cause": "backend_down",
        "retryable": False,
    }
    assert "down on purpose" in failed.value.message
    assert type(failed.value.__cause__).__name__ == "BackendDown"


async def test_nothing_is_written_after_a_record_that_failed_until_it_is_written_as_it_was() -> None:
    fault: list[FaultKind | None] = [None]
    turns = FaultyTurns(await Kept().client(), faults=lambda _number, _name: fault[0])
    told = watched(turns, mode="required")
    session = SessionJournal(told.recorder, session_id="s")
    await session.user_turn_appended(content="zero")
    fault[0] = "down"
    with pytest.raises(PersistenceError):
        await session.user_turn_appended(content="one")
    calls = len(turns.calls)
    told.clock.advance(100)
    for _ in range(2):
        with pytest.raises(PersistenceError, match=r"nothing more is recorded before .*\|1\|13:turn_appended"):
            await session.user_turn_appended(content="two")
    assert len(turns.calls) == calls
    with pytest.raises(PersistenceError):
        await session.retry()
    fault[0] = None
    await session.retry()
    await session.user_turn_appended(content="two")
    (context,) = await every_context(turns.target)
    found = await records_of(turns.target, context.context_id)
    assert [(record.values["sequence_no"], record.values["content"]) for record in found] == [
        (0, "zero"),
        (1, "one"),
        (2, "two"),
    ]
    # The second one has the time at which it happened, not that of the attempt which succeeded.
    times = [record.values["timestamp"] for record in found]
    assert (times[1] - times[0], times[2] - times[0]) == (0, 100_000)


async def test_records_under_way_behind_one_that_fails_wait_for_it_in_their_order() -> None:
    turns = FaultyTurns(await Kept().client(), faults={5: "down"})
    told = watched(turns, mode="required")
    session = SessionJournal(told.recorder, session_id="s")
    outcomes = await asyncio.gather(
        *(session.user_turn_appended(content=f"{number}") for number in range(4)), return_exceptions=True
    )
    assert [isinstance(outcome, PersistenceError) for outcome in outcomes] == [True] * 4
    await session.retry()
    (context,) = await every_context(turns.target)
    found = await records_of(turns.target, context.context_id)
    assert [record.values["content"] for record in found] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("fault", ["hang", "hang_after"])
async def test_f9_a_call_that_hangs_ends_with_its_time(fault: FaultKind) -> None:
    deadlines = Deadlines()
    turns = FaultyTurns(await Kept().client(), faults={5: fault}, deadlines=deadlines)
    limits = RecorderLimits(required_timeout_s=7)
    session = SessionJournal(
        watched(turns, mode="required", deadlines=deadlines, limits=limits).recorder, session_id="s"
    )
    with pytest.raises(PersistenceError, match="the time for it was up") as failed:
        await session.user_turn_appended(content="Hello.")
    assert (failed.value.detail["cause"], deadlines.budgets_s) == ("timed_out", [7])
    await session.retry()
    (context,) = await every_context(turns.target)
    assert len(await records_of(turns.target, context.context_id)) == 1


async def test_f7_a_lost_acknowledgement_is_no_failure() -> None:
    turns = FaultyTurns(await Kept().client(), faults=lambda number, _: "lost" if number in {2, 5, 9} else None)
    told = watched(turns, mode="required")
    await Script(told.recorder).tell()
    keys = [turn.idempotency_key for own in (await everything(turns.target)).values() for turn in own]
    assert len(keys) == len(set(keys)) == told.recorder.status.written == 61


async def test_f10_a_graph_that_cannot_be_kept_ends_the_run_before_its_first_stage() -> None:
    turns = FaultyTurns(await Kept().client(), faults=lambda _, name: "down" if name == "put_blob" else None)
    told = watched(turns, mode="required", limits=RecorderLimits(inline_text_bytes_max=50))
    with pytest.raises(PersistenceError) as ended:
        await Script(told.recorder).tell()
    assert (ended.value.detail["step"], ended.value.detail["record_type"]) == ("put_blob", "forge.attractor.dot_source")
    assert "append" not in turns.calls


async def test_f11_another_bundle_under_the_id_ends_the_run_when_it_opens() -> None:
    turns = await Kept().client()
    other = bundle(RECORD_TYPES[:3], bundle_id=BUNDLE_ID, version=BUNDLE_VERSION + 6)
    await turns.publish_bundle(BUNDLE_ID, other)
    told = watched(turns, mode="required")
    run = RunJournal(told.recorder, run_id="run-1", graph_id="g")
    for opening in (told.recorder.open, run.open):
        with pytest.raises(PersistenceError) as refused:
            await opening()
        assert f"registry_version {BUNDLE_VERSION + 6} " in refused.value.message
        assert f"registry_version {BUNDLE_VERSION} " in refused.value.message
        assert (refused.value.detail["step"], refused.value.detail["cause"]) == ("publish_bundle", "key_reused")
    assert not await every_context(turns)


async def test_f11_what_is_no_bundle_at_all_is_told_too() -> None:
    turns = await Kept().client()
    await turns.publish_bundle(BUNDLE_ID, b'["nonsense"]')
    with pytest.raises(PersistenceError, match=r"registry_version None .*it is no bundle"):
        await watched(turns, mode="required").recorder.open()


async def test_a_bundle_that_another_process_publishes_in_the_same_moment_is_fine() -> None:
    kept = Kept()
    rival = watched(await kept.client(), mode="required")

    class Late(FaultyTurns):
        async def publish_bundle(self, bundle_id: str, bundle: bytes, **rest: Any) -> bool:
            await rival.recorder.open()
            return await super().publish_bundle(bundle_id, bundle, **rest)

    told = watched(Late(await kept.client()), mode="required")
    await Script(told.recorder, Words()).tell()
    assert told.recorder.status.written == 61


async def test_a_branch_that_cannot_be_recorded_stops_the_others_too() -> None:
    fault: list[FaultKind | None] = [None]
    turns = FaultyTurns(await Kept().client(), faults=lambda _number, _name: fault[0])
    told = watched(turns, mode="required")
    run = RunJournal(told.recorder, run_id="run-1", graph_id="g")
    fan = Stage(node_id="fan")
    await run.parallel_started(stage=fan, branch_count=2)
    one = await run.branch_started(stage=fan, branch_id="a", branch_index=0, target_node_id="x")
    two = await run.branch_started(stage=fan, branch_id="b", branch_index=1, target_node_id="y")
    fault[0] = "down"
    with pytest.raises(PersistenceError):
        await one.stage_started(stage=Stage(node_id="x"))
    fault[0] = None
    with pytest.raises(PersistenceError, match="nothing more is recorded"):
        await two.stage_started(stage=Stage(node_id="y"))
    await two.retry()
    await two.stage_started(stage=Stage(node_id="y"))
    assert told.recorder.status.failed == 1


async def test_a_record_that_is_written_meanwhile_does_not_stand_for_the_one_that_failed() -> None:
    gate, reached = asyncio.Event(), asyncio.Event()

    class Held(FaultyTurns):
        async def append(self, context_id: str, payload: bytes, **rest: Any) -> Any:
            if b"stage_completed" in payload:
                reached.set()
                await gate.wait()
            return await super().append(context_id, payload, **rest)

    fault: list[FaultKind | None] = [None]
    turns = Held(await Kept().client(), faults=lambda _number, _name: fault[0])
    run = RunJournal(watched(turns, mode="required").recorder, run_id="run-1", graph_id="g")
    fan = Stage(node_id="fan")
    await run.parallel_started(stage=fan, branch_count=1)
    branch = await run.branch_started(stage=fan, branch_id="a", branch_index=0, target_node_id="x")
    await branch.stage_started(stage=Stage(node_id="x"))
    completing = asyncio.create_task(run.stage_completed(stage=fan))
    await reached.wait()
    fault[0] = "down"
    with pytest.raises(PersistenceError):
        await branch.route_decided(stage=Stage(node_id="x"), target_node_id="y")
    fault[0] = None
    gate.set()
    assert await completing is not None
    with pytest.raises(PersistenceError, match="route_decided"):
        await run.stage_started(stage=Stage(node_id="z"))
    await run.retry()
    assert await run.stage_started(stage=Stage(node_id="z")) is not None
