"""Backup and restore with ``pg_dump`` and ``pg_restore``, counted row by row.

Tables are under forced row-level security, so a dump by any role but the superuser would fail, or silently hold
nothing. That is why every backup compares the rows in its file with the rows of the very snapshot it was taken from,
and every restore compares the rows in the database with those in the file.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
from psycopg import sql

from perdure.adapters.embedded import bootstrap
from perdure.adapters.embedded.binaries import Binaries, locate, server_environment
from perdure.adapters.embedded.credentials import SUPERUSER
from perdure.adapters.embedded.failures import from_os_error, from_output
from perdure.adapters.embedded.layout import sync_directory
from perdure.adapters.embedded.server import EmbeddedServer, join, leave
from perdure.errors import BackendDown, Conflict, DigestMismatch, Invalid, NotFound, PersistenceError

if TYPE_CHECKING:
    from perdure.adapters.embedded.status import EmbeddedConfig

Progress = Callable[[str], None]
"""Called with a sentence for each stage, and for each table while it is written."""

_TABLES: LiteralString = """
    SELECT n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't'
      AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    ORDER BY 1, 2
"""
_CONTENTS: LiteralString = """
    SELECT (SELECT count(*) FROM pg_catalog.pg_namespace
            WHERE nspname NOT IN ('public', 'information_schema') AND nspname NOT LIKE 'pg\\_%')
         + (SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace)
         + (SELECT count(*) FROM pg_catalog.pg_proc WHERE pronamespace = 'public'::regnamespace)
"""
_COPY: Final = re.compile(rb'COPY ((?:"(?:[^"]|"")*"|[^" ])+) .*FROM stdin;\n', re.DOTALL)
_MAGIC: Final = b"PGDMP"
_LINE_BYTES: Final = 1 << 20
_ERROR_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What a backup file holds: checked, not assumed. ``rows`` counts each table by its qualified name."""

    path: Path
    size_bytes: int
    rows: dict[str, int]

    @property
    def rows_total(self) -> int:
        """The rows of all tables together."""
        return sum(self.rows.values())


async def backup(config: EmbeddedConfig, target: Path, *, progress: Progress) -> BackupReport:
    """Write a dump of the database to ``target``, complete or not at all, while others go on working.

    Joins the server or starts it. The file is ``pg_dump``'s custom format, mode 0600, holds all tenants' data and no
    passwords. Raises ``Conflict`` when ``target`` exists, ``DigestMismatch`` when the file does not hold every row of
    its snapshot, and otherwise as ``join`` does.
    """
    target = _new_file(target)
    binaries = await asyncio.to_thread(locate, config.bin_dir)
    async with _joined(config) as server:
        unfinished = _unfinished(target)
        try:
            counted = await _dump(server, binaries, unfinished, progress=progress)
            progress("checking the rows in the file")
            _compare(counted, await _rows_in_file(binaries, unfinished), what="the backup", source="its snapshot")
            _publish(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    return BackupReport(path=target, size_bytes=target.stat().st_size, rows=counted)


async def restore(config: EmbeddedConfig, source: Path, *, progress: Progress) -> BackupReport:
    """Restore a dump into the data directory, in one transaction; makes the cluster when there is none.

    Raises ``Conflict`` when the database holds anything already, ``NotFound`` or ``Invalid`` when ``source`` is no
    dump, ``DigestMismatch`` when not every row arrived, and otherwise as ``join`` does. When it raises, the database
    is as empty as it was.
    """
    source = _existing_dump(source)
    binaries = await asyncio.to_thread(locate, config.bin_dir)
    progress("counting the rows in the file")
    expected = await _rows_in_file(binaries, source)
    async with _joined(config) as server, await _connect(server) as database:
        await _refuse_contents(database, server)
        progress(f"restoring {sum(expected.values())} rows of {len(expected)} tables")
        options = ("--single-transaction", "--exit-on-error", "--no-password", "--verbose")
        where = f"--dbname={_superuser_dsn(server)}"
        words = (*options, where, str(source))
        async with aclosing(_lines(binaries, "pg_restore", words, doing="the restore", path=server.data_dir)) as lines:
            async for line in lines:
                _tell(line, progress)
        progress("checking the rows in the database")
        actual = await _count(database)
        _compare(expected, actual, what="the restored database", source=str(source))
        await database.execute("ANALYZE")
    return BackupReport(path=source, size_bytes=source.stat().st_size, rows=actual)


@asynccontextmanager
async def _joined(config: EmbeddedConfig) -> AsyncIterator[EmbeddedServer]:
    server = await join(config)
    try:
        yield server
    except psycopg.Error as exc:
        raise PersistenceError(f"the embedded server in {server.data_dir} failed meanwhile: {exc}") from exc
    finally:
        await leave(server)


async def _dump(server: EmbeddedServer, binaries: Binaries, path: Path, *, progress: Progress) -> dict[str, int]:
    """Dump one snapshot; returns how many rows each table has in that snapshot."""
    async with await _connect(server) as database:
        await database.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = await (await database.execute("SELECT pg_export_snapshot()")).fetchone()
        assert row is not None
        progress("counting the rows in the database")
        counted = await _count(database)
        progress(f"dumping {sum(counted.values())} rows of {len(counted)} tables")
        options = (f"--snapshot={row[0]}", "--format=custom", "--no-password", "--verbose", f"--file={path}")
        where = f"--dbname={_superuser_dsn(server)}"
        async with aclosing(_lines(binaries, "pg_dump", (*options, where), doing="the backup", path=path)) as lines:
            async for line in lines:
                _tell(line, progress)
    return counted


def _tell(line: bytes, progress: Progress) -> None:
    text = line.decode("utf-8", "replace").strip()
    if "contents of table" in text or "processing data for table" in text:
        progress(text.partition(": ")[2])


async def _connect(server: EmbeddedServer) -> psycopg.AsyncConnection:
    return await bootstrap.connect_superuser(server.layout, database=server.config.database, port=server.port)


def _superuser_dsn(server: EmbeddedServer) -> str:
    # The programs may be of an older release than the libpq here.
    return bootstrap.conninfo(
        server.layout, role=SUPERUSER, database=server.config.database, port=server.port, portable=True
    )


async def _count(database: psycopg.AsyncConnection) -> dict[str, int]:
    counted: dict[str, int] = {}
    for schema, table, quoted in await (await database.execute(_TABLES)).fetchall():
        query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, table))
        row = await (await database.execute(query)).fetchone()
        assert row is not None
        counted[quoted] = row[0]
    return counted


