"""The database and the domain agree on every status machine, and the database lets nothing else happen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from uuid import UUID

import psycopg
import pytest

from perdure.domain.run import START, STATUSES, TRANSITIONS, Machine, is_terminal
from tests.adapters.postgres.lives import ACME, MACHINES, attempt, enter, live_in
from tests.support.databases import DIRECT, Database, engines

EVENT = UUID("01900000-0000-7000-8000-0000000000ee")
CONTENT = {
    "SIGNAL": "received_at = received_at - interval '1 day'",
    "RUN": "name = name || 'x'",
    "STEP": "output_result = '{\"rewritten\": true}'",
    "EFFECT": "execution_result = '{\"rewritten\": true}'",
    "TOOL_CALL": "result = '{\"rewritten\": true}'",
    "OUTBOX": "result = '{\"rewritten\": true}'",
}


@engines(*DIRECT)
def test_the_database_and_the_domain_have_the_same_table(database: Database) -> None:
    rows = database.query("SELECT machine::text, source::text, target::text FROM perdure.status_transitions")
    assert len(rows) == len(TRANSITIONS)
    assert {tuple(row) for row in rows} == {(str(m), str(s), str(t)) for m, s, t in TRANSITIONS}


@engines(*DIRECT)
def test_the_database_knows_the_statuses_of_the_domain_and_no_others(database: Database) -> None:
    for machine, statuses in STATUSES.items():
        (row,) = database.query(
            "SELECT pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint WHERE conname = %s",
            f"ck_{machine.lower()}_status",
        )
        for status in statuses:
            assert f"'{status}'" in row[0]
        assert row[0].count("::text") - row[0].count("[]") <= 2 * len(statuses) + 2


def edges(machine: Machine) -> Iterator[tuple[str, str, bool]]:
    legal = {(str(s), str(t)) for m, s, t in TRANSITIONS if m is machine}
    for source, target in product(STATUSES[machine], repeat=2):
        if source != target:
            yield source, target, (source, target) in legal


@engines(*DIRECT)
@pytest.mark.parametrize("machine", list(Machine))
async def test_every_transition_that_is_not_in_the_table_is_refused_also_to_the_owner(
    database: Database, machine: Machine
) -> None:
    await live_in(database, "t_acme")
    table = MACHINES[machine]
    # What a status demands of the other columns is not what this is about.
    for (name,) in database.query(
        "SELECT conname::text FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'", f"perdure.{table}"
    ):
        database.query(f"ALTER TABLE perdure.{table} DROP CONSTRAINT {name}")
    (row,) = database.query(f"SELECT id FROM perdure.{table} LIMIT 1")  # noqa: S608
    update = f"UPDATE perdure.{table} SET status = %s, last_event_id = %s WHERE id = %s"  # noqa: S608
    with psycopg.connect(database.direct_dsn("owner")) as connection:
        for source, target, legal in edges(machine):
            place(database, table, row[0], source)
            enter(connection, ACME)
            assert attempt(connection, update, target, EVENT, row[0]) == (1 if legal else "PD003"), (source, target)
            assert attempt(connection, update, "BANANA", EVENT, row[0]) in {"23514", "PD003"}
            connection.rollback()


@engines(*DIRECT)
@pytest.mark.parametrize("machine", list(Machine))
async def test_a_finished_row_is_frozen_but_for_its_soft_delete(database: Database, machine: Machine) -> None:
    await live_in(database, "t_acme")
    table = MACHINES[machine]
    for (name,) in database.query(
        "SELECT conname::text FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'", f"perdure.{table}"
    ):
        database.query(f"ALTER TABLE perdure.{table} DROP CONSTRAINT {name}")
    (row,) = database.query(f"SELECT id FROM perdure.{table} LIMIT 1")  # noqa: S608
    with psycopg.connect(database.direct_dsn("owner")) as connection:
        for status in STATUSES[machine]:
            place(database, table, row[0], status)
            enter(connection, ACME)
            rewritten = attempt(connection, f"UPDATE perdure.{table} SET {CONTENT[machine]} WHERE id = %s", row[0])  # noqa: S608
            assert rewritten == ("PD003" if is_terminal(machine, status=status) else 1), status
            if table not in {"tool_calls", "outbox_events"}:
                soft = f"UPDATE perdure.{table} SET deleted_at = now() WHERE id = %s"  # noqa: S608
                assert attempt(connection, soft, row[0]) == 1
            connection.rollback()


@engines(*DIRECT)
async def test_a_finished_run_takes_no_new_row_also_of_the_owner(database: Database) -> None:
    await live_in(database, "t_acme")
    with psycopg.connect(database.direct_dsn("owner")) as connection:
        enter(connection, ACME)
        for table in ("steps", "effects"):
            copied = f"INSERT INTO perdure.{table} SELECT * FROM perdure.{table} LIMIT 1"  # noqa: S608
            assert attempt(connection, copied) == "PD012"


def test_no_row_begins_where_it_cannot(database: Database) -> None:
    assert {edge.machine for edge in TRANSITIONS if edge.source == START} == set(Machine)
    assert database.query("SELECT count(*) FROM perdure.status_transitions WHERE source = '-'") == [(len(Machine),)]


def place(database: Database, table: str, row_id: UUID, status: str) -> None:
    """Put a row into a status past every trigger, as only a superuser can."""
    with psycopg.connect(database.direct_dsn("superuser"), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"UPDATE perdure.{table} SET status = %s WHERE id = %s".encode(), (status, row_id))  # noqa: S608
