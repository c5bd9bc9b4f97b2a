"""What the stores do beyond one call: many writers, long logs removed in pieces, patience that ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from uuid import UUID

import psycopg
import pytest

import perdure
from perdure.adapters.postgres.admission import PostgresAdmission
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.domain.container import Container, make_space, stream_container
from perdure.domain.log import LogSettings, NewEntry
from perdure.domain.scope import make_scope
from perdure.domain.versioned import DeleteRow, PutRow
from perdure.errors import Forbidden, OutcomeUnknown, Refused, TimedOut
from perdure.ports.logs import LogStore
from perdure.testing.clock import DatabaseClock
from perdure.testing.contracts.rows_opening import table
from tests.adapters.postgres.lives import ACME, stores
from tests.conftest import MakeDatabase
from tests.support.databases import ALL, DIRECT, Database, engines

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
NEWS = stream_container(SPACE, "news")
APPENDERS, APPENDS = 64, 5
LONG = 12_000  # more than one transaction removes


def entry(entry_id: str) -> NewEntry:
    return NewEntry(entry_id=entry_id, fingerprint="f", body=b"1")


async def fill(logs: LogStore, log: Container, count: int) -> None:
    for first in range(0, count, 48):
        new = [entry(f"e{number}") for number in range(first, min(first + 48, count))]
        await logs.append(log, new, timeout_s=30)


def kept(database: Database) -> int:
    ((count,),) = database.query("SELECT count(*) FROM perdure.log_entries")
    return int(count)


@engines(*ALL)
async def test_64_appenders_of_several_pools_get_dense_numbers_in_their_own_order(database: Database) -> None:
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(stores(database, connections_max=8)) for _ in range(4)]
        told: dict[int, list[int]] = {}

        async def write(writer: int) -> None:
            logs = backends[writer % len(backends)].logs
            for number in range(APPENDS):
                (done,) = await logs.append(NEWS, [entry(f"{writer}-{number}")], timeout_s=60)
                told.setdefault(writer, []).append(done.sequence)

        await asyncio.gather(*(write(writer) for writer in range(APPENDERS)))
    assert sorted(number for numbers in told.values() for number in numbers) == list(range(1, APPENDERS * APPENDS + 1))
    assert all(numbers == sorted(numbers) for numbers in told.values())
    rows = database.query("SELECT sequence, entry_id FROM perdure.log_entries ORDER BY sequence")
    ids = {(sequence, f"{writer}-{n}") for writer, numbers in told.items() for n, sequence in enumerate(numbers)}
    assert set(rows) == ids


@engines(*DIRECT)
async def test_a_long_log_is_cleared_at_once_and_its_entries_are_swept_up_later(database: Database) -> None:
    async with stores(database) as backend:
        await fill(backend.logs, NEWS, LONG)
        assert await backend.logs.clear(NEWS, timeout_s=60)
        assert kept(database) == LONG
        (first,) = await backend.logs.append(NEWS, [entry("e1")], timeout_s=60)
        assert (first.sequence, first.duplicate) == (1, False)
        assert await backend.logs.sweep(limit=10, timeout_s=60) == 0
        assert kept(database) == 1
        assert database.query("SELECT count(*) FROM perdure.log_remains") == [(0,)]


@engines(*DIRECT)
async def test_a_long_log_that_is_erased_trimmed_or_expired_leaves_nothing(database: Database) -> None:
    async with stores(database) as backend:
        logs = backend.logs
        await fill(logs, NEWS, LONG)
        assert await logs.trim(NEWS, before=LONG - 10, timeout_s=60) == LONG - 11
        assert kept(database) == 11
        for other in ("old", "mail"):
            await logs.configure(stream_container(SPACE, other), LogSettings(ttl_s=60), timeout_s=60)
        await fill(logs, stream_container(SPACE, "old"), 3_000)
        await fill(logs, stream_container(SPACE, "mail"), 3_000)
        assert await logs.erase(stream_container(SPACE, "mail"), timeout_s=60)
        assert not await logs.erase(stream_container(SPACE, "mail"), timeout_s=60)
        assert kept(database) == 3_011
        await DatabaseClock(database.direct_dsn("superuser")).advance(61)
        assert await logs.sweep(limit=10, timeout_s=60) == 1
        assert kept(database) == 11
        assert database.query("SELECT container LIKE '%news%' FROM perdure.logs") == [(True,)]


@engines(*DIRECT)
async def test_more_rows_than_one_transaction_removes_are_erased(database: Database) -> None:
    async with stores(database) as backend:
        await backend.rows.write(table(SPACE), [PutRow(key="k", value=b"1")], timeout_s=60)
        database.query(
            "INSERT INTO perdure.versioned_rows (tenant_id, container_id, key, value, version, incarnation, created_at,"
            " updated_at) SELECT tenant_id, container_id, key || n, value, 1, 'x', now(), now()"
            " FROM perdure.versioned_rows, generate_series(1, 11000) AS n"
        )
        assert await backend.rows.erase(table(SPACE), timeout_s=60) == 11_001
        assert database.query("SELECT count(*) FROM perdure.versioned_rows") == [(0,)]
        assert database.query("SELECT count(*) FROM perdure.row_containers") == [(0,)]


@engines(*DIRECT)
async def test_audit_records_beyond_what_one_transaction_removes_go_with_what_they_tell_of(database: Database) -> None:
    async with stores(database) as backend:
        await backend.logs.append(NEWS, [entry("e1")], timeout_s=60)
        await backend.rows.write(table(SPACE), [PutRow(key="k", value=b"1")], timeout_s=60)
        database.query(
            "INSERT INTO perdure.store_audit (tenant_id, container_id, audit_id, record)"
            " SELECT tenant_id, id, gen_random_uuid(), '{}' FROM generate_series(1, 11000), ("
            " SELECT tenant_id, log_id AS id FROM perdure.logs"
            " UNION ALL SELECT tenant_id, container_id FROM perdure.row_containers) AS kept"
        )
        assert await backend.logs.erase(NEWS, timeout_s=60)
        assert database.query("SELECT count(*) FROM perdure.store_audit") == [(11_000,)]
        assert await backend.rows.erase(table(SPACE), timeout_s=60) == 1
        assert database.query("SELECT count(*) FROM perdure.store_audit") == [(0,)]


@engines(*DIRECT)
async def test_an_erasure_that_was_cut_short_leaves_the_name_for_the_next(database: Database) -> None:
    async with stores(database) as backend:
        await backend.logs.append(NEWS, [entry("e1")], timeout_s=60)
        database.query(
            "INSERT INTO perdure.store_audit (tenant_id, container_id, audit_id, record)"
            " SELECT tenant_id, log_id, gen_random_uuid(), '{}' FROM generate_series(1, 3), perdure.logs"
        )
        first = "SELECT perdure.erase_log(tenant_id, log_id, 2, 1000) FROM perdure.logs"
        assert database.query(first) == [({"erased": True, "more": True},)]
        assert await backend.logs.head(NEWS, timeout_s=60) is not None
        assert await backend.logs.erase(NEWS, timeout_s=60)
        assert database.query("SELECT count(*) FROM perdure.store_audit") == [(0,)]


@engines(*DIRECT)
async def test_a_sweep_removes_no_more_entries_in_one_transaction_than_it_was_told(database: Database) -> None:
    async with stores(database) as backend:
        for name in ("a", "b", "c"):
            await backend.logs.append(
                stream_container(SPACE, name),
                [entry(f"e{number}") for number in range(6)],
                settings=LogSettings(ttl_s=60),
                timeout_s=60,
            )
        clock = DatabaseClock(database.direct_dsn("superuser"))
        await clock.advance(61)
        assert database.query("SELECT perdure.sweep_logs(3, 10, 1000)") == [({"removed": 2, "more": True},)]
        assert database.query("SELECT perdure.sweep_logs(3, 10, 1000)") == [({"removed": 1, "more": False},)]
        assert kept(database) == 0


@engines(*DIRECT)
async def test_a_container_whose_last_row_was_deleted_leaves_no_name(database: Database) -> None:
    names = "SELECT count(*) FROM perdure.row_containers"
    async with stores(database) as backend:
        puts = [PutRow(key=key, value=b"1") for key in ("a", "b")]
        await backend.rows.write(table(SPACE), puts, timeout_s=60)
        await backend.rows.write(table(SPACE), [DeleteRow(key="a")], timeout_s=60)
        assert database.query(names) == [(1,)]
        await backend.rows.write(table(SPACE), [DeleteRow(key="b")], timeout_s=60)
        assert database.query(names) == [(0,)]
        await backend.rows.write(table(SPACE), puts, timeout_s=60)
        assert database.query(names) == [(1,)]


@engines(*DIRECT)
async def test_a_name_that_somebody_is_making_a_row_under_is_not_waited_for(database: Database) -> None:
    async with stores(database) as backend:
        await backend.rows.write(table(SPACE), [PutRow(key="a", value=b"1")], timeout_s=60)
        with psycopg.connect(database.direct_dsn("superuser")) as maker:
            maker.execute("SELECT 1 FROM perdure.row_containers FOR KEY SHARE")
            await backend.rows.write(table(SPACE), [DeleteRow(key="a")], timeout_s=5)
            assert database.query("SELECT count(*) FROM perdure.row_containers") == [(1,)]


@engines(*ALL)
async def test_a_lock_that_is_not_free_in_time_is_a_timeout_and_nothing_was_done(database: Database) -> None:
    async with stores(database) as backend:
        await backend.logs.append(NEWS, [entry("e1")], timeout_s=30)
        await backend.rows.write(table(SPACE), [PutRow(key="a", value=b"1")], timeout_s=30)
        with psycopg.connect(database.direct_dsn("superuser")) as other:
            other.execute("SELECT 1 FROM perdure.logs FOR UPDATE")
            other.execute("SELECT 1 FROM perdure.versioned_rows FOR UPDATE")
            for attempted in (
                backend.logs.append(NEWS, [entry("e2")], timeout_s=0.5),
                backend.logs.clear(NEWS, timeout_s=0.5),
                backend.rows.write(table(SPACE), [PutRow(key="a", value=b"2")], timeout_s=0.5),
            ):
                with pytest.raises(TimedOut):
                    await attempted
        assert [done.sequence for done in await backend.logs.append(NEWS, [entry("e2")], timeout_s=30)] == [2]
        assert (await backend.rows.get(table(SPACE), ["a"], timeout_s=30))["a"].value == b"1"


@engines(*ALL)
async def test_a_write_that_is_cut_off_has_an_unknown_outcome_and_a_read_has_none(database: Database) -> None:
    async with stores(database) as backend:
        await backend.logs.append(NEWS, [entry("e1")], settings=LogSettings(ttl_s=600), timeout_s=30)
        database.query(
            "CREATE OR REPLACE FUNCTION perdure.instant() RETURNS timestamptz LANGUAGE sql VOLATILE"
            " AS 'SELECT clock_timestamp() FROM pg_sleep(20)'"
        )
        with pytest.raises(OutcomeUnknown):
            await backend.logs.append(NEWS, [entry("e2")], timeout_s=0.5)
        with pytest.raises(TimedOut):
            await backend.logs.locate(NEWS, "e1", timeout_s=0.5)
        await DatabaseClock(database.direct_dsn("superuser")).reset()
        (done,) = await backend.logs.append(NEWS, [entry("e2")], timeout_s=30)
        assert done.sequence == 2


@pytest.fixture
async def admission(database: Database):
    session = Session(database.dsn("app"), settings=PoolSettings())
    await session.open()
    yield PostgresAdmission(session)
    await session.close()


@engines(*ALL)
async def test_in_lab_whoever_comes_first_makes_the_tenant(database: Database, admission: PostgresAdmission) -> None:
    scope = make_scope("t_acme", actor="agent:x", mode="lab", env="dev")
    await asyncio.gather(*(admission.admit(scope) for _ in range(8)))
    assert database.query("SELECT tenant_id, slug FROM perdure.tenants") == [(ACME, "t_acme")]
    assert database.query("SELECT tenant_id FROM perdure.tenant_sequences") == [(ACME,)]


@engines(*ALL)
async def test_only_members_are_admitted_and_nobody_else_makes_a_tenant(
    database: Database, admission: PostgresAdmission
) -> None:
    member, stranger = UUID(int=1), UUID(int=2)
    await admission.admit(make_scope("t_acme", actor="user:ada", mode="lab", env="dev"))
    database.query("INSERT INTO perdure.user_tenants (user_id, tenant_id) VALUES (%s, %s)", member, ACME)
    await admission.admit(make_scope("t_acme", actor="user:ada", mode="lab", env="dev", user=member))
    for tenant, user in (("t_acme", stranger), ("t_other", member)):
        with pytest.raises(Forbidden) as caught:
            await admission.admit(make_scope(tenant, actor="user:eve", mode="lab", env="dev", user=user))
        assert caught.value.code == "not_a_member"
    assert database.query("SELECT count(*) FROM perdure.tenants") == [(1,)]


async def test_outside_lab_an_unknown_tenant_is_not_admitted(make_database: MakeDatabase) -> None:
    database = make_database("pg18", mode="saas", env="prod")
    session = Session(database.dsn("app"), settings=PoolSettings())
    await session.open()
    scope = make_scope("t_acme", actor="agent:x", mode="saas", env="prod")
    with pytest.raises(Refused) as caught:
        await PostgresAdmission(session).admit(scope)
    assert caught.value.code == "unknown_tenant"
    database.query("INSERT INTO perdure.tenants (tenant_id, slug) VALUES (%s, 't_acme')", perdure.tenant_uuid("t_acme"))
    await PostgresAdmission(session).admit(scope)
    await session.close()
