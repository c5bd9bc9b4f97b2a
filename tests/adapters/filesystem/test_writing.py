"""What an acknowledgement means, what is written together, and what a disk that fails leaves behind."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import pytest

from perdure.adapters.filesystem.directory import segment_path
from perdure.adapters.filesystem.driver import COMMIT_ID_CHARS_MAX, FilesystemDriver, Fsync
from perdure.adapters.filesystem.index import DOCUMENT_OVERHEAD_BYTES
from perdure.adapters.filesystem.log_format import stored_bytes
from perdure.adapters.filesystem.store import FilesystemLimits
from perdure.adapters.filesystem.waiting import WRITE_BYTES_MAX, WRITE_COMMITS_MAX, WaitingCommit, take_together
from perdure.errors import LimitExceeded, OutcomeUnknown, PersistenceError, TimedOut
from perdure.ports.documents import Expect, ExpectationFailed, Put, Remove, Require
from tests.adapters.filesystem.documents import TIMEOUT_S, commit, documents, opened, put, stored
from tests.adapters.filesystem.faulty_files import FaultyFiles


def started(driver: FilesystemDriver, *writes: Put | Remove, partition: str = "p1") -> asyncio.Task[None]:
    return asyncio.create_task(commit(driver, *writes, partition=partition))


async def test_commits_that_wait_together_share_one_write_and_one_sync(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", files=files) as driver:
        hold = files.hold("write")
        first = started(driver, put("first"))
        await hold.begin()
        others = [started(driver, put(f"k{number}"), partition=f"p{number % 7}") for number in range(50)]
        await asyncio.sleep(0)
        before = len(files.operations)
        hold.let_go()
        await asyncio.gather(first, *others)
        # The first alone was under way (its sync is counted here), the fifty others went together.
        assert files.operations[before:] == ["sync", "write", "sync"]
    assert len(stored(tmp_path / "documents")) == 51


@pytest.mark.parametrize(("fsync", "syncs"), [("always", 5), ("interval", 1), ("never", 0)])
async def test_a_policy_syncs_as_often_as_it_says(tmp_path: Path, fsync: Fsync, syncs: int) -> None:
    files = FaultyFiles()
    driver = FilesystemDriver(tmp_path / "documents", fsync=fsync, fsync_interval_s=3_600, files=files)
    await driver.open()
    before = len(files.operations)
    for number in range(5):
        await commit(driver, put(f"k{number}"))
    assert files.operations[before:].count("sync") == (syncs if fsync == "always" else 0)
    await driver.close()
    assert files.operations[before:].count("sync") == syncs
    assert len(stored(tmp_path / "documents")) == 5


async def test_nothing_is_acknowledged_or_read_before_it_is_synced(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", files=files) as driver:
        await commit(driver, put("a", 1))
        hold = files.hold("sync")
        task = started(driver, put("a", 2))
        await hold.begin()
        assert not task.done()
        assert (await documents(driver))["a"].version == 1
        hold.let_go()
        await task
        assert (await documents(driver))["a"].version == 2


async def test_an_interval_syncs_once_for_all_that_was_written_before(tmp_path: Path) -> None:
    files = FaultyFiles()
    driver = FilesystemDriver(tmp_path / "documents", fsync="interval", fsync_interval_s=0, files=files)
    await driver.open()
    hold = files.hold("sync")
    await commit(driver, put("a"))
    await hold.begin()
    hold.let_go()
    await driver.close()
    assert stored(tmp_path / "documents") == {("p1", "a"): (1, b"{}", "c")}


async def test_a_failed_sync_of_an_interval_stops_further_commits(tmp_path: Path) -> None:
    files = FaultyFiles()
    driver = FilesystemDriver(tmp_path / "documents", fsync="interval", fsync_interval_s=3_600, files=files)
    await driver.open()
    await commit(driver, put("a"))
    files.fail_next("sync")
    assert driver._store is not None
    driver._sync_soon(driver._store)  # as if the interval were over
    assert driver._syncing is not None
    await asyncio.wait([driver._syncing])
    with pytest.raises(PersistenceError, match="takes no more commits because a sync failed") as caught:
        await commit(driver, put("b"))
    assert caught.value.code == "reopen_needed"
    assert [*await documents(driver)] == ["a"]  # it was acknowledged, and with an interval that does not mean synced
    await driver.close()


async def test_a_failed_sync_leaves_the_outcome_open_and_is_not_asked_again(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", files=files) as driver:
        await commit(driver, put("a"), partition="p1")
        await commit(driver, put("a"), partition="p2")
        files.fail_next("sync")
        with pytest.raises(OutcomeUnknown, match="may or may not be on the disk"):
            await commit(driver, put("b"), partition="p1")
        before = len(files.operations)
        for partition in ("p1", "p2"):
            with pytest.raises(PersistenceError, match="close it, look at the disk, and open it again") as caught:
                await commit(driver, put("b"), partition=partition)
            assert caught.value.code == "reopen_needed"
        # What is not known is not answered: neither that it is there nor that it is not.
        with pytest.raises(PersistenceError):
            await documents(driver, "p1")
        with pytest.raises(PersistenceError):
            await driver.get("p1", ["a"], timeout_s=TIMEOUT_S)
        assert [*await documents(driver, "p2")] == ["a"]
        with pytest.raises(PersistenceError):
            await driver.probe(timeout_s=TIMEOUT_S)
    assert "sync" not in files.operations[before:]
    async with opened(tmp_path / "documents") as driver:
        await commit(driver, put("c"))
        assert [*await documents(driver)] == ["a", "b", "c"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_said_and_leaves_the_driver_usable(tmp_path: Path, number: int) -> None:
    files = FaultyFiles()
    files.errno = number
    segment = segment_path(tmp_path / "documents", 1)
    async with opened(tmp_path / "documents", files=files) as driver:
        await commit(driver, put("a"))
        before = segment.read_bytes()
        files.fail_next("write", when="half")
        with pytest.raises(PersistenceError, match="the disk is full: free some space") as caught:
            await commit(driver, put("b"))
        assert caught.value.code == "disk_full"
        assert segment.read_bytes() == before
        await driver.probe(timeout_s=TIMEOUT_S)
        assert [*await documents(driver)] == ["a"]
        await commit(driver, put("c"))
    assert [sort for _, sort in stored(tmp_path / "documents")] == ["a", "c"]


async def fill_the_disk(driver: FilesystemDriver, written: list[str]) -> None:
    while True:
        await commit(driver, put(f"k{len(written):03}", 1, b'"%s"' % (b"x" * 50_000)))
        written.append(f"k{len(written):03}")


async def test_a_file_system_that_is_full_loses_nothing(tmp_path: Path) -> None:
    mount = await asyncio.create_subprocess_exec(
        *("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)), stderr=asyncio.subprocess.DEVNULL
    )
    if await mount.wait() != 0:
        pytest.skip("only root can mount a small file system")
    try:
        driver = FilesystemDriver(tmp_path / "documents")
        await driver.open()
        written: list[str] = []
        with pytest.raises(PersistenceError) as caught:
            await fill_the_disk(driver, written)
        assert caught.value.code == "disk_full"
        assert len(written) > 5
        await commit(driver, Remove(sort=written.pop(), expect=1))
        await driver.close()
        await driver.open()
        assert [*await documents(driver)] == written
        await driver.close()
    finally:
        unmount = await asyncio.create_subprocess_exec("umount", str(tmp_path))
        assert await unmount.wait() == 0


async def test_a_failed_write_that_cannot_be_undone_stops_further_commits(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", files=files) as driver:
        await commit(driver, put("a"))
        files.fail_always(write="half", truncate="before")
        with pytest.raises(OutcomeUnknown):
            await commit(driver, put("b"))
        files.fail_always()
        with pytest.raises(PersistenceError, match="a write failed half way and could not be undone"):
            await commit(driver, put("c"))
    assert [sort for _, sort in stored(tmp_path / "documents")] == ["a"]


async def test_a_write_that_takes_little_at_a_time_is_finished(tmp_path: Path) -> None:
    class Slow(FaultyFiles):
        def write(self, fd: int, data: memoryview, offset: int) -> int:
            return super().write(fd, data[:7], offset)

    async with opened(tmp_path / "documents", files=Slow()) as driver:
        await commit(driver, put("a", 1, b'"a long body"'))
    assert stored(tmp_path / "documents") == {("p1", "a"): (1, b'"a long body"', "c")}


async def test_a_refusal_that_rests_on_a_commit_waits_for_the_disk_too(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", files=files) as driver:
        rivals = [Put(sort="a", version=number, body=b"{}", expect=Expect.ABSENT) for number in (1, 2)]
        hold = files.hold("sync")
        tasks = [started(driver, rival) for rival in rivals]
        await hold.begin()
        assert [task.done() for task in tasks] == [False, False]
        hold.let_go()
        won, lost = await asyncio.gather(*tasks, return_exceptions=True)
        assert won is None
        assert isinstance(lost, ExpectationFailed)
        assert lost.found == (await documents(driver))["a"]


async def test_a_rival_of_a_commit_that_was_not_written_is_not_told_that_it_lost(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", files=files) as driver:
        rivals = [Put(sort="a", version=number, body=b"{}", expect=Expect.ABSENT) for number in (1, 2)]
        files.fail_next("write")
        told = await asyncio.gather(*(started(driver, rival) for rival in rivals), return_exceptions=True)
        assert [type(error) for error in told] == [PersistenceError, PersistenceError]
        await commit(driver, rivals[1])
        assert (await documents(driver))["a"].version == 2


async def test_time_that_runs_out_says_whether_the_commit_was_begun(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", files=files) as driver:
        hold = files.hold("write")
        with pytest.raises(OutcomeUnknown, match="may or may not happen"):
            await driver.commit("p1", [put("begun")], commit_id="c", timeout_s=0.001)
        await hold.begin()
        with pytest.raises(TimedOut, match="was not begun"):
            await driver.commit("p1", [put("waiting")], commit_id="c", timeout_s=0.001)
        hold.let_go()
        await commit(driver, put("last"))
        assert [*await documents(driver)] == ["begun", "last"]


async def test_a_caller_that_went_away_before_its_commit_was_begun_wrote_nothing(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", files=files) as driver:
        hold = files.hold("write")
        begun, waiting = started(driver, put("begun")), started(driver, put("later"))
        await hold.begin()
        late = started(driver, put("waiting"))
        await asyncio.sleep(0)
        for task in (begun, late):
            task.cancel()
        hold.let_go()
        await waiting
        assert [*await documents(driver)] == ["begun", "later"]


async def test_a_requirement_alone_writes_nothing(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", files=files) as driver:
        await commit(driver, put("a"))
        before = len(files.operations)
        await commit(driver, Require(sort="a"))
        with pytest.raises(ExpectationFailed):
            await commit(driver, Require(sort="b"))
        assert files.operations[before:] == []


async def test_memory_is_full_at_its_limit_and_what_is_there_can_still_go(tmp_path: Path) -> None:
    async with opened(tmp_path / "documents") as driver:
        await commit(driver, put("a", 1, b'"x"'))
        one = stored_bytes((await documents(driver))["a"]) + DOCUMENT_OVERHEAD_BYTES
    async with opened(tmp_path / "documents", limits=FilesystemLimits(memory_bytes_max=2 * one)) as driver:
        await commit(driver, put("b", 1, b'"x"'))
        for write in (put("c"), put("b", 2, b'"xy"')):
            with pytest.raises(LimitExceeded, match="choose another backend") as caught:
                await commit(driver, write)
            assert caught.value.detail["limit"] == "memory_bytes_max"
        await commit(driver, put("b", 2, b'"y"'))
        await commit(driver, Remove(sort="a", expect=1), put("c", 1, b'"z"'))
    async with opened(tmp_path / "documents", limits=FilesystemLimits(memory_bytes_max=1)) as driver:
        assert [*await documents(driver)] == ["b", "c"]
        await commit(driver, Remove(sort="b", expect=2))


async def test_an_id_of_a_commit_may_be_as_long_as_its_limit(tmp_path: Path) -> None:
    async with opened(tmp_path / "documents") as driver:
        await commit(driver, put("a"), commit_id="c" * COMMIT_ID_CHARS_MAX)
        with pytest.raises(LimitExceeded, match="commit_id_chars_max"):
            await commit(driver, put("b"), commit_id="c" * (COMMIT_ID_CHARS_MAX + 1))
        assert [*await documents(driver)] == ["a"]


async def test_one_write_takes_as_many_commits_as_its_limits_allow() -> None:
    many = deque(WaitingCommit(partition="p", writes=[put("a")], commit_id="c") for _ in range(WRITE_COMMITS_MAX + 1))
    assert len(take_together(many)) == WRITE_COMMITS_MAX
    assert len(many) == 1
    body = b"x" * 100_000
    overhead = WaitingCommit(partition="p", writes=[put("a", 1, body)], commit_id="c").frame_bytes - len(body)
    rest = WRITE_BYTES_MAX - 40 * (len(body) + overhead) - overhead
    for last, taken in ((rest, 41), (rest + 1, 40)):
        waiting = deque(
            WaitingCommit(partition="p", writes=[put("a", 1, b"x" * length)], commit_id="c")
            for length in [len(body)] * 40 + [last]
        )
        assert len(take_together(waiting)) == taken
    alone = deque([WaitingCommit(partition="p", writes=[put("a", 1, b"x" * (WRITE_BYTES_MAX + 1))], commit_id="c")])
    assert len(take_together(alone)) == 1


async def test_every_part_of_a_document_is_there_after_opening_again(tmp_path: Path) -> None:
    east = timezone(timedelta(hours=5, minutes=45))
    times = [datetime(2031, 2, 3, 4, 5, 6, 789_012, tzinfo=east), datetime.min.replace(tzinfo=UTC), None]
    async with opened(tmp_path / "documents") as driver:
        for number, expires_at in enumerate(times):
            write = Put(
                sort=f"k{number}", version=2**53 - 1, body=b"\xc3\xa9", expect=Expect.ABSENT, expires_at=expires_at
            )
            await commit(driver, write, commit_id="é")
        before = await documents(driver)
    async with opened(tmp_path / "documents") as driver:
        assert await documents(driver) == before
        assert [document.expires_at for document in before.values()] == times


def test_the_policies_are_three() -> None:
    assert get_args(Fsync) == ("always", "interval", "never")
