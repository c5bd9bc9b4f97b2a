"""Connections to one file: what the threads of the driver do. Everything here blocks."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, Final, TypeVar

from perdure.adapters.sqlite.errors import is_busy, translate, translated
from perdure.adapters.sqlite.schema import connect, make_file, prepare
from perdure.errors import Corrupt, PerdureError
from perdure.ports.document_rules import holds, not_as_expected
from perdure.ports.documents import (
    SCAN_BYTES_MAX,
    Document,
    Expect,
    ExpectationFailed,
    Page,
    Put,
    Remove,
    Require,
    Write,
)

_Result = TypeVar("_Result")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_COLUMNS: Final = "sort, version, commit_id, expires_at, body"
_SCAN: Final = f"SELECT {_COLUMNS} FROM documents WHERE partition = ? AND sort >= ? AND sort < ? ORDER BY sort"  # noqa: S608 - constants
_ONE: Final = f"SELECT {_COLUMNS} FROM documents WHERE partition = ? AND sort = ?"  # noqa: S608 - constants
_VERSION: Final = "SELECT version FROM documents WHERE partition = ? AND sort = ?"
_PUT: Final = (
    "INSERT INTO documents (partition, sort, version, commit_id, expires_at, body) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (partition, sort) DO UPDATE SET version = excluded.version, commit_id = excluded.commit_id, "
    "expires_at = excluded.expires_at, body = excluded.body"
)
_REMOVE: Final = "DELETE FROM documents WHERE partition = ? AND sort = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit that waits for its turn. Until it is begun, cancelling ``future`` means that it is never done."""

    partition: str
    writes: Sequence[Write]
    commit_id: str
    future: Future[Sequence[object]] = field(default_factory=Future)


class DocumentFile:
    """One connection that writes, for one thread, and as many that read as there are threads that do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: sqlite3.Connection | None = None
        self._readers: deque[sqlite3.Connection] = deque()

    def open(self, withdrawn: Event) -> None:
        """Make the file or see that it is ours; waits for other processes until ``withdrawn``."""
        make_file(self._path)
        with translated():
            self._writer = connect(self._path)
            _patiently(lambda: prepare(self._connection), withdrawn)

    def close(self) -> None:
        """Close all connections. The last process to do so leaves a single file."""
        while self._readers:
            self._readers.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def get(self, partition: str, sorts: Sequence[str], withdrawn: Event) -> Mapping[str, Document]:
        """Documents by key."""
        query = f"SELECT {_COLUMNS} FROM documents WHERE partition = ? AND sort IN ({','.join('?' * len(sorts))})"  # noqa: S608 - question marks
        rows = self._read(lambda connection: connection.execute(query, (partition, *sorts)).fetchall(), withdrawn)
        return {row[0]: _document(row) for row in rows}

    def scan(self, partition: str, start: str, end: str, limit: int, withdrawn: Event, *, reverse: bool) -> Page:
        """One page."""

        def read(connection: sqlite3.Connection) -> Page:
            documents: list[Document] = []
            read_bytes = 0
            # Closed even when it is left early: an open one holds back the log.
            with closing(connection.execute(_SCAN + (" DESC" if reverse else ""), (partition, start, end))) as rows:
                for row in rows:
                    if len(documents) == limit or read_bytes >= SCAN_BYTES_MAX:
                        return Page(documents=documents, more=True)
                    documents.append(_document(row))
                    read_bytes += len(documents[-1].body)
            return Page(documents=documents, more=False)

        return self._read(read, withdrawn)

    def probe(self, withdrawn: Event) -> None:
        """Read a row, if there is one."""
        self._read(lambda connection: connection.execute("SELECT version FROM documents LIMIT 1").fetchall(), withdrawn)

    def commit(self, group: Sequence[Commit]) -> None:
        """Do several commits in one transaction of the file, and tell each its own outcome once all are on the disk."""
        begun: list[Commit] | None = None
        committing = False
        try:
            if not self._begin(group):
                return
            begun = _still_wanted(group)
            outcomes = [self._apply(commit) for commit in begun]
            committing = True
            self._connection.execute("COMMIT")
        except Exception as exc:  # noqa: BLE001 - whatever it is, everybody who waits is told
            self._roll_back()
            for commit in _still_wanted(group) if begun is None else begun:
                commit.future.set_exception(_told(exc, committing=committing))
            return
        for commit, outcome in zip(begun, outcomes, strict=True):
            if isinstance(outcome, ExpectationFailed):
                commit.future.set_exception(outcome)
            else:
                commit.future.set_result(outcome)

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._writer is not None, "opened before anything else"
        return self._writer

    def _begin(self, group: Sequence[Commit]) -> bool:
        while not all(commit.future.cancelled() for commit in group):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as exc:
                if not is_busy(exc):
                    raise
            else:
                return True
        return False

    def _apply(self, commit: Commit) -> Sequence[object] | ExpectationFailed:
        for write in commit.writes:
            if isinstance(write, Require) or write.expect is not Expect.ANY:
                row = self._connection.execute(_VERSION, (commit.partition, write.sort)).fetchone()
                if not holds(write, None if row is None else row[0]):
                    return self._failed(commit.partition, write)
        puts = [_row(commit, write) for write in commit.writes if isinstance(write, Put)]
        removals = [(commit.partition, write.sort) for write in commit.writes if isinstance(write, Remove)]
        if puts:
            self._connection.executemany(_PUT, puts)
        if removals:
            self._connection.executemany(_REMOVE, removals)
        return [None] * len(commit.writes)

    def _failed(self, partition: str, write: Write) -> ExpectationFailed:
        row = self._connection.execute(_ONE, (partition, write.sort)).fetchone()
        return not_as_expected(write, None if row is None else _document(row))

    def _roll_back(self) -> None:
        # Many errors end the transaction themselves; one that does not even let us end it will fail the next BEGIN too.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _read(self, read: Callable[[sqlite3.Connection], _Result], withdrawn: Event) -> _Result:
        with translated():
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = connect(self._path)
                connection.execute("PRAGMA query_only = ON")
            try:
                return _patiently(lambda: read(connection), withdrawn)
            finally:
                self._readers.append(connection)


def _patiently(attempt: Callable[[], _Result], withdrawn: Event) -> _Result:
    while True:
        try:
            return attempt()
        except sqlite3.Error as exc:
            if withdrawn.is_set() or not is_busy(exc):
                raise


def _still_wanted(group: Sequence[Commit]) -> list[Commit]:
    # From here on they cannot be cancelled.
    return [commit for commit in group if commit.future.set_running_or_notify_cancel()]


def _told(exc: Exception, *, committing: bool) -> Exception:
    if not isinstance(exc, sqlite3.Error):
        return exc
    error: PerdureError = translate(exc, committing=committing)
    error.__cause__ = exc
    return error


def _row(commit: Commit, put: Put) -> tuple[object, ...]:
    expires_at = None if put.expires_at is None else (put.expires_at - _EPOCH) // _MICROSECOND
    return (commit.partition, put.sort, put.version, commit.commit_id, expires_at, put.body)


def _document(row: tuple[Any, ...]) -> Document:
    sort, version, commit_id, expires_at, body = row
    if not (isinstance(version, int) and isinstance(commit_id, str) and isinstance(body, bytes)):
        raise Corrupt("a row of the database file has columns of other types; it was changed from outside")
    return Document(
        sort=sort,
        version=version,
        body=body,
        commit_id=commit_id,
        expires_at=None if expires_at is None else _EPOCH + expires_at * _MICROSECOND,
    )
