"""The migration runner: each migration once, whole or not at all, however many runners start at the same moment.

Every migration runs in a transaction of its own that first waits for one advisory lock and then looks again whether the
work is still to do. The record of it is part of that transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.rows import tuple_row

from perdure.adapters.postgres.migration_files import (
    MIGRATIONS,
    Migration,
    chosen,
    load_migrations,
    released_migrations,
)
from perdure.adapters.postgres.migration_session import (
    Connection,
    connected,
    locked,
    prepare,
    table_exists,
    translated,
)
from perdure.adapters.postgres.migration_settings import Settings, settings
from perdure.errors import Refused

__all__ = ["Applied", "Recorded", "SchemaStatus", "check", "down", "status", "up"]

SCHEMA_MIGRATIONS_SQL = Path(__file__).with_name("schema_migrations.sql")
LOCK_TIMEOUT_S = 10.0
"""How long a migration waits for one lock on a table: longer, and it would stop everybody who queues behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A migration that this runner carried out."""

    version: int
    name: str
    way: Literal["up", "down"]
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A migration that the database says it has."""

    version: int
    name: str
    checksum: str
    applied_at: datetime
    applied_by: str
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStatus:
    """What a database has, beside what this release knows.

    ``unknown`` are versions that this release does not have; ``changed`` are versions whose file is not the one that
    was applied.
    """

    current: int | None
    head: int
    applied: tuple[Recorded, ...]
    pending: tuple[Migration, ...]
    unknown: tuple[int, ...]
    changed: tuple[int, ...]

    @property
    def state(self) -> Literal["current", "older", "newer", "changed"]:
        """One word for it; the worst one, if several apply."""
        if self.changed:
            return "changed"
        if self.unknown:
            return "newer"
        return "older" if self.pending else "current"


