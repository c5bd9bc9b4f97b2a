"""What is in the file: its marks, its one table, and how both get there."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from perdure.errors import Corrupt, Forbidden, Invalid, LegacyArtifact, PerdureError, PersistenceError, Unsupported

APPLICATION_ID: Final = 0x50524455  # "PRDU": file(1) and we know our own by it
SCHEMA_VERSION: Final = 1
BUSY_SLICE_S: Final = (
    0.1  # how long one attempt waits for another process; then the caller is asked whether it still does
)
STATEMENTS_MAX: Final = 256  # prepared at a time: one for each number of keys in a get, and the others
LOG_BYTES_MAX: Final = 64 * 1_048_576  # what stays of the log after a burst
_FILE_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700

# The body comes last, so that keys are compared without reading it.
_TABLE: Final = """
CREATE TABLE documents (
    partition TEXT NOT NULL COLLATE BINARY,
    sort TEXT NOT NULL COLLATE BINARY,
    version INTEGER NOT NULL,
    commit_id TEXT NOT NULL,
    expires_at INTEGER, -- microseconds since 1970, UTC
    body BLOB NOT NULL,
    PRIMARY KEY (partition, sort)
) WITHOUT ROWID
"""


def make_file(path: Path) -> None:
    """Make an empty file that only its owner may read, unless there is one; its log gets the same mode from SQLite."""
    try:
        path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _FILE_MODE))
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # or a power cut forgets the file with all that is in it
        finally:
            os.close(directory)
    except PermissionError as exc:
        raise Forbidden("the database file may not be made here by this user; look at the mode of its folder") from exc
    except OSError as exc:
        raise PersistenceError(f"the database file could not be made: {exc.strerror}") from exc


def connect(path: Path) -> sqlite3.Connection:
    """A connection in which nothing is begun unless we say so, and what is committed is on the disk."""
    # An absolute path, because SQLite reads ":memory:" and "" its own way. Connections go from thread to thread, and
    # are used by one at a time.
    connection = sqlite3.connect(
        path.absolute(),
        timeout=BUSY_SLICE_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_MAX,
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA synchronous = FULL")
    # On macOS an ordinary sync does not reach the disk; elsewhere these do nothing.
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}")
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table in an empty file, or see that the file is ours. Raises SQLite's "busy" to be tried again."""
    if _is_made(connection):
        _check_log(connection)
        return
    _check_log(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_made(connection):  # another process may have been faster
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except (sqlite3.Error, PerdureError):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_made(connection: sqlite3.Connection) -> bool:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and version == 0 and tables == 0:
        return False
    if application != APPLICATION_ID:
        raise Invalid("the database file belongs to another program; choose another path")
    if version > SCHEMA_VERSION:
        raise LegacyArtifact(
            f"the database file has schema {version}, this release knows up to {SCHEMA_VERSION}; use a newer release",
            found=version,
            known=SCHEMA_VERSION,
        )
    if version < SCHEMA_VERSION or tables == 0:
        raise Corrupt("the database file is marked as ours and has no table; restore a backup")
    return True


def _check_log(connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise Unsupported(
            f"the file system cannot share a write-ahead log (journal mode {mode}); put the file on a local disk"
        )
