"""A snapshot is the directory as it was: the same bytes for equal directories, and a word about what is not in it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from threading import Lock

import pytest
from blake3 import blake3

from perdure.core.snapshots import (
    DEPTH_MAX,
    FILE_BYTES_MAX,
    FILES_MAX,
    SnapshotLimits,
    SnapshotProgress,
    browse,
    capture,
)
from perdure.domain.tree import EntryKind, TreeEntry
from perdure.errors import BackendDown, Invalid, LimitExceeded, NotFound, PersistenceError
from perdure.testing.watched import failing
from tests.support.snapshots import Kept, Node, kept, names_in, write_tree


@pytest.fixture
async def there() -> AsyncIterator[Kept]:
    async with kept() as found:
        yield found


def digest(content: bytes) -> str:
    return blake3(content).hexdigest()


async def test_a_directory_is_these_bytes(there: Kept, tmp_path: Path):
    write_tree(tmp_path, {"b.txt": b"hello", "a": {}, "l": "b.txt"})
    (tmp_path / "b.txt").chmod(0o4640)
    (tmp_path / "a").chmod(0o1755)

    taken = await capture(there.turns, tmp_path, turn_id=there.turn_id)

    tree = bytes.fromhex(
        f"""93
        85 a131 a161             a132 cc01 a133 ce000001ed a134 cf0000000000000000 a135 c420 {digest(bytes([0x90]))}
        85 a131 a5622e747874     a132 cc00 a133 ce000001a0 a134 cf0000000000000005 a135 c420 {digest(b"hello")}
        85 a131 a16c             a132 cc02 a133 ce000001ff a134 cf0000000000000005 a135 c420 {digest(b"b.txt")}"""
    )
    assert taken.root == digest(tree)
    assert (taken.files, taken.directories, taken.symlinks, taken.bytes) == (1, 2, 1, 5)
    assert (taken.skipped, taken.ignored) == ((), 0)
    assert await there.turns.snapshot(there.turn_id) == taken.root
    for content in (tree, b"\x90", b"hello", b"b.txt"):
        assert await there.turns.find_blob(digest(content)) == content


async def test_an_empty_directory_is_an_empty_array(there: Kept, tmp_path: Path):
    taken = await capture(there.turns, tmp_path)
    assert taken.root == digest(b"\x90")
    assert await there.turns.find_blob(taken.root) == b"\x90"
    assert await there.turns.snapshot(there.turn_id) is None


async def test_the_order_in_which_names_are_listed_and_made_changes_nothing(
    there: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = ["B", "Z", "a", "a-b", "a.b", "a0", "é", "\U0001f600"]
    roots = set()
    for turn in range(4):
        Random(turn).shuffle(names)  # noqa: S311 - the same order in every run
        directory = write_tree(tmp_path / str(turn), {name: {name: name.encode()} for name in names})
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", shuffled(turn))
            roots.add((await capture(there.turns, directory)).root)
    assert len(roots) == 1


def shuffled(seed: int) -> Callable[[int], object]:
    scandir = os.scandir

    class Shuffled:
        def __init__(self, fd: int) -> None:
            with scandir(fd) as entries:
                self.entries = list(entries)
            Random(seed).shuffle(self.entries)  # noqa: S311 - as above

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    return Shuffled


async def test_each_content_is_put_once_and_what_is_kept_twice_is_one(there: Kept, tmp_path: Path):
    same: dict[str, Node] = {"x": b"same", "y": b"same", "empty": {}, "link": "same"}
    write_tree(tmp_path, {"one": same, "two": same})
    progress: list[SnapshotProgress] = []
    before = there.puts
    taken = await capture(there.turns, tmp_path, progress=progress.append)
    assert there.puts - before == 4  # "same" of files and links, an empty tree, the tree of both, the root
    assert (taken.files, taken.directories, taken.symlinks, taken.bytes) == (4, 5, 2, 16)
    assert [one.done for one in progress] == list(range(1, 12))
    assert progress[-1] == SnapshotProgress(done=11, total=11, bytes=16)


async def test_what_is_no_file_is_told_and_not_kept(there: Kept, tmp_path: Path):
    write_tree(tmp_path, {"a": b"a", "d": {}})
    os.mkfifo(tmp_path / "d" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        (tmp_path / os.fsdecode(b"\xff.txt")).write_bytes(b"")
        taken = await capture(there.turns, tmp_path)
        assert taken.skipped == (
            ("\\xff.txt", "its name is not UTF-8"),
            ("d/pipe", "not a regular file"),
            ("socket", "not a regular file"),
        )
        assert [entry.name for entry in await listed(there, tmp_path)] == ["a", "d"]
        before = there.puts
        with pytest.raises(Invalid, match="not a regular file") as refused:
            await capture(there.turns, tmp_path, turn_id=there.turn_id, strict=True, ignore=("*.txt", "socket"))
    assert refused.value.detail == {"path": "d/pipe", "reason": "not a regular file"}
    assert there.puts == before


async def listed(there: Kept, directory: Path) -> tuple[TreeEntry, ...]:
    await capture(there.turns, directory, turn_id=there.turn_id)
    found = await browse(there.turns, there.turn_id)
    assert isinstance(found, tuple)
    return found


async def test_a_file_may_be_as_large_as_the_limit_and_no_larger(there: Kept, tmp_path: Path):
    assert FILE_BYTES_MAX == 64 * 2**20 - 4_096
    write_tree(tmp_path, {"fits": b"x" * 10, "large": b"x" * 11})
    taken = await capture(there.turns, tmp_path, limits=SnapshotLimits(file_bytes_max=10))
    assert taken.skipped == (("large", "too large: 11 bytes, at most 10 (file_bytes_max)"),)
    with pytest.raises(Invalid, match="file_bytes_max"):
        await capture(
            there.turns, tmp_path, turn_id=there.turn_id, limits=SnapshotLimits(file_bytes_max=10), strict=True
        )
    assert await there.turns.snapshot(there.turn_id) is None


async def test_files_directories_and_links_are_counted_before_anything_is_put(there: Kept, tmp_path: Path):
    write_tree(tmp_path, {"a": b"a", "d": {"b": b"b", "l": "b", "ignored.log": b""}})
    limits = SnapshotLimits(files_max=4)
    assert (await capture(there.turns, tmp_path, limits=limits, ignore=("*.log",))).files == 2
    before = there.puts
    with pytest.raises(LimitExceeded, match="files_max") as refused:
        await capture(there.turns, tmp_path, limits=limits)
    assert refused.value.detail == {"limit": "files_max", "allowed": 4, "actual": 5}
    assert there.puts == before


async def test_directories_may_be_as_deep_as_the_limit_and_no_deeper(there: Kept, tmp_path: Path):
    write_tree(tmp_path, {"a": {"b": {"f": b""}}})
    assert (await capture(there.turns, tmp_path, limits=SnapshotLimits(depth_max=2))).directories == 3
    with pytest.raises(LimitExceeded, match="depth_max"):
        await capture(there.turns, tmp_path, limits=SnapshotLimits(depth_max=1))


@pytest.mark.parametrize(
    ("name", "most"), [("file_bytes_max", FILE_BYTES_MAX), ("files_max", FILES_MAX), ("depth_max", DEPTH_MAX)]
)
def test_limits_are_lowered_and_not_raised(name: str, most: int):
    assert getattr(SnapshotLimits(**{name: most}), name) == most
    assert getattr(SnapshotLimits(**{name: 0}), name) == 0
    with pytest.raises(LimitExceeded, match=name):
        SnapshotLimits(**{name: most + 1})
    with pytest.raises(Invalid, match=name):
        SnapshotLimits(**{name: -1})


async def test_links_are_kept_as_links_wherever_they_lead(there: Kept, tmp_path: Path):
    write_tree(tmp_path / "out", {"secret": b"secret"})
    links = {"file": "d/f", "folder": "d", "away": "../out/secret", "abs": "/etc/passwd", "self": "self", "none": "no"}
    directory = write_tree(tmp_path / "in", {"d": {"f": b"f", "up": ".."}, **links})
    taken = await capture(there.turns, directory, turn_id=there.turn_id)
    assert (taken.files, taken.symlinks, taken.skipped) == (1, 7, ())
    for name, target in links.items():
        assert await browse(there.turns, there.turn_id, name) == target.encode()
    assert await there.turns.find_blob(digest(b"secret")) is None


async def test_followed_links_stay_inside_and_out_of_circles(there: Kept, tmp_path: Path):
    write_tree(tmp_path / "out", {"secret": b"secret"})
    directory = write_tree(
        tmp_path / "in",
        {
            "d": {"f": b"f", "up": "..", "here": "."},
            "e": {"across": "../d"},
            "file": "d/f",
            "away": "../out/secret",
            "around": "../in/d/f",
            "none": "no",
            "self": "self",
        },
    )
    os.mkfifo(directory / "pipe")
    (directory / "to-pipe").symlink_to("pipe")
    taken = await capture(there.turns, directory, turn_id=there.turn_id, follow_symlinks=True)
    kinds = {entry.name: entry.kind for entry in await browse_folder(there, "")}
    assert {name for name, kind in kinds.items() if kind is EntryKind.SYMLINK} == {"away", "none", "self", "to-pipe"}
    assert (
        await browse(there.turns, there.turn_id, "file") == await browse(there.turns, there.turn_id, "around") == b"f"
    )
    assert await browse(there.turns, there.turn_id, "e/across/f") == b"f"
    assert await browse(there.turns, there.turn_id, "e/across/up") == b".."
    assert taken.skipped == (("pipe", "not a regular file"),)
    assert await there.turns.find_blob(digest(b"secret")) is None


async def browse_folder(there: Kept, path: str) -> tuple[TreeEntry, ...]:
    found = await browse(there.turns, there.turn_id, path)
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize(("changes", "is_kept"), [(2, True), (3, False)])
async def test_a_file_that_changes_while_it_is_read_is_read_again(
    there: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: int, *, is_kept: bool
):
    path = write_tree(tmp_path, {"log": b"0"}) / "log"
    fstat, seen = os.fstat, 0

    def growing(fd: int) -> os.stat_result:
        nonlocal seen
        found = fstat(fd)
        if os.path.samestat(found, path.stat()):
            seen += 1
            if seen % 2 and seen < 2 * changes:  # after it was looked at, before it is read
                with path.open("ab") as file:
                    file.write(b"1")
        return found

    monkeypatch.setattr(os, "fstat", growing)
    taken = await capture(there.turns, tmp_path, turn_id=there.turn_id)
    if is_kept:
        assert taken.skipped == ()
        assert await browse(there.turns, there.turn_id, "log") == b"011"
    else:
        assert taken.skipped == (("log", "it changed each of 3 times that it was read (reads_max)"),)


async def test_what_is_put_in_the_place_of_a_path_is_not_followed(
    there: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_tree(tmp_path / "out", {"f": b"secret", "g": b"secret"})
    directory = write_tree(tmp_path / "in", {"d": {"f": b"f"}, "g": b"g", "h": b"h", "i": b"i", "e": {"f": b"f"}})
    dup, lock, opened = os.dup, Lock(), 0

    def swapped(fd: int) -> int:
        nonlocal opened
        with lock:
            opened += 1
            if opened == 4:  # three directories were listed, and no file was read yet
                (directory / "d").rename(tmp_path / "d-was")
                (directory / "d").symlink_to("../out")
                (directory / "g").unlink()
                (directory / "g").symlink_to("../out/g")
                (directory / "h").unlink()
                os.mkfifo(directory / "h")
                (directory / "i").unlink()
        return dup(fd)

    monkeypatch.setattr(os, "dup", swapped)
    taken = await capture(there.turns, directory)
    moved = "something else was put in its place"
    assert taken.skipped == (("d/f", moved), ("g", moved), ("h", "not a regular file"), ("i", "it is gone"))
    assert await there.turns.find_blob(digest(b"secret")) is None


async def test_a_machine_without_files_to_open_skips_nothing(
    there: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_tree(tmp_path, {"d": {"f": b"f"}})
    scandir, calls = os.scandir, 0

    def exhausted(fd: int) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(24, "Too many open files")
        return scandir(fd)

    monkeypatch.setattr(os, "scandir", exhausted)
    with pytest.raises(PersistenceError, match="Too many open files"):
        await capture(there.turns, tmp_path, turn_id=there.turn_id)
    assert await there.turns.snapshot(there.turn_id) is None


async def test_a_directory_that_cannot_be_listed_is_told_by_its_path(
    there: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_tree(tmp_path, {"d": {"f": b"f"}, "g": b"g"})
    scandir, calls = os.scandir, 0

    def denied(fd: int) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise PermissionError(13, "Permission denied")
        return scandir(fd)

    monkeypatch.setattr(os, "scandir", denied)
    taken = await capture(there.turns, tmp_path, turn_id=there.turn_id)
    assert taken.skipped == (("d", "permission denied"),)
    assert [entry.name for entry in await browse_folder(there, "")] == ["g"]


@pytest.mark.parametrize("puts", range(4))
async def test_a_snapshot_that_fails_half_way_attaches_nothing_and_is_taken_again(
    there: Kept, tmp_path: Path, puts: int
):
    write_tree(tmp_path, {"a": b"a", "d": {"b": b"b"}})
    left = puts

    async def down(name: str) -> None:
        nonlocal left
        if name == "objects.put":
            left -= 1
            if left < 0:
                raise BackendDown("nothing answers")

    there.backend.before = down
    with pytest.raises(BackendDown):
        await capture(there.turns, tmp_path, turn_id=there.turn_id)
    there.backend.before = None
    assert await there.turns.snapshot(there.turn_id) is None
    taken = await capture(there.turns, tmp_path, turn_id=there.turn_id)
    assert await there.turns.snapshot(there.turn_id) == taken.root


async def test_a_snapshot_that_is_cancelled_attaches_nothing_and_lets_go_of_the_directory(there: Kept, tmp_path: Path):
    write_tree(tmp_path, {"a": b"a", "d": {"b": b"b"}})
    arrived = asyncio.Event()

    async def hang(name: str) -> None:
        if name == "objects.put":
            arrived.set()
            await asyncio.Event().wait()

    there.backend.before = hang
    opened = len(names_in(Path("/dev/fd")))
    taking = asyncio.create_task(capture(there.turns, tmp_path, turn_id=there.turn_id))
    await arrived.wait()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    there.backend.before = None
    assert len(names_in(Path("/dev/fd"))) == opened
    assert await there.turns.snapshot(there.turn_id) is None


async def test_a_turn_or_directory_that_is_not_there_is_told_before_anything_is_put(there: Kept, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    before = there.puts
    with pytest.raises(NotFound):
        await capture(there.turns, tmp_path, turn_id="99999999999")
    with pytest.raises(NotFound, match="no directory"):
        await capture(there.turns, tmp_path / "nothing")
    for no_directory in (str(tmp_path / "file"), "a\0b"):
        with pytest.raises(Invalid, match="not a directory"):
            await capture(there.turns, no_directory)
    assert there.puts == before


async def test_an_answer_that_is_lost_is_not_taken_for_a_snapshot(there: Kept, tmp_path: Path):
    there.backend.after = failing(BackendDown("nothing answers"), among="objects.put", times=1)
    with pytest.raises(BackendDown):
        await capture(there.turns, tmp_path, turn_id=there.turn_id)
    assert await there.turns.snapshot(there.turn_id) is None
