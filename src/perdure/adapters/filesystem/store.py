"""One directory, locked and read: what the writer thread holds between open and close."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters.filesystem.compaction import DEAD_BYTES_MIN
from perdure.adapters.filesystem.directory import prepare_directory, take_lock
from perdure.adapters.filesystem.file_ops import FileOps
from perdure.adapters.filesystem.index import MEMORY_BYTES_MAX, Index
from perdure.adapters.filesystem.segment_log import SEGMENT_BYTES_MAX, SegmentLog

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesystemLimits:
    """How much of what; the defaults suit a laptop.

    ``memory_bytes_max`` bounds all documents, which are kept in memory; a directory that holds more can be opened, and
    only made smaller. ``segment_bytes_max`` is when the next file is begun, and ``dead_bytes_min`` what has to be
    superseded or removed, at least, before the rest is rewritten.
    """

    memory_bytes_max: int = MEMORY_BYTES_MAX
    segment_bytes_max: int = SEGMENT_BYTES_MAX
    dead_bytes_min: int = DEAD_BYTES_MIN


class Store:
    """The lock, the log and the documents of one directory. ``open`` and ``close`` block."""

    def __init__(self, files: FileOps, directory: Path, lock_fd: int, log: SegmentLog, index: Index) -> None:
        self.directory = directory
        self.log = log
        self.index = index
        self._files = files
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, files: FileOps, directory: Path, limits: FilesystemLimits) -> Store:
        """Take the directory and read it, or raise with nothing held."""
        prepare_directory(files, directory)
        lock_fd = take_lock(files, directory)
        log = SegmentLog(files, directory, segment_bytes_max=limits.segment_bytes_max)
        index = Index()
        store = cls(files, directory, lock_fd, log, index)
        try:
            log.open(index.load)
        except BaseException:
            with contextlib.suppress(OSError):  # the error above is the one to tell
                store.close(sync=False)
            raise
        index.settle()
        return store

    def close(self, *, sync: bool) -> None:
        """Let go of everything, synced if ``sync``."""
        try:
            self.log.close(sync=sync)
        finally:
            try:
                self._files.unlock(self._lock_fd)
            finally:
                self._files.close(self._lock_fd)
