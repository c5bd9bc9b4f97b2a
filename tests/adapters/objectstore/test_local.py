"""Objects in a directory: on the disk before a put returns, and never half there."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from perdure.adapters.objectstore import local_files, opening
from perdure.adapters.objectstore.store import LEFTOVER_AGE_S, ObstoreObjects
from perdure.core.environment import system_environment
from perdure.domain.object import SPOOL_BYTES_MAX, object_digest
from perdure.errors import BackendDown, Invalid, PerdureError, PersistenceError
from perdure.testing.contracts.objects_opening import content, in_chunks
from perdure.testing.contracts.stores import TIMEOUT_S, new_space

SPACE = new_space()


async def opened(directory: Path) -> ObstoreObjects:
    store = opening.local(directory, mode="lab", env="dev", environment=system_environment())
    await store.open(timeout_s=TIMEOUT_S)
    return store


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.mark.skipif(sys.platform != "linux", reason="looks the file up behind a descriptor in /proc")
@pytest.mark.parametrize("size", [10, SPOOL_BYTES_MAX + 1])
async def test_a_put_returns_when_file_and_directories_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    store = await opened(tmp_path / "o")
    synced: list[tuple[str, bool]] = []
    really = os.fsync

    def fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        synced.append((path.relative_to(tmp_path / "o").as_posix(), path.is_dir()))
        really(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    ref = await store.put(SPACE, in_chunks(content(size), 1_000_000), timeout_s=TIMEOUT_S)
    (path,) = files(tmp_path / "o" / "objects")
    of_file = [number for number, (name, is_directory) in enumerate(synced) if not is_directory]
    # The space's name and the object: the bytes first, then every directory on the way down to them.
    assert len(of_file) == 2
    after = {name for name, is_directory in synced[of_file[-1] :] if is_directory}
    parents = [path.parents[level].relative_to(tmp_path / "o").as_posix() for level in range(6)]
    assert after >= set(parents)
    assert path.parent.name == ref.digest
    synced.clear()
    await store.put(SPACE, content(size), timeout_s=TIMEOUT_S)
    assert [is_directory for _, is_directory in synced] == [False, True, True]
    assert {name for name, is_directory in synced if is_directory} == set(parents[:2])


async def test_nothing_of_a_put_is_left_beside_its_object(tmp_path: Path) -> None:
    store = await opened(tmp_path / "o")
    for size in (0, 10, SPOOL_BYTES_MAX + 1):
        await store.put(SPACE, in_chunks(content(size), 1_000_000), timeout_s=TIMEOUT_S)
        with pytest.raises(PerdureError):
            await store.put(SPACE, content(size), expected_digest=object_digest(b"other"), timeout_s=TIMEOUT_S)
    assert files(tmp_path / "o" / "incoming") == []
    assert len(files(tmp_path / "o" / "objects")) == 3


@pytest.mark.parametrize("size", [10, SPOOL_BYTES_MAX + 1])
async def test_a_disk_that_fails_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    store = await opened(tmp_path / "o")
    await store.put(SPACE, b"before", timeout_s=TIMEOUT_S)

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(PersistenceError) as caught:
            await store.put(SPACE, in_chunks(content(size), 1_000_000), timeout_s=TIMEOUT_S)
    assert caught.value.code == "disk_full"
    assert await store.find(SPACE, object_digest(content(size)), timeout_s=TIMEOUT_S) is None
    assert files(tmp_path / "o" / "incoming") == []
    await store.put(SPACE, content(size), timeout_s=TIMEOUT_S)


async def test_a_spool_that_fails_is_told(tmp_path: Path) -> None:
    store = await opened(tmp_path / "o")
    (tmp_path / "o" / "incoming").rmdir()
    with pytest.raises(PersistenceError):
        await store.put(SPACE, in_chunks(content(SPOOL_BYTES_MAX + 1), 1_000_000), timeout_s=TIMEOUT_S)
    assert files(tmp_path / "o" / "objects") == []


async def test_what_a_killed_put_left_is_swept_when_a_day_has_passed(tmp_path: Path) -> None:
    store = await opened(tmp_path / "o")
    ref = await store.put(SPACE, b"kept", timeout_s=TIMEOUT_S)
    now = system_environment().clock.now().timestamp()
    incoming = tmp_path / "o" / "incoming"
    for name, age_s in (("old1", LEFTOVER_AGE_S + 60), ("old2", LEFTOVER_AGE_S + 60), ("new", LEFTOVER_AGE_S - 60)):
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (now - age_s, now - age_s))
    assert await store.sweep(limit=1, timeout_s=TIMEOUT_S) == 1
    assert await store.sweep(limit=10, timeout_s=TIMEOUT_S) == 1
    assert await store.sweep(limit=10, timeout_s=TIMEOUT_S) == 0
    assert [path.name for path in files(incoming)] == ["new"]
    assert await store.find(SPACE, ref.digest, timeout_s=TIMEOUT_S) == ref


async def test_a_directory_that_is_gone_is_an_outage_and_not_an_empty_store(tmp_path: Path) -> None:
    store = await opened(tmp_path / "o")
    ref = await store.put(SPACE, b"kept", timeout_s=TIMEOUT_S)
    (tmp_path / "o").rename(tmp_path / "elsewhere")
    for there in (False, True):
        if there:
            (tmp_path / "o").mkdir()  # a mount point without what was mounted there
        for attempt in (
            store.put(SPACE, b"new", timeout_s=TIMEOUT_S),
            store.find(SPACE, ref.digest, timeout_s=TIMEOUT_S),
            store.get(SPACE, ref.digest, timeout_s=TIMEOUT_S),
            store.list(SPACE, limit=1, timeout_s=TIMEOUT_S),
            store.delete(SPACE, ref.digest, timeout_s=TIMEOUT_S),
            store.spaces(SPACE.tenant, limit=1, timeout_s=TIMEOUT_S),
            store.probe(timeout_s=TIMEOUT_S),
        ):
            with pytest.raises(BackendDown):
                await attempt
    (tmp_path / "o").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "o")
    assert await store.find(SPACE, ref.digest, timeout_s=TIMEOUT_S) == ref


async def test_a_place_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((Invalid, PersistenceError)):
        await opened(tmp_path / "file" / "below")


async def test_deleting_leaves_no_directory_of_the_object(tmp_path: Path) -> None:
    store = await opened(tmp_path / "o")
    ref = await store.put(SPACE, b"a", timeout_s=TIMEOUT_S)
    await store.put(SPACE, b"a", timeout_s=TIMEOUT_S)
    assert len(files(tmp_path / "o" / "objects")) == 1
    await store.delete(SPACE, ref.digest, timeout_s=TIMEOUT_S)
    assert [path.name for path in (tmp_path / "o" / "objects").rglob(ref.digest)] == []


async def test_files_of_somebody_else_are_no_objects(tmp_path: Path) -> None:
    store = await opened(tmp_path / "o")
    ref = await store.put(SPACE, b"a", timeout_s=TIMEOUT_S)
    (path,) = files(tmp_path / "o" / "objects")
    for name in ("README", "1.2.3", f"{path.name}.bak", "x." + path.name, "a.b.!!"):
        (path.parent / name).write_bytes(b"wrong")
    (path.parent.parent / "stray").write_bytes(b"wrong")
    page = await store.list(SPACE, limit=10, timeout_s=TIMEOUT_S)
    assert (list(page.objects), page.more) == ([ref], False)
    found = await store.get(SPACE, ref.digest, timeout_s=TIMEOUT_S)
    assert [chunk async for chunk in found.chunks] == [b"a"]


async def test_puts_and_deletions_of_one_object_never_trip_over_its_directory(tmp_path: Path) -> None:
    stores = [await opened(tmp_path / "o") for _ in range(2)]

    async def put_and_delete(store: ObstoreObjects) -> None:
        for _ in range(40):
            ref = await store.put(SPACE, b"a", timeout_s=TIMEOUT_S)
            page = await store.list(SPACE, limit=2, timeout_s=TIMEOUT_S)
            assert len(page.objects) <= 1
            await store.delete(SPACE, ref.digest, timeout_s=TIMEOUT_S)

    await asyncio.gather(*(put_and_delete(store) for store in stores * 2))
    assert files(tmp_path / "o" / "incoming") == []


def test_what_is_no_old_file_is_not_swept(tmp_path: Path) -> None:
    place = local_files.LocalFiles(tmp_path / "o")
    place.prepare()
    (place.incoming / "dangling").symlink_to(tmp_path / "nothing")
    assert place.leftovers(before_s=0.0, limit=10) == 0
