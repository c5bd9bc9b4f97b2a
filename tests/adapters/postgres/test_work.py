"""Units of work on PostgreSQL: what the database refuses whoever asks, and saves in a caller's own transaction."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import psycopg
import pytest

import perdure
from perdure.adapters.postgres.backend import PostgresBackend
from perdure.domain.container import make_space
from perdure.domain.work import TRANSITIONS, HistoryEvent, ParentStep, WorkStatus, WorkUnit, WorkWrite, may_follow
from perdure.errors import IllegalTransition, Invalid, NotFound, StaleVersion
from tests.adapters.postgres.lives import ACME, attempt, connected, opened, stores
from tests.support.databases import ALL, DIRECT, Database, engines
from tests.support.work_saves import MOMENT, UNIT, first_save, next_save

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
TIMEOUT_S = 30.0
REFUSED, DENIED = "PD001", "42501"
TABLES = ("work_units", "work_attributes", "work_history", "work_requests")


async def saved(backend: PostgresBackend, write: WorkWrite) -> WorkUnit:
    """The unit after a save."""
    return (await backend.work.commit(SPACE, write, timeout_s=TIMEOUT_S)).unit


def counts(database: Database) -> list[int]:
    """Rows of units, attributes and history."""
    return [database.query(f"SELECT count(*) FROM perdure.{table}")[0][0] for table in TABLES[:3]]  # noqa: S608


@engines(*DIRECT)
async def test_history_and_versions_are_not_rewritten_by_anybody(database: Database) -> None:
    async with stores(database) as backend:
        await saved(backend, replace(first_save(), request_id="r", fingerprint="f"))
    before = [database.query(f"SELECT * FROM perdure.{table}") for table in TABLES]  # noqa: S608
    for role in ("superuser", "owner"):
        with connected(database, role, tenant=ACME) as connection:
            for statement in (
                "UPDATE perdure.work_history SET reasoning = reasoning",
                "DELETE FROM perdure.work_history WHERE false",
                "TRUNCATE perdure.work_history",
                "UPDATE perdure.work_attributes SET value = '1'",
            ):
                assert attempt(connection, statement) == REFUSED, (role, statement)
    for role in ("app", "relay", "maintenance"):
        with connected(database, role, tenant=ACME) as connection:
            for table in TABLES:
                assert attempt(connection, f"DELETE FROM perdure.{table}") == DENIED, (role, table)  # noqa: S608
                assert attempt(connection, f"UPDATE perdure.{table} SET tenant_id = tenant_id") == DENIED  # noqa: S608
                assert attempt(connection, f"INSERT INTO perdure.{table} SELECT * FROM perdure.{table}") == DENIED  # noqa: S608
    assert [database.query(f"SELECT * FROM perdure.{table}") for table in TABLES] == before  # noqa: S608


@engines(*DIRECT)
async def test_the_database_knows_the_same_transitions_as_the_library(database: Database) -> None:
    rows = database.query("SELECT source::text, target::text FROM perdure.work_transitions")
    assert set(rows) == {(source.value, target.value) for source, targets in TRANSITIONS.items() for target in targets}


@engines(*DIRECT)
async def test_the_database_refuses_a_transition_that_may_not_follow_unless_it_is_waived(database: Database) -> None:
    assert not may_follow(WorkStatus.PENDING, WorkStatus.ARCHIVED)
    async with stores(database) as backend:
        unit = await saved(backend, first_save())
        with pytest.raises(IllegalTransition, match="PENDING to ARCHIVED"):
            await saved(backend, next_save(unit, WorkStatus.ARCHIVED))
        assert counts(database) == [1, 1, 1]
        waived = next_save(unit, WorkStatus.ARCHIVED, HistoryEvent.CONSTITUTIONAL_WAIVER)
        assert (await saved(backend, waived)).status == WorkStatus.ARCHIVED
    assert counts(database) == [1, 1, 2]


@engines(*DIRECT)
async def test_a_unit_is_not_changed_past_its_version(database: Database) -> None:
    async with stores(database) as backend:
        await saved(backend, first_save())
    with connected(database, "owner", tenant=ACME) as connection:
        for statement in (
            "UPDATE perdure.work_units SET content_hash = repeat('1', 64)",
            "UPDATE perdure.work_units SET version = version + 2",
            "UPDATE perdure.work_units SET unit_id = gen_random_uuid()",
            "UPDATE perdure.work_units SET created_at = now(), version = version + 1",
        ):
            assert attempt(connection, statement) == "PD004", statement
        assert attempt(connection, "UPDATE perdure.work_units SET status = 'ARCHIVED', version = 2") == "PD003"
        assert attempt(connection, "UPDATE perdure.work_units SET beats = beats + 1") == 1


@engines(*ALL)
async def test_a_save_in_the_callers_transaction_comes_and_goes_with_it(database: Database) -> None:
    async with stores(database) as backend:
        unit = await saved(backend, first_save())
        async with await psycopg.AsyncConnection.connect(database.dsn("app"), prepare_threshold=None) as connection:
            for kept in (False, True):
                write = next_save(unit, WorkStatus.ACTIVE)
                async with connection.transaction(force_rollback=not kept):
                    before = await backend.work.load(SPACE, UNIT, connection=connection, timeout_s=TIMEOUT_S)
                    assert before is not None
                    assert before.unit == unit
                    assert set(before.attributes) == {"amount"}
                    await backend.work.commit(SPACE, write, connection=connection, timeout_s=TIMEOUT_S)
                    seen = await backend.work.load(SPACE, UNIT, connection=connection, timeout_s=TIMEOUT_S)
                    assert seen is not None
                    assert seen.unit.status == WorkStatus.ACTIVE
                    outside = await backend.work.load(SPACE, UNIT, timeout_s=TIMEOUT_S)
                    assert outside == before
                found = await backend.work.load(SPACE, UNIT, timeout_s=TIMEOUT_S)
                assert found is not None
                assert found.unit.status == (WorkStatus.ACTIVE if kept else WorkStatus.PENDING)


@engines(*ALL)
async def test_a_save_that_is_refused_leaves_the_callers_transaction_usable(database: Database) -> None:
    async with stores(database) as backend:
        unit = await saved(backend, first_save())
        async with await psycopg.AsyncConnection.connect(database.dsn("app"), prepare_threshold=None) as connection:
            async with connection.transaction():
                for refused, wrong in (
                    (StaleVersion, first_save()),
                    (IllegalTransition, next_save(unit, WorkStatus.ARCHIVED)),
                    (NotFound, first_save(UUID(int=2), parent_id=UUID(int=3))),
                ):
                    with pytest.raises(refused):
                        await backend.work.commit(SPACE, wrong, connection=connection, timeout_s=TIMEOUT_S)
                write = next_save(unit, WorkStatus.ACTIVE)
                await backend.work.commit(SPACE, write, connection=connection, timeout_s=TIMEOUT_S)
            with pytest.raises(Invalid, match="psycopg"):
                await backend.work.commit(SPACE, write, connection=object(), timeout_s=TIMEOUT_S)
    assert counts(database) == [1, 1, 2]


@engines(*DIRECT)
async def test_a_save_and_a_change_of_the_ledger_are_one_transaction(database: Database) -> None:
    async with opened(database) as plane, stores(database) as backend:
        acme = plane.scope("t_acme", actor="agent:tester")
        run = await acme.runs.start("invoice-triage", signal=("billing", "msg-7"), input={})
        unit = await saved(backend, first_save())
        async with await psycopg.AsyncConnection.connect(database.dsn("app"), prepare_threshold=None) as connection:
            for kept in (False, True):
                async with connection.transaction(force_rollback=not kept):
                    write = next_save(unit, WorkStatus.ACTIVE)
                    await backend.work.commit(SPACE, write, connection=connection, timeout_s=TIMEOUT_S)
                    async with acme.change(run, connection=connection) as change:
                        change.step("classify", output={"kept": kept})
                steps = database.query("SELECT count(*) FROM perdure.steps")[0][0]
                assert (steps, counts(database)) == ((1, [1, 1, 2]) if kept else (0, [1, 1, 1]))


@engines(*DIRECT)
async def test_numbers_in_metadata_come_back_as_they_were_hashed(database: Database) -> None:
    async with stores(database) as backend:
        write = first_save()
        await saved(backend, write)
        (kept,) = await backend.work.history(SPACE, UNIT, limit=10, timeout_s=TIMEOUT_S)
    assert kept == write.entries[0]
    assert kept.transition_metadata is not None
    assert isinstance(kept.transition_metadata["rate"], float)


@engines(*DIRECT)
async def test_children_that_come_and_finish_at_the_same_time_are_all_counted(database: Database) -> None:
    async with stores(database, connections_max=8) as backend:
        await saved(backend, first_save())
        children = [UUID(int=number) for number in range(10, 26)]
        made = await asyncio.gather(*(saved(backend, first_save(child, parent_id=UNIT)) for child in children))
        await asyncio.gather(
            *(
                saved(backend, replace(next_save(child, WorkStatus.FAILED), parent_step=ParentStep.FINISH))
                for child in made
            )
        )
        parent = await backend.work.load(SPACE, UNIT, timeout_s=TIMEOUT_S)
    assert parent is not None
    assert (parent.unit.child_count, parent.unit.finished_child_count, parent.unit.version) == (16, 16, 1)


@engines(*DIRECT)
async def test_another_tenant_finds_nothing_of_a_unit(database: Database) -> None:
    other = make_space(tenant="t_other", mode="lab", env="dev", project="default")
    async with stores(database) as backend:
        await saved(backend, first_save())
        assert await backend.work.load(other, UNIT, timeout_s=TIMEOUT_S) is None
        assert not await backend.work.history(other, UNIT, limit=10, timeout_s=TIMEOUT_S)
        with pytest.raises(NotFound):
            await backend.work.heartbeat(other, UNIT, owner="w", now=MOMENT, timeout_s=TIMEOUT_S)
    with connected(database, "app", tenant=perdure.tenant_uuid("t_other")) as connection:
        for table in TABLES:
            assert connection.execute(f"SELECT count(*) FROM perdure.{table}".encode()).fetchone() == (0,)  # noqa: S608
