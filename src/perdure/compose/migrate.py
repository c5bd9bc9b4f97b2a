"""Migrations for those who may not know adapters: which database is meant, and what to do to its schema.

A database is named by its DSN, or by the data directory of an embedded server, which is joined for as long as the work
takes and whose plane is ``lab``, ``dev`` unless said otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters import embedded
from perdure.adapters.postgres import catalog, migrate, migration_script
from perdure.adapters.postgres.catalog import Verification
from perdure.adapters.postgres.migrate import Applied, SchemaStatus
from perdure.compose.embedded import ROLES, embedded_config
from perdure.errors import Invalid

__all__ = [
    "DATA_DIR",
    "Applied",
    "SchemaStatus",
    "Target",
    "Verification",
    "migrate_down",
    "migrate_up",
    "schema_status",
    "schema_verification",
    "script",
]

DATA_DIR = Path(".perdure")
"""Where the embedded server of a working directory lives."""

_EMBEDDED_PLANE = ("lab", "dev")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The database that is meant: ``dsn``, or the embedded one of ``data_dir`` (``./.perdure`` if both are None)."""

    dsn: str | None = None
    data_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.dsn is not None and self.data_dir is not None:
            raise Invalid("both a DSN and a data directory name a database; say one of them")

    def __repr__(self) -> str:
        # A DSN may hold a password.
        return f"Target(data_dir={str(self.data_dir or DATA_DIR)!r})" if self.dsn is None else "Target(dsn=...)"


async def migrate_up(
    target: Target,
    *,
    mode: str | None = None,
    env: str | None = None,
    to: int | None = None,
    progress: Callable[[Applied], None] | None = None,
) -> list[Applied]:
    """Applies what is pending up to version ``to`` or all; see ``adapters.postgres.migrate.up`` for what it raises."""
    if target.dsn is None:
        mode, env = mode or _EMBEDDED_PLANE[0], env or _EMBEDDED_PLANE[1]
    async with _owner_dsn(target) as dsn:
        return await migrate.up(dsn, mode=mode, env=env, to=to, progress=progress)


async def migrate_down(target: Target, *, to: int, progress: Callable[[Applied], None] | None = None) -> list[Applied]:
    """Undoes what is newer than version ``to`` and deletes what it kept; 0 undoes everything."""
    async with _owner_dsn(target) as dsn:
        return await migrate.down(dsn, to=to, progress=progress)


async def schema_status(target: Target) -> SchemaStatus:
    """What the database has and what is pending; changes nothing."""
    async with _owner_dsn(target) as dsn:
        return await migrate.status(dsn)


async def schema_verification(target: Target) -> Verification:
    """Whether files and live schema are what this release says; changes nothing."""
    async with _owner_dsn(target) as dsn:
        return await catalog.verify(dsn)


def script(*, mode: str | None, env: str | None, to: int | None = None) -> str:
    """The migrations as one psql script.

    Raises:
        Invalid: ``mode`` or ``env`` is missing or none.
        Refused: there is no migration ``to``.
    """
    if mode is None or env is None:
        raise Invalid("the script records the mode and env that the database will serve; say --mode and --env")
    return migration_script.render_sql(mode=mode, env=env, to=to)


@asynccontextmanager
async def _owner_dsn(target: Target) -> AsyncIterator[str]:
    if target.dsn is not None:
        yield target.dsn
        return
    server = await embedded.join(embedded_config(target.data_dir or DATA_DIR))
    try:
        yield server.dsn(ROLES[0])
    finally:
        await embedded.leave(server)
