"""A loss of power after any operation leaves what was acknowledged; and the tests see it if a sync is left out."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from perdure.adapters.nodefiles import snapshot_store
from perdure.adapters.nodefiles.file_operations import FileOps
from perdure.errors import PerdureError
from tests.support.node_files import LIST, Opened, encoded, policy, put
from tests.support.power_loss import Disk, Operation, RecordingFiles, build, kinds

TORN = encoded(9)[:-3]

Note = tuple[str, int]


class QuietFiles(FileOps):
    """Syncs nothing: what is checked here is what a recovery makes of a tree."""

    def sync(self, fd: int) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What was done below ``root``, and what was there on the disk before."""

    name: str
    root: Path
    before: Disk
    log: Sequence[Operation]
    check: Callable[[Path, set[Note]], str | None]


def record(
    name: str,
    root: Path,
    run: Callable[[RecordingFiles], None],
    check: Callable[[Path, set[Note]], str | None],
) -> Scenario:
    before = Disk()
    # The parents up to the test's own directory are part of it.
    before.load(root.parents[1] if not root.parent.exists() else root.parent)
    files = RecordingFiles(root)
    run(files)
    top = Scenario(name=name, root=root, before=before, log=files.log, check=check)
    shutil.rmtree(root)
    return top


def strict_run(root: Path) -> Callable[[RecordingFiles], None]:
    def run(files: RecordingFiles) -> None:
        with Opened(root, policy("strict"), files=files) as opened:
            for value in range(1, 6):
                files.note(("tried", value))
                opened.write(value)
                files.note(("written", value))

    return run


def degraded_run(root: Path, *values: int) -> Callable[[RecordingFiles], None]:
    def run(files: RecordingFiles) -> None:
        with Opened(root, policy(), files=files) as opened:
            for value in values:
                files.note(("tried", value))
                opened.write(value)
                files.note(("written", value))

    return run


def check_written(root: Path, notes: set[Note]) -> str | None:
    """What was written is found, or something newer; nothing else ever."""
    written = [value for what, value in notes if what == "written"]
    tried = [value for what, value in notes if what == "tried"]
    try:
        with Opened(root, policy("strict", initialize=not written), files=QuietFiles()) as opened:
            value = opened.recovery.value
    except PerdureError as exc:
        return f"strict refuses with {exc.code}"
    if value is None:
        return "nothing is there" if written else None
    return None if value in tried and value >= max(written, default=0) else f"{value} is there"


def check_rewritten(root: Path, notes: set[Note]) -> str | None:
    """As ``check_written``; until then strict rightly misses what was there."""
    return check_written(root, notes) if ("written", 5) in notes else None


def check_evidence(root: Path, _notes: set[Note]) -> str | None:
    """What was damaged is somewhere, and the older one loads."""
    found = [path.read_bytes() for path in root.rglob("*.snapshot*") if path.is_file()]
    if TORN not in found:
        return "the evidence is gone"
    with Opened(root, policy(), files=QuietFiles()) as opened:
        return None if opened.recovery.value == 8 else "the older one does not load"


def check_gone(root: Path, notes: set[Note]) -> str | None:
    """What was deleted is not found again."""
    with Opened(root, policy(), files=QuietFiles()) as opened:
        is_there = opened.recovery.value is not None
    return "it came back" if is_there and ("deleted", 1) in notes else None


def scenarios(base: Path) -> Iterable[Scenario]:
    """The five lives of a root."""
    (base / "new").mkdir(parents=True)
    root = base / "new" / "a" / "root"
    yield record("strict, from nothing", root, strict_run(root), check_written)

    root = base / "free" / "root"
    root.parent.mkdir()
    yield record("degraded, from nothing", root, degraded_run(root, 1, 2), check_written)

    root = base / "known" / "root"
    with Opened(root, policy("strict")) as opened:
        opened.write(1)
    shutil.rmtree(root / LIST)
    yield record("degraded, a list whose directory is gone", root, degraded_run(root, 5), check_rewritten)

    root = base / "torn" / "root"
    put(root, 1_000, TORN)
    put(root, 999, encoded(8))
    yield record("degraded, a damaged newest", root, degraded_run(root), check_evidence)

    root = base / "deleted" / "root"
    with Opened(root, policy("strict")) as opened:
        opened.write(1)

    def delete(files: RecordingFiles) -> None:
        with Opened(root, policy("strict"), files=files) as opened:
            opened.writer.forget(LIST)
            files.note(("deleted", 1))

    yield record("strict, a list that is deleted", root, delete, check_gone)


