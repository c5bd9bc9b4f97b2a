"""Which database a plane is on, and what it must be like before anything is written to it."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from perdure.adapters import embedded
from perdure.adapters.postgres import migrate
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.compose.embedded import ROLES, embedded_config
from perdure.config import Config
from perdure.domain.limits import WORKER_CHARS_MAX
from perdure.errors import Forbidden, Refused
from perdure.ports.environment import Environment

_SETTINGS = "SELECT mode, env, namespace::text AS namespace FROM perdure.plane_settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dsns:
    """One connection string a role; None where the user gave none, so that what needs it can say so."""

    app: str | None = field(repr=False)
    relay: str | None = field(repr=False)
    owner: str | None = field(repr=False)
    listen: str | None = field(repr=False)


@asynccontextmanager
async def database(config: Config) -> AsyncIterator[Dsns]:
    """The database of a configuration, running for as long as the block lasts and, if embedded, migrated.

    Raises ``Refused`` when the schema of another database is older or newer than this release.
    """
    if config.dsn is not None:
        yield Dsns(app=config.dsn, relay=config.relay_dsn, owner=config.owner_dsn, listen=config.listen_dsn)
        return
    server = await embedded.join(embedded_config(config.data_dir))
    try:
        owner, app, relay, _ = (server.dsn(role) for role in ROLES)
        await migrate.up(owner, mode=config.mode, env=config.env)
        yield Dsns(app=app, relay=relay, owner=owner, listen=relay)
    finally:
        await embedded.leave(server)


@asynccontextmanager
async def session(dsn: str | None, config: Config, *, role: str) -> AsyncIterator[Session]:
    """A pool of connections of one role. Raises ``Refused`` when no DSN was given for it."""
    if dsn is None:
        raise Refused(
            f"this needs the role perdure_{role} and no DSN was given for it; pass {role}_dsn= (on the command line: "
            "--dsn)",
            code="missing_dsn",
        )
    settings = PoolSettings(connections_max=config.connections_max, timeout_s=config.timeout_s)
    opened = Session(dsn, settings=settings)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


async def check_plane(opened: Session, config: Config) -> None:
    """Refuse a database that a plane of this configuration cannot be on."""
    await check_database(opened, mode=config.mode, env=config.env)


async def check_database(opened: Session, *, mode: str, env: str) -> None:
    """Refuse a database whose schema is not this release's, or that serves another (mode, env)."""
    async with opened.connection(writing=False) as connection:
        await migrate.check(connection)
        row = await (await connection.execute(_SETTINGS)).fetchone()
    if row is None:
        raise Refused(
            "the database has no plane settings; was its first migration interrupted? perdure migrate --verify"
        )
    found, wanted = (row["mode"], row["env"]), (mode, env)
    if found != wanted:
        raise Refused(
            f"this database serves mode {found[0]!r}, env {found[1]!r}, and was opened as {wanted[0]!r}, "
            f"{wanted[1]!r}; one ledger database serves one of each",
            code="other_plane",
        )


async def refuse_privileged(opened: Session) -> None:
    """Refuse a role that row-level security does not bind: a superuser, or one with BYPASSRLS."""
    async with opened.connection(writing=False) as connection:
        cursor = await connection.execute(
            "SELECT rolsuper OR rolbypassrls AS privileged FROM pg_catalog.pg_roles WHERE rolname = current_user"
        )
        row = await cursor.fetchone()
    if row is not None and row["privileged"]:
        raise Forbidden(
            "this DSN's role bypasses row-level security; open the plane as perdure_app or a member of it",
            code="privileged_role",
        )


def worker_name(environment: Environment) -> str:
    """Who holds a lease, for people to read: host, process, and a part that no other process has."""
    unique = environment.ids.new().hex[-12:]
    return f"{socket.gethostname()}:{os.getpid()}:{unique}"[-WORKER_CHARS_MAX:]
