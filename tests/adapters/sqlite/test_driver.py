"""What a file adds to the contract: waiting for others, a full disk, damage, modes and marks."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event

import pytest

from perdure.adapters.sqlite.driver import GROUP_COMMITS_MAX, WAITING_MAX, SqliteDriver
from perdure.adapters.sqlite.errors import translate
from perdure.adapters.sqlite.file import DocumentFile
from perdure.errors import (
    BackendDown,
    Corrupt,
    Forbidden,
    Invalid,
    LegacyArtifact,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Throttled,
    TimedOut,
)
from perdure.ports.documents import Expect, ExpectationFailed
from perdure.testing.contracts.documents_opening import Shelf, new_id, put, text

SOON_S = 0.02  # a wait that is meant to run out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "documents.db"


@pytest.fixture
async def driver(path: Path) -> AsyncIterator[SqliteDriver]:
    driver = SqliteDriver(path)
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
def shelf(driver: SqliteDriver) -> Shelf:
    return Shelf(driver=driver, partition="p")


@pytest.fixture
def other(path: Path, driver: SqliteDriver) -> Iterator[sqlite3.Connection]:
    """Somebody else on the same file."""
    del driver  # it makes the file
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def writer_of(driver: SqliteDriver) -> sqlite3.Connection:
    file = driver._file
    assert isinstance(file, DocumentFile)
    return file._connection


def content(path: Path) -> bytes:
    return path.read_bytes()


def diary(path: Path) -> bytes:
    path.write_bytes(b"dear diary, " * 1_000)
    return content(path)


def damage(path: Path) -> None:
    """Everything but the first page."""
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * (path.stat().st_size - 4_096))


async def soon(shelf: Shelf, sort: str) -> None:
    await shelf.driver.commit(shelf.partition, [put(sort)], commit_id=new_id(), timeout_s=SOON_S)


async def test_a_commit_that_never_gets_its_turn_is_not_done_then_or_later(
    shelf: Shelf, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN IMMEDIATE")
    patient = asyncio.create_task(shelf.commit(put("b")))
    with pytest.raises(TimedOut):
        await soon(shelf, "a")
    assert await shelf.sorts() == []  # reading waits for nobody
    other.execute("ROLLBACK")
    await patient
    await shelf.commit(put("c"))
    assert await shelf.sorts() == ["b", "c"]


async def test_a_commit_under_way_when_its_time_is_up_may_be_done(driver: SqliteDriver, shelf: Shelf) -> None:
    stuck = Event()
    writer_of(driver).set_trace_callback(lambda statement: statement == "COMMIT" and stuck.wait())
    with pytest.raises(OutcomeUnknown):
        await soon(shelf, "a")
    stuck.set()
    await shelf.commit(put("b"))
    assert await shelf.sorts() == ["a", "b"]


async def test_commits_that_wait_together_share_a_transaction_and_not_a_fate(
    driver: SqliteDriver, shelf: Shelf, other: sqlite3.Connection
) -> None:
    await shelf.fill("k00")
    statements: list[str] = []
    writer_of(driver).set_trace_callback(statements.append)
    other.execute("BEGIN IMMEDIATE")
    commits = [
        asyncio.create_task(shelf.commit(put(f"k{number:02}", 2, expect=Expect.ABSENT)))
        for number in range(GROUP_COMMITS_MAX)
    ]
    await asyncio.sleep(0)
    other.execute("ROLLBACK")
    fates = await asyncio.gather(*commits, return_exceptions=True)
    assert [type(fate) for fate in fates] == [ExpectationFailed, *[list] * (GROUP_COMMITS_MAX - 1)]
    assert 1 <= statements.count("COMMIT") <= 2  # the first may have gone ahead alone
    assert [document.version for document in await shelf.all()] == [1, *[2] * (GROUP_COMMITS_MAX - 1)]


async def test_so_many_commits_may_wait_and_not_one_more(shelf: Shelf, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    commits = [asyncio.create_task(shelf.commit(put(f"k{number}"))) for number in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Throttled):
        await shelf.commit(put("z"))
    other.execute("ROLLBACK")
    await asyncio.gather(*commits)
    assert len(await shelf.sorts()) == WAITING_MAX


async def test_so_many_reads_may_wait_and_not_one_more(shelf: Shelf) -> None:
    reads = [asyncio.create_task(shelf.get("a")) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Throttled):
        await shelf.get("a")
    assert await asyncio.gather(*reads) == [{}] * WAITING_MAX


async def test_a_full_disk_is_told_and_leaves_nothing_half_written(driver: SqliteDriver, shelf: Shelf) -> None:
    await shelf.fill("a")
    before = await shelf.all()
    writer = writer_of(driver)
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 20}")
    with pytest.raises(PersistenceError, match="disk is full") as caught:
        await shelf.commit(put("a", 2, expect=1), *(put(f"k{number}", body=text(50_000)) for number in range(10)))
    assert caught.value.detail["reason"] == "disk_full"
    assert await shelf.all() == before
    await shelf.commit(put("a", 2, expect=1))  # room for a little is still there
    writer.execute("PRAGMA max_page_count = 1000000")
    await shelf.commit(*(put(f"k{number}", body=text(50_000)) for number in range(10)))
    assert len(await shelf.all()) == 11


async def test_a_damaged_page_is_never_an_empty_answer(path: Path) -> None:
    driver = SqliteDriver(path)
    await driver.open()
    shelf = Shelf(driver=driver, partition="p")
    sorts = [f"k{number:03}" for number in range(100)]
    await shelf.commit(*(put(sort, body=text(900)) for sort in sorts))
    await driver.close()
    damage(path)
    await driver.open()
    for attempt in (shelf.get(*sorts), shelf.all(), shelf.commit(put("a", expect=Expect.ABSENT))):
        with pytest.raises(Corrupt):
            await attempt
    await driver.close()


async def test_a_row_changed_from_outside_is_damage(shelf: Shelf, other: sqlite3.Connection) -> None:
    await shelf.fill("a", "b")
    other.execute("UPDATE documents SET body = 'text' WHERE sort = 'b'")
    for attempt in (shelf.get("b"), shelf.all()):
        with pytest.raises(Corrupt):
            await attempt
    assert set(await shelf.get("a")) == {"a"}


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    before = diary(path)
    with pytest.raises(Corrupt):
        await SqliteDriver(path).open()
    assert content(path) == before


async def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE documents (id)")
    connection.close()
    before = content(path)
    with pytest.raises(Invalid, match="another program"):
        await SqliteDriver(path).open()
    assert content(path) == before


async def test_a_newer_schema_is_refused(path: Path, driver: SqliteDriver, other: sqlite3.Connection) -> None:
    await driver.close()
    other.execute("PRAGMA user_version = 2")
    newer = SqliteDriver(path)
    with pytest.raises(LegacyArtifact):
        await newer.open()
    await newer.close()
    with pytest.raises(BackendDown):
        await newer.probe(timeout_s=1)


async def test_our_mark_without_our_table_is_damage(
    path: Path, driver: SqliteDriver, other: sqlite3.Connection
) -> None:
    await driver.close()
    other.execute("DROP TABLE documents")
    with pytest.raises(Corrupt):
        await SqliteDriver(path).open()


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BackendDown):
        await SqliteDriver(tmp_path).open()


async def test_the_file_and_its_log_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "made" / "documents.db"
    driver = SqliteDriver(path)
    await driver.open()
    await Shelf(driver=driver, partition="p").fill("a")
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["documents.db", "documents.db-shm", "documents.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await driver.close()
    assert [file.name for file in path.parent.iterdir()] == ["documents.db"]


async def test_a_read_that_takes_too_long_is_told_so(driver: SqliteDriver, shelf: Shelf) -> None:
    await shelf.fill("a")
    await shelf.get("a")
    assert driver._file is not None
    (reader,) = driver._file._readers
    stuck = Event()
    reader.set_trace_callback(lambda _: stuck.wait())
    with pytest.raises(TimedOut):
        await driver.get("p", ["a"], timeout_s=SOON_S)
    stuck.set()
    assert set(await shelf.get("a")) == {"a"}


async def test_opening_waits_for_a_process_that_has_the_file_for_itself(path: Path, driver: SqliteDriver) -> None:
    await driver.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("INSERT INTO documents VALUES ('p', 'a', 1, 'c', NULL, x'6e')")
    other.execute("COMMIT")  # the lock stays
    patient = SqliteDriver(path)
    waiting = asyncio.create_task(patient.open())
    await asyncio.sleep(0)
    other.close()
    await waiting
    assert set(await patient.get("p", ["a"], timeout_s=30)) == {"a"}
    await patient.close()


@pytest.mark.parametrize(
    ("code", "committing", "error"),
    [
        (sqlite3.SQLITE_BUSY, True, Throttled),
        (sqlite3.SQLITE_LOCKED, False, Throttled),
        (sqlite3.SQLITE_FULL, True, PersistenceError),
        (sqlite3.SQLITE_CORRUPT_INDEX, True, Corrupt),
        (sqlite3.SQLITE_NOTADB, False, Corrupt),
        (sqlite3.SQLITE_READONLY_DBMOVED, False, Forbidden),
        (sqlite3.SQLITE_CANTOPEN, False, BackendDown),
        (sqlite3.SQLITE_IOERR_FSYNC, True, OutcomeUnknown),
        (sqlite3.SQLITE_IOERR_FSYNC, False, PersistenceError),
    ],
)
def test_each_error_of_the_engine_says_what_to_do(code: int, *, committing: bool, error: type[PerdureError]) -> None:
    exc = sqlite3.OperationalError("as the engine says it")
    exc.sqlite_errorcode = code
    told = translate(exc, committing=committing)
    assert type(told) is error


def test_an_error_without_a_code_is_one_all_the_same() -> None:
    assert type(translate(sqlite3.ProgrammingError("cannot operate on a closed database"))) is PersistenceError
