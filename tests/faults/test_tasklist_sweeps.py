"""Each operation of a start and of two checkpoints fails once, in each way; each is where the process is killed."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.adapters.nodefiles.file_operations import FileOps
from perdure.errors import PerdureError
from tests.support.children import ROOT, run_child
from tests.support.node_files import (
    FaultyFiles,
    Opened,
    failing_at,
    policy,
    temporaries,
)

MODES = ("strict", "degraded")
FULL = pytest.mark.soak
OPERATIONS_MAX = 400  # of one run; a sweep that does not end is a failure


class Unsynced(FaultyFiles):
    """As ``FaultyFiles``, without waiting for the disk: what is tried here is what a failure leads to."""

    def run(self, name: str, arguments: tuple[object, ...]) -> object:
        """Do one operation; a sync that does not fail does nothing."""
        if name == "sync" and self.fault(len(self.calls), name, arguments) is None:
            self.calls.append(name)
            return None
        return super().run(name, arguments)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def template(root: Path) -> None:
    """A root with four checkpoints behind it."""
    with Opened(root, policy("strict")) as opened:
        for value in range(1, 5):
            opened.write(value)


def live(root: Path, mode: str, files: FaultyFiles) -> tuple[list[int], list[int]]:
    """Start, write 5 and 6, and end; what was tried and what was acknowledged. Only our own errors come out."""
    tried, acknowledged = [4], [4]
    try:
        opened = Opened(root, policy(mode), files=files)
    except PerdureError:
        return tried, acknowledged
    for value in (5, 6):
        tried.append(value)
        try:
            opened.write(value)
        except PerdureError:
            continue
        acknowledged.append(value)
    opened.close()
    return tried, acknowledged


def check(root: Path, mode: str, tried: list[int], acknowledged: list[int]) -> None:
    """What a fresh start finds."""
    with Opened(root, policy(mode, initialize=False)) as fresh:
        assert fresh.recovery.value in tried
        assert fresh.recovery.value is not None
        assert fresh.recovery.value >= max(acknowledged)
        assert fresh.recovery.skipped == ()
        assert temporaries(root) == []


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(errno.EIO, id="EIO"),
        pytest.param("after", id="the answer is lost"),
        pytest.param("short", id="short"),
        pytest.param(errno.ENOSPC, id="ENOSPC", marks=FULL),
        pytest.param(errno.EINTR, id="EINTR", marks=FULL),
        pytest.param(errno.EACCES, id="EACCES", marks=FULL),
    ],
)
def test_fault_01_any_operation_that_fails_leaves_what_was_acknowledged(tmp_path: Path, mode: str, failure: int | str):
    template(tmp_path / "template")
    for at in range(OPERATIONS_MAX):
        root = tmp_path / str(at)
        shutil.copytree(tmp_path / "template", root)
        files = Unsynced(failing_at(at, failure))
        tried, acknowledged = live(root, mode, files)
        check(root, mode, tried, acknowledged)
        shutil.rmtree(root)
        if len(files.calls) <= at:
            assert acknowledged == [4, 5, 6], "nothing failed at last"
            return
    pytest.fail("the sweep did not end")


def test_fault_01_short_writes_all_the_way_are_no_failure(tmp_path: Path, mode: str):
    def short(_number: int, name: str, _arguments: tuple[object, ...]) -> str | None:
        return "short" if name == "write" else None

    with Opened(tmp_path, policy(mode), files=FaultyFiles(short)) as opened:
        opened.write(1)
    check(tmp_path, mode, [1], [1])


@pytest.mark.parametrize("mode", ["strict", pytest.param("degraded", marks=FULL)])
async def test_fault_02_killed_at_any_operation_every_acknowledged_checkpoint_is_loaded(tmp_path: Path, mode: str):
    template(tmp_path / "template")
    runs = await run_child("tests.faults.tasklist_writer", {"do": "sweep", "base": str(tmp_path), "mode": mode})

    assert len(runs) > 60
    assert runs[-1]["is_killed"] is False
    assert all(run["is_killed"] for run in runs[:-1])
    for run in runs:
        check(Path(run["root"]), mode, [4, *run["tried"]], [4, *run["acknowledged"]])


def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed here; the sweep above kills in between operations instead")
    return found


INJECTED = ("fsync", "link,linkat", "write", "unlink,unlinkat", "openat")


def killed_by_strace(root: Path, calls: str, when: int) -> tuple[list[int], list[int]] | None:
    """Run a writer that is killed as it enters the system call; None if it ended before."""
    task = {"do": "write", "base": str(root), "mode": "strict", "values": [5, 6]}
    program = [sys.executable, "-m", "tests.faults.tasklist_writer", json.dumps(task)]
    prefix = [strace(), "-f", "-qq", "-o", "/dev/null"]
    if calls == "openat":  # of all that an interpreter opens those of the root's directories
        prefix += ["-P", str(root), "-P", str(root / "groceries")]
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:signal=SIGKILL:when={when}"]
    ended = subprocess.run(
        [*prefix, *inject, *program],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    if ended.returncode == 0:
        return None
    return (
        [event["tried"] for event in said if "tried" in event],
        [event["acknowledged"] for event in said if "acknowledged" in event],
    )


@pytest.mark.parametrize(
    ("calls", "every"),
    [pytest.param("fsync", 3, id="bounded"), *(pytest.param(calls, 1, id=calls, marks=FULL) for calls in INJECTED)],
)
def test_fault_02_killed_at_a_system_call_every_acknowledged_checkpoint_is_loaded(
    tmp_path: Path, calls: str, every: int
):
    template(tmp_path / "template")
    killed = 0
    for when in range(1, 60, every):
        root = tmp_path / str(when)
        shutil.copytree(tmp_path / "template", root)
        run = killed_by_strace(root, calls, when)
        if run is None:
            break
        killed += 1
        tried, acknowledged = run
        check(root, "strict", [4, *tried], [4, *acknowledged])
    assert killed > 0


@pytest.mark.parametrize("kills", [pytest.param(10, id="bounded"), pytest.param(500, id="full", marks=FULL)])
async def test_fault_02_killed_at_random_under_load_nothing_acknowledged_is_lost(tmp_path: Path, kills: int):
    task = {"do": "load", "base": str(tmp_path), "mode": "strict", "kills": kills}
    runs = await run_child("tests.faults.tasklist_writer", task)

    assert len(runs) == kills
    newest = 0
    for run in runs:
        assert run["found"] >= newest, "each start finds what was acknowledged before"
        newest = max([newest, *run["acknowledged"]])
    assert newest > 0


def test_every_operation_of_the_replaceable_object_is_swept():
    assert {name for name in vars(FileOps) if not name.startswith("_")} - set(vars(FaultyFiles)) == {"process_id"}
