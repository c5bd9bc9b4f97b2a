"""Processes that fight for a root, are killed with it in hand, are told to end twice, or have nothing to do with it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure.domain.tasklists.failures import StoreLocked
from tests.support.children import ROOT, child, run_child
from tests.support.node_files import LIST, Opened, policy, temporaries

WRITER = "tests.faults.tasklist_writer"
NODE = "tests.faults.tasklist_node"


@pytest.mark.parametrize(
    "seconds", [pytest.param(1.5, id="bounded"), pytest.param(30.0, id="full", marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("modes", [("strict", "strict"), ("strict", "degraded")], ids="-".join)
async def test_fault_11_of_two_processes_one_holds_the_root_and_the_other_is_told(
    tmp_path: Path, modes: tuple[str, str], seconds: float
):
    tasks = [{"do": "fight", "base": str(tmp_path), "mode": mode, "seconds": seconds} for mode in modes]
    both = await asyncio.gather(*(run_child(WRITER, task) for task in tasks))
    acknowledged = [[line["acknowledged"] for line in said if "acknowledged" in line] for said in both]
    together = [*acknowledged[0], *acknowledged[1]]

    assert all(acknowledged), "each had its turn"
    assert sum(said[-1]["locked"] for said in both) > 0, "and was told that it had to wait"
    assert sorted(together) == list(range(1, len(together) + 1)), "each wrote after what the other wrote"
    with Opened(tmp_path, policy("strict", initialize=False)) as fresh:
        assert fresh.recovery.value == max(together)
        assert fresh.recovery.skipped == ()
    assert temporaries(tmp_path) == []


async def test_fault_11_killing_the_holder_frees_the_root(tmp_path: Path):
    async with child(WRITER, {"do": "hold", "base": str(tmp_path)}) as holder:
        assert await holder.said(1) == [{"acknowledged": 1}]
        with pytest.raises(StoreLocked):
            Opened(tmp_path, policy("strict"))
        holder.kill()
        assert await holder.ended() == -signal.SIGKILL
        with Opened(tmp_path, policy("strict", initialize=False)) as fresh:
            assert fresh.recovery.value == 1


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("mode", ["strict", "degraded"])
async def test_fault_16_told_to_end_during_a_write_a_node_ends_with_everything_on_the_disk(
    tmp_path: Path, mode: str, times: int
):
    async with child(NODE, {"root": str(tmp_path), "mode": mode}) as node:
        assert await node.said(1) == ["writing"]
        for _ in range(times):
            os.kill(node.pid, signal.SIGTERM)
            assert await node.said(1) == ["ending"]
        await node.tell("go on")
        (outcome,) = await node.said(1)
        assert outcome == {LIST: "persisted"}
        assert await node.ended() == 0
    with Opened(tmp_path, policy("strict", initialize=False)) as fresh:
        assert fresh.recovery.value == 40


def workload(root: Path, *prefix: str | Path) -> subprocess.CompletedProcess[str]:
    """A node that does a full day's work with snapshots off, or on, and prints what it touched below the root."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", NODE, f'{{"root": "{root}", "mode": "off"}}'],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
        capture_output=True,
        text=True,
        check=True,
    )


def test_fault_22_off_touches_nothing_below_the_root_says_the_interpreter(tmp_path: Path):
    root = tmp_path / "a-name-that-nobody-else-uses"
    root.mkdir()

    assert workload(root).stdout == '["off", 0]\n'
    assert list(root.iterdir()) == []


def test_fault_22_off_touches_nothing_below_the_root_says_the_system(tmp_path: Path):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed here; the interpreter's own audit says the same")
    root, calls = tmp_path / "a-name-that-nobody-else-uses", tmp_path / "calls"
    root.mkdir()
    workload(root, strace, "-f", "-qq", "-e", "trace=file", "-o", calls)
    touched = [line for line in calls.read_text().splitlines() if root.name in line and "execve" not in line]

    assert len(calls.read_text().splitlines()) > 100, "something was seen"
    assert touched == []


async def test_the_audit_sees_what_is_touched_where_snapshots_are_on(tmp_path: Path):
    said: list[Any] = list(await run_child(NODE, {"root": str(tmp_path), "mode": "audited"}))

    assert said[-1][1] > 0
