"""A database with two tenants who did the same things, and raw connections to try it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg

import perdure
from perdure.adapters.postgres.backend import PostgresBackend
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.core.environment import system_environment
from perdure.domain.container import make_space, session_container, stream_container
from perdure.domain.kinds import Kind
from perdure.domain.log import NewEntry
from perdure.domain.store_audit import StoreAudit
from perdure.domain.versioned import PutRow
from perdure.testing.contracts.ledger_events import live
from perdure.testing.contracts.registry import change_to, new_route
from perdure.testing.contracts.rows_opening import table
from perdure.testing.contracts.telemetry_keeping import record_of
from perdure.testing.environment import fake_environment
from tests.support.databases import Database
from tests.support.work_saves import first_save

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


@asynccontextmanager
async def stores(
    database: Database, *, connections_max: int = 2, mode: str = "lab", env: str = "dev"
) -> AsyncIterator[PostgresBackend]:
    """The routed stores of the database, as its app."""
    session = Session(database.dsn("app"), settings=PoolSettings(connections_max=connections_max))
    await session.open()
    backend = PostgresBackend(session, mode=mode, env=env, environment=system_environment(), owns_session=True)
    try:
        yield backend
    finally:
        await backend.close()


async def live_in(database: Database, *slugs: str, same_ids: bool = False) -> dict[str, UUID]:
    """One run of everything for each tenant, and something in every store; the ids of their runs by slug."""
    runs: dict[str, UUID] = {}
    for slug in slugs:
        async with opened(database, same_ids=same_ids) as plane:
            runs[slug] = (await live(plane.scope(slug, actor="agent:tester"), "msg-1")).id
    # When no plane is open any more that would relay the events and sweep up the remains.
    for slug in slugs:
        async with stores(database) as backend:
            await keep_something(backend, slug)
        database.query(
            "INSERT INTO perdure.log_remains (tenant_id, log_id, epoch, earliest, sequence) VALUES (%s, %s, 1, 1, 9)",
            *(perdure.tenant_uuid(slug), UUID(int=1)),
        )
    return runs


async def keep_something(backend: PostgresBackend, slug: str) -> None:
    """A stream, a session, an audited row, an object, a unit of work, an entry, a route; alike for each tenant."""
    space = make_space(tenant=slug, mode="lab", env="dev", project="default")
    for log in (stream_container(space, "news"), session_container(space, user="ada", session="s1")):
        entries = [NewEntry(entry_id=f"e{number}", fingerprint="f", body=b"1") for number in range(3)]
        await backend.logs.append(log, entries, timeout_s=30)
    rows = table(space)
    record = StoreAudit(
        audit_id=UUID(int=7),
        kind=Kind.TABLES,
        backend="postgres",
        operation="write",
        container="items",
        tenant=slug,
        project="default",
        actor="agent:tester",
        request_id=None,
        trace_id=None,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        outcome="committed",
    )
    await backend.rows.write(rows, [PutRow(key="a", value=b"1")], audit=record, timeout_s=30)
    await backend.objects.put(space, b"the same of every tenant", timeout_s=30)
    await backend.work.commit(space, replace(first_save(), request_id="r", fingerprint="f"), timeout_s=30)
    await backend.telemetry.write(space, [record_of(entry_id=UUID(int=9), unit_id="u")], timeout_s=30)
    await backend.routes.commit(change_to(new_route(slug, route_id=UUID(int=8))), timeout_s=30)


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
