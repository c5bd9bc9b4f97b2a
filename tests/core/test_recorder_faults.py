"""Whatever goes wrong with the store, a run that is recorded as best it can goes on, and what is missing is known."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from perdure.core.recorder import Recorder
from perdure.core.recorder_health import RESUMED, SUSPENDED, RecorderWarning
from perdure.core.recorder_limits import TRIAL_BUDGET_S, RecorderLimits, RecorderMode, RecorderTurns
from perdure.core.session_journal import SessionJournal
from perdure.core.turns import Turns
from perdure.domain.turn_records.bundle import bundle
from perdure.domain.turn_records.catalog import BUNDLE_ID, RECORD_TYPES
from perdure.errors import Invalid
from perdure.testing.environment import FakeClock, fake_environment
from tests.support.recorded_turns import (
    Deadlines,
    FaultKind,
    FaultyTurns,
    Kept,
    Record,
    Untouchable,
    every_context,
    everything,
    records_of,
    watched,
)
from tests.support.scripted_session import Script

OPERATIONS = 71  # that the whole script takes; the tests below fail each of them
SUBAGENT_FORK = 22  # which of them makes the subagent's context
LIMITS = RecorderLimits(failures_max=3, retry_after_s=5, retry_after_s_max=20)


async def one_fault(number: int, fault: FaultKind) -> tuple[Any, FaultyTurns]:
    deadlines = Deadlines()
    turns = FaultyTurns(await Kept().client(), faults={number: fault}, deadlines=deadlines)
    told = watched(turns, mode="best_effort", deadlines=deadlines)
    story = await Script(told.recorder).tell()
    assert story.outcome == "success"
    return told, turns


async def gaps(turns: FaultyTurns) -> list[Record]:
    found = [await records_of(turns.target, context.context_id) for context in await every_context(turns.target)]
    return [record for records in found for record in records if "gap" in record.values]


async def keys_of(turns: FaultyTurns) -> list[str | None]:
    return [turn.idempotency_key for own in (await everything(turns.target)).values() for turn in own]


async def test_f1_off_touches_nothing_and_checks_nothing() -> None:
    nothing: Any = Untouchable()
    recorder = Recorder(nothing, mode="off", environment=fake_environment(), deadline=nothing)
    story = await Script(recorder).tell()
    await recorder.open()
    await recorder.drain()
    assert (story.outcome, story.checkpoint, story.run.context_id) == ("success", None, None)
    assert (recorder.status.attempted, recorder.status.is_degraded) == (0, False)
    wrong = SessionJournal(recorder, session_id="")
    await wrong.resume()
    assert await wrong.user_turn_appended(content=object()) is None  # type: ignore[arg-type]  # on purpose


async def test_the_script_takes_as_many_operations_as_the_tests_fail() -> None:
    turns = FaultyTurns(await Kept().client())
    await Script(watched(turns, mode="best_effort").recorder).tell()
    assert len(turns.calls) == OPERATIONS


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        *((number, "down") for number in range(1, OPERATIONS + 1)),
        *((number, "hang") for number in range(1, OPERATIONS + 1, 3)),
        *((number, "strange") for number in range(2, OPERATIONS + 1, 10)),
    ],
)
async def test_f2_one_operation_that_is_not_done_is_one_warning_and_at_most_one_record(
    number: int, fault: FaultKind
) -> None:
    told, turns = await one_fault(number, fault)
    status = told.recorder.status
    codes = {"down": "backend_down", "strange": "persistence_error", "hang": "timed_out"}
    # The record that names a subagent's context cannot be written without one, and says so.
    spawns = number == SUBAGENT_FORK
    assert [warning.code for warning in told.warnings] == [codes[fault], *(["invalid"] if spawns else [])]
    assert (status.attempted, status.written + status.failed, status.suspended) == (61, 61, 0)
    # Where opening failed, the first record opens.
    assert status.failed == (spawns or turns.calls[number - 1] == "append")
    assert status.last_error == told.warnings[-1].code
    lost = told.warnings[-1]
    if status.failed and lost.event_kind not in {"run_finalized", "session_end"}:
        (marked,) = await gaps(turns)
        assert marked.values["gap"] == {
            "lost": 1,
            "first_lost_sequence_no": lost.sequence_no,
            "last_lost_sequence_no": lost.sequence_no,
        }
    else:
        assert not await gaps(turns)


@pytest.mark.parametrize("number", range(1, OPERATIONS + 1))
async def test_f7_a_lost_acknowledgement_leaves_one_copy_and_no_warning(number: int) -> None:
    told, turns = await one_fault(number, "lost")
    reads = {"find_bundle", "contexts"}
    lost = turns.calls[number - 1]
    assert [warning.code for warning in told.warnings] == (["backend_down"] if lost in reads else [])
    assert (told.recorder.status.written, told.recorder.status.failed) == (61, 0)
    keys = await keys_of(turns)
    assert len(keys) == len(set(keys)) == 61
    assert len(await every_context(turns.target)) == 6
    assert not await gaps(turns)


async def test_f7_an_answer_that_is_always_lost_is_asked_for_three_times() -> None:
    turns = FaultyTurns(await Kept().client(), faults=lambda _, name: "lost" if name == "append" else None)
    told = watched(turns, mode="best_effort", limits=LIMITS)
    session = SessionJournal(told.recorder, session_id="s")
    assert await session.user_turn_appended(content="Hello.") is None
    assert turns.calls.count("append") == 3
    assert [warning.code for warning in told.warnings] == ["outcome_unknown"]
    assert len(await keys_of(turns)) == 1


async def test_f3_after_an_outage_the_next_record_tells_which_ones_are_missing() -> None:
    down: list[FaultKind | None] = [None]
    turns = FaultyTurns(await Kept().client(), faults=lambda _number, _name: down[0])
    told = watched(turns, mode="best_effort", limits=LIMITS)
    session = SessionJournal(told.recorder, session_id="s")
    await session.open()
    await session.session_started()
    down[0] = "down"
    for number in range(7):
        await session.user_turn_appended(content=f"lost {number}")
    calls = len(turns.calls)
    assert [warning.code for warning in told.warnings] == ["backend_down"] * 3 + [SUSPENDED]
    assert (told.recorder.status.failed, told.recorder.status.suspended) == (7, 4)
    down[0] = None
    await session.user_turn_appended(content="lost too: it is not time yet")
    assert len(turns.calls) == calls
    told.clock.advance(5)
    ref = await session.user_turn_appended(content="kept")
    assert ref is not None
    assert [warning.code for warning in told.warnings[4:]] == [RESUMED]
    (marked,) = await gaps(turns)
    assert (marked.turn.turn_id, marked.values["sequence_no"]) == (ref.turn_id, 9)
    assert marked.values["gap"] == {"lost": 8, "first_lost_sequence_no": 1, "last_lost_sequence_no": 8}
    await session.session_ended(final_state="completed")
    assert [record.turn.turn_id for record in await gaps(turns)] == [ref.turn_id]
    status = told.recorder.status
    assert (status.attempted, status.written, status.failed, status.suspended) == (11, 3, 8, 5)
    assert (status.is_suspended, status.is_degraded) == (False, True)


async def test_f3_the_gap_of_a_record_that_is_lost_is_told_by_the_next_one() -> None:
    turns = FaultyTurns(await Kept().client(), faults={5: "down", 6: "hang_after"})
    told = watched(turns, mode="best_effort", deadlines=turns._deadlines)
    session = SessionJournal(told.recorder, session_id="s")
    for number in range(4):
        await session.user_turn_appended(content=f"{number}")
    # The third was done, and nobody heard of it: it has a gap of its own, and is in that of the fourth.
    found = [record.values.get("gap") for record in await gaps(turns)]
    assert found == [
        {"lost": 1, "first_lost_sequence_no": 0, "last_lost_sequence_no": 0},
        {"lost": 2, "first_lost_sequence_no": 0, "last_lost_sequence_no": 1},
    ]


async def test_f3_what_is_kept_of_a_run_with_gaps_leads_from_the_run_to_its_agents() -> None:
    turns = FaultyTurns(await Kept().client(), faults=lambda number, _: "down" if number % 5 == 0 else None)
    told = watched(turns, mode="best_effort")
    await Script(told.recorder).tell()
    status = told.recorder.status
    assert (status.written + status.failed, len(told.warnings)) == (61, len(turns.calls) // 5)
    keys = await keys_of(turns)
    assert len(keys) == len(set(keys)) == status.written


async def test_f4_a_store_that_is_dead_from_the_start_costs_a_bounded_wait() -> None:
    clock = FakeClock()
    deadlines = Deadlines()

    class Slow(Deadlines):
        async def hang(self) -> None:
            clock.advance(self.budgets_s[-1])
            await super().hang()

    deadlines = Slow()
    turns = FaultyTurns(await Kept().client(), faults=lambda _number, _name: "hang", deadlines=deadlines)
    environment = fake_environment()
    object.__setattr__(environment, "clock", clock)
    limits = RecorderLimits(record_budget_s=2, outage_budget_s=5, failures_max=100, retry_after_s=5)
    told = watched(turns, mode="best_effort", limits=limits, environment=environment, deadlines=deadlines)
    story = await Script(told.recorder).tell()
    assert story.outcome == "success"
    assert clock.monotonic() == 5
    assert deadlines.budgets_s == [2, 2, 1]
    assert told.warnings[-1].code == SUSPENDED
    assert (told.recorder.status.written, told.recorder.status.failed) == (0, 61)
    # Later trials cost next to nothing, and come less and less often.
    session = SessionJournal(told.recorder, session_id="s")
    for pause_s in (5, 10, 20):
        clock.advance(pause_s)
        calls = len(turns.calls)
        for _ in range(3):
            await session.user_turn_appended(content="Hello.")
        assert (len(turns.calls), deadlines.budgets_s[-1]) == (calls + 1, TRIAL_BUDGET_S)


async def test_trials_come_less_and_less_often_up_to_a_longest_pause() -> None:
    turns = FaultyTurns(await Kept().client(), faults=lambda _number, _name: "down")
    told = watched(turns, mode="best_effort", limits=LIMITS)
    for _ in range(LIMITS.failures_max):
        await told.recorder.open()
    for pause_s in (5, 10, 20, 20, 20):
        calls = len(turns.calls)
        told.clock.advance(pause_s - 0.001)
        await told.recorder.open()
        assert len(turns.calls) == calls
        told.clock.advance(0.001)
        await told.recorder.open()
        assert len(turns.calls) == calls + 1
    assert [warning.code for warning in told.warnings].count(SUSPENDED) == 1


async def test_one_record_is_tried_while_the_others_are_not() -> None:
    fault: list[FaultKind | None] = ["down"]
    deadlines = Deadlines()
    turns = FaultyTurns(await Kept().client(), faults=lambda _number, _name: fault[0], deadlines=deadlines)
    told = watched(turns, mode="best_effort", limits=LIMITS, deadlines=deadlines)
    for _ in range(3):
        await told.recorder.open()
    told.clock.advance(5)
    fault[0] = "hang"
    session = SessionJournal(told.recorder, session_id="s")
    await asyncio.gather(*(session.user_turn_appended(content=f"{number}") for number in range(5)))
    assert (len(turns.calls), told.recorder.status.suspended) == (4, 4)


async def test_f11_another_bundle_under_the_id_is_told_and_nothing_is_written_without_ours() -> None:
    turns = FaultyTurns(await Kept().client())
    await turns.target.publish_bundle(BUNDLE_ID, bundle(RECORD_TYPES[:3], bundle_id=BUNDLE_ID, version=7))
    told = watched(turns, mode="best_effort")
    assert (await Script(told.recorder).tell()).outcome == "success"
    assert told.warnings[0].code == "key_reused"
    assert set(turns.calls) == {"find_bundle"}


def turns_of_a_scope_can_be_recorded_to(turns: Turns) -> RecorderTurns:
    """Checked by mypy: what a scope offers is what a recorder needs."""
    return turns


async def test_a_record_that_cannot_be_written_says_nothing_about_the_store() -> None:
    turns = FaultyTurns(await Kept().client())
    told = watched(turns, mode="best_effort", limits=LIMITS)
    session = SessionJournal(told.recorder, session_id="s")
    for _ in range(5):
        await session.user_turn_appended(content=object())  # type: ignore[arg-type]  # on purpose
    assert [(warning.step, warning.code) for warning in told.warnings] == [("encode", "invalid")] * 5
    ref = await session.user_turn_appended(content="Hello.")
    assert ref is not None
    (marked,) = await gaps(turns)
    assert marked.values["gap"]["lost"] == 5


@pytest.mark.parametrize("mode", ["required", "best_effort"])
async def test_f8_a_client_that_is_replaced_in_the_middle_goes_on_without_duplicates(mode: RecorderMode) -> None:
    kept = Kept()
    turns = FaultyTurns(await kept.client())
    told = watched(turns, mode=mode)
    story = await Script(told.recorder).tell(stops_at_checkpoint=True)
    turns.target = await kept.client()
    await story.run.run_finalized(status="success")
    await story.session.user_turn_appended(content="One more.")
    keys = await keys_of(turns)
    assert len(keys) == len(set(keys)) == told.recorder.status.written
    assert told.recorder.status.replayed == 0


async def test_f9_whoever_is_cancelled_leaves_at_once_and_the_record_is_written() -> None:
    reached, gate = asyncio.Event(), asyncio.Event()
    turns = await Kept().client()

    class Held(FaultyTurns):
        async def append(self, context_id: str, payload: bytes, **rest: Any) -> Any:
            reached.set()
            await gate.wait()
            return await super().append(context_id, payload, **rest)

    told = watched(Held(turns), mode="best_effort")
    session = SessionJournal(told.recorder, session_id="s")
    writing = asyncio.create_task(session.user_turn_appended(content="first"))
    await reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    following = asyncio.create_task(session.user_turn_appended(content="second"))
    gate.set()
    await told.recorder.drain()
    await following
    (context,) = await every_context(turns)
    found = await records_of(turns, context.context_id)
    assert [(record.values["sequence_no"], record.values["content"]) for record in found] == [
        (0, "first"),
        (1, "second"),
    ]


async def test_f9_without_a_deadline_of_ones_own_time_itself_ends_a_call_that_hangs() -> None:
    class Hanging(FaultyTurns):
        async def find_bundle(self, *_: Any, **_rest: Any) -> bytes | None:
            await asyncio.Event().wait()
            return None

    warnings: list[RecorderWarning] = []
    recorder = Recorder(
        Hanging(await Kept().client()),
        mode="best_effort",
        environment=fake_environment(),
        limits=RecorderLimits(record_budget_s=0.001),
        on_warning=warnings.append,
    )
    await recorder.open()
    assert [(warning.step, warning.code) for warning in warnings] == [("publish_bundle", "timed_out")]


async def test_records_told_at_the_same_time_are_kept_in_the_order_of_their_numbers() -> None:
    turns = await Kept().client()
    told = watched(turns, mode="required")
    session = SessionJournal(told.recorder, session_id="s")
    await asyncio.gather(*(session.user_turn_appended(content=f"{number}") for number in range(20)))
    (context,) = await every_context(turns)
    assert [record.values["content"] for record in await records_of(turns, context.context_id)] == [
        f"{number}" for number in range(20)
    ]


async def test_a_callback_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail(warning: RecorderWarning) -> None:
        raise ZeroDivisionError(warning.code)

    turns = FaultyTurns(await Kept().client(), faults={1: "down"})
    recorder = Recorder(turns, mode="best_effort", environment=fake_environment(), on_warning=fail)
    with caplog.at_level(logging.WARNING, logger="perdure.recorder"):
        await SessionJournal(recorder, session_id="s").open()
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "sometimes"},
        {"mode": "required", "source_hashes": "some"},
        {"mode": "required", "redact": "twice"},
    ],
)
async def test_a_recorder_refuses_settings_that_mean_nothing(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="expected"):
        Recorder(Untouchable(), environment=fake_environment(), **wrong)


@pytest.mark.parametrize("name", ["record_budget_s", "outage_budget_s", "failures_max", "text_bytes_max"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_are_finite_and_above_nothing(name: str, value: float) -> None:
    with pytest.raises(Invalid, match=name):
        RecorderLimits(**{name: value})  # type: ignore[arg-type]  # the name varies
