"""The lock of a root: one process at a time, given up by the kernel when that process ends, however it ends."""

from __future__ import annotations

import errno
import logging
import os
import weakref
from pathlib import Path
from typing import Final

from perdure.adapters.nodefiles.file_operations import FILE_MODE, FileOps
from perdure.domain.tasklists.failures import StoreLocked
from perdure.domain.tasklists.snapshot_names import LOCK_NAME

_logger = logging.getLogger("perdure.tasklists")


class RootLock:
    """The lock file of a root, held or not. What the file holds means nothing, and it is never removed."""

    def __init__(self, files: FileOps, root: Path) -> None:
        self._files = files
        self._root = root
        self._path = root / LOCK_NAME
        self._fd: int | None = None
        self._pid = 0

    def acquire(self) -> None:
        """Hold the root. Raises ``StoreLocked`` if somebody does, ``OSError`` if there can be no lock."""
        assert self._fd is None, "acquired once"
        fd = self._open()
        try:
            self._files.lock(fd)
            # Between opening and locking somebody may have put another root here: that one is not locked.
            self._check_same(fd)
        except BlockingIOError as exc:
            self._files.close(fd)
            raise self._locked("somebody else") from exc
        except BaseException:
            self._files.close(fd)
            raise
        self._fd, self._pid = fd, self._files.process_id()
        _HELD.add(self)

    def release(self) -> None:
        """Let go; nothing if it is not held."""
        fd, self._fd = self._fd, None
        _HELD.discard(self)
        if fd is None:
            return
        try:
            # A program that is being started has a copy until it runs, and closing this one would not be enough.
            if self._pid == self._files.process_id():
                self._files.unlock(fd)
        finally:
            self._files.close(fd)

    @property
    def is_held(self) -> bool:
        """Whether this process holds the root: not a child that was forked from the one that does."""
        return self._fd is not None and self._pid == self._files.process_id()

    def check(self) -> None:
        """Raise ``StoreLocked`` unless this process holds the root."""
        if not self.is_held:
            raise self._locked("this process does not hold it; perhaps the one it was forked from")

    def drop_inherited(self) -> None:
        """Close a child's copy, which would keep the root locked after the holder's end."""
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                os.close(fd)
            except OSError as exc:
                _logger.warning("the lock of %s may outlive its holder in a child process: %s", self._root, exc)

    def _check_same(self, fd: int) -> None:
        locked, there = self._files.file_stat(fd), self._files.stat(self._path)
        if (locked.st_dev, locked.st_ino) != (there.st_dev, there.st_ino):
            raise BlockingIOError

    def _open(self) -> int:
        try:
            fd = self._files.open(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as exc:
            if exc.errno not in {errno.EROFS, errno.EACCES}:
                raise
            return self._files.open(self._path, os.O_RDONLY)  # enough to read a root that cannot be written
        try:
            self._files.set_mode(fd, FILE_MODE)
        except BaseException:
            self._files.close(fd)
            raise
        return fd

    def _locked(self, who: str) -> StoreLocked:
        return StoreLocked(
            f"{self._root} is held: {who}; one process at a time may: stop that one, or name another root",
            path=str(self._root),
        )


_HELD: Final[weakref.WeakSet[RootLock]] = weakref.WeakSet()


def _drop_in_child() -> None:
    for lock in list(_HELD):
        lock.drop_inherited()
    _HELD.clear()


os.register_at_fork(after_in_child=_drop_in_child)
