"""A run is recorded to a directory whose disk fails: each failure is told as what it is, and opening again is clean."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.adapters.filesystem.directory import segment_path
from perdure.adapters.filesystem.driver import FilesystemDriver
from perdure.core.session_journal import SessionJournal
from perdure.errors import Forbidden, PersistenceError
from tests.adapters.filesystem.faulty_files import FaultyFiles, When
from tests.contracts.turn_stores import BlobsInMemory
from tests.support.recorded_turns import Record, TurnsOver, every_context, records_of, turns_on, watched
from tests.support.scripted_session import Script

RECORDS = 61  # of the whole script


class Disk:
    """A directory, and objects that outlive whoever opened it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = BlobsInMemory()
        self.files = FaultyFiles()
        self._driver: FilesystemDriver | None = None

    async def open(self) -> TurnsOver:
        """Open it, once more if it was opened before."""
        await self.close()
        self.files.fault = lambda _number, _name: None
        self._driver = FilesystemDriver(self.directory, files=self.files)
        return await turns_on(self._driver, self.blobs)

    async def close(self) -> None:
        """Close it."""
        if self._driver is not None:
            await self._driver.close()
            self._driver = None

    def fail_from_now(self, operation: str, when: When, *, number: int, after: int = 0) -> None:
        """Fail every operation of a name, once it was done ``after`` times more."""
        left = [after]

        def fault(_number: int, name: str) -> When | None:
            if name != operation:
                return None
            left[0] -= 1
            return when if left[0] < 0 else None

        self.files.errno = number
        self.files.fault = fault

    async def check_whole(self) -> None:
        """Telling the whole run again, to the directory opened again, completes it: each record once."""
        turns = await self.open()
        again = watched(turns, mode="required")
        await Script(again.recorder).tell()
        keys = [record.turn.idempotency_key for record in await everything_of(turns)]
        assert len(keys) == len(set(keys)) == again.recorder.status.written == RECORDS


async def everything_of(turns: TurnsOver) -> list[Record]:
    """Every record of every context."""
    found = [await records_of(turns, context.context_id) for context in await every_context(turns)]
    return [record for records in found for record in records]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    """A directory that is closed at the end."""
    made = Disk(tmp_path / "documents")
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("number", "operation", "when", "cause"),
    [
        (errno.ENOSPC, "write", "half", "disk_full"),
        (errno.EDQUOT, "write", "before", "disk_full"),
        (errno.EIO, "write", "half", "persistence_error"),
        (errno.EROFS, "write", "before", "forbidden"),
        (errno.EIO, "sync", "before", "reopen_needed"),
    ],
    ids=["full", "quota", "io", "read-only", "not-synced"],
)
async def test_f13_a_disk_that_fails_ends_a_run_that_must_be_recorded_and_telling_it_again_completes_it(
    disk: Disk, number: int, operation: str, when: When, cause: str
) -> None:
    told = watched(await disk.open(), mode="required")
    disk.fail_from_now(operation, when, number=number, after=20)
    with pytest.raises(PersistenceError) as ended:
        await Script(told.recorder).tell()
    assert (ended.value.code, ended.value.detail["cause"]) == ("recording_failed", cause)
    assert 1 < told.recorder.status.written < RECORDS
    await disk.check_whole()


async def test_f13_a_full_disk_is_one_warning_for_each_record_until_there_is_room(disk: Disk) -> None:
    told = watched(await disk.open(), mode="best_effort")
    session = SessionJournal(told.recorder, session_id="s")
    await session.session_started()
    disk.fail_from_now("write", "half", number=errno.ENOSPC)
    for text in ("lost", "lost too"):
        assert await session.user_turn_appended(content=text) is None
    disk.files.fault = lambda _number, _name: None
    await session.user_turn_appended(content="kept")
    assert [warning.code for warning in told.warnings] == ["disk_full"] * 2
    assert "free some space" in told.warnings[0].message
    turns = await disk.open()
    first, last = await everything_of(turns)
    assert (first.event_kind, last.values["content"], last.values["gap"]["lost"]) == ("session_start", "kept", 2)


async def test_f13_a_torn_tail_is_cut_off_and_its_record_is_told_again(disk: Disk) -> None:
    await Script(watched(await disk.open(), mode="required").recorder).tell()
    await disk.close()
    segment = segment_path(disk.directory, 1)
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-5])
    turns = await disk.open()
    assert len(await everything_of(turns)) == RECORDS - 1
    await disk.check_whole()


async def test_f13_a_second_process_is_refused_by_the_lock_and_harms_nothing(disk: Disk) -> None:
    told = watched(await disk.open(), mode="required")
    session = SessionJournal(told.recorder, session_id="s")
    await session.session_started()
    second = FilesystemDriver(disk.directory)
    with pytest.raises(Forbidden) as refused:
        await turns_on(second, disk.blobs)
    assert refused.value.code == "directory_in_use"
    await second.close()
    await session.session_ended(final_state="completed")
    assert len(await everything_of(await disk.open())) == 2


async def test_f13_a_directory_that_may_not_be_written_is_refused_when_it_is_opened(disk: Disk) -> None:
    files = FaultyFiles()
    files.errno = errno.EROFS
    files.fail(0, "from then on")
    with pytest.raises(Forbidden, match="make it writable"):
        await turns_on(FilesystemDriver(disk.directory, files=files), disk.blobs)
    await disk.check_whole()
