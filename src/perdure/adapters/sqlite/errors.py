"""The one place where SQLite's errors become Perdure's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from perdure.errors import BackendDown, Corrupt, Forbidden, OutcomeUnknown, PerdureError, PersistenceError, Throttled

_PRIMARY: Final = 0xFF  # an extended code holds its primary one in the low byte
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})


def is_busy(exc: sqlite3.Error) -> bool:
    """Whether another connection was in the way, so that waiting helps."""
    return _code(exc) in _BUSY


def translate(exc: sqlite3.Error, *, committing: bool = False) -> PerdureError:  # noqa: PLR0911 - one a class
    """The Perdure error that says what to do about one of SQLite's. ``committing``: a commit had been asked for."""
    code = _code(exc)
    name = getattr(exc, "sqlite_errorname", type(exc).__name__)
    if code == sqlite3.SQLITE_FULL:
        return PersistenceError(
            "the disk is full, and nothing of the commit was written; make room, then try again",
            reason="disk_full",
            engine_code=name,
        )
    if code in _BUSY:
        return Throttled("another process is using the database file; try again", engine_code=name)
    if code in _CORRUPT:
        return Corrupt(
            f"the database file is damaged, or is no database ({name}); stop, keep a copy, and restore a backup",
            engine_code=name,
        )
    if code in _FORBIDDEN:
        return Forbidden(
            f"the database file may not be written by this user ({name}); look at its mode", engine_code=name
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return BackendDown(f"the database file cannot be opened ({name}); look at its path", engine_code=name)
    if committing:
        # What was to be written is in the log, whole or not: only the next one to open the file finds out.
        return OutcomeUnknown(
            f"writing the commit to disk failed ({name}), so that it may be kept or not; sending it again is safe",
            engine_code=name,
        )
    return PersistenceError(f"the database file failed ({name})", engine_code=name)


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's errors that leave the block into Perdure's."""
    try:
        yield
    except sqlite3.Error as exc:
        raise translate(exc) from exc


def _code(exc: sqlite3.Error) -> int | None:
    # Errors of the Python module itself, such as a closed connection, have none.
    code: int | None = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY
