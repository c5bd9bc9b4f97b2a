"""A process that writes: python -m tests.adapters.sqlite.writer PATH fill|append COUNT.

``fill`` commits one commit after another, several at a time, and prints the number of each that was acknowledged;
``append`` numbers items after a shared head, in a race with whoever else does.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from perdure.adapters.sqlite.driver import SqliteDriver
from perdure.testing.contracts.documents_clients import append
from perdure.testing.contracts.documents_opening import Shelf, put, text

PARTITION = "written"
DOCUMENTS = 5
TASKS = 4


async def main(path: Path, what: str, count: int) -> None:
    driver = SqliteDriver(path)
    await driver.open()
    shelf = Shelf(driver=driver, partition=PARTITION)
    if what == "append":
        await append(shelf, count=count)
    else:
        await asyncio.gather(*(fill(shelf, task, count) for task in range(TASKS)))
    await driver.close()


async def fill(shelf: Shelf, task: int, count: int) -> None:
    for number in range(task, count, TASKS):
        await shelf.commit(*(put(f"k{number:06}-{part}", body=text(1_000 + number)) for part in range(DOCUMENTS)))
        print(number, flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
