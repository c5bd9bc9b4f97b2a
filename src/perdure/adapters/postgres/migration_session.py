"""What a migration needs of its connection: a server and not a pooler, the owner's role, one lock, a fixed context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from psycopg import errors as sqlstates
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perdure.adapters.postgres.dsns import pinned
from perdure.errors import (
    BackendDown,
    Forbidden,
    Invalid,
    OutcomeUnknown,
    PersistenceError,
    Refused,
    TimedOut,
    Unsupported,
)

__all__ = [
    "ADVISORY_LOCK",
    "CONTEXT_SQL",
    "ROLES",
    "Connection",
    "connected",
    "locked",
    "prepare",
    "table_exists",
    "translated",
]

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

ROLES = ("perdure_owner", "perdure_app", "perdure_relay", "perdure_maintenance")
ROLES_SQL = Path(__file__).with_name("roles.sql")

ADVISORY_LOCK = 7_311_846_227_905_114_469
"""The key of the lock that runners of one database wait on; any constant does, if it never changes."""

SERVER_VERSION_MIN = 150_000

# Transaction-local, so that nothing of it outlives a migration. Names resolve in pg_catalog only: a migration that
# forgets to qualify one fails at once and on every machine alike.
CONTEXT_SQL = """\
SET LOCAL ROLE perdure_owner;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL check_function_bodies = on;
SET LOCAL client_min_messages = warning;
"""

_CONNECT_TIMEOUT_S = 10
_CONNECTION_CLASSES = ("08", "57P")


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """A connection in autocommit to the server itself, closed on the way out.

    Raises:
        Invalid: the DSN cannot be read.
        BackendDown: nothing answered, or it refused the user.
        Refused: a pooler answered, whose connections change hands between transactions.
        Unsupported: the server is older than PostgreSQL 15.
    """
    connection = await _connect(dsn)
    async with connection:
        if connection.info.server_version < SERVER_VERSION_MIN:
            raise Unsupported(
                f"the server is PostgreSQL {connection.info.server_version // 10_000}; expected 15 or later"
            )
        await _refuse_pooler(connection)
        # A database may default to another level, under which a runner that waited for the lock would not see what
        # the one before it did.
        await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
        yield connection


async def _connect(dsn: str) -> Connection:
    try:
        parts: dict[str, Any] = conninfo_to_dict(pinned(dsn))
    except psycopg.ProgrammingError:
        # libpq quotes what it could not read, which may be the password: its error must not be chained.
        raise Invalid(
            "the DSN cannot be read; expected postgresql://user@host:port/database or key=value pairs"
        ) from None
    parts.setdefault("connect_timeout", _CONNECT_TIMEOUT_S)
    parts.setdefault("fallback_application_name", "perdure migrate")
    try:
        return await psycopg.AsyncConnection.connect(make_conninfo(**parts), autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as exc:
        raise BackendDown(f"could not connect to run migrations: {_first_line(exc)}") from exc


async def _refuse_pooler(connection: Connection) -> None:
    # A server announces its process at connect and names the same when asked. A pooler must announce something before
    # it has chosen a server, so the two differ.
    with translated("asking which process serves this connection"):
        answer = await (await connection.execute(b"SELECT pg_catalog.pg_backend_pid()")).fetchone()
    if answer is None or answer[0] != connection.info.backend_pid:
        raise Refused(
            f"{connection.info.host}:{connection.info.port} is a connection pooler; migrations need a DSN of the "
            "server itself, because a pooler hands their connection to others: perdure migrate --dsn <direct DSN>",
            code="pooled_dsn",
        )


async def prepare(connection: Connection) -> None:
    """Makes the four roles where they are missing, if this connection may; otherwise says who must run what.

    Raises:
        Refused: a role or right is missing and this user may not make it; the message names both.
    """
    missing = await _missing(connection)
    if not missing:
        return
    may = await _fetchone(
        connection, b"SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user"
    )
    if not may[0]:
        raise _refusal(connection, missing)
    try:
        async with connection.transaction():
            await connection.execute(b"SELECT pg_catalog.pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
            await connection.execute(ROLES_SQL.read_bytes())
    except (sqlstates.InsufficientPrivilege, sqlstates.ObjectNotInPrerequisiteState) as exc:
        raise _refusal(connection, [*missing, _first_line(exc)]) from exc
    except psycopg.Error as exc:
        raise PersistenceError(f"making the roles failed and was rolled back: {_first_line(exc)}") from exc
    missing = await _missing(connection)
    if missing:  # a database that this user does not own: GRANT only warns there
        raise _refusal(connection, missing)


async def _missing(connection: Connection) -> list[str]:
    # 16 split "is a member" from "may become": the option has a name only since then.
    becoming = "SET" if connection.info.server_version >= 160_000 else "MEMBER"  # noqa: PLR2004
    row = await _fetchone(
        connection,
        b"""
        SELECT ARRAY(SELECT r FROM pg_catalog.unnest(%(roles)s::text[]) r WHERE pg_catalog.to_regrole(r) IS NULL),
            ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles
                  WHERE rolname = ANY (%(roles)s::text[]) AND (rolsuper OR rolbypassrls)),
            CASE WHEN pg_catalog.to_regrole('perdure_owner') IS NOT NULL
                THEN pg_catalog.pg_has_role(current_user, pg_catalog.to_regrole('perdure_owner'), %(becoming)s) END,
            CASE WHEN pg_catalog.to_regrole('perdure_owner') IS NOT NULL
                THEN pg_catalog.has_database_privilege('perdure_owner', pg_catalog.current_database(), 'CREATE')
                    OR EXISTS (SELECT FROM pg_catalog.pg_class c
                        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = 'perdure' AND c.relname = 'schema_migrations') END
        """,
        {"roles": list(ROLES), "becoming": becoming},
    )
    absent, bypassing, may_become, may_create = row
    missing = [f"role {role} does not exist" for role in absent]
    missing += [f"role {role} bypasses row-level security" for role in bypassing]
    if may_become is False:
        missing.append(f"{connection.info.user} may not become perdure_owner")
    if may_create is False:
        missing.append(f"perdure_owner may not create a schema in database {connection.info.dbname}")
    return missing


def _refusal(connection: Connection, missing: list[str]) -> Refused:
    return Refused(
        f"{'; '.join(missing)}. Run migrations as a superuser, or as a role with CREATEROLE that owns the database; or "
        "have an administrator run the statements that `perdure migrate --sql` prints first, and GRANT perdure_owner "
        f"TO {connection.info.user}",
        code="roles_missing",
        missing=missing,
    )


@asynccontextmanager
async def locked(connection: Connection, *, lock_timeout_s: float) -> AsyncIterator[None]:
    """One transaction as perdure_owner that no other runner of this database shares.

    It waits for other runners without a limit, and for locks on tables no longer than ``lock_timeout_s``.
    """
    async with connection.transaction():
        await connection.execute(b"SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0;")
        await connection.execute(b"SELECT pg_catalog.pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
        await connection.execute(CONTEXT_SQL.encode())
        await connection.execute(
            b"SELECT pg_catalog.set_config('lock_timeout', %s, true)", (f"{round(lock_timeout_s * 1000)}ms",)
        )
        yield


async def table_exists(connection: psycopg.AsyncConnection[Any], table: str) -> bool:
    """Whether the schema has that table.

    Not to_regclass(): it answers from a cache that waiting for an advisory lock does not refresh, so that a runner
    would miss what the runner before it did. Reading pg_class itself is true as of this statement.
    """
    cursor = await connection.execute(
        b"SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        b"WHERE n.nspname = 'perdure' AND c.relname = %s",
        (table,),
    )
    return await cursor.fetchone() is not None


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turns the driver's errors into ours; ``doing`` says what was under way, such as 'applying migration 2026...'."""
    try:
        yield
    except sqlstates.InsufficientPrivilege as exc:
        raise Forbidden(f"{doing} was denied and rolled back: {_first_line(exc)}", sqlstate=exc.sqlstate) from exc
    except (sqlstates.LockNotAvailable, sqlstates.QueryCanceled) as exc:
        raise TimedOut(
            f"{doing} waited too long and was rolled back: {_first_line(exc)}; try again when the database is less "
            "busy",
            sqlstate=exc.sqlstate,
        ) from exc
    except psycopg.OperationalError as exc:
        if exc.sqlstate is None or exc.sqlstate.startswith(_CONNECTION_CLASSES):
            raise OutcomeUnknown(
                f"the connection was lost while {doing}; run it again, nothing is done twice: {_first_line(exc)}"
            ) from exc
        raise PersistenceError(f"{doing} failed: {_first_line(exc)}", sqlstate=exc.sqlstate) from exc
    except psycopg.Error as exc:
        raise PersistenceError(
            f"{doing} failed and was rolled back: {_first_line(exc)}", code="migration_failed", sqlstate=exc.sqlstate
        ) from exc


async def _fetchone(connection: Connection, query: bytes, params: dict[str, object] | None = None) -> tuple[Any, ...]:
    row = await (await connection.execute(query, params)).fetchone()
    assert row is not None, "these queries always return one row"
    return row


def _first_line(exc: psycopg.Error) -> str:
    # The rest of a server's message may quote rows.
    return exc.diag.message_primary or (str(exc).splitlines() or [type(exc).__name__])[0]
