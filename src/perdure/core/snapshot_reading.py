"""Looking at the files of a snapshot. Everything here blocks; its callers use a thread.

Every path is opened part by part from the root, and no part of it may be a link: whatever is moved about while a
snapshot is taken, nothing outside the root is ever read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from perdure.domain.object import object_digest
from perdure.domain.tree import EntryKind
from perdure.errors import Forbidden, Invalid, NotFound, PerdureError, PersistenceError

MODE_MASK: Final = 0o777  # nothing that gives rights to who restores a snapshot: no setuid, no setgid
READS_MAX: Final = 3  # of one file that changes meanwhile; a log that is written to all the time never stands still

_Parts = tuple[str, ...]
# Of a part that is no directory, or is a link.
_MOVED: Final = frozenset({errno.ELOOP, errno.ENOTDIR})
# Of the process or the machine, not of a path: skipping one path does not help the others.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One name in a directory, as it was listed.

    ``parts`` leads to what is kept under the name, without a link; ``target`` is that of a link, followed or not.
    """

    name: str
    parts: _Parts
    kind: EntryKind
    target: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A directory: its mode, what is in it, which names could not be kept and why, and how many were left out."""

    mode: int
    seen: tuple[Seen, ...]
    skipped: tuple[tuple[str, str], ...]
    ignored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead:
    """A file as it was at one moment."""

    content: bytes = field(repr=False)
    digest: str
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Why a path could not be read."""

    reason: str


class Root:
    """The directory that a snapshot is taken of, open."""

    def __init__(self, directory: str) -> None:
        try:
            self._path = os.path.realpath(directory)
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as exc:
            raise _no_directory(directory, exc) from exc

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def list(
        self, parts: _Parts, *, is_ignored: Callable[[str], bool], follow_symlinks: bool, names_max: int
    ) -> Listing | Unread:
        """What is in a directory, in no order; after ``names_max`` names nobody looks for more."""
        seen: list[Seen] = []
        skipped: list[tuple[str, str]] = []
        ignored = 0
        try:
            with self._opened(parts, os.O_RDONLY | os.O_DIRECTORY) as fd, os.scandir(fd) as entries:
                for entry in entries:
                    if is_ignored(printable(entry.name)):
                        ignored += 1
                        continue
                    if len(seen) + len(skipped) == names_max:
                        break
                    found = self._look(entry, parts, fd, follow_symlinks=follow_symlinks)
                    if isinstance(found, Unread):
                        skipped.append((printable(entry.name), found.reason))
                    else:
                        seen.append(found)
                mode = os.fstat(fd).st_mode & MODE_MASK
        except OSError as exc:
            return Unread(reason=_reason(exc))
        return Listing(mode=mode, seen=tuple(seen), skipped=tuple(skipped), ignored=ignored)

    def read(self, parts: _Parts, *, bytes_max: int) -> FileRead | Unread:
        """A file, read again if it changed meanwhile.

        A change is seen by size, times or another file in its place: as finely as the filesystem keeps times.
        """
        for _ in range(READS_MAX):
            try:
                found = self._read_once(parts, bytes_max)
            except OSError as exc:
                return Unread(reason=_reason(exc))
            if found is not None:
                return found
        return Unread(reason=f"it changed each of {READS_MAX} times that it was read (reads_max)")

    def _read_once(self, parts: _Parts, bytes_max: int) -> FileRead | Unread | None:
        # Whatever stands there now is not waited for: what was a file may have become a pipe.
        with self._opened(parts, os.O_RDONLY | os.O_NONBLOCK) as fd:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                return Unread(reason="not a regular file")
            if before.st_size > bytes_max:
                return Unread(reason=f"too large: {before.st_size} bytes, at most {bytes_max} (file_bytes_max)")
            with os.fdopen(fd, "rb", closefd=False) as file:
                content = file.read(bytes_max + 1)
            after = os.fstat(fd)
        if len(content) != after.st_size or _identity(before) != _identity(after):
            return None
        return FileRead(content=content, digest=object_digest(content), mode=after.st_mode & MODE_MASK)

    def _look(self, entry: os.DirEntry[str], parts: _Parts, fd: int, *, follow_symlinks: bool) -> Seen | Unread:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            return Unread(reason="its name is not UTF-8")
        inside = (*parts, entry.name)
        try:
            if entry.is_symlink():
                target = os.fsencode(os.readlink(entry.name, dir_fd=fd))
                led = self._follow(inside) if follow_symlinks else None
                kind, inside = led or (EntryKind.SYMLINK, inside)
                return Seen(name=entry.name, parts=inside, kind=kind, target=target)
            if entry.is_dir(follow_symlinks=False):
                return Seen(name=entry.name, parts=inside, kind=EntryKind.DIRECTORY)
            if entry.is_file(follow_symlinks=False):
                return Seen(name=entry.name, parts=inside, kind=EntryKind.FILE)
        except OSError as exc:
            return Unread(reason=_reason(exc))
        return Unread(reason="not a regular file")

    def _follow(self, parts: _Parts) -> tuple[EntryKind, _Parts] | None:
        """What a link leads to, if that is a file or a directory inside the root. Only a look: opening it decides."""
        path = os.path.realpath(os.path.join(self._path, *parts))  # noqa: PTH118 - names, of which pathlib makes a path again
        below = self._path.rstrip("/") + "/"
        if path != self._path and not path.startswith(below):
            return None
        inside = tuple(part for part in path[len(below) :].split("/") if part)
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return None  # it leads nowhere, or to itself: it stays a link
        if stat.S_ISDIR(mode):
            return EntryKind.DIRECTORY, inside
        return (EntryKind.FILE, inside) if stat.S_ISREG(mode) else None

    @contextmanager
    def _opened(self, parts: _Parts, flags: int) -> Iterator[int]:
        fd = os.dup(self._fd)
        try:
            for place, part in enumerate(parts, start=1):
                how = flags if place == len(parts) else os.O_RDONLY | os.O_DIRECTORY
                deeper = os.open(part, how | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)


def printable(name: str) -> str:
    """A name as text that is UTF-8, whatever it was."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _reason(exc: OSError) -> str:
    if exc.errno in _EXHAUSTED:
        raise PersistenceError(f"this machine cannot look at more files now: {exc.strerror}; try again later") from exc
    if exc.errno == errno.ENOENT:
        return "it is gone"
    if exc.errno in _MOVED:
        return "something else was put in its place"
    return (exc.strerror or type(exc).__name__).lower()


def _no_directory(directory: str, exc: OSError | ValueError) -> PerdureError:
    name = ascii(directory)[:200]
    if isinstance(exc, ValueError) or exc.errno == errno.ENOTDIR:
        return Invalid(f"{name} is not a directory; expected the one to take a snapshot of")
    if exc.errno == errno.ENOENT:
        return NotFound(f"there is no directory {name}", resource="directory", id=directory)
    if exc.errno in (errno.EACCES, errno.EPERM):
        return Forbidden(f"directory {name} may not be read by this user: {exc.strerror}")
    return PersistenceError(f"directory {name} cannot be opened: {exc.strerror}")
