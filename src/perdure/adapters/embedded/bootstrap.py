"""What a new cluster needs before anyone can use it: login roles with passwords, and one database they alone enter.

Every step can be repeated, so a start that was killed half way is finished by the next one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from perdure.adapters.embedded.credentials import SUPERUSER, ensure_passwords, read_passwords, scram_verifier
from perdure.errors import BackendDown, PersistenceError

if TYPE_CHECKING:
    from perdure.adapters.embedded.layout import Layout

CONNECT_TIMEOUT_S = 10

_ROLE_EXISTS: LiteralString = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s"
_DATABASE_EXISTS: LiteralString = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s"
_ATTRIBUTES: LiteralString = "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT"
_REQUIRE_AUTH_SINCE = 160000


def conninfo(layout: Layout, *, role: str, database: str, port: int, portable: bool = False) -> str:
    """A libpq connection string without a password in it: libpq finds that in the ``passfile``.

    Unless ``portable``, it also tells libpq 16 and later never to answer a server that asks for anything weaker than
    SCRAM; older clients, such as an old psql, do not know that option.
    """
    options: dict[str, str] = {"passfile": str(layout.passwords), "sslmode": "disable", "gssencmode": "disable"}
    if not portable and psycopg.pq.version() >= _REQUIRE_AUTH_SINCE:
        options["require_auth"] = "scram-sha-256"
    return make_conninfo("", host="127.0.0.1", hostaddr="127.0.0.1", port=port, dbname=database, user=role, **options)


async def connect_superuser(layout: Layout, *, database: str, port: int) -> psycopg.AsyncConnection:
    """A connection of the bootstrap superuser, in autocommit; raises ``BackendDown`` when there is none to be had."""
    dsn = conninfo(layout, role=SUPERUSER, database=database, port=port)
    try:
        return await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, prepare_threshold=None, connect_timeout=CONNECT_TIMEOUT_S
        )
    except psycopg.Error as exc:
        raise BackendDown(
            f"the embedded server in {layout.root} does not let its superuser in on port {port}: {exc}; look at "
            f"{layout.log}",
            path=str(layout.root),
            port=port,
        ) from exc


def is_prepared(layout: Layout, *, roles: tuple[str, ...], database: str) -> bool:
    """Whether the cluster is known to have these roles, with the passwords in the file, and this database."""
    try:
        told = json.loads(layout.prepared.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(told, dict) or told.get("database") != database:
        return False
    return set(roles) <= set(told.get("roles", ())) and set(roles) <= set(read_passwords(layout))


async def prepare(layout: Layout, *, roles: tuple[str, ...], database: str, port: int) -> None:
    """Make what is missing: the roles, the database of the first of them, and who may connect where."""
    passwords = ensure_passwords(layout, (SUPERUSER, *roles))
    server = await connect_superuser(layout, database=SUPERUSER, port=port)
    async with server:
        try:
            for role in roles:
                await _ensure_role(server, role, password=passwords[role])
            await _ensure_database(server, database, roles=roles)
        except psycopg.Error as exc:
            raise PersistenceError(
                f"cannot prepare the embedded database {database!r} in {layout.root}: {exc}", path=str(layout.root)
            ) from exc
    layout.write(layout.prepared, json.dumps({"database": database, "roles": list(roles)}).encode())


async def _ensure_role(server: psycopg.AsyncConnection, role: str, *, password: str) -> None:
    exists = await (await server.execute(_ROLE_EXISTS, (role,))).fetchone()
    statement = (
        sql.SQL("ALTER ROLE {} WITH {} PASSWORD {}") if exists else sql.SQL("CREATE ROLE {} WITH {} PASSWORD {}")
    )
    name, attributes = sql.Identifier(role), sql.SQL(_ATTRIBUTES)
    await server.execute(statement.format(name, attributes, sql.Literal(scram_verifier(password))))


async def _ensure_database(server: psycopg.AsyncConnection, database: str, *, roles: tuple[str, ...]) -> None:
    owner, name = sql.Identifier(roles[0]), sql.Identifier(database)
    if await (await server.execute(_DATABASE_EXISTS, (database,))).fetchone() is None:
        await server.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(name, owner))
    await server.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    await server.execute(sql.SQL("GRANT CONNECT, CREATE ON DATABASE {} TO {}").format(name, owner))
    for role in roles:
        grantee = sql.Identifier(role)
        await server.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, grantee))
        # For people with psql, who name tables without their schema.
        path = sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}, public")
        await server.execute(path.format(grantee, name, name))
    # Whoever is let in at all has business in this database only.
    await server.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