async def up(
    dsn: str,
    *,
    mode: str | None = None,
    env: str | None = None,
    to: int | None = None,
    directory: Path = MIGRATIONS,
    progress: Callable[[Applied], None] | None = None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> list[Applied]:
    """Applies what is pending, oldest first, up to version ``to`` or all; returns what this runner did.

    ``mode`` and ``env`` are needed by the first installation, and must otherwise be absent or what the database says.
    Roles are made where they are missing and this user may make them.

    Raises:
        Refused: a pooled DSN, missing rights, a database of a newer release, a changed migration or another plane.
        TimedOut: a table stayed locked for ``lock_timeout_s``; nothing of that migration was done.
        OutcomeUnknown: the connection was lost; run it again.
        PersistenceError: a migration failed; it was rolled back and those before it stay.
    """
    migrations = load_migrations(directory)
    wanted = chosen(migrations, to=to)
    done: list[Applied] = []
    async with connected(dsn) as connection:
        await prepare(connection)
        with translated("reading which migrations are applied"):
            async with locked(connection, lock_timeout_s=lock_timeout_s):
                records = await _records(connection)
                _refuse_divergence(migrations, records)
                pending = [migration for migration in wanted if migration.version not in records]
                plane = await settings(connection, mode=mode, env=env, needed=bool(pending))
        for migration in pending:
            with translated(f"applying migration {migration}"):
                async with locked(connection, lock_timeout_s=lock_timeout_s):
                    applied = await _apply(connection, migration, migrations=migrations, plane=plane)
            if applied is not None:
                done.append(applied)
                if progress is not None:
                    progress(applied)
    return done


async def down(
    dsn: str,
    *,
    to: int,
    directory: Path = MIGRATIONS,
    progress: Callable[[Applied], None] | None = None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> list[Applied]:
    """Undoes every migration newer than version ``to``, newest first; 0 undoes all and drops the schema.

    What the undone migrations kept is deleted. Roles stay, because they belong to the cluster.

    Raises:
        Refused: as for ``up``.
        TimedOut: as for ``up``.
        OutcomeUnknown: as for ``up``.
        PersistenceError: as for ``up``.
    """
    migrations = load_migrations(directory)
    kept = chosen(migrations, to=to)
    undone: list[Applied] = []
    async with connected(dsn) as connection:
        await prepare(connection)
        for migration in reversed(migrations[len(kept) :]):
            with translated(f"undoing migration {migration}"):
                async with locked(connection, lock_timeout_s=lock_timeout_s):
                    applied = await _undo(connection, migration, migrations=migrations)
            if applied is not None:
                undone.append(applied)
                if progress is not None:
                    progress(applied)
        if not kept:
            with translated("dropping the schema"):
                async with locked(connection, lock_timeout_s=lock_timeout_s):
                    await _drop_schema(connection, migrations=migrations)
    return undone


async def status(dsn: str, *, directory: Path = MIGRATIONS) -> SchemaStatus:
    """What the database has and what is pending; changes nothing.

    Raises:
        Refused: a pooled DSN, or a user that may not read the schema.
        BackendDown: nothing answered.
    """
    migrations = load_migrations(directory)
    async with connected(dsn) as connection:
        with translated("reading which migrations are applied"):
            return _compare(migrations, await _records(connection))


async def check(connection: psycopg.AsyncConnection[Any], *, directory: Path = MIGRATIONS) -> None:
    """Promises that the schema is exactly this release's; one short read, also through a pooler and as the app role.

    Raises:
        Refused: it is older (``schema_older``), newer (``schema_newer``) or not the same (``schema_changed``); the
            message has the command.
    """
    migrations = released_migrations() if directory == MIGRATIONS else load_migrations(directory)
    with translated("reading which migrations are applied"):
        async with connection.transaction():
            found = _compare(migrations, await _records(connection))
    if found.state == "changed":
        raise _changed(found.changed)
    if found.state == "newer":
        raise _newer(found.unknown, head=found.head)
    if found.state == "older":
        server = connection.info
        raise Refused(
            f"the schema is at {found.current or 'nothing'}, older than {found.head} which this release needs; bring "
            f'it up with: perdure migrate --dsn "host={server.host} port={server.port} dbname={server.dbname} '
            'user=perdure_owner"' + ("" if found.current else " --mode MODE --env ENV"),
            code="schema_older",
            current=found.current,
            head=found.head,
        )


async def _records(connection: psycopg.AsyncConnection[Any]) -> dict[int, Recorded]:
    if not await table_exists(connection, "schema_migrations"):
        return {}
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            b"SELECT version, name, checksum, applied_at, applied_by, duration_ms "
            b"FROM perdure.schema_migrations ORDER BY version"
        )
        rows = await cursor.fetchall()
    names = ("version", "name", "checksum", "applied_at", "applied_by", "duration_ms")
    return {row[0]: Recorded(**dict(zip(names, row, strict=True))) for row in rows}


def _compare(migrations: Sequence[Migration], records: Mapping[int, Recorded]) -> SchemaStatus:
    known = {migration.version: migration for migration in migrations}
    return SchemaStatus(
        current=max(records, default=None),
        head=migrations[-1].version,
        applied=tuple(records.values()),
        pending=tuple(migration for migration in migrations if migration.version not in records),
        unknown=tuple(version for version in records if version not in known),
        changed=tuple(v for v, record in records.items() if v in known and known[v].checksum != record.checksum),
    )


def _refuse_divergence(migrations: Sequence[Migration], records: Mapping[int, Recorded]) -> None:
    found = _compare(migrations, records)
    if found.changed:
        raise _changed(found.changed)
    if found.unknown:
        raise _newer(found.unknown, head=found.head)
    late = [migration for migration in found.pending if migration.version < (found.current or 0)]
    if late:
        raise Refused(
            f"migration {late[0]} is pending but older than {found.current}, which is applied; versions must be "
            "applied in order: give the file a later timestamp",
            code="schema_out_of_order",
            version=late[0].version,
        )


def _changed(versions: Sequence[int]) -> Refused:
    return Refused(
        f"migration {versions[0]} was applied from a file that differs from this release's; restore the released file, "
        "and put the change into a new migration",
        code="schema_changed",
        versions=list(versions),
    )


def _newer(versions: Sequence[int], *, head: int) -> Refused:
    return Refused(
        f"the schema has migration {versions[-1]}, which this release (up to {head}) does not know; install the "
        "release that made it: pip install --upgrade perdure",
        code="schema_newer",
        versions=list(versions),
    )


async def _apply(
    connection: Connection,
    migration: Migration,
    *,
    migrations: Sequence[Migration],
    plane: Settings,
) -> Applied | None:
    records = await _records(connection)
    _refuse_divergence(migrations, records)
    if migration.version in records:
        return None  # another runner was first, while this one waited for the lock
    if not records:
        await connection.execute(SCHEMA_MIGRATIONS_SQL.read_bytes())
    await connection.execute(
        b"SELECT pg_catalog.set_config('perdure.mode', %s, true), pg_catalog.set_config('perdure.env', %s, true)",
        plane,
    )
    began = await _clock(connection)
    await connection.execute(migration.up_sql.encode())
    duration_ms = await _elapsed_ms(connection, since=began)
    await connection.execute(
        b"INSERT INTO perdure.schema_migrations (version, name, checksum, duration_ms) VALUES (%s, %s, %s, %s)",
        (migration.version, migration.name, migration.checksum, duration_ms),
    )
    return Applied(version=migration.version, name=migration.name, way="up", duration_ms=duration_ms)


async def _undo(connection: Connection, migration: Migration, *, migrations: Sequence[Migration]) -> Applied | None:
    records = await _records(connection)
    found = _compare(migrations, records)
    if found.changed:
        raise _changed(found.changed)
    if found.unknown:
        raise _newer(found.unknown, head=found.head)
    if migration.version not in records:
        return None
    began = await _clock(connection)
    await connection.execute(migration.down_sql.encode())
    duration_ms = await _elapsed_ms(connection, since=began)
    await connection.execute(b"DELETE FROM perdure.schema_migrations WHERE version = %s", (migration.version,))
    return Applied(version=migration.version, name=migration.name, way="down", duration_ms=duration_ms)


async def _drop_schema(connection: Connection, *, migrations: Sequence[Migration]) -> None:
    records = await _records(connection)
    if records:
        unknown = _compare(migrations, records).unknown
        if unknown:
            raise _newer(unknown, head=migrations[-1].version)
        raise Refused("another runner applied migrations at the same moment; run it again, one at a time")
    # Without CASCADE: what somebody else put into the schema stops this instead of vanishing.
    await connection.execute(b"DROP TABLE IF EXISTS perdure.schema_migrations; DROP SCHEMA IF EXISTS perdure;")


async def _clock(connection: Connection) -> datetime:
    row = await (await connection.execute(b"SELECT pg_catalog.clock_timestamp()")).fetchone()
    assert row is not None, "this query always returns one row"
    moment: datetime = row[0]
    return moment


async def _elapsed_ms(connection: Connection, *, since: datetime) -> int:
    return round((await _clock(connection) - since).total_seconds() * 1000)
