"""A database with two tenants who did the same things, and raw connections to try it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

import psycopg

import perdure
from perdure.testing.contracts.ledger_events import live
from perdure.testing.environment import fake_environment
from tests.support.databases import Database

ACME, OTHER = perdure.tenant_uuid("t_acme"), perdure.tenant_uuid("t_other")
MACHINES = {
    "SIGNAL": "signals",
    "RUN": "runs",
    "STEP": "steps",
    "EFFECT": "effects",
    "TOOL_CALL": "tool_calls",
    "OUTBOX": "outbox_events",
}
RELATIONS = """
    SELECT relname::text FROM pg_class
    WHERE relnamespace = 'perdure'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') ORDER BY relname
"""
WITH_TENANT = """
    SELECT relname::text FROM pg_class AS relation
    WHERE relnamespace = 'perdure'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = relation.oid AND attname = 'tenant_id' AND NOT attisdropped)
    ORDER BY relname
"""

Connection = psycopg.Connection[tuple[Any, ...]]


@asynccontextmanager
async def opened(database: Database, *, same_ids: bool = False) -> AsyncIterator[perdure.Plane]:
    """A plane on the database; with ``same_ids`` each one makes the same ids as all others."""
    environment = fake_environment() if same_ids else None
    async with perdure.open(database.dsn("app"), mode="lab", env="dev", environment=environment) as plane:
        yield plane


async def live_in(database: Database, *slugs: str, same_ids: bool = False) -> dict[str, UUID]:
    """One run of everything for each tenant; the ids of their runs by slug."""
    runs: dict[str, UUID] = {}
    for slug in slugs:
        async with opened(database, same_ids=same_ids) as plane:
            runs[slug] = (await live(plane.scope(slug, actor="agent:tester"), "msg-1")).id
    return runs


@contextmanager
def connected(database: Database, role: str, *, tenant: UUID | None = None) -> Iterator[Connection]:
    """One transaction of a role in a tenant's context, rolled back at the end."""
    with psycopg.connect(database.direct_dsn(role)) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        if tenant is not None:
            enter(connection, tenant)
        yield connection
        connection.rollback()


def enter(connection: Connection, tenant: UUID | None) -> None:
    """Choose the tenant of the open transaction."""
    connection.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(tenant or ""),))


def ask(connection: Connection, statement: str, *params: object) -> Any:
    """The only column of the only row."""
    row = connection.execute(statement.encode(), params or None).fetchone()
    assert row is not None
    return row[0]


def attempt(connection: Connection, statement: str, *params: object) -> str | int:
    """How many rows a statement moved, or the SQLSTATE that it was refused with; the transaction goes on."""
    try:
        with connection.transaction():
            return connection.execute(statement.encode(), params or None).rowcount
    except psycopg.Error as exc:
        return exc.sqlstate or type(exc).__name__
