"""What a flusher promises: order, nothing lost to a store that is away, poison isolated, an end that is counted."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from perdure.core.telemetry_flusher import Stopped
from perdure.core.telemetry_settings import DEAD_LETTER_BYTES_MAX, TelemetrySettings
from perdure.domain.telemetry import LogType, TelemetryRecord
from perdure.errors import BackendDown, Corrupt, Forbidden, Invalid, OutcomeUnknown
from tests.support.telemetry import Sink, Works, details, entry_of

pytestmark = pytest.mark.fast

Judge = Callable[[Sequence[TelemetryRecord]], None]


def failing(times: int, error: Exception) -> Judge:
    left = times

    def judge(records: Sequence[TelemetryRecord]) -> None:
        nonlocal left
        del records
        if left:
            left -= 1
            raise error

    return judge


def sizes_in(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.iterdir()]


def refusing(*poison: str) -> Judge:
    def judge(records: Sequence[TelemetryRecord]) -> None:
        if any(details(record) in poison for record in records):
            raise Corrupt("one of these cannot be kept")

    return judge


async def test_a_batch_is_written_when_it_is_full_and_the_rest_when_it_is_old() -> None:
    works = Works(batch_entries=3)
    works.record(*range(7))
    assert (await works.flusher.once(), works.sink.batches) == (True, [["0", "1", "2"]])
    assert (await works.flusher.once(), await works.flusher.once()) == (False, False)
    assert works.sink.batches == [["0", "1", "2"], ["3", "4", "5"]]
    works.clock.advance(works.flusher.settings.interval_s)
    await works.flusher.once()
    assert works.sink.batches[2:] == [["6"]]
    stats = works.flusher.stats()
    assert (stats.flushed, stats.flushes, stats.latencies.count, stats.last_flush_age_s) == (7, 3, 3, 0.0)


async def test_r76_a_failing_store_loses_nothing_and_the_order_is_kept() -> None:
    works = Works(Sink(failing(3, BackendDown("nothing answers"))), batch_entries=2)
    works.record(*range(3))
    works.record("urgent", log_type=LogType.ERROR)
    for _ in range(3):
        with pytest.raises(BackendDown):
            await works.flusher.flush()
        stats = works.flusher.stats()
        assert (stats.pending, stats.in_flight, stats.flushed, stats.is_balanced) == (4, 0, 0, True)
    assert await works.flusher.flush_all() == 4
    assert works.sink.details == ['"urgent"', "0", "1", "2"]
    assert (works.flusher.stats().failures, works.flusher.stats().retried) == (3, 6)


async def test_r78_a_write_whose_answer_was_lost_leaves_each_entry_once() -> None:
    works = Works()
    write, lost = works.sink.write, [OutcomeUnknown("the line was cut")]

    async def losing(records: Sequence[TelemetryRecord]) -> None:
        await write(records)
        if lost:
            raise lost.pop()

    works.flusher._write = losing
    works.record(*range(3))
    with pytest.raises(OutcomeUnknown):
        await works.flusher.flush()
    assert await works.flusher.flush() == 3
    assert works.sink.details == ["0", "1", "2"]


async def test_after_a_failure_it_waits_twice_as_long_each_time_and_then_tries_one_entry() -> None:
    works = Works(Sink(failing(6, BackendDown("nothing answers"))), batch_entries=2)
    works.record(*range(6))
    pauses: list[float] = []
    for _ in range(6):
        assert await works.flusher.once() is False
        began = works.clock.monotonic()
        while works.flusher._not_before > works.clock.monotonic():
            assert await works.flusher.once() is False
            works.clock.advance(0.01)
        pauses.append(works.clock.monotonic() - began)
    base_s = works.flusher.settings.backoff_base_s
    assert all(base_s * 2**n / 2 <= pause <= base_s * 2**n + 0.02 for n, pause in enumerate(pauses))
    assert (works.flusher.stats().failures, works.flusher.stats().breaker) == (6, "open")
    await works.flusher.once()
    assert (works.sink.batches, works.flusher.stats().breaker) == ([["0"]], "closed")
    await works.flusher.once()
    assert works.sink.batches[1:] == [["1", "2"]]


async def test_r77_a_poison_entry_is_isolated_and_everything_else_is_written(tmp_path: Path) -> None:
    letters = tmp_path / "made" / "dead.jsonl"
    settings = TelemetrySettings(dead_letters=letters)
    works = Works(Sink(refusing("3", "6")), settings=settings)
    works.record(*range(8))
    for _ in range(settings.poison_failures - 1):
        with pytest.raises(Corrupt):
            await works.flusher.flush()
    assert await works.flusher.flush() == 6
    assert works.sink.details == ["0", "1", "2", "4", "5", "7"]
    stats = works.flusher.stats()
    assert (stats.flushed, stats.dead_lettered, stats.pending, stats.is_balanced) == (6, 2, 0, True)
    lines = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [(line["event_details"], line["problem"]) for line in lines] == [(3, "corrupt"), (6, "corrupt")]
    assert stat.S_IMODE(letters.stat().st_mode) == 0o600
    works.record("next")
    assert await works.flusher.flush() == 1


async def test_r77_a_store_that_takes_nothing_at_all_makes_no_dead_letters(tmp_path: Path) -> None:
    letters = tmp_path / "dead.jsonl"
    works = Works(Sink(failing(40, RuntimeError("a defect"))), settings=TelemetrySettings(dead_letters=letters))
    works.record(*range(4))
    for _ in range(4):
        with pytest.raises(RuntimeError):
            await works.flusher.flush()
    assert (works.flusher.stats().pending, letters.exists()) == (4, False)
    works.sink.judge = None
    assert (await works.flusher.flush(), works.sink.details) == (4, ["0", "1", "2", "3"])


async def test_an_outage_while_poison_is_looked_for_puts_the_rest_back() -> None:
    works = Works()
    fails: list[Any] = [Corrupt("no")] * 4

    def judge(records: Sequence[TelemetryRecord]) -> None:
        if len(records) == 1:
            raise BackendDown("gone")
        if fails:
            raise fails.pop()

    works.sink.judge = judge
    works.record(*range(4))
    for _ in range(2):
        with pytest.raises(Corrupt):
            await works.flusher.flush()
    with pytest.raises(BackendDown):
        await works.flusher.flush()
    works.sink.judge = None
    assert await works.flusher.flush_all() == 4
    assert works.sink.details == ["0", "1", "2", "3"]
    assert works.flusher.stats().is_balanced


async def test_dead_letters_are_bounded_and_the_newest_are_kept(tmp_path: Path) -> None:
    letters = tmp_path / "dead.jsonl"
    settings = TelemetrySettings(dead_letters=letters, dead_letter_bytes_max=2_400, poison_failures=1)
    works = Works(Sink(refusing(*(f'"bad {number}"' for number in range(20)))), settings=settings)
    for number in range(20):
        works.record(f"bad {number}", "good")
        await works.flusher.flush()
    sizes = sizes_in(tmp_path)
    assert (len(sizes), sum(sizes) <= 2_400) == (2, True)
    assert json.loads(letters.read_text().splitlines()[-1])["event_details"] == "bad 19"
    assert (works.flusher.stats().dead_lettered, DEAD_LETTER_BYTES_MAX > 2_400) == (20, True)


async def test_what_no_dead_letter_file_takes_is_given_up_and_counted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = TelemetrySettings(dead_letters=tmp_path / "file" / "dead.jsonl", poison_failures=1)
    works = Works(Sink(refusing("1")), settings=settings)
    works.record(0, 1)
    assert await works.flusher.flush() == 1
    assert (works.flusher.stats().dropped, works.flusher.stats().is_balanced) == ({"poison": 1}, True)


async def test_entries_of_somebody_who_is_no_member_are_given_up() -> None:
    works = Works(Sink(failing(1, Forbidden("not a member", code="not_a_member"))))
    works.record(1, 2)
    with pytest.raises(Forbidden):
        await works.flusher.flush()
    assert (works.flusher.stats().dropped, works.flusher.stats().is_balanced) == ({"forbidden": 2}, True)


@pytest.mark.parametrize("flush", ["flush", "flush_all"])
async def test_a_write_that_is_cancelled_is_pending_again(flush: str) -> None:
    works, began = Works(), asyncio.Event()

    async def hang(records: Sequence[TelemetryRecord]) -> None:
        del records
        began.set()
        await asyncio.Event().wait()

    works.flusher._write = hang
    works.record(1, 2)
    task = asyncio.create_task(getattr(works.flusher, flush)())
    await began.wait()
    assert works.flusher.stats().in_flight == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (works.flusher.stats().pending, works.flusher.stats().is_balanced) == (2, True)


async def test_r80_stopping_writes_what_is_pending() -> None:
    works = Works(batch_entries=2)
    works.record(*range(5))
    assert await works.flusher.stop(5.0) == Stopped(flushed=5, lost=0)
    assert works.sink.details == ["0", "1", "2", "3", "4"]
    assert works.buffer.record(entry_of(6)) is False
    assert works.flusher.stats().refused == {"closed": 1}


async def test_r80_what_cannot_be_written_before_the_deadline_is_said_to_be_lost() -> None:
    works = Works(Sink(failing(10**6, BackendDown("nothing answers"))))
    works.record(*range(5))
    stopped = await works.flusher.stop(0.01)
    assert stopped == Stopped(flushed=0, lost=5)
    stats = works.flusher.stats()
    assert (stats.dropped, stats.dropped_after_accept, stats.pending, stats.is_balanced) == ({"lost": 5}, 5, 0, True)


async def test_the_loop_flushes_what_is_full_and_ends_when_it_is_told_to() -> None:
    works, written = Works(batch_entries=2), asyncio.Event()
    works.sink.judge = lambda records: written.set() if len(records) == 2 else None
    task = asyncio.create_task(works.flusher.run())
    await asyncio.sleep(0)  # it begins
    works.record(1, 2)
    await written.wait()
    works.record(3)
    assert await works.flusher.stop(5.0) == Stopped(flushed=1, lost=0)
    await task
    assert works.sink.details == ["1", "2", "3"]


async def test_r84_secrets_are_taken_out_before_anything_is_written() -> None:
    works = Works()
    secret = "sk-" + "a1B2" * 8
    works.record({"variables": {"api_key": "k", "note": f"use {secret}", "amount": 7}}, {"harmless": 1})
    works.buffer.record(entry_of(None, log_type=LogType.ERROR, error_metadata={"variables": {"password": "p4ss"}}))
    await works.flusher.flush_all()
    text = str(works.sink.kept.values())
    assert (secret in text, "p4ss" in text, '"k"' in text) == (False, False, False)
    assert works.sink.details[1:] == [
        '{"variables":{"api_key":"__redacted__","note":"use __redacted__","amount":7}}',
        '{"harmless":1}',
    ]
    assert works.flusher.stats().redacted == 3


async def test_r84_a_redactor_of_ones_own_sees_every_entry_and_its_failure_withholds_the_details() -> None:
    def redactor(log_type: str, payload: dict[str, object]) -> dict[str, object]:
        if "boom" in payload:
            raise RuntimeError("a defect")
        return {**payload, "name": "***", "seen": log_type}

    works = Works(settings=TelemetrySettings(redaction=redactor))
    works.record({"name": "Ann"}, {"boom": "secret"})
    await works.flusher.flush_all()
    assert works.sink.details == ['{"name":"***","seen":"TELEMETRY"}', '{"__withheld__":"RuntimeError"}']


async def test_what_databases_refuse_is_replaced() -> None:
    works = Works(settings=TelemetrySettings(redaction="off"))
    works.record({"nul\0": ["a\0b"], "token": "kept"}, object())
    await works.flusher.flush_all()
    assert works.sink.details == ['{"nul\ufffd":["a\ufffdb"],"token":"kept"}', '{"__unserialisable__":"object"}']
    assert works.flusher.stats().unserialisable == 1


def test_settings_that_mean_nothing_are_refused() -> None:
    for wrong in ({"interval_s": 0}, {"write_s": float("nan")}, {"batch_entries": 1_001}, {"entries_max": -1}):
        with pytest.raises(Invalid):
            TelemetrySettings(**wrong)
    assert TelemetrySettings(batch_entries=1_000).entries_max == 10_000
    assert os.sep not in str(TelemetrySettings().dead_letters)
