"""No status changes in silence: without an event of the same transaction the commit aborts, whoever commits."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest

from perdure.testing.contracts.ledger import MAIL, begin
from tests.adapters.postgres.lives import ACME, MACHINES, OTHER, Connection, enter, opened
from tests.support.databases import DIRECT, Database, engines

NEXT = {
    "SIGNAL": ("FAILED", "processed_at = now()"),
    "RUN": ("CANCELLED", "completed_at = now() + interval '1 s', exit_reason = 'x'"),
    "STEP": ("SKIPPED", "completed_at = now() + interval '1 s'"),
    "EFFECT": ("EXECUTING", "retry_count = retry_count"),
    "TOOL_CALL": ("FAILED", "completed_at = now(), error_details = '{}'"),
}
EVENT = UUID("01900000-0000-7000-8000-0000000000ee")


async def open_work(database: Database) -> None:
    async with opened(database) as plane:
        for slug in ("t_acme", "t_other"):
            tenant = plane.scope(slug, actor="agent:tester")
            run = await begin(tenant)
            async with tenant.change(run) as change:
                step = change.step("work")
                change.tool_call(step, "grep", pending=True)
                change.effect(step, "SEND_EMAIL", MAIL)


def announce(connection: Connection, machine: str, *, aggregate_id: UUID, tenant: UUID = ACME) -> None:
    connection.execute(
        "INSERT INTO perdure.orchestration_events (tenant_id, id, sequence_number, event_type, aggregate_type,"
        " aggregate_id, event_data, correlation_id, actor, source, occurred_at)"
        " VALUES (%s, %s, 1000000, 'RUN_CANCELLED', %s, %s, '{}', %s, 'agent:x', 'api:x', now())",
        (tenant, EVENT, machine, aggregate_id, aggregate_id),
    )


def change(connection: Connection, machine: str, *, event: UUID | None) -> UUID:
    status, others = NEXT[machine]
    named = "last_event_id" if event is None else f"'{event}'"
    row = connection.execute(
        f"UPDATE perdure.{MACHINES[machine]} SET status = '{status}', {others}, "  # noqa: S608
        f"last_event_id = {named} RETURNING id".encode()
    ).fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


@engines(*DIRECT)
@pytest.mark.parametrize("machine", sorted(NEXT))
async def test_a_status_update_without_its_event_aborts_at_commit(database: Database, machine: str) -> None:
    await open_work(database)
    before = database.query(f"SELECT id, status FROM perdure.{MACHINES[machine]} ORDER BY id")  # noqa: S608
    with psycopg.connect(database.direct_dsn("owner")) as connection:
        for context in (ACME, OTHER, None):  # whatever tenant is set when it commits
            enter(connection, ACME)
            change(connection, machine, event=None)
            enter(connection, context)
            with pytest.raises(psycopg.Error, match="silent mutation") as caught:
                connection.commit()
            assert caught.value.sqlstate == "PD002"
    assert database.query(f"SELECT id, status FROM perdure.{MACHINES[machine]} ORDER BY id") == before  # noqa: S608


@engines(*DIRECT)
@pytest.mark.parametrize("machine", sorted(NEXT))
async def test_an_event_of_another_row_kind_or_transaction_does_not_announce_it(
    database: Database, machine: str
) -> None:
    await open_work(database)
    other = UUID(int=7)
    with psycopg.connect(database.direct_dsn("owner")) as connection:
        enter(connection, ACME)
        changed = change(connection, machine, event=EVENT)
        announce(connection, machine, aggregate_id=other)
        with pytest.raises(psycopg.Error, match="silent mutation"):
            connection.commit()
        enter(connection, ACME)
        change(connection, machine, event=EVENT)
        announce(connection, "STEP" if machine != "STEP" else "RUN", aggregate_id=changed)
        with pytest.raises(psycopg.Error, match="silent mutation"):
            connection.commit()
        enter(connection, ACME)
        announce(connection, machine, aggregate_id=changed)
        connection.commit()
        enter(connection, ACME)
        change(connection, machine, event=EVENT)
        with pytest.raises(psycopg.Error, match="silent mutation"):
            connection.commit()


@engines(*DIRECT)
@pytest.mark.parametrize("machine", sorted(NEXT))
@pytest.mark.parametrize("context", [ACME, OTHER, None], ids=["own", "other", "none"])
async def test_with_its_event_it_commits_whatever_tenant_is_set_then(
    database: Database, machine: str, context: UUID | None
) -> None:
    await open_work(database)
    with psycopg.connect(database.direct_dsn("owner")) as connection:
        enter(connection, ACME)
        with connection.transaction():  # a savepoint has a transaction id of its own
            changed = change(connection, machine, event=EVENT)
        announce(connection, machine, aggregate_id=changed)
        enter(connection, context)
        connection.commit()
    rows = database.query(f"SELECT status FROM perdure.{MACHINES[machine]} WHERE id = %s", changed)  # noqa: S608
    assert rows == [(NEXT[machine][0],)]


@engines(*DIRECT)
async def test_a_row_that_appears_without_its_event_aborts_at_commit(database: Database) -> None:
    await open_work(database)
    with psycopg.connect(database.direct_dsn("owner")) as connection:
        enter(connection, ACME)
        connection.execute(
            "INSERT INTO perdure.signals SELECT (jsonb_populate_record(signals, jsonb_build_object("
            "'id', gen_random_uuid(), 'source_id', 'forged', 'status', 'PENDING'))).* FROM perdure.signals"
        )
        with pytest.raises(psycopg.Error, match="silent mutation"):
            connection.commit()
