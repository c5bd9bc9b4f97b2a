"""A few words to write and read documents in a directory, and a story of commits that uses all of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from perdure.adapters.filesystem.driver import FilesystemDriver, Fsync
from perdure.adapters.filesystem.file_ops import FileOps
from perdure.adapters.filesystem.index import Index
from perdure.adapters.filesystem.store import FilesystemLimits, Store
from perdure.errors import OutcomeUnknown, PerdureError, Unavailable
from perdure.ports.documents import Document, Expect, Put, Remove, Write
from tests.adapters.filesystem.faulty_files import FaultyFiles

TIMEOUT_S: Final = 60.0
SMALL: Final = FilesystemLimits(segment_bytes_max=700, dead_bytes_min=500)
PARTITIONS: Final = ("p1", "p2")

State = dict[tuple[str, str], tuple[int, bytes, str]]


@asynccontextmanager
async def opened(
    directory: Path, *, fsync: Fsync = "always", limits: FilesystemLimits | None = None, files: FileOps | None = None
) -> AsyncIterator[FilesystemDriver]:
    """A driver for as long as the block."""
    driver = FilesystemDriver(directory, fsync=fsync, limits=limits, files=files or FaultyFiles())
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()


def put(sort: str, version: int = 1, body: bytes = b"{}") -> Put:
    """A put whatever is there."""
    return Put(sort=sort, version=version, body=body, expect=Expect.ANY)


async def commit(driver: FilesystemDriver, *writes: Write, partition: str = "p1", commit_id: str = "c") -> None:
    """One commit."""
    await driver.commit(partition, writes, commit_id=commit_id, timeout_s=TIMEOUT_S)


async def documents(driver: FilesystemDriver, partition: str = "p1") -> dict[str, Document]:
    """Everything in one partition, which is little."""
    page = await driver.scan(partition, start="A", end="~", limit=1_000, timeout_s=TIMEOUT_S)
    assert not page.more
    return {document.sort: document for document in page.documents}


def stored(directory: Path, files: FileOps | None = None) -> State:
    """What a new start finds in the directory, which is read and closed again."""
    store = Store.open(files or FaultyFiles(), directory, FilesystemLimits())
    try:
        return _state(store.index)
    finally:
        store.close(sync=False)


def _state(index: Index) -> State:
    return {
        (change.partition, document.sort): (document.version, document.body, document.commit_id)
        for chunk in index.chunks(chunk_bytes=1_000)
        for change in chunk
        for document in change.documents
    }


async def rewritten(driver: FilesystemDriver) -> None:
    """Return when nothing is being rewritten."""
    while driver._compacting is not None:
        await asyncio.wait([driver._compacting])


STORY: Final[Sequence[tuple[str, tuple[Write, ...]]]] = [
    (
        PARTITIONS[number % 2],
        (
            put(f"k{number % 3}", number, b'"%s"' % (b"x" * (40 + 11 * number))),
            put(f"n{number}", number),
            Remove(sort=f"n{number - 4}", expect=Expect.ANY),
        ),
    )
    for number in range(20)
]


@dataclass(slots=True)
class Told:
    """What the story's commits were told: what must be there, what else may be, and what was there in turn."""

    sure: State = field(default_factory=dict)
    history: list[State] = field(default_factory=lambda: [{}])
    possible: list[State] = field(default_factory=list)
    refused: list[PerdureError] = field(default_factory=list)

    @property
    def allowed(self) -> list[State]:
        """Each state that a new start may find."""
        return [self.sure, *self.possible]


async def tell_story(directory: Path, files: FileOps, *, fsync: Fsync = "always") -> Told:
    """Commit after commit, going on after each failure, with small segments that are rewritten now and then."""
    told = Told()
    driver = FilesystemDriver(directory, fsync=fsync, limits=SMALL, files=files)
    try:
        await driver.open()
        for number, (partition, writes) in enumerate(STORY):
            after = _after(told.sure, partition, writes, f"c{number}")
            try:
                await commit(driver, *writes, partition=partition, commit_id=f"c{number}")
            except OutcomeUnknown:
                told.possible.append(after)
            except Unavailable as exc:
                told.refused.append(exc)
            else:
                assert not told.possible, "what is in doubt forbids further commits"
                told.sure = after
                told.history.append(after)
            await rewritten(driver)
    except Unavailable as exc:
        told.refused.append(exc)
    try:
        await driver.close()
    except Unavailable as exc:
        told.refused.append(exc)
    return told


def _after(before: State, partition: str, writes: Sequence[Write], commit_id: str) -> State:
    after = dict(before)
    for write in writes:
        if isinstance(write, Put):
            after[partition, write.sort] = (write.version, write.body, commit_id)
        else:
            after.pop((partition, write.sort), None)
    return after
