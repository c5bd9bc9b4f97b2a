"""Objects on PostgreSQL: batches, one transaction a put, and what waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from perdure.adapters.postgres.objects import BATCH_CHUNKS, CHUNK_BYTES
from perdure.domain.container import make_space
from perdure.domain.object import SPOOL_BYTES_MAX, object_digest
from perdure.errors import DigestMismatch, NotFound, OutcomeUnknown, Refused, TimedOut
from perdure.testing.contracts.objects_opening import content, in_chunks
from tests.adapters.postgres.lives import ACME, attempt, connected, stores
from tests.conftest import MakeDatabase
from tests.support.databases import ALL, DIRECT, Database, engines

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
BATCH_BYTES = CHUNK_BYTES * BATCH_CHUNKS
TIMEOUT_S = 30.0
IMPATIENCE_S = 0.5
TABLES = ("objects", "object_chunks")


def counts(database: Database) -> list[int]:
    return [database.query(f"SELECT count(*) FROM perdure.{table}")[0][0] for table in TABLES]  # noqa: S608


@contextmanager
def chunks_locked(database: Database) -> Iterator[psycopg.Connection]:
    """Nobody writes a chunk for as long as the block lasts."""
    with psycopg.connect(database.direct_dsn("superuser")) as connection:
        connection.execute("LOCK TABLE perdure.object_chunks IN EXCLUSIVE MODE")
        yield connection
        connection.rollback()


async def waiting(connection: psycopg.Connection) -> int:
    """The process that waits for the lock, once it does."""
    query = "SELECT l.pid FROM pg_locks l JOIN pg_database ON oid = database WHERE NOT granted AND datname = %s"
    while True:
        found = connection.execute(query, (connection.info.dbname,)).fetchall()
        if found:
            (pid,) = found[0]
            return int(pid)
        await asyncio.sleep(0)


@engines(*ALL)
@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("size", [CHUNK_BYTES, BATCH_BYTES, SPOOL_BYTES_MAX])
async def test_chunks_and_batches_end_where_they_should(database: Database, size: int, more: int) -> None:
    whole = content(size + more)
    async with stores(database) as backend:
        ref = await backend.objects.put(SPACE, in_chunks(whole, 1_000_003), timeout_s=TIMEOUT_S)
        found = await backend.objects.get(SPACE, ref.digest, timeout_s=TIMEOUT_S)
        assert b"".join([chunk async for chunk in found.chunks]) == whole
    assert counts(database) == [1, -(-len(whole) // CHUNK_BYTES)]


@engines(*DIRECT)
async def test_the_same_bytes_again_write_no_chunk(database: Database) -> None:
    whole = content(BATCH_BYTES + 1)
    rows = "SELECT chunk_no, xmin::text FROM perdure.object_chunks ORDER BY 1"
    async with stores(database) as backend:
        await backend.objects.put(SPACE, whole, timeout_s=TIMEOUT_S)
        before = database.query(rows)
        await backend.objects.put(SPACE, whole, timeout_s=TIMEOUT_S)
        assert database.query(rows) == before


@engines(*DIRECT)
@pytest.mark.parametrize("size", [10, BATCH_BYTES + 1])
async def test_a_put_that_waits_too_long_is_rolled_back(database: Database, size: int) -> None:
    whole = content(size)
    async with stores(database) as backend:
        with chunks_locked(database), pytest.raises((TimedOut, OutcomeUnknown)):
            await backend.objects.put(SPACE, whole, timeout_s=IMPATIENCE_S)
        assert counts(database) == [0, 0]
        await backend.objects.put(SPACE, whole, timeout_s=TIMEOUT_S)
    assert counts(database) == [1, -(-size // CHUNK_BYTES)]


async def test_a_large_put_that_is_cancelled_between_its_batches_leaves_nothing(database: Database) -> None:
    whole = content(3 * BATCH_BYTES)
    async with stores(database) as backend:
        with chunks_locked(database) as connection:
            task = asyncio.create_task(backend.objects.put(SPACE, whole, timeout_s=TIMEOUT_S))
            await waiting(connection)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await backend.objects.find(SPACE, object_digest(whole), timeout_s=TIMEOUT_S) is None
    assert counts(database) == [0, 0]


async def test_a_lost_connection_amid_a_large_put_leaves_nothing_or_all(database: Database) -> None:
    whole = content(3 * BATCH_BYTES)
    async with stores(database) as backend:
        with chunks_locked(database) as connection:
            task = asyncio.create_task(backend.objects.put(SPACE, whole, timeout_s=TIMEOUT_S))
            pid = await waiting(connection)
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            with pytest.raises(OutcomeUnknown):
                await task
        assert counts(database) == [0, 0]
        ref = await backend.objects.put(SPACE, whole, timeout_s=TIMEOUT_S)
        assert await backend.objects.find(SPACE, ref.digest, timeout_s=TIMEOUT_S) == ref


@engines(*DIRECT)
async def test_missing_chunks_are_damage_and_a_missing_object_is_not_found(database: Database) -> None:
    whole = content(BATCH_BYTES + CHUNK_BYTES)
    digest = object_digest(whole)
    async with stores(database) as backend:
        for damage in (
            "DELETE FROM perdure.object_chunks WHERE chunk_no = 16",
            "DELETE FROM perdure.object_chunks WHERE chunk_no = 0",
            "DELETE FROM perdure.object_chunks",
        ):
            await backend.objects.put(SPACE, whole, timeout_s=TIMEOUT_S)
            database.query(damage)
            found = await backend.objects.get(SPACE, digest, timeout_s=TIMEOUT_S)
            with pytest.raises(DigestMismatch):
                assert [chunk async for chunk in found.chunks] == []
        await backend.objects.put(SPACE, whole, timeout_s=TIMEOUT_S)
        found = await backend.objects.get(SPACE, digest, timeout_s=TIMEOUT_S)
        assert await backend.objects.delete(SPACE, digest, timeout_s=TIMEOUT_S)
        with pytest.raises(NotFound):
            assert [chunk async for chunk in found.chunks] == []
    assert counts(database) == [0, 0]


@engines(*DIRECT)
async def test_chunks_are_written_through_functions_and_never_changed(database: Database) -> None:
    async with stores(database) as backend:
        await backend.objects.put(SPACE, b"a", timeout_s=TIMEOUT_S)
    for role in ("superuser", "owner"):
        with connected(database, role, tenant=ACME) as connection:
            for statement in ("UPDATE perdure.object_chunks SET data = data", "TRUNCATE perdure.object_chunks"):
                assert attempt(connection, statement) == "PD001", (role, statement)
    for role in ("app", "relay", "maintenance"):
        with connected(database, role, tenant=ACME) as connection:
            call = "SELECT perdure.keep_object_chunks(%s, %s, '', 0, '{}')"
            assert attempt(connection, call, ACME, ACME) == "42501", role


async def test_a_tenant_that_nobody_added_keeps_no_object(make_database: MakeDatabase) -> None:
    database = make_database("pg18", mode="saas", env="prod")
    space = make_space(tenant="t_unknown", mode="saas", env="prod", project="default")
    async with stores(database, mode="saas", env="prod") as backend:
        for size in (1, BATCH_BYTES + 1):
            with pytest.raises(Refused) as caught:
                await backend.objects.put(space, content(size), timeout_s=TIMEOUT_S)
            assert caught.value.code == "unknown_tenant"
    assert counts(database) == [0, 0]
