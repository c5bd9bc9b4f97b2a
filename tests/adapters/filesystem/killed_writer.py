"""A writer to be killed: python -m tests.adapters.filesystem.killed_writer DIRECTORY COMMITS.

Commits one document after the other, small segments and all, and prints each number once it is acknowledged; after
COMMITS of them it waits. With 0 it never stops.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from perdure.adapters.filesystem.driver import FilesystemDriver
from perdure.adapters.filesystem.store import FilesystemLimits
from tests.adapters.filesystem.documents import commit, put

LIMITS = FilesystemLimits(segment_bytes_max=20_000, dead_bytes_min=10_000)
WRITERS = 3


async def main(directory: Path, commits: int) -> None:
    """Several at the same time, so that some are written together; each overwrites a document too, to fill the log."""
    driver = FilesystemDriver(directory, limits=LIMITS)
    await driver.open()
    numbers = itertools.count() if commits == 0 else iter(range(commits))

    async def write() -> None:
        for number in numbers:
            await commit(driver, put(f"k{number:06}", number), put("head", number, b'"%s"' % (b"x" * 500)))
            print(number, flush=True)  # noqa: T201 - stdout is the pipe to the test

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    sys.stdin.read()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
