"""Every file operation of this adapter, in one object, so that a test can make any of them fail.

Each method is one system call, and blocks: only the adapter's own threads call them.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Final, Literal

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600

# On macOS fsync leaves the bytes in the drive's own cache; this asks the drive too. Linux does that in fsync.
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


class FileOps:
    """The operating system's files. Everything raises ``OSError``."""

    def kind(self, path: Path) -> Literal["missing", "directory", "other"]:
        """What is at ``path``, symbolic links followed."""
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return "missing"
        return "directory" if stat.S_ISDIR(mode) else "other"

    def names(self, directory: Path) -> list[str]:
        """What the directory holds, in order of names."""
        return sorted(entry.name for entry in directory.iterdir())

    def make_directory(self, path: Path) -> None:
        """Make one directory that only its owner may enter."""
        path.mkdir(DIRECTORY_MODE)

    def restrict(self, directory: Path) -> None:
        """Let only its owner enter a directory."""
        directory.chmod(DIRECTORY_MODE)

    def open(self, path: Path, flags: int) -> int:
        """Open a file, never through a link in its last part and never for children; a new one is its owner's only."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)

    def open_directory(self, path: Path) -> int:
        """Open a directory, to sync it."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Close a file."""
        os.close(fd)

    def size(self, fd: int) -> int:
        """How many bytes the file has."""
        return os.fstat(fd).st_size

    def read(self, fd: int, count: int, offset: int) -> bytes:
        """At most ``count`` bytes from ``offset``; none at the end."""
        return os.pread(fd, count, offset)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """Write at ``offset`` and return how many bytes were taken, which may be fewer."""
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, length: int) -> None:
        """Cut the file to ``length`` bytes."""
        os.ftruncate(fd, length)

    def sync(self, fd: int) -> None:
        """Return when the file is on the disk. After a failure nothing is known, and asking again proves nothing."""
        if _FULL_SYNC is not None:
            fcntl.fcntl(fd, _FULL_SYNC)
        else:
            os.fsync(fd)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file the name of another, which is gone then."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def lock(self, fd: int) -> None:
        """Take the file's lock at once; ``BlockingIOError`` if somebody holds it."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlock(self, fd: int) -> None:
        """Give the lock up, also in the name of children that inherited it."""
        fcntl.flock(fd, fcntl.LOCK_UN)


def read_all(files: FileOps, fd: int) -> bytes:
    """The whole file, in memory."""
    data = bytearray()
    while chunk := files.read(fd, max(files.size(fd) - len(data), 1), len(data)):
        data += chunk
    return bytes(data)


def write_all(files: FileOps, fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``, or raise with some of it written."""
    rest = memoryview(data)
    while rest:
        taken = files.write(fd, rest, offset)
        if taken == 0:
            raise OSError("a write took no bytes and gave no reason")
        rest = rest[taken:]
        offset += taken


def sync_directory(files: FileOps, directory: Path) -> None:
    """Return when the names in the directory are on the disk."""
    fd = files.open_directory(directory)
    try:
        files.sync(fd)
    finally:
        files.close(fd)
