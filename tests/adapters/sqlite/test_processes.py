"""Processes that share a file, and one that is killed while it writes."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path

import pytest

from perdure.adapters.sqlite.driver import SqliteDriver
from perdure.testing.contracts.documents_opening import Shelf, put
from tests.adapters.sqlite.writer import DOCUMENTS, PARTITION

ROOT = Path(__file__).parents[3]


async def start(path: Path, what: str, count: int) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.adapters.sqlite.writer", str(path), what, str(count)), cwd=ROOT, stdout=PIPE
    )


@pytest.mark.parametrize("acknowledged", [1, 7, 40, 150])
async def test_what_was_acknowledged_to_a_killed_process_is_there_and_every_commit_is_whole(
    tmp_path: Path, acknowledged: int
) -> None:
    path = tmp_path / "documents.db"
    process = await start(path, "fill", 1_000_000)
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(acknowledged)]
    process.send_signal(signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines(keepends=True)
    assert await process.wait() == -signal.SIGKILL
    told = {int(line) for line in lines if line.endswith(b"\n")}
    driver = SqliteDriver(path)
    await driver.open()
    documents = await Shelf(driver=driver, partition=PARTITION).all()
    parts = Counter(int(document.sort[1:7]) for document in documents)
    assert told <= set(parts)
    assert set(parts.values()) == {DOCUMENTS}
    assert all(len(document.body) == 1_000 + int(document.sort[1:7]) for document in documents)
    await driver.close()


async def test_processes_that_race_for_the_same_version_number_without_gaps(tmp_path: Path) -> None:
    path = tmp_path / "documents.db"
    driver = SqliteDriver(path)
    await driver.open()
    shelf = Shelf(driver=driver, partition=PARTITION)
    await shelf.commit(put("head", 0))
    processes = [await start(path, "append", 40) for _ in range(2)]
    assert [await process.wait() for process in processes] == [0, 0]
    assert await shelf.sorts("item-", "item-~") == [f"item-{number:04}" for number in range(1, 81)]
    assert (await shelf.one("head")).version == 80
    await driver.close()


async def test_processes_that_open_a_new_file_at_once_all_get_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "documents.db"
    processes = [await start(path, "fill", 40) for _ in range(3)]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    driver = SqliteDriver(path)
    await driver.open()
    assert len(await Shelf(driver=driver, partition=PARTITION).sorts()) == 40 * DOCUMENTS
    await driver.close()
