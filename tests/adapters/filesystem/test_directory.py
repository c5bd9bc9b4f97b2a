"""Whose the directory is: one process's at a time, nobody else's, and nothing but documents."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from perdure.adapters.filesystem.driver import FilesystemDriver
from perdure.errors import BackendDown, Forbidden, Invalid, PersistenceError
from tests.adapters.filesystem.documents import SMALL, TIMEOUT_S, commit, documents, opened, put
from tests.adapters.filesystem.faulty_files import FaultyFiles

ROOT = Path(__file__).parents[3]


async def test_a_second_opener_in_this_process_is_refused_by_pid(tmp_path: Path) -> None:
    async with opened(tmp_path / "documents") as driver:
        await commit(driver, put("a"))
        second = FilesystemDriver(tmp_path / "documents")
        with pytest.raises(Forbidden, match=rf"this process \(pid {os.getpid()}\) has .*/documents open") as caught:
            await second.open()
        assert caught.value.code == "directory_in_use"
        await second.close()
        await commit(driver, put("b"))
        assert [*await documents(driver)] == ["a", "b"]
    await second.open()
    assert [*await documents(second)] == ["a", "b"]
    await second.close()


async def test_an_opener_in_another_process_is_refused_until_the_holder_is_killed(tmp_path: Path) -> None:
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.adapters.filesystem.killed_writer", str(tmp_path / "documents"), "1"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    second = FilesystemDriver(tmp_path / "documents")
    try:
        assert await holder.stdout.readline() == b"0\n"
        with pytest.raises(Forbidden, match=rf"another process \(pid {holder.pid}\) has"):
            await second.open()
    finally:
        holder.kill()
        await holder.communicate()
    await second.open()
    assert [*await documents(second)] == ["head", "k000000"]
    await second.close()


async def test_a_longer_pid_of_an_earlier_holder_does_not_show(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    directory.mkdir()
    (directory / "lock").write_text("9" * 19)
    async with opened(directory):
        assert (directory / "lock").read_text().split() == [str(os.getpid())]


async def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(tmp_path / "new" / "parents" / "documents", limits=SMALL) as driver:
            for number in range(20):
                await commit(driver, put("a", number, b'"%s"' % (b"x" * 100)))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*")}
    assert len(modes) > 4
    for name, mode in modes.items():
        assert mode == (0o700 if name in {"parents", "documents"} else 0o600), name
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


async def test_an_empty_directory_is_taken_and_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir(mode=0o755)
    async with opened(tmp_path / "documents"):
        assert stat.S_IMODE((tmp_path / "documents").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["notes.txt", "segment-1", "segment-0000000000000001.bak", ".hidden"])
async def test_a_directory_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "documents"
    directory.mkdir(mode=0o755)
    (directory / name).write_text("mine")
    with pytest.raises(Invalid, match="holds 1 thing") as caught:
        await FilesystemDriver(directory).open()
    assert caught.value.code == "foreign_directory"
    assert [path.name for path in directory.iterdir()] == [name]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755


async def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "documents").write_text("mine")
    with pytest.raises(Invalid, match="is not a directory"):
        await FilesystemDriver(tmp_path / "documents").open()
    with pytest.raises(Invalid, match="name another directory"):
        await FilesystemDriver(tmp_path / "documents" / "below").open()


async def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    directory.mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    (directory / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid):
        await FilesystemDriver(directory).open()
    assert (tmp_path / "elsewhere").read_text() == "mine"


async def test_a_failed_opening_leaves_the_directory_free(tmp_path: Path) -> None:
    files = FaultyFiles()
    files.fail_next("rename")
    failed = FilesystemDriver(tmp_path / "documents", files=files)
    with pytest.raises(PersistenceError, match=r"cannot open .*/documents: made to fail: rename"):
        await failed.open()
    async with opened(tmp_path / "documents") as driver:
        await commit(driver, put("a"))
    await failed.close()
    await failed.open()
    assert [*await documents(failed)] == ["a"]
    await failed.close()


async def test_an_opening_whose_caller_went_away_leaves_the_directory_free(tmp_path: Path) -> None:
    driver = FilesystemDriver(tmp_path / "documents")
    opening = asyncio.create_task(driver.open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()
    with pytest.raises(BackendDown):
        await driver.probe(timeout_s=TIMEOUT_S)
    async with opened(tmp_path / "documents"):
        pass


async def test_a_directory_taken_away_shows_in_the_probe(tmp_path: Path) -> None:
    async with opened(tmp_path / "documents") as driver:
        await driver.probe(timeout_s=TIMEOUT_S)
        (tmp_path / "documents").rename(tmp_path / "elsewhere")
        with pytest.raises(PersistenceError, match="is not there any more") as caught:
            await driver.probe(timeout_s=TIMEOUT_S)
        assert caught.value.code == "directory_gone"


async def test_an_unknown_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="expected always, interval or never"):
        FilesystemDriver(tmp_path, fsync="sometimes")  # type: ignore[arg-type]
