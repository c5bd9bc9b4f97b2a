"""Disks that are full, read-only or gone, with the system's own means: what was kept stays, and it heals itself."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.core.tasklist_events import EventName
from perdure.domain.tasklists.snapshot_names import snapshot_name
from perdure.errors import PerdureError
from tests.support.node_files import (
    LIST,
    FaultyFiles,
    Opened,
    encoded,
    failing_always,
    number,
    policy,
    put,
    temporaries,
    tree,
)

ROOT = Path(__file__).parents[2]
MODES = ("strict", "degraded")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def python(program: str, *arguments: str | Path) -> str:
    """What a program prints that runs in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("mode", MODES)
def test_fault_07_a_full_disk_keeps_what_was_there_and_the_next_checkpoint_heals(small_disk: Path, mode: str):
    root = small_disk / "root"
    with Opened(root, policy(mode)) as opened:
        opened.write(1)
        before = tree(root)
        (small_disk / "ballast").write_bytes(bytes(200 * 1_024))
        with pytest.raises(PerdureError, match="disk is full") as refused:
            opened.writer.write(opened.kept, number(2) + b" " * 100_000)
        assert refused.value.code == "disk_full"
        assert (tree(root), temporaries(root)) == (before, [])
        (small_disk / "ballast").unlink()
        opened.write(3)
    with Opened(root, policy("strict", initialize=False)) as fresh:
        assert fresh.recovery.value == 3


def test_fault_07_a_limit_on_the_size_of_files_gives_a_short_write_and_then_an_error(tmp_path: Path):
    said = python(
        """
        import pathlib, resource, signal, sys
        from perdure.errors import PerdureError
        from tests.support.node_files import Opened, number, policy, temporaries
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        root = pathlib.Path(sys.argv[1])
        with Opened(root, policy("degraded")) as opened:
            opened.write(1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
            try:
                opened.writer.write(opened.kept, number(2) + b" " * 100_000)
            except PerdureError as exc:
                print(exc.code, temporaries(root))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            opened.write(3)
        """,
        tmp_path,
    )

    assert said == "disk_full []"
    with Opened(tmp_path, policy("strict", initialize=False)) as fresh:
        assert fresh.recovery.value == 3


READ_ONLY = """
    import os, pathlib, sys
    from perdure.errors import PerdureError
    from tests.support.node_files import Opened, policy
    "".encode("utf-16be")  # found while the interpreter's own files can be read
    if os.geteuid() == 0:
        os.setuid(65_534)  # permissions do not stop root
    root, mode = pathlib.Path(sys.argv[1]), sys.argv[2]
    with Opened(root, policy(mode, initialize=False)) as opened:
        try:
            opened.write(9)
        except PerdureError as exc:
            print(opened.recovery.outcome.value, opened.recovery.value, exc.code)
"""