async def _rows_in_file(binaries: Binaries, path: Path) -> dict[str, int]:
    """Count the rows of each table in a dump: one line each between COPY and its end mark."""
    rows: dict[str, int] = {}
    table: str | None = None
    at_start = True
    reading = _lines(
        binaries, "pg_restore", ("--data-only", "--file=-", str(path)), doing="reading it", path=path, stdout=True
    )
    try:
        async with aclosing(reading) as lines:
            async for line in lines:
                whole, at_start = at_start, line.endswith(b"\n")
                if table is None:
                    if match := _COPY.fullmatch(line):
                        table = match.group(1).decode()
                        rows[table] = 0
                elif whole and line == b"\\.\n":
                    table = None
                elif at_start:
                    rows[table] += 1
    except BackendDown as exc:
        raise DigestMismatch(
            f"{path} is damaged or was written by a newer pg_dump: {exc.message}", path=str(path)
        ) from exc
    return rows


def _new_file(target: Path) -> Path:
    """The absolute path of a file that is not there yet; a link to nowhere counts as there."""
    target = target.absolute()
    _refuse_existing(target)
    return target


def _existing_dump(path: Path) -> Path:
    """The absolute path of a file that begins as a dump does."""
    path = path.absolute()
    if not path.is_file():
        raise NotFound(f"there is no backup file {path}; name a file that 'perdure pg backup' wrote", path=str(path))
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as exc:
        raise from_os_error(exc, doing="read the backup", path=path) from exc
    if magic != _MAGIC:
        raise Invalid(f"{path} is not a backup in pg_dump's custom format; name a file 'perdure pg backup' wrote")
    return path


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise Conflict(
            f"{target} exists, and a backup never overwrites; name another file or move that one away",
            code="backup_exists",
            path=str(target),
        )


async def _refuse_contents(database: psycopg.AsyncConnection, server: EmbeddedServer) -> None:
    row = await (await database.execute(_CONTENTS)).fetchone()
    if row is not None and row[0] == 0:
        return
    root = shlex.quote(str(server.data_dir))
    raise Conflict(
        f"the database in {server.data_dir} is not empty, and a restore never overwrites; restore into another "
        f"--data-dir, or move this one away first: mv {root} {shlex.quote(f'{server.data_dir}.old')}",
        code="database_exists",
        path=str(server.data_dir),
    )


def _compare(expected: dict[str, int], actual: dict[str, int], *, what: str, source: str) -> None:
    wrong = {
        table: (expected.get(table, 0), actual.get(table, 0))
        for table in sorted(expected.keys() | actual.keys())
        if expected.get(table, 0) != actual.get(table, 0)
    }
    if wrong:
        listed = ", ".join(f"{table}: {there} expected, {here} found" for table, (there, here) in wrong.items())
        raise DigestMismatch(
            f"{what} does not hold the rows of {source} ({listed}); do not use it, look at the server's log and try "
            "again",
            tables=wrong,
        )


def _unfinished(target: Path) -> Path:
    """An empty 0600 file beside ``target``, on the same file system."""
    try:
        fd, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as exc:
        raise from_os_error(exc, doing="write the backup in", path=target.parent) from exc
    os.close(fd)
    return Path(name)


def _publish(unfinished: Path, target: Path) -> None:
    try:
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        _refuse_existing(target)
        unfinished.rename(target)
        sync_directory(target.parent)
    except OSError as exc:
        raise from_os_error(exc, doing="write the backup", path=target) from exc


async def _lines(
    binaries: Binaries, program: str, options: tuple[str, ...], *, doing: str, path: Path, stdout: bool = False
) -> AsyncGenerator[bytes, None]:
    """The lines a program writes, to its error output unless ``stdout``; raises when it fails, ends it when left."""
    running = await asyncio.create_subprocess_exec(
        binaries.program(program),
        *options,
        env=server_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if stdout else asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    assert running.stderr is not None
    other = asyncio.ensure_future(_drain(running.stderr)) if stdout else None
    said: list[bytes] = []
    try:
        stream = running.stdout if stdout else running.stderr
        assert stream is not None
        async for line in _split(stream):
            if not stdout:
                said = [*said[-40:], line]
            yield line
        output = await other if other is not None else b"".join(said)
        if await running.wait() != 0:
            raise from_output(output.decode("utf-8", "replace"), doing=doing, path=path)
    finally:
        if other is not None:
            other.cancel()
        if running.returncode is None:
            running.kill()
            await running.wait()


async def _split(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines, with a line longer than the buffer given in pieces, of which only the last ends with a line break."""
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as exc:
            if exc.partial:
                yield exc.partial
            return
        except asyncio.LimitOverrunError as exc:
            yield await stream.readexactly(exc.consumed)
        else:
            yield line


async def _drain(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while chunk := await stream.read(65_536):
        kept = (kept + chunk)[-_ERROR_BYTES_MAX:]
    return kept
