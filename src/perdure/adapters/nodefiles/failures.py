"""Operating-system errors become Perdure's errors here and nowhere else in this adapter."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.domain.tasklists.failures import SnapshotUnreadable
from perdure.errors import PersistenceError

_logger = logging.getLogger("perdure.tasklists")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def translated(doing: str, path: Path) -> Iterator[None]:
    """Raise ``PersistenceError`` for an ``OSError`` met while ``doing`` something with ``path``."""
    try:
        yield
    except OSError as exc:
        raise PersistenceError(_message(exc, doing, path), code=_code(exc), path=str(path), errno=exc.errno) from exc


@contextmanager
def translated_reading(path: Path) -> Iterator[None]:
    """Raise ``SnapshotUnreadable`` for an ``OSError`` met while ``path`` was read."""
    try:
        yield
    except OSError as exc:
        raise SnapshotUnreadable(_message(exc, "read", path), path=str(path), errno=exc.errno) from exc


@contextmanager
def reported(doing: str, path: Path) -> Iterator[None]:
    """Log an ``OSError`` met while tidying up, which nothing depends on: the next start does it again."""
    try:
        yield
    except OSError as exc:
        _logger.warning("cannot %s %s: %s; the next start tries again", doing, path, exc.strerror or exc)


def _code(exc: OSError) -> str:
    if exc.errno in _FULL:
        return "disk_full"
    return "not_writable" if exc.errno in _REFUSED else PersistenceError.code


def _message(exc: OSError, doing: str, path: Path) -> str:
    if exc.errno in _FULL:
        advice = "the disk is full: free some space on that file system"
    elif exc.errno in _REFUSED:
        advice = "make it readable and writable for this user, or choose another root"
    else:
        advice = "look at the disk and at the system's log"
    return f"cannot {doing} {path}: {exc.strerror or exc}; {advice}"
