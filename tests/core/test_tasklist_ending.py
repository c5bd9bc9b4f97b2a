"""The end of a node, and callers that end before it: what was changed is on the disk, or somebody is told."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from perdure.core.tasklist_checkpointing import CheckpointOutcome
from perdure.core.tasklist_events import EventName
from perdure.domain.tasklists.failures import CheckpointFailed
from tests.support.node_files import (
    FaultyFiles,
    failing_always,
    policy,
)
from tests.support.tasklist_lives import Gate, living, on_disk

pytestmark = pytest.mark.fast

PERSISTED, NOT_DUE, DEBOUNCED = CheckpointOutcome.PERSISTED, CheckpointOutcome.NOT_DUE, CheckpointOutcome.DEBOUNCED
DEGRADED = CheckpointOutcome.DEGRADED_CONTINUED


@pytest.mark.parametrize("mode", ["strict", "degraded"])
async def test_fault_16_a_caller_that_is_cancelled_leaves_the_write_as_it_is(tmp_path: Path, mode: str):
    gate, files = Gate(), FaultyFiles()
    async with living(tmp_path, policy(mode), files) as life:
        files.fault = gate
        caller = asyncio.ensure_future(life.mutate(32))
        await gate.begin()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert life.checkpoints.state.flight is not None
        gate.released.set()
        await life.mutate()
        life.clock.advance(2)
        assert await life.checkpoints.checkpoint() in {PERSISTED, DEBOUNCED}
        assert life.health == ("ready", None)
    assert on_disk(tmp_path) == 33


async def test_fault_16_a_caller_that_is_cancelled_at_each_of_its_steps_loses_nothing(tmp_path: Path):
    for steps in range(12):
        root = tmp_path / str(steps)
        async with living(root) as life:
            caller = asyncio.ensure_future(life.mutate(32))
            for _ in range(steps):
                await asyncio.sleep(0)
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
        assert on_disk(root) == (32 if steps else None), f"cancelled after {steps} steps"


async def test_upstream_40_a_last_checkpoint_that_fails_is_an_error_in_strict(tmp_path: Path):
    files = FaultyFiles()
    async with living(tmp_path, policy("strict"), files) as life:
        await life.mutate()
        files.fault = failing_always(errno.ENOSPC, "write")
        with pytest.raises(CheckpointFailed, match="disk is full") as refused:
            await life.checkpoints.shutdown()
        assert (refused.value.code, refused.value.detail) == ("checkpoint_failure", {"reason": "disk_full"})
        assert life.health == ("failed", "checkpoint_failure")


async def test_upstream_41_and_43_a_last_checkpoint_that_fails_is_survived_in_degraded(tmp_path: Path):
    files = FaultyFiles()
    async with living(tmp_path, files=files) as life:
        await life.mutate()
        files.fault = failing_always(errno.EIO, "sync")
        assert await life.checkpoints.shutdown() is DEGRADED
        assert life.health == ("degraded", "checkpoint_failure")
        outcome = life.checkpoints.health.value.last_recovery_outcome
        assert outcome is not None
        assert outcome.value == "empty_store", "what the start found stays what it was"


async def test_upstream_42_a_last_checkpoint_ignores_the_debounce_and_the_restart_loads_it(tmp_path: Path):
    async with living(tmp_path, policy("strict")) as life:
        assert await life.checkpoints.shutdown() is CheckpointOutcome.SKIPPED_CLEAN
        await life.mutate(32)
        await life.mutate()
        assert await life.checkpoints.shutdown() is PERSISTED
    async with living(tmp_path, policy("strict", initialize=False)) as life:
        assert life.value == 33


@pytest.mark.parametrize("mode", ["strict", "degraded"])
async def test_fault_16_the_end_does_not_wait_for_a_disk_that_does_not_answer(tmp_path: Path, mode: str):
    gate, files = Gate(), FaultyFiles()
    async with living(tmp_path, policy(mode), files) as life:
        await life.mutate()
        files.fault = gate
        if mode == "strict":
            with pytest.raises(CheckpointFailed, match="within 0 s"):
                await life.checkpoints.shutdown(timeout_s=0)
        else:
            assert await life.checkpoints.shutdown(timeout_s=0) is DEGRADED
        assert life.health[1] == "checkpoint_failure"
        gate.released.set()


async def test_fault_16_two_ends_at_the_same_time_write_once(tmp_path: Path):
    gate, files = Gate(), FaultyFiles()
    async with living(tmp_path, policy("strict"), files) as life:
        await life.mutate()
        files.fault = gate
        first = asyncio.ensure_future(life.checkpoints.shutdown())
        await gate.begin()
        second = asyncio.ensure_future(life.checkpoints.shutdown())
        await asyncio.sleep(0)
        gate.released.set()
        assert [await first, await second] == [PERSISTED, PERSISTED]
        assert len(life.events.of(EventName.CHECKPOINT_ATTEMPT)) == 1
