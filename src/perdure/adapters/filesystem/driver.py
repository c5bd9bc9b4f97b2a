"""The document driver on one directory: the log on disk, the documents in memory.

Reads are answered from memory on the event loop, from what is acknowledged. Commits are judged there too, then written
by one thread; while it writes, the next ones gather, and go to the disk together. Only the event loop changes the
documents, and only after their bytes are where the policy wants them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar

from perdure.adapters.filesystem.compaction import CHUNK_BYTES, Rewriting, is_due
from perdure.adapters.filesystem.failures import from_os_error
from perdure.adapters.filesystem.file_ops import FileOps
from perdure.adapters.filesystem.judging import Judge
from perdure.adapters.filesystem.log_format import Change, encode_changes
from perdure.adapters.filesystem.store import FilesystemLimits, Store
from perdure.adapters.filesystem.waiting import WaitingCommit, take_together
from perdure.errors import BackendDown, Invalid, LimitExceeded, OutcomeUnknown, PerdureError, PersistenceError
from perdure.ports.capabilities import Capabilities
from perdure.ports.document_rules import check_commit, check_get, check_scan
from perdure.ports.documents import (
    COMMIT_BYTES_MAX,
    COMMIT_WRITES_MAX,
    DOCUMENT_BYTES_MAX,
    PARTITION_CHARS_MAX,
    SORT_CHARS_MAX,
    Document,
    ExpectationFailed,
    Page,
    Write,
)

Fsync: TypeAlias = Literal["always", "interval", "never"]

COMMIT_ID_CHARS_MAX: Final = 1_000  # it stands in every document; ids have 36
FSYNC_INTERVAL_S: Final = 1.0  # what a power failure may cost at most with ``interval``, beside the sync itself

CAPABILITIES: Final = Capabilities(
    consistency="strong",
    durable=True,
    shared=False,
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

_Result = TypeVar("_Result")
_logger = logging.getLogger(__name__)


class FilesystemDriver:
    """Documents in a directory of this machine, which one process at a time has open.

    ``fsync`` is what an acknowledgement means: with ``always`` the commit is on the disk; with ``interval`` it is at
    most ``fsync_interval_s`` later; with ``never`` whenever the system likes. In each case it survives the end of this
    process, however that comes; the difference is what a power failure costs.
    """

    def __init__(
        self,
        directory: Path,
        *,
        fsync: Fsync = "always",
        fsync_interval_s: float = FSYNC_INTERVAL_S,
        limits: FilesystemLimits | None = None,
        files: FileOps | None = None,
    ) -> None:
        if fsync not in {"always", "interval", "never"}:
            raise Invalid(f"fsync is {fsync!r}; expected always, interval or never")
        self._directory = directory.absolute()
        self._fsync = fsync
        self._fsync_interval_s = fsync_interval_s
        self._limits = limits or FilesystemLimits()
        self._files = files or FileOps()
        self._writer: ThreadPoolExecutor | None = None
        self._rewriter: ThreadPoolExecutor | None = None
        self._store: Store | None = None
        self._is_open = False
        self._waiting: deque[WaitingCommit] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._compacting: asyncio.Task[None] | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._sync_due: asyncio.TimerHandle | None = None
        self._doubtful: set[str] = set()
        self._appended_bytes = 0

    @property
    def capabilities(self) -> Capabilities:
        """Those of the port's own limits; one process at a time."""
        return CAPABILITIES

    async def open(self) -> None:
        """Make the directory if it is missing, lock it, and read it.

        Raises ``Forbidden`` while another has it open, ``Invalid`` if it holds something else, ``Corrupt`` if what it
        holds is damaged, and ``LegacyArtifact`` if a newer release wrote it. A write that was cut short at the very
        end, and so never acknowledged, is cut off.
        """
        assert self._writer is None, "closed before it is opened again"
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="perdure-files")
        self._rewriter = ThreadPoolExecutor(1, thread_name_prefix="perdure-rewriting")
        opening = asyncio.ensure_future(
            self._in_writer(lambda: Store.open(self._files, self._directory, self._limits), doing="open")
        )
        try:
            self._store = await asyncio.shield(opening)
        except BaseException:
            # The thread cannot be stopped: what it opens for a caller that went away must be closed again.
            await asyncio.wait([opening])
            if not opening.cancelled() and opening.exception() is None:
                self._store = opening.result()
            await self.close()
            raise
        self._appended_bytes = self._store.log.length
        self._doubtful.clear()
        self._is_open = True

    async def close(self) -> None:
        """Finish the commits under way, leave a rewriting where it is, and let go of the directory."""
        self._is_open = False
        if self._sync_due is not None:
            self._sync_due.cancel()
            self._sync_due = None
        while self._writing is not None:
            await asyncio.wait([self._writing])
        while self._compacting is not None:
            await asyncio.wait([self._compacting])
        if self._syncing is not None:
            await asyncio.wait([self._syncing])
        store, self._store = self._store, None
        try:
            if store is not None:
                sync = self._fsync != "never"
                await self._in_writer(lambda: store.close(sync=sync), doing="close")
        finally:
            pools, self._writer, self._rewriter = (self._writer, self._rewriter), None, None
            for pool in pools:
                if pool is not None:
                    pool.shutdown()

    async def probe(self, *, timeout_s: float) -> None:
        """Raise unless the directory is there and takes commits."""
        store = self._open_store()
        try:
            async with asyncio.timeout(timeout_s):
                await self._in_writer(store.log.probe, doing="look at")
        except TimeoutError as exc:
            raise BackendDown(f"{self._directory} did not answer within {timeout_s:g} s; look at the disk") from exc

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """The documents with these keys that are there."""
        del timeout_s
        check_get(partition, sorts)
        index = self._readable(partition).index
        found = ((sort, index.find(partition, sort)) for sort in sorts)
        return {sort: document for sort, document in found if document is not None}

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
        """A slice of the keys in order, cut where its bodies reach ``SCAN_BYTES_MAX``."""
        del timeout_s
        check_scan(partition, start, end, limit)
        return self._readable(partition).index.scan(partition, start, end, limit, reverse=reverse)

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """Write all of it or nothing, together with whatever else waits for the disk. Tokens are not needed and None.

        Raises ``TimedOut`` if it was not begun in time and ``OutcomeUnknown`` if it was, ``LimitExceeded`` if there is
        no memory left for it, and ``PersistenceError`` if the disk refused it.
        """
        check_commit(partition, writes)
        if len(commit_id) > COMMIT_ID_CHARS_MAX:
            raise LimitExceeded(
                f"{len(commit_id)} characters in a commit's id; at most {COMMIT_ID_CHARS_MAX} (commit_id_chars_max)",
                limit="commit_id_chars_max",
                allowed=COMMIT_ID_CHARS_MAX,
                actual=len(commit_id),
            )
        self._open_store()
        commit = WaitingCommit(partition=partition, writes=tuple(writes), commit_id=commit_id)
        self._waiting.append(commit)
        self._write_on()
        await commit.wait(timeout_s=timeout_s)
        return [None] * len(commit.writes)

    def _open_store(self) -> Store:
        if self._store is None or not self._is_open:
            raise BackendDown("this driver is not open; open it first, and do not use it after close")
        return self._store

    def _readable(self, partition: str) -> Store:
        store = self._open_store()
        if partition in self._doubtful:
            raise PersistenceError(
                "a commit to this partition may or may not be on the disk, so nothing true can be said about it; close "
                f"{self._directory}, look at the disk, and open it again",
                code="reopen_needed",
            )
        return store

    def _write_on(self) -> None:
        if self._writing is None and self._waiting:
            self._writing = asyncio.get_running_loop().create_task(self._write_waiting())
            self._writing.add_done_callback(self._wrote)

    def _wrote(self, task: asyncio.Task[None]) -> None:
        self._writing = None
        if task.cancelled():  # the loop ends: nobody is left waiting for an answer that never comes
            while self._waiting:
                self._waiting.popleft().answer.cancel()
        else:
            self._write_on()

    async def _write_waiting(self) -> None:
        store = self._store
        assert store is not None, "closing waits for what is under way"
        while batch := take_together(self._waiting):
            try:
                await self._write_together(store, batch)
            except Exception as exc:  # noqa: BLE001 - handed to everybody who waits for this write
                for commit in batch:
                    commit.resolve(exc)
            finally:
                for commit in batch:
                    commit.answer.cancel()  # does nothing to those that have one
            self._compact_if_due(store)

    async def _write_together(self, store: Store, batch: Sequence[WaitingCommit]) -> None:
        judge = Judge(store.index, memory_bytes_max=self._limits.memory_bytes_max)
        refused: dict[WaitingCommit, Exception] = {}
        changes: list[Change] = []
        for commit in batch:
            try:
                changes.append(judge.judge(commit.partition, commit.writes, commit_id=commit.commit_id))
            except (ExpectationFailed, LimitExceeded) as exc:
                refused[commit] = exc
        changes = [change for change in changes if change.documents or change.removed]
        if changes:
            await self._append(store, changes)
            for change in changes:
                store.index.apply(change)
        # A refusal may rest on a commit of the same write, so it is not told before that one is there.
        for commit in batch:
            commit.resolve(refused.get(commit))

    async def _append(self, store: Store, changes: Sequence[Change]) -> None:
        content = encode_changes(changes)
        sync = self._fsync == "always"
        try:
            await self._in_writer(lambda: store.log.append(content, sync=sync), doing="write to")
        except OutcomeUnknown:
            self._doubtful.update(change.partition for change in changes)
            raise
        self._appended_bytes += len(content)
        if self._fsync == "interval" and self._sync_due is None and self._is_open:
            self._sync_due = asyncio.get_running_loop().call_later(self._fsync_interval_s, self._sync_soon, store)

    def _sync_soon(self, store: Store) -> None:
        self._sync_due = None
        self._syncing = asyncio.get_running_loop().create_task(self._sync(store))

    async def _sync(self, store: Store) -> None:
        try:
            await self._in_writer(store.log.sync, doing="sync")
        except PerdureError:  # the log refuses whatever comes next, so somebody will be told
            _logger.exception("the document directory could not be synced")

    def _compact_if_due(self, store: Store) -> None:
        if (
            self._compacting is None
            and self._is_open
            and store.log.refusal is None
            and is_due(
                log_bytes=store.log.length,
                live_bytes=store.index.stored_bytes,
                appended_bytes=self._appended_bytes,
                dead_bytes_min=self._limits.dead_bytes_min,
            )
        ):
            self._appended_bytes = 0
            self._compacting = asyncio.get_running_loop().create_task(self._compact(store))
            self._compacting.add_done_callback(self._compacted)

    def _compacted(self, task: asyncio.Task[None]) -> None:
        self._compacting = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("the documents could not be rewritten; it is tried again later", exc_info=error)

    async def _compact(self, store: Store) -> None:
        """Rewrite what is alive. Commits go on, and until the last step nothing of it counts."""
        old = await self._in_writer(store.log.begin_compaction, doing="rewrite")
        rewriting = Rewriting(store.log, segment_bytes_max=self._limits.segment_bytes_max)
        done = False
        try:
            done = await self._rewrite(store, old, rewriting)
        finally:
            if not done and store.log.refusal is None:  # otherwise the disk may have the new log already
                await self._in_rewriter(rewriting.abandon)

    async def _rewrite(self, store: Store, old: Sequence[int], rewriting: Rewriting) -> bool:
        """Whether it was finished; closing does not wait for it."""
        for chunk in store.index.chunks(chunk_bytes=CHUNK_BYTES):
            await self._in_rewriter(partial(rewriting.write, chunk))
            if not self._is_open:
                return False
        new = await self._in_rewriter(rewriting.finish)
        if not self._is_open:
            return False
        await self._in_writer(lambda: store.log.replace(old, new), doing="rewrite")
        return True

    async def _in_rewriter(self, work: Callable[[], _Result]) -> _Result:
        assert self._rewriter is not None, "opened"
        return await self._in(self._rewriter, work, doing="rewrite")

    async def _in_writer(self, work: Callable[[], _Result], *, doing: str) -> _Result:
        assert self._writer is not None, "opened"
        return await self._in(self._writer, work, doing=doing)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], _Result], *, doing: str) -> _Result:
        """Do file work in a thread. Errors of the system leave here as Perdure's."""
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except OSError as exc:
            raise from_os_error(exc, doing=doing, path=self._directory) from exc
