"""What is written back is the directory as it was, inside one directory, as a whole or not at all."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.snapshot_restoring import HOPS_MAX, LINK_BYTES_MAX, leads_out
from perdure.core.snapshots import SnapshotLimits, SnapshotProgress, capture, restore
from perdure.domain.tree import EntryKind, TreeEntry
from perdure.errors import (
    BackendDown,
    Corrupt,
    Forbidden,
    Invalid,
    LimitExceeded,
    NotFound,
    PersistenceError,
    Unsupported,
)
from tests.support.snapshots import Kept, Node, kept, names_in, read_tree, write_tree

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in {".", ".."}
)
trees = st.recursive(
    st.binary(max_size=20) | st.sampled_from(["a", "b/c", ".", "no"]),
    lambda inside: st.dictionaries(names, inside, max_size=4),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


@pytest.fixture
async def there() -> AsyncIterator[Kept]:
    async with kept() as found:
        yield found


@settings(max_examples=20)
@given(tree=trees)
def test_any_directory_comes_back_as_it_was(tree: dict[str, Node]):
    async def round_trip(folder: Path) -> None:
        before = write_tree(folder / "before", tree)
        after = folder / "after"
        async with kept() as there:
            taken = await capture(there.turns, before, turn_id=there.turn_id, ignore=())
            done = await restore(there.turns, there.turn_id, after)
            again = await capture(there.turns, after, ignore=())
        assert read_tree(after) == read_tree(before)
        assert (done.root, again.root) == (taken.root, taken.root)
        assert (done.files, done.directories, done.symlinks, done.bytes) == (
            taken.files, taken.directories, taken.symlinks, taken.bytes,
        )  # fmt: skip
        assert names_in(folder) == ["after", "before"]

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(round_trip(Path(folder)))


async def test_modes_come_back_and_rights_of_others_do_not(there: Kept, tmp_path: Path):
    inside = await there.file("tool", b"#!", mode=0o4755)
    await there.attach(inside, await there.file("key", mode=0o100600), await there.folder("shut", inside, mode=0o41555))
    target = tmp_path / "new"
    target.mkdir()  # empty: that is as good as new
    progress: list[SnapshotProgress] = []
    await restore(there.turns, there.turn_id, target, progress=progress.append)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in target.rglob("*")}
    assert modes == {"tool": 0o755, "key": 0o600, "shut": 0o555}
    assert [one.done for one in progress] == [1, 2, 3]
    assert progress[-1] == SnapshotProgress(done=3, total=3, bytes=4)
    assert target.stat().st_mode & 0o700 == 0o700
    (target / "shut").chmod(0o755)


async def test_each_content_is_read_once(there: Kept, tmp_path: Path):
    same = await there.folder("same", await there.file("a", b"x"), await there.file("b", b"x"))
    root = await there.attach(same, TreeEntry(name="other", kind=EntryKind.DIRECTORY, mode=0o755, hash=same.hash))
    before = there.backend.calls.count("objects.get")
    done = await restore(there.turns, there.turn_id, tmp_path / "new")
    assert (done.root, done.files, done.bytes) == (root, 4, 4)
    assert there.backend.calls.count("objects.get") - before == 3  # the root, the directory, the file


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/a", "a\0"])
async def test_a_name_that_is_no_name_is_refused(there: Kept, tmp_path: Path, name: str):
    fine = await there.file("kept", b"x")
    await attach_raw(there, [entry_bytes("ok", fine), entry_bytes(name, fine)])
    with pytest.raises(Corrupt, match="nothing is written"):
        await restore(there.turns, there.turn_id, tmp_path / "new")
    assert names_in(tmp_path) == []


async def test_a_name_that_is_there_twice_is_refused(there: Kept, tmp_path: Path):
    fine = await there.file("kept", b"x")
    await attach_raw(there, [entry_bytes("a", fine), entry_bytes("a", fine)])
    with pytest.raises(Corrupt, match="the same name"):
        await restore(there.turns, there.turn_id, tmp_path / "new")
    assert names_in(tmp_path) == []


def entry_bytes(name: str, entry: TreeEntry) -> bytes:
    """A short entry, as no encoder of ours would write it."""
    encoded = name.encode()
    return b"\x82\x01" + bytes([0xA0 | len(encoded)]) + encoded + b"\x05\xc4\x20" + entry.hash


async def attach_raw(there: Kept, entries: list[bytes]) -> None:
    root = await there.turns.put_blob(bytes([0x90 | len(entries)]) + b"".join(entries))
    await there.turns.attach(there.turn_id, root)


@pytest.mark.parametrize(
    ("links", "out"),
    [
        ({"l": "f"}, False),
        ({"l": "."}, False),
        ({"l": "no/../such"}, False),
        ({"l": "l"}, False),
        ({"l": "m", "m": "l/.."}, False),
        ({"l": ".."}, True),
        ({"l": "/etc"}, True),
        ({"l": "d/../../x"}, True),
        ({"d/e/l": "../.."}, False),
        ({"d/e/l": "../../.."}, True),
        ({"d/up": "..", "l": "d/up/.."}, True),  # the letters stay inside, the way does not
        ({"l": "m/x", "m": "d", "d/x": "../.."}, True),
        ({"l": "deep/../..", "deep": "a/b/c"}, False),  # the letters lead out, the way does not
        ({"d/up": "..", "l": "D/UP/.."}, True),  # where letters are not told apart
    ],
)
def test_a_link_leads_where_the_system_would_go(links: dict[str, str], *, out: bool):
    targets = {tuple(path.split("/")): target.encode() for path, target in links.items()}
    folded = {tuple(part.casefold() for part in parts): target for parts, target in targets.items()}
    found = leads_out(("l",) if "l" in links else ("d", "e", "l"), targets)
    found = found or leads_out(("l",) if "l" in links else ("d", "e", "l"), folded, fold=str.casefold)
    assert found == out


def test_a_link_through_more_links_than_systems_follow_is_not_trusted():
    def through(count: int) -> bool:
        return leads_out(("l",), {("l",): b"/".join([b"here"] * count), ("here",): b"."})

    assert not through(HOPS_MAX - 1)
    assert through(HOPS_MAX)


@pytest.mark.parametrize("target", [b"../x", b"/etc/passwd", b"d/up/.."])
async def test_a_link_that_leads_out_is_made_only_if_asked_for(there: Kept, tmp_path: Path, target: bytes):
    await there.attach(await there.link("l", target), await there.folder("d", await there.link("up", b"..")))
    with pytest.raises(Forbidden, match="leads out of the directory") as refused:
        await restore(there.turns, there.turn_id, tmp_path / "new")
    assert (refused.value.code, refused.value.detail["path"]) == ("snapshot_link_leads_out", "l")
    assert names_in(tmp_path) == []
    await restore(there.turns, there.turn_id, tmp_path / "new", outside_links=True)
    assert os.fsencode((tmp_path / "new" / "l").readlink()) == target


async def test_a_link_is_as_long_as_links_can_be(there: Kept, tmp_path: Path):
    longest = b"x" * 250 + b"/" + b"y" * (LINK_BYTES_MAX - 251)
    await there.attach(await there.link("l", longest))
    await restore(there.turns, there.turn_id, tmp_path / "new")
    assert os.fsencode((tmp_path / "new" / "l").readlink()) == longest
    for wrong in (longest + b"y", b"", b"a\0b"):
        await there.attach(await there.link("l", wrong))
        with pytest.raises(Corrupt, match="link_bytes_max"):
            await restore(there.turns, there.turn_id, tmp_path / "other")


async def test_limits_hold_before_anything_is_written(there: Kept, tmp_path: Path):
    leaf = await there.file("f")
    inner = await there.folder("b", leaf)
    await there.attach(await there.folder("a", inner), await there.folder("c"))
    done = await restore(there.turns, there.turn_id, tmp_path / "new", limits=SnapshotLimits(files_max=4, depth_max=2))
    assert (done.files, done.directories) == (1, 4)
    for limits in (SnapshotLimits(files_max=3), SnapshotLimits(depth_max=1)):
        with pytest.raises(LimitExceeded):
            await restore(there.turns, there.turn_id, tmp_path / "other", limits=limits)
    assert names_in(tmp_path) == ["new"]


async def test_a_directory_that_is_many_directories_is_counted_as_many(there: Kept, tmp_path: Path):
    inner = await there.folder("x", await there.file("f"))
    for _ in range(30):  # more than a thousand million files, in thirty objects
        inner = await there.folder("x", inner, TreeEntry(name="y", kind=EntryKind.DIRECTORY, hash=inner.hash))
    await there.attach(inner)
    with pytest.raises(LimitExceeded, match="files_max"):
        await restore(there.turns, there.turn_id, tmp_path / "new", limits=SnapshotLimits(files_max=1_000))
    assert names_in(tmp_path) == []


async def test_nothing_is_overwritten(there: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    await there.attach(await there.file("f", b"new"))
    write_tree(tmp_path, {"full": {"f": b"old"}, "file": b"old", "empty": {}, "link": "empty"})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = read_tree(tmp_path)
    for name in ("full", "file", "link", "here", "a\0b"):
        with pytest.raises(Invalid):
            await restore(there.turns, there.turn_id, tmp_path / name)
    with pytest.raises(Invalid, match="current directory"):
        await restore(there.turns, there.turn_id, ".")
    with pytest.raises(NotFound, match="make it first"):
        await restore(there.turns, there.turn_id, tmp_path / "no" / "such")
    assert read_tree(tmp_path) == before


async def test_who_comes_first_keeps_the_name(there: Kept, tmp_path: Path):
    await there.attach(await there.file("f", b"new"))
    target = tmp_path / "new"

    def rush(_: SnapshotProgress) -> None:
        write_tree(target, {"g": b"theirs"})

    with pytest.raises(Invalid, match="not empty"):
        await restore(there.turns, there.turn_id, target, progress=rush)
    assert read_tree(tmp_path) == {"new": {"g": b"theirs"}}


async def test_who_comes_first_at_the_last_moment_keeps_the_name(
    there: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await there.attach(await there.file("f", b"new"))
    rename = os.rename

    def rush(source: Path, target: Path) -> None:
        write_tree(target, {"g": b"theirs"})
        rename(source, target)

    monkeypatch.setattr(os, "rename", rush)
    with pytest.raises(Invalid, match="somebody else wrote"):
        await restore(there.turns, there.turn_id, tmp_path / "new")
    assert read_tree(tmp_path) == {"new": {"g": b"theirs"}}


@pytest.mark.parametrize(("number", "error"), [(28, PersistenceError), (17, Unsupported), (13, Forbidden)])
async def test_a_disk_that_fails_leaves_nothing(
    there: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
):
    await there.attach(await there.folder("d", await there.file("a", b"a"), await there.file("b", b"b"), mode=0o500))
    fchmod, calls = os.fchmod, 0

    def failing(fd: int, mode: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(number, os.strerror(number))
        fchmod(fd, mode)

    monkeypatch.setattr(os, "fchmod", failing)
    with pytest.raises(error):
        await restore(there.turns, there.turn_id, tmp_path / "new")
    assert calls == 2
    assert names_in(tmp_path) == []


async def test_an_object_that_is_gone_leaves_nothing(there: Kept, tmp_path: Path):
    await there.attach(await there.file("f", b"f"), TreeEntry(name="gone", hash=b"\x01" * 32))
    with pytest.raises(Corrupt, match="restore it from a backup") as found:
        await restore(there.turns, there.turn_id, tmp_path / "new")
    assert found.value.detail["path"] == "gone"
    assert names_in(tmp_path) == []


async def test_a_directory_that_is_no_directory_leaves_nothing(there: Kept, tmp_path: Path):
    no_tree = await there.file("d", b"no tree")
    await there.attach(TreeEntry(name="d", kind=EntryKind.DIRECTORY, hash=no_tree.hash))
    with pytest.raises(Corrupt, match="no directory"):
        await restore(there.turns, there.turn_id, tmp_path / "new")
    await attach_raw(there, [b"\x82\x01\xa1a\x05\xc4\x02ab"])
    with pytest.raises(Corrupt, match="no address"):
        await restore(there.turns, there.turn_id, tmp_path / "new")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_what_ends_half_way_leaves_nothing(there: Kept, tmp_path: Path, *, is_cancelled: bool):
    shut = await there.folder("shut", await there.file("in", b"in"), mode=0)
    await there.attach(shut, *[await there.file(f"f{number}", b"%d" % number) for number in range(40)])
    arrived = asyncio.Event()

    def written(report: SnapshotProgress) -> None:
        if report.done == 10:
            arrived.set()
            there.backend.before = stop

    async def stop(_: str) -> None:
        if not is_cancelled:
            raise BackendDown("nothing answers")
        await asyncio.Event().wait()

    restoring = asyncio.create_task(restore(there.turns, there.turn_id, tmp_path / "new", progress=written))
    await arrived.wait()
    assert [name[:17] for name in names_in(tmp_path)] == [".perdure-restore-"]
    if is_cancelled:
        restoring.cancel()
    with pytest.raises(asyncio.CancelledError if is_cancelled else BackendDown):
        await restoring
    assert names_in(tmp_path) == []


async def test_a_turn_without_a_snapshot_is_told(there: Kept, tmp_path: Path):
    with pytest.raises(NotFound, match="no snapshot"):
        await restore(there.turns, there.turn_id, tmp_path / "new")
    assert names_in(tmp_path) == []
