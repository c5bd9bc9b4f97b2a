"""The directory itself: what may be in it, who may enter, and the lock that one process at a time holds."""

from __future__ import annotations

import errno
import logging
import os
import re
from pathlib import Path
from typing import Final

from perdure.adapters.filesystem.file_ops import FileOps, sync_directory, write_all
from perdure.errors import Forbidden, Invalid

LOCK_NAME: Final = "lock"
MANIFEST_NAME: Final = "manifest"
MANIFEST_DRAFT_NAME: Final = "manifest.draft"
_SEGMENT_NAME: Final = re.compile(r"segment-([0-9]{16})\Z")
_PID_CHARS: Final = 20

_logger = logging.getLogger(__name__)


def segment_path(directory: Path, number: int) -> Path:
    """Where segment ``number`` is kept."""
    return directory / f"segment-{number:016d}"


def segment_number(name: str) -> int | None:
    """Which segment is kept under this name, None if none is."""
    match = _SEGMENT_NAME.match(name)
    return int(match[1]) if match else None


def prepare_directory(files: FileOps, directory: Path) -> None:
    """Make the directory, with its parents, unless it is there; raises ``Invalid`` if something else is."""
    missing: list[Path] = []
    path = directory
    while (kind := files.kind(path)) == "missing":
        missing.append(path)
        path = path.parent
    if kind == "other":
        raise Invalid(f"{path} is not a directory; name another place for the documents", path=str(path))
    for new in reversed(missing):
        try:
            files.make_directory(new)
        except FileExistsError:
            continue  # another process makes the same directory; the lock decides which of the two may use it
        sync_directory(files, new.parent)
    names = files.names(directory)
    if not names:
        files.restrict(directory)
    foreign = [name for name in names if not _is_ours(name)]
    if foreign:
        raise Invalid(
            f"{directory} holds {len(foreign)} thing(s) that are not documents of Perdure; name an empty directory, or "
            "one that does not exist yet",
            code="foreign_directory",
            path=str(directory),
        )


def take_lock(files: FileOps, directory: Path) -> int:
    """The descriptor that holds the directory's lock; raises ``Forbidden`` naming the process that holds it.

    The kernel gives the lock up when its process ends, however that happens; the file and the pid in it stay behind
    and mean nothing.
    """
    fd = files.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        try:
            files.lock(fd)
        except BlockingIOError as exc:
            raise _in_use(files.read(fd, _PID_CHARS, 0), directory) from exc
        try:
            write_all(files, fd, f"{os.getpid()}\n".ljust(_PID_CHARS).encode("ascii"), 0)
        except OSError as exc:
            if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            # What is stored can be read and removed on a full disk; only the next opener's message has no pid.
            _logger.warning("the disk is full: the lock of the document directory does not name this process")
    except BaseException:
        files.close(fd)
        raise
    return fd


def _in_use(written: bytes, directory: Path) -> Forbidden:
    holder = written.decode("ascii", "replace").strip() or "unknown"
    who = "this process" if holder == str(os.getpid()) else "another process"
    return Forbidden(
        f"{who} (pid {holder}) has {directory} open, and one at a time may; close it there, or name another directory",
        code="directory_in_use",
        path=str(directory),
        holder=holder,
    )


def _is_ours(name: str) -> bool:
    return name in {LOCK_NAME, MANIFEST_NAME, MANIFEST_DRAFT_NAME} or segment_number(name) is not None
