"""The store on a real directory: its port's sentences, odd files in the way, permissions."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.adapters.nodefiles.file_operations import FileOps
from perdure.adapters.nodefiles.quarantine import QUARANTINED_FILES_MAX
from perdure.adapters.nodefiles.snapshot_store import DEPTH_MAX, NodeFiles
from perdure.domain.tasklists.failures import (
    InvalidEncoding,
    PersistenceNotInitialized,
    SnapshotExists,
    SnapshotUnreadable,
    StoreLocked,
)
from perdure.domain.tasklists.manifest import Manifest
from perdure.domain.tasklists.retention import Usage
from perdure.domain.tasklists.snapshot_format import SNAPSHOT_BYTES_MAX
from perdure.domain.tasklists.snapshot_names import TIMESTAMP_MS_MAX, snapshot_name
from perdure.errors import PersistenceError, Unsupported
from tests.support.node_files import (
    LIST,
    FaultyFiles,
    Opened,
    encoded,
    failing_always,
    node_files,
    number,
    policy,
    put,
    temporaries,
    tree,
)


@contextmanager
def opened(root: Path, files: FileOps | None = None) -> Iterator[NodeFiles]:
    store = node_files(root, files)
    store.open(create=True)
    try:
        yield store
    finally:
        store.close()


def moments(store: NodeFiles, entity_id: str = LIST) -> list[int]:
    return [file.timestamp_ms for file in store.snapshots(entity_id)]


def test_what_is_published_is_there_for_a_fresh_reader_newest_first(tmp_path: Path):
    with opened(tmp_path) as store:
        for moment in (5, 7, 6):
            store.publish(LIST, moment, [b"he", b"", b"llo"])
    fresh = node_files(tmp_path)

    assert moments(fresh) == [7, 6, 5]
    assert fresh.read(LIST, 6) == b"hello"
    assert [file.size for file in fresh.snapshots(LIST)] == [5, 5, 5]
    assert fresh.lists() == [LIST]
    assert fresh.snapshots("never-seen") == []


def test_a_name_that_is_taken_is_not_touched(tmp_path: Path):
    with opened(tmp_path) as store:
        store.publish(LIST, 5, [b"first"])
        with pytest.raises(SnapshotExists):
            store.publish(LIST, 5, [b"second"])
        assert store.read(LIST, 5) == b"first"
    assert temporaries(tmp_path) == []


def test_a_write_of_the_last_name_works_and_the_next_one_is_a_typed_conflict(tmp_path: Path):
    put(tmp_path, TIMESTAMP_MS_MAX - 1, encoded(1))
    with Opened(tmp_path, policy()) as root:
        assert root.write(2) == TIMESTAMP_MS_MAX
        with pytest.raises(Exception, match="last name") as refused:
            root.write(3)
        assert getattr(refused.value, "code", None) == "snapshot_names_exhausted"
    assert sorted(tree(tmp_path / LIST)) == [snapshot_name(TIMESTAMP_MS_MAX - 1), snapshot_name(TIMESTAMP_MS_MAX)]


def test_nothing_is_written_moved_or_removed_without_the_hold(tmp_path: Path):
    put(tmp_path, 5, b"x")
    before = tree(tmp_path)
    store = node_files(tmp_path)
    for call in (
        lambda: store.publish(LIST, 6, [b"x"]),
        lambda: store.remove(LIST, 5),
        lambda: store.quarantine(LIST, 5),
        lambda: store.discard(LIST),
        lambda: store.write_manifest(Manifest(store_id="x", created_at_ms=1)),
    ):
        with pytest.raises(StoreLocked):
            call()
    assert tree(tmp_path) == before


def test_a_missing_root_is_not_made_unless_it_is_asked_for(tmp_path: Path):
    with pytest.raises(PersistenceNotInitialized):
        node_files(tmp_path / "missing").open(create=False)
    assert not (tmp_path / "missing").exists()
    assert node_files(tmp_path / "missing").read_manifest() is None


def test_upstream_08_a_manifest_is_none_then_what_was_written(tmp_path: Path):
    with opened(tmp_path) as store:
        assert store.read_manifest() is None
        for store_id in ("one", "two"):
            manifest = Manifest(store_id=store_id, created_at_ms=1)
            store.write_manifest(manifest)
            assert node_files(tmp_path).read_manifest() == manifest
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277, 0o777])
def test_fault_21_files_are_their_owner_s_whatever_the_mask(tmp_path: Path, mask: int):
    root = tmp_path / "a" / "root"
    before = os.umask(mask)
    try:
        with Opened(root, policy("strict")) as writer:
            writer.write(1)
            put_aside = writer.store.quarantine(LIST, writer.write(2))
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}

    assert f"a/root/{LIST}/quarantine/{put_aside}" in modes
    assert {mode for name, mode in modes.items() if (tmp_path / name).is_dir()} == {0o700}
    assert {mode for name, mode in modes.items() if (tmp_path / name).is_file()} == {0o600}


@pytest.mark.parametrize("kind", ["fifo", "directory", "symlink", "dangling"])
def test_fault_08_what_is_no_file_is_unreadable_and_never_waited_for(tmp_path: Path, kind: str):
    path = put(tmp_path, 5, b"x")
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        target = tmp_path / "target"
        if kind == "symlink":
            target.write_bytes(encoded(1))
        path.symlink_to(target)
    store = node_files(tmp_path)

    assert [(file.timestamp_ms, file.size) for file in store.snapshots(LIST)] == [(5, 0)]
    with pytest.raises(SnapshotUnreadable):
        store.read(LIST, 5)


def test_fault_08_a_list_s_directory_that_leads_outside_is_neither_read_nor_written(tmp_path: Path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    put(outside, 5, encoded(1))
    root.mkdir()
    (root / LIST).symlink_to(outside / LIST)
    before = tree(outside)
    with opened(root) as store:
        with pytest.raises(SnapshotUnreadable):
            store.snapshots(LIST)
        with pytest.raises(SnapshotUnreadable):
            store.read(LIST, 5)
        for call in (
            lambda: store.publish(LIST, 6, [b"x"]),
            lambda: store.discard(LIST),
        ):
            with pytest.raises(PersistenceError):
                call()
        assert store.lists() == []
    assert tree(outside) == before


def test_fault_08_a_root_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "root").write_text("a file")
    for mode in ("strict", "degraded"):
        if mode == "strict":
            with pytest.raises(PersistenceError):
                Opened(tmp_path / "root", policy(mode))
        else:
            with Opened(tmp_path / "root", policy(mode)) as root:
                assert root.recovery.outcome.value == "degraded_fallback"
    assert (tmp_path / "root").read_text() == "a file"


def test_a_root_may_be_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    with Opened(tmp_path / "root", policy("strict")) as root:
        root.write(1)
    with Opened(tmp_path / "real", policy("strict", initialize=False)) as root:
        assert root.recovery.value == 1


def test_fault_05_a_file_of_a_gigabyte_is_refused_without_being_read(tmp_path: Path):
    path = put(tmp_path, 5, b"")
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    store = node_files(tmp_path)
    with pytest.raises(InvalidEncoding, match="snapshot_bytes_max"):
        store.read(LIST, 5)
    with path.open("r+b") as file:
        file.truncate(SNAPSHOT_BYTES_MAX)
    assert len(store.read(LIST, 5)) == SNAPSHOT_BYTES_MAX


def test_fault_14_a_quarantine_holds_three_of_a_list_the_newest_and_loses_no_evidence_before(tmp_path: Path):
    with opened(tmp_path) as store:
        for moment in range(1, 6):
            put(tmp_path, moment, b"torn %d" % moment)
            store.quarantine(LIST, moment)
        put(tmp_path, 5, b"torn again")
        assert store.quarantine(LIST, 5) == f"corrupt-{snapshot_name(5)}.1"
    kept = {path.name: path.read_bytes() for path in (tmp_path / LIST / "quarantine").iterdir()}

    assert len(kept) == QUARANTINED_FILES_MAX
    assert kept == {
        f"corrupt-{snapshot_name(4)}": b"torn 4",
        f"corrupt-{snapshot_name(5)}": b"torn 5",
        f"corrupt-{snapshot_name(5)}.1": b"torn again",
    }


def test_foreign_files_in_quarantine_are_not_touched(tmp_path: Path):
    (tmp_path / LIST / "quarantine").mkdir(parents=True)
    (tmp_path / LIST / "quarantine" / "notes.txt").write_text("mine")
    with opened(tmp_path) as store:
        for moment in range(1, 6):
            put(tmp_path, moment, b"torn")
            store.quarantine(LIST, moment)
    assert (tmp_path / LIST / "quarantine" / "notes.txt").read_text() == "mine"


def test_usage_counts_every_regular_file_and_quarantine_apart(tmp_path: Path):
    with opened(tmp_path) as store:
        store.publish(LIST, 5, [b"12345"])
        store.publish("chores", 6, [b"123"])
        store.quarantine("chores", 6)
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "notes.txt").write_bytes(b"1234567")
        (tmp_path / LIST / "link").symlink_to("/dev/zero")
        assert store.usage() == Usage(used_bytes=12, quarantine_bytes=3)


def test_usage_looks_no_deeper_than_its_limit(tmp_path: Path):
    directory = tmp_path
    for _ in range(DEPTH_MAX + 1):
        directory = directory / "d"
    directory.mkdir(parents=True)
    (directory.parent / "counted").write_bytes(b"12")
    (directory / "not-counted").write_bytes(b"1234")
    with opened(tmp_path) as store:
        assert store.usage().used_bytes == 2


def test_upstream_31_temporary_files_are_no_snapshots_and_ours_are_swept_at_the_start(tmp_path: Path):
    put(tmp_path, 5, encoded(1))
    foreign = [tmp_path / LIST / "00000000000000000009.tmp", tmp_path / "notes.tmp"]
    ours = [
        tmp_path / LIST / f".{9:020d}.77.0af3.tmp",
        tmp_path / ".store.manifest.77.0af3.tmp",
    ]
    for path in (*foreign, *ours):
        path.write_bytes(number(9))
    with Opened(tmp_path, policy()) as root:
        assert root.recovery.value == 1
    assert [path.exists() for path in foreign] == [True, True]
    assert [path.exists() for path in ours] == [False, False]


def test_upstream_38_discarding_a_list_leaves_what_is_not_ours(tmp_path: Path):
    with opened(tmp_path) as store:
        for entity_id in (LIST, "chores"):
            store.publish(entity_id, 5, [b"x"])
            store.publish(entity_id, 6, [b"x"])
            store.quarantine(entity_id, 6)
        (tmp_path / LIST / "notes.txt").write_text("mine")
        store.discard(LIST)
        store.discard("chores")
        store.discard("never-seen")
    assert tree(tmp_path) == {f"{LIST}/notes.txt": b"mine"}
    assert not (tmp_path / "chores").exists()


def test_a_list_s_directory_that_is_made_again_is_synced_again(tmp_path: Path):
    files = FaultyFiles()
    with opened(tmp_path, files) as store:
        for moment in (5, 6):
            store.publish(LIST, moment, [b"x"])
            assert files.calls.count("sync") == 3, "the root, the file and its directory, both times"
            (tmp_path / LIST / snapshot_name(moment)).unlink()
            (tmp_path / LIST).rmdir()  # by somebody else
            files.calls.clear()


def test_a_file_system_without_hard_links_is_refused_with_advice(tmp_path: Path):
    files = FaultyFiles(failing_always(errno.EOPNOTSUPP, "link"))
    with opened(tmp_path, files) as store, pytest.raises(Unsupported, match="hard links"):
        store.publish(LIST, 5, [b"x"])
    assert temporaries(tmp_path) == []