def violations(scenario: Scenario, place: Path, *, dropped: str | None = None, first_only: bool = False) -> list[str]:
    """Everything that is wrong after a loss of power, whenever it comes; ``dropped``: this kind of sync is left out."""
    disk = Disk()
    disk.data = {inode: bytearray(data) for inode, data in scenario.before.data.items()}
    disk.durable = dict(scenario.before.durable)
    disk.names = {directory: dict(entries) for directory, entries in scenario.before.names.items()}
    disk.now = {directory: dict(entries) for directory, entries in scenario.before.now.items()}
    top = min(disk.names, key=lambda path: len(path.parts))
    notes: set[Note] = set()
    seen: set[object] = set()
    wrong: list[str] = []
    for number, done in enumerate(scenario.log):
        if done.what == "note":
            notes.add(done.note)
        elif not (done.what == "sync" and done.kind == dropped):
            disk.do(done)
        for tree in disk.crashes(top / "x"):
            key = (frozenset(tree.items()), frozenset(notes))
            if key in seen:
                continue
            seen.add(key)
            target = place / str(len(seen))
            build(target, tree)
            complaint = scenario.check(target / scenario.root.relative_to(top), notes)
            shutil.rmtree(target)
            if complaint:
                wrong.append(f"{scenario.name}, after operation {number}: {complaint}")
                if first_only:
                    return wrong
    assert len(seen) > 5, "something was tried"
    return wrong


def test_fault_03_a_loss_of_power_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path):
    for at, scenario in enumerate(scenarios(tmp_path / "recorded")):
        assert violations(scenario, tmp_path / str(at)) == []


KINDS = ("parent", "manifest file", "manifest name", "list name", "snapshot file", "snapshot name", "aside")


def test_every_kind_of_sync_is_in_a_scenario(tmp_path: Path):
    assert set().union(*(kinds(scenario.log) for scenario in scenarios(tmp_path))) == set(KINDS)


@pytest.mark.parametrize("dropped", KINDS)
def test_fault_03_a_mutant_that_leaves_out_a_kind_of_sync_is_caught(tmp_path: Path, dropped: str):
    caught = [
        complaint
        for at, scenario in enumerate(scenarios(tmp_path / "recorded"))
        if dropped in kinds(scenario.log)
        for complaint in violations(scenario, tmp_path / str(at), dropped=dropped, first_only=True)
    ]

    assert caught


class ForgetfulFiles(FileOps):
    """The first sync of a snapshot fails and the system drops its bytes, as systems do; then it says yes again."""

    def __init__(self) -> None:
        self.has_failed = False

    def sync(self, fd: int) -> None:
        """Fail once, and lose what was not on the disk."""
        if not self.has_failed and stat.S_ISREG(os.fstat(fd).st_mode) and os.fstat(fd).st_size < 1_000:
            self.has_failed = True
            os.ftruncate(fd, 0)
            raise OSError(errno.EIO, "the disk refused")


def acknowledged_then_lost(root: Path) -> bool:
    """Whether a checkpoint was acknowledged that a fresh reader does not find."""
    with Opened(root, policy(), files=QuietFiles()) as opened:
        opened.write(1)
        opened.write(2)
    with Opened(root, policy(), files=ForgetfulFiles()) as opened:
        try:
            opened.write(3)
        except PerdureError:
            return False
    with Opened(root, policy(), files=QuietFiles()) as fresh:
        return fresh.recovery.value != 3


def code_of_writing(opened: Opened, value: int) -> str | None:
    try:
        opened.write(value)
    except PerdureError as exc:
        return exc.code
    return None


def test_fault_09_a_sync_that_fails_once_is_no_success_and_the_next_one_is_of_a_new_file(tmp_path: Path):
    assert not acknowledged_then_lost(tmp_path / "once")
    root = tmp_path / "root"
    with Opened(root, policy(), files=ForgetfulFiles()) as opened:
        codes = [code_of_writing(opened, 7) for _ in range(2)]
    assert codes == ["persistence_error", None]
    with Opened(root, policy("strict", initialize=False)) as fresh:
        assert fresh.recovery.value == 7


def test_a_mutant_that_asks_the_same_descriptor_again_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write_new_with_retry(files: FileOps, path: Path, pieces: Iterable[bytes]) -> None:
        fd = files.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        for piece in pieces:
            files.write(fd, memoryview(piece))
        try:
            files.sync(fd)
        except OSError:
            files.sync(fd)
        files.close(fd)

    monkeypatch.setattr(snapshot_store, "write_new", write_new_with_retry)

    assert acknowledged_then_lost(tmp_path)
