"""The document driver of one SQLite file. Threads wait for the disk; the event loop never does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Final, TypeVar

from perdure.adapters.sqlite.file import Commit, DocumentFile
from perdure.errors import BackendDown, OutcomeUnknown, Throttled, TimedOut
from perdure.ports.capabilities import Capabilities
from perdure.ports.document_rules import check_commit, check_get, check_scan
from perdure.ports.documents import (
    COMMIT_BYTES_MAX,
    COMMIT_WRITES_MAX,
    DOCUMENT_BYTES_MAX,
    PARTITION_CHARS_MAX,
    SORT_CHARS_MAX,
    Document,
    Page,
    Write,
)

CAPABILITIES: Final = Capabilities(
    consistency="strong",
    durable=True,
    shared=True,
    ttl=False,
    change_feed=False,
    node_local=True,
    document_bytes_max=DOCUMENT_BYTES_MAX,
    sort_bytes_max=SORT_CHARS_MAX,
    partition_name_bytes_max=PARTITION_CHARS_MAX,
    batch_writes_max=COMMIT_WRITES_MAX,
    batch_bytes_max=COMMIT_BYTES_MAX,
    partition_bytes_max=None,
)

READERS_MAX: Final = 4  # threads, and connections, that read at the same time; more only wait for the same disk
WAITING_MAX: Final = 1_000  # calls of each kind that wait for a thread; each holds what it wants to write
GROUP_COMMITS_MAX: Final = 64  # commits that share one sync of the disk; more would keep the first one waiting
OPEN_TIMEOUT_S: Final = 30.0  # another process may be making the table or bringing the log home

_Result = TypeVar("_Result")


class SqliteDriver:
    """Documents in the file at ``path``, made with its folder if it is not there.

    Several processes of one machine may use the file. Commits that wait for the disk at the same time share one sync.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: DocumentFile | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._commits: deque[Commit] = deque()
        self._reads = 0
        self._writes = 0

    @property
    def capabilities(self) -> Capabilities:
        """Those of the port's own limits: SQLite's are wider."""
        return CAPABILITIES

    async def open(self) -> None:
        """Make the file, or see that it is one of ours and of a schema that this release knows."""
        assert self._file is None, "open once"
        self._file = DocumentFile(self._path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="perdure-writer")
        self._readers = ThreadPoolExecutor(READERS_MAX, thread_name_prefix="perdure-reader")
        withdrawn = Event()
        try:
            await _answer(self._writer.submit(self._file.open, withdrawn), withdrawn, timeout_s=OPEN_TIMEOUT_S)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish the calls under way and close the file; a commit that still waits gets its turn first."""
        file, writer, readers = self._file, self._writer, self._readers
        self._file = self._writer = self._readers = None
        if file is None or writer is None or readers is None:
            return

        def finish() -> None:
            """The last thing the writer does."""
            readers.shutdown()
            file.close()

        # The writer's thread does one thing after another, so that what was sent before is done before.
        closed = writer.submit(finish)
        writer.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(closed))

    async def probe(self, *, timeout_s: float) -> None:
        """Read from the table."""
        await self._read(lambda file, withdrawn: file.probe(withdrawn), timeout_s=timeout_s)

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """The documents with these keys that are there, in one statement."""
        check_get(partition, sorts)
        return await self._read(lambda file, withdrawn: file.get(partition, sorts, withdrawn), timeout_s=timeout_s)

    async def scan(
        self,
        partition: str,
        *,
        start: str,
        end: str,
        limit: int,
        reverse: bool = False,
        timeout_s: float,
    ) -> Page:
        """One walk along the primary key, which ends with the page."""
        check_scan(partition, start, end, limit)
        return await self._read(
            lambda file, withdrawn: file.scan(partition, start, end, limit, withdrawn, reverse=reverse),
            timeout_s=timeout_s,
        )

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """Write all of it or nothing, and return when it is on the disk. Tokens are not needed and None."""
        check_commit(partition, writes)
        if self._file is None or self._writer is None:
            raise _closed()
        if self._writes >= WAITING_MAX:
            raise Throttled(f"{WAITING_MAX} commits wait for the database file; send fewer at a time")
        commit = Commit(partition=partition, writes=tuple(writes), commit_id=commit_id)
        self._writes += 1
        self._commits.append(commit)
        # One turn each; whoever comes first takes the others along, and theirs find nothing left to do.
        self._writer.submit(_take_turn, self._file, self._commits)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(commit.future)
        except TimeoutError as exc:
            if commit.future.cancel():
                raise TimedOut(
                    f"{timeout_s} s were not enough to get a turn to write, so nothing was written; another process, "
                    "or many commits, hold the database file",
                ) from exc
            if commit.future.done():
                return commit.future.result()
            raise OutcomeUnknown(
                f"the disk did not answer within {timeout_s} s, so that the commit may be kept or not; "
                "sending it again is safe"
            ) from exc
        finally:
            self._writes -= 1

    async def _read(self, read: Callable[[DocumentFile, Event], _Result], *, timeout_s: float) -> _Result:
        if self._file is None or self._readers is None:
            raise _closed()
        if self._reads >= WAITING_MAX:
            raise Throttled(f"{WAITING_MAX} reads wait for the database file; send fewer at a time")
        self._reads += 1
        withdrawn = Event()
        try:
            return await _answer(self._readers.submit(read, self._file, withdrawn), withdrawn, timeout_s=timeout_s)
        finally:
            self._reads -= 1


def _take_turn(file: DocumentFile, waiting: deque[Commit]) -> None:
    group: list[Commit] = []
    while waiting and len(group) < GROUP_COMMITS_MAX:
        group.append(waiting.popleft())
    if group:
        file.commit(group)


async def _answer(future: Future[_Result], withdrawn: Event, *, timeout_s: float) -> _Result:
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.wrap_future(future)
    except TimeoutError as exc:
        raise TimedOut(f"the database file did not answer within {timeout_s} s; is another process using it?") from exc
    finally:
        withdrawn.set()  # nobody waits any more: a thread that does may stop


def _closed() -> BackendDown:
    return BackendDown("this driver is not open; open it first, and do not use it after close")
