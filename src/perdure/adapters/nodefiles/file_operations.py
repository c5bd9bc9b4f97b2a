"""Every file operation of this adapter, in one object, so that a test can make any of them fail.

Each method is one system call, and blocks: only a worker thread calls them.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600

# On macOS fsync leaves the bytes in the drive's own cache; this asks the drive too. Linux does that in fsync.
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


class FileOps:
    """The operating system's files. Everything raises ``OSError``; no file is opened through a link to it."""

    def process_id(self) -> int:
        """This process."""
        return os.getpid()

    def stat(self, path: Path) -> os.stat_result:
        """What is at ``path``, be it a link."""
        return path.lstat()

    def names(self, directory: Path) -> list[str]:
        """What the directory holds, in order of names."""
        return sorted(os.listdir(directory))  # noqa: PTH208 - one call, and names as they are

    def make_directory(self, path: Path) -> None:
        """Make one directory that only its owner may enter."""
        path.mkdir(DIRECTORY_MODE)

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def open(self, path: Path, flags: int) -> int:
        """Open a file, never for children, never waiting for somebody at the other end."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, FILE_MODE)

    def open_directory(self, path: Path) -> int:
        """Open a directory, to sync it or to set its mode."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Close a file. After a failure it is closed all the same."""
        os.close(fd)

    def set_mode(self, fd: int, mode: int) -> None:
        """Set the permissions, whatever the process's mask took away."""
        os.fchmod(fd, mode)

    def file_stat(self, fd: int) -> os.stat_result:
        """What is open."""
        return os.fstat(fd)

    def read(self, fd: int, count: int) -> bytes:
        """At most ``count`` of the next bytes; none at the end."""
        return os.read(fd, count)

    def write(self, fd: int, data: memoryview) -> int:
        """Write, and return how many bytes were taken, which may be fewer."""
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Return when the file is on the disk. After a failure nothing is known, and asking again proves nothing."""
        if _FULL_SYNC is not None:
            fcntl.fcntl(fd, _FULL_SYNC)
        else:
            os.fsync(fd)

    def link(self, old: Path, new: Path) -> None:
        """Give a file another name, which must be free."""
        new.hardlink_to(old)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file the name of another, which is gone then."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def lock(self, fd: int) -> None:
        """Take the file's lock at once; ``BlockingIOError`` if somebody holds it."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlock(self, fd: int) -> None:
        """Give the lock up, also in the name of children that inherited it."""
        fcntl.flock(fd, fcntl.LOCK_UN)


def write_new(files: FileOps, path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file of its owner's; once it returns its bytes are on the disk, its name is not.

    A sync that failed is never asked again: the system may have dropped the bytes and would say that all is well.
    """
    fd = files.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        files.set_mode(fd, FILE_MODE)
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                taken = files.write(fd, rest)
                if taken == 0:
                    raise OSError("a write took no bytes and gave no reason")
                rest = rest[taken:]
        files.sync(fd)
    finally:
        files.close(fd)


def read_regular(files: FileOps, path: Path, *, bytes_max: int) -> bytes | None:
    """The bytes of a regular file; None if it has more than ``bytes_max``. Raises ``OSError`` for anything else."""
    fd = files.open(path, os.O_RDONLY)
    try:
        found = files.file_stat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path.name} is not a regular file")
        if found.st_size > bytes_max:
            return None
        chunks: list[bytes] = []
        length = 0
        while chunk := files.read(fd, max(found.st_size - length, 0) + 1):
            chunks.append(chunk)
            length += len(chunk)
            if length > bytes_max:
                return None
        return b"".join(chunks)
    finally:
        files.close(fd)


def sync_directory(files: FileOps, directory: Path) -> None:
    """Return when the names in the directory are on the disk."""
    fd = files.open_directory(directory)
    try:
        files.sync(fd)
    finally:
        files.close(fd)


def make_private_directory(files: FileOps, path: Path) -> None:
    """Make a directory of its owner's, whatever the process's mask is; its name is not on the disk yet."""
    files.make_directory(path)
    fd = files.open_directory(path)
    try:
        files.set_mode(fd, DIRECTORY_MODE)
    finally:
        files.close(fd)


def is_directory(files: FileOps, path: Path) -> bool:
    """Whether a directory is there, and not a link to one. Raises ``NotADirectoryError`` if something else is."""
    try:
        mode = files.stat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(f"{path} is not a directory, or a link to one")
    return True