@pytest.mark.parametrize("mode", MODES)
def test_fault_08_a_root_that_cannot_be_written_is_read_and_each_checkpoint_fails(mode: str):
    root = Path(f"/tmp/perdure-read-only-{os.getpid()}-{mode}")  # pytest's own directories are closed to others
    try:
        with Opened(root, policy("strict")) as opened:
            opened.write(1)
        for path in [root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = tree(root)
        assert python(READ_ONLY, root, mode) == "loaded_snapshot 1 not_writable"
        assert tree(root) == before
    finally:
        subprocess.run(["rm", "-rf", root], check=True)


@pytest.mark.parametrize("mode", MODES)
def test_fault_08_a_disk_that_is_read_only_from_the_start_is_read(small_disk: Path, mode: str):
    root = small_disk / "root"
    with Opened(root, policy("strict")) as opened:
        opened.write(1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with Opened(root, policy(mode, initialize=False)) as opened:
        assert opened.recovery.value == 1
        with pytest.raises(PerdureError) as refused:
            opened.write(2)
        assert refused.value.code == "not_writable"


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("mode", MODES)
def test_fault_08_a_root_that_turns_read_only_loses_nothing(tmp_path: Path, mode: str, code: int):
    files = FaultyFiles()
    with Opened(tmp_path, policy(mode), files=files) as opened:
        opened.write(1)
        before = tree(tmp_path)
        files.fault = failing_always(code, "make_directory", "set_mode", "link", "unlink", "rename", "write")
        with pytest.raises(PerdureError) as refused:
            opened.write(2)
        assert refused.value.code == "not_writable"
        files.fault = failing_always(code)
        assert {name: data for name, data in tree(tmp_path).items() if not name.endswith(".tmp")} == before
        opened.write(3)
    with Opened(tmp_path, policy("strict", initialize=False)) as fresh:
        assert (fresh.recovery.value, temporaries(tmp_path)) == (3, [])


def test_fault_08_a_root_that_cannot_be_made_fails_strict_and_is_memory_only_in_degraded(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    root = tmp_path / "file" / "root"
    with pytest.raises(PerdureError):
        Opened(root, policy("strict"))
    with Opened(root, policy()) as opened:
        assert opened.recovery.outcome.value == "degraded_fallback"
        assert opened.writer.memory_only is not None


def test_fault_09_a_directory_that_does_not_sync_is_not_acknowledged_and_the_next_write_is_another_file(
    tmp_path: Path,
):
    syncs = 0

    def second_sync_fails(_number: int, name: str, _arguments: tuple[object, ...]) -> OSError | None:
        nonlocal syncs
        syncs += name == "sync"
        return OSError(errno.EIO, "no") if name == "sync" and syncs == 3 else None

    with Opened(tmp_path, policy("strict"), files=FaultyFiles()) as opened:
        opened.write(1)
    with Opened(tmp_path, policy("strict"), files=FaultyFiles(second_sync_fails)) as opened:
        with pytest.raises(PerdureError):
            opened.write(2)
        visible = sorted(path.name for path in (tmp_path / LIST).glob("*.snapshot"))
        assert len(visible) == 2, "it is visible, and may be gone after a loss of power"
        opened.write(2)
        assert len(sorted((tmp_path / LIST).glob("*.snapshot"))) == 3
        assert opened.kept.generation == 3


@pytest.mark.parametrize("mode", MODES)
def test_fault_13_a_snapshot_that_cannot_be_removed_is_a_warning(tmp_path: Path, mode: str):
    def snapshots_stay(_number: int, name: str, arguments: tuple[object, ...]) -> OSError | None:
        is_snapshot = name == "unlink" and str(arguments[0]).endswith(".snapshot")
        return OSError(errno.EIO, "no") if is_snapshot else None

    with Opened(tmp_path, policy(mode, checkpoints_to_keep=1), files=FaultyFiles(snapshots_stay)) as opened:
        for value in range(1, 4):
            opened.write(value)
        assert len(opened.events.of(EventName.TRIM_FAILED)) == 3, "one, then two"
    with Opened(tmp_path, policy(mode, checkpoints_to_keep=1)) as opened:
        assert opened.recovery.value == 3
        opened.write(4)
    assert [path.name for path in (tmp_path / LIST).glob("*.snapshot")] == [
        snapshot_name(max(int(path.name[:20]) for path in (tmp_path / LIST).glob("*.snapshot")))
    ]


def test_fault_13_a_crash_between_the_publishing_and_the_trimming_is_made_up_for(tmp_path: Path):
    for moment in range(1, 8):  # as many as crashes left
        put(tmp_path, moment, encoded(moment))
    with Opened(tmp_path, policy("strict")) as opened:
        assert opened.recovery.value == 7
        opened.write(8)
    left = sorted(int(path.name[:20]) for path in (tmp_path / LIST).glob("*.snapshot"))
    assert left[:2] == [6, 7]
    assert len(left) == 3


def test_fault_21_no_payload_stands_in_an_error_or_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    secret = b"number 1 1 hunter2"
    files = FaultyFiles()
    with caplog.at_level("DEBUG"), Opened(tmp_path, policy("strict"), files=files) as opened:
        opened.writer.write(opened.kept, secret)
        files.fault = failing_always(errno.EIO, "sync")
        with pytest.raises(PerdureError) as refused:
            opened.writer.write(opened.kept, secret)
        said = f"{refused.value!r} {refused.value.detail} {opened.events.seen} {caplog.text} {opened.recovery}"
    newest = max((tmp_path / LIST).glob("*.snapshot"))
    newest.write_bytes(newest.read_bytes()[:-1] + b"!")
    with pytest.raises(PerdureError) as refused:
        Opened(tmp_path, policy("strict"))

    assert "hunter2" not in said + repr(refused.value) + str(refused.value.detail)
