"""Checkpoints of an open list: when they are written, one at a time, off the event loop, whoever is cancelled."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perdure.core.tasklist_checkpointing import CheckpointOutcome
from perdure.core.tasklist_events import EventName
from perdure.domain.tasklists.failures import CheckpointFailed
from tests.support.node_files import (
    LIST,
    FaultyFiles,
    decode_number,
    failing_always,
    number,
    policy,
)
from tests.support.tasklist_lives import Gate, living, on_disk

pytestmark = pytest.mark.fast

PERSISTED, NOT_DUE, DEBOUNCED = CheckpointOutcome.PERSISTED, CheckpointOutcome.NOT_DUE, CheckpointOutcome.DEBOUNCED
DEGRADED = CheckpointOutcome.DEGRADED_CONTINUED


async def test_upstream_27_the_thirty_second_mutation_is_written(tmp_path: Path):
    async with living(tmp_path) as life:
        outcomes = [await life.mutate() for _ in range(32)]
        assert outcomes == [NOT_DUE] * 31 + [PERSISTED]
        assert [name for name in life.events.names if "checkpoint" in name] == [
            EventName.CHECKPOINT_ATTEMPT,
            EventName.CHECKPOINT_SUCCESS,
        ]
        assert life.events.of(EventName.CHECKPOINT_SUCCESS)[0]["reason"] == "mutation_threshold"


async def test_upstream_30_explicit_requests_honour_clean_and_debounce(tmp_path: Path):
    async with living(tmp_path) as life:
        assert await life.checkpoints.checkpoint() is CheckpointOutcome.NOOP_CLEAN
        await life.mutate()
        assert await life.checkpoints.checkpoint() is PERSISTED
        await life.mutate()
        assert await life.checkpoints.checkpoint() is DEBOUNCED
        life.clock.advance(2)
        assert await life.checkpoints.checkpoint() is PERSISTED
        assert await life.checkpoints.checkpoint() is CheckpointOutcome.NOOP_CLEAN
        assert len(list((tmp_path / LIST).glob("*.snapshot"))) == 2


async def test_upstream_28_and_29_the_timer_writes_what_is_due(tmp_path: Path):
    async with living(tmp_path) as life:
        assert await life.checkpoints.tick() is NOT_DUE
        await life.mutate()
        life.clock.advance(299)
        assert await life.checkpoints.tick() is NOT_DUE
        life.clock.advance(1)
        assert await life.checkpoints.tick() is PERSISTED
        life.clock.advance(1)
        assert await life.mutate(32) is DEBOUNCED
        life.clock.advance(1)
        assert await life.checkpoints.tick() is PERSISTED


async def test_what_is_merged_is_written_at_the_floor(tmp_path: Path):
    async with living(tmp_path) as life:
        life.checkpoints.record_merge()
        life.clock.advance(300)
        assert await life.checkpoints.tick() is PERSISTED


async def test_encoding_and_writing_are_done_by_the_one_worker_thread(tmp_path: Path):
    gate = Gate()
    files = FaultyFiles()
    async with living(tmp_path, files=files) as life:
        files.fault = gate
        writing = asyncio.ensure_future(life.mutate(32))
        await gate.begin()
        assert not writing.done(), "the loop goes on"
        gate.released.set()
        assert await writing is PERSISTED
        assert {name.rsplit("_", 1)[0] for name in life.threads} == {"perdure-tasklists"}


async def test_fault_15_what_changes_during_a_write_stays_dirty(tmp_path: Path):
    gate, files = Gate(), FaultyFiles()
    async with living(tmp_path, files=files) as life:
        files.fault = gate
        writing = asyncio.ensure_future(life.mutate(32))
        await gate.begin()
        assert await life.mutate(3) is DEBOUNCED
        gate.released.set()
        assert await writing is PERSISTED
        assert (life.checkpoints.state.mutation_count, life.checkpoints.state.is_dirty) == (3, True)
    assert on_disk(tmp_path) == 35, "the last one wrote the rest"


async def test_explicit_requests_during_a_write_wait_for_it_and_write_nothing_twice(tmp_path: Path):
    gate, files = Gate(), FaultyFiles()
    async with living(tmp_path, files=files) as life:
        await life.mutate()
        files.fault = gate
        asked = [asyncio.ensure_future(life.checkpoints.checkpoint()) for _ in range(5)]
        await gate.begin()
        gate.released.set()
        assert await asyncio.gather(*asked) == [PERSISTED] * 5
        assert len(life.events.of(EventName.CHECKPOINT_ATTEMPT)) == 1


async def test_whoever_joins_a_write_that_fails_is_told(tmp_path: Path):
    gate, files = Gate(), FaultyFiles()

    def fault(at: int, name: str, arguments: tuple[object, ...]) -> OSError | None:
        gate(at, name, arguments)
        return OSError(errno.EIO, "no") if name == "sync" else None

    async with living(tmp_path, files=files) as life:
        await life.mutate()
        files.fault = fault
        asked = [asyncio.ensure_future(life.checkpoints.checkpoint()) for _ in range(3)]
        await gate.begin()
        gate.released.set()
        assert await asyncio.gather(*asked) == [DEGRADED] * 3
        assert life.health == ("degraded", "checkpoint_failure")


async def test_upstream_50_and_51_degraded_heals_and_strict_stays_failed(tmp_path: Path):
    for mode, after in (("degraded", ("ready", None)), ("strict", ("failed", "checkpoint_failure"))):
        files = FaultyFiles()
        async with living(tmp_path / mode, policy(mode), files) as life:
            await life.mutate()
            files.fault = failing_always(errno.EIO, "sync")
            for _ in range(2):
                try:
                    assert await life.checkpoints.checkpoint() is DEGRADED
                except CheckpointFailed:
                    assert mode == "strict"
                life.clock.advance(2)
            assert life.health == ("degraded" if mode == "degraded" else "failed", "checkpoint_failure")
            files.fault = failing_always(errno.EIO)
            assert await life.checkpoints.checkpoint() is PERSISTED
            assert life.health == after


@pytest.mark.parametrize("mode", ["strict", "degraded"])
async def test_fault_15_a_failing_disk_is_tried_a_few_times_a_minute(tmp_path: Path, mode: str):
    files = FaultyFiles()
    async with living(tmp_path, policy(mode), files) as life:
        files.fault = failing_always(errno.EIO, "sync")
        life.value += 32
        life.checkpoints.record_mutation(32)
        enough = asyncio.Event()

        async def sleep(seconds: float) -> None:
            life.clock.advance(seconds)
            if life.clock.monotonic() > 600:
                enough.set()
                await asyncio.Event().wait()
            await asyncio.sleep(0)

        running = asyncio.ensure_future(life.checkpoints.run(sleep))
        await enough.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        attempts = len(life.events.of(EventName.CHECKPOINT_ATTEMPT))
        assert 10 <= attempts <= 16, "six until the backoff is a minute, then one a minute"


async def test_fault_15_a_burst_that_ends_inside_the_debounce_is_written_when_it_is_over(tmp_path: Path):
    async with living(tmp_path, policy("strict")) as life:
        await life.mutate(32)
        life.clock.advance(1)
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            life.clock.advance(seconds)
            await asyncio.sleep(0)

        running = asyncio.ensure_future(life.checkpoints.run(sleep))
        assert await life.mutate(40) is DEBOUNCED
        while life.checkpoints.state.is_dirty:  # noqa: ASYNC110 - being clean has no event of its own
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert slept == [1.0]
    assert on_disk(tmp_path) == 72


async def test_an_encoder_that_fails_in_any_way_leaves_the_list_dirty_and_able_to_write(tmp_path: Path):
    class Panic(BaseException):
        pass

    for error in (ValueError("hunter2"), Panic("hunter2")):
        root = tmp_path / type(error).__name__
        async with living(root) as life:
            whole = life.capture

            def broken(error: BaseException = error) -> Callable[[], bytes]:
                def encode() -> bytes:
                    raise error

                return encode

            life.checkpoints._capture = broken
            await life.mutate()
            if isinstance(error, Panic):
                with pytest.raises(Panic):
                    await life.checkpoints.checkpoint()
            else:
                assert await life.checkpoints.checkpoint() is DEGRADED
                assert "hunter2" not in str(life.checkpoints.health.value.as_document())
                assert "hunter2" not in str(life.events.seen)
            assert life.checkpoints.state.is_dirty
            life.checkpoints._capture = whole
            life.clock.advance(2)
            assert await life.checkpoints.checkpoint() is PERSISTED


async def test_fault_10_the_day_s_clock_may_jump_and_the_newest_state_always_loads(tmp_path: Path):
    jumps = (
        timedelta(hours=-1),
        timedelta(days=365),
        timedelta(days=-400),
        timedelta(),
        datetime(1969, 12, 31, tzinfo=UTC) - datetime(2026, 1, 1, tzinfo=UTC),
    )
    async with living(tmp_path, policy("strict")) as life:
        for jump in jumps:
            life.clock.today += jump
            await life.mutate()
            life.clock.advance(2)
            assert await life.checkpoints.checkpoint() is PERSISTED
            assert on_disk_value(tmp_path) == life.value
        assert life.events.of(EventName.CLOCK_REGRESSED)
        for _ in range(100):  # and a hundred in one millisecond
            life.value += 1
            life.root._writer.write(life.checkpoints._kept, number(life.value))
        assert on_disk_value(tmp_path) == life.value


def on_disk_value(root: Path) -> int:
    """What the newest file holds, while somebody else holds the root."""
    newest = max(root.glob(f"{LIST}/*.snapshot"))
    return decode_number(newest.read_bytes().split(b"\n", 1)[1])
