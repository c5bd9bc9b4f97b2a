"""History is written once: nobody changes or deletes an event, and there is one door for retention."""

from __future__ import annotations

import psycopg
import pytest

from tests.adapters.postgres.lives import ACME, OTHER, Connection, ask, attempt, connected, live_in
from tests.support.databases import DIRECT, Database, engines

REFUSED, DENIED = "PD001", "42501"
STATEMENTS = (
    "UPDATE perdure.orchestration_events SET actor = actor",
    "UPDATE perdure.orchestration_events SET actor = actor WHERE false",
    "DELETE FROM perdure.orchestration_events",
    "DELETE FROM perdure.orchestration_events WHERE false",
    "TRUNCATE perdure.orchestration_events",
    "TRUNCATE perdure.orchestration_events, perdure.runs CASCADE",
)


@engines(*DIRECT)
async def test_an_event_cannot_be_updated_deleted_or_truncated(database: Database) -> None:
    await live_in(database, "t_acme")
    before = database.query("SELECT * FROM perdure.orchestration_events ORDER BY sequence_number")
    for role in ("superuser", "owner", "app", "relay", "maintenance"):
        for tenant in (ACME, OTHER, None):
            with connected(database, role, tenant=tenant) as connection:
                for statement in STATEMENTS:
                    refused = attempt(connection, statement)
                    door = role == "maintenance" and statement.startswith("DELETE")
                    assert refused == (REFUSED if role in {"superuser", "owner"} or door else DENIED), (role, statement)
    assert database.query("SELECT * FROM perdure.orchestration_events ORDER BY sequence_number") == before


def open_door(connection: Connection) -> None:
    connection.execute("SELECT set_config('app.maintenance', 'on', true)")


@engines(*DIRECT)
async def test_the_one_door_needs_the_role_and_the_setting_and_lets_only_deletes_of_one_tenant_through(
    database: Database,
) -> None:
    await live_in(database, "t_acme", "t_other")
    for role in ("superuser", "owner", "app", "relay"):
        with connected(database, role, tenant=ACME) as connection:
            open_door(connection)
            for statement in STATEMENTS:
                assert attempt(connection, statement) == (REFUSED if role in {"superuser", "owner"} else DENIED), role
    with connected(database, "maintenance", tenant=ACME) as connection:
        assert attempt(connection, "DELETE FROM perdure.orchestration_events") == REFUSED
        open_door(connection)
        mine = ask(connection, "SELECT count(*) FROM perdure.orchestration_events")
        for statement in (STATEMENTS[0], *STATEMENTS[4:]):
            assert attempt(connection, statement) == DENIED
        with connection.transaction():
            assert connection.execute("DELETE FROM perdure.orchestration_events").rowcount == mine > 0
        connection.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(OTHER),))
        assert ask(connection, "SELECT count(*) FROM perdure.orchestration_events") == mine
    assert database.query("SELECT count(*) FROM perdure.orchestration_events") == [(2 * mine,)]


async def test_the_door_closes_with_the_transaction(database: Database) -> None:
    await live_in(database, "t_acme")
    with psycopg.connect(database.dsn("maintenance"), autocommit=True) as connection:
        with connection.transaction():
            open_door(connection)
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("DELETE FROM perdure.orchestration_events")
        assert caught.value.sqlstate == REFUSED


@engines(*DIRECT)
async def test_what_was_recorded_with_an_event_does_not_change_either(database: Database) -> None:
    await live_in(database, "t_acme")
    with connected(database, "owner", tenant=ACME) as connection:
        for statement in (
            "UPDATE perdure.signals SET normalized_payload = '{}'",
            "UPDATE perdure.signals SET source_hash = repeat('0', 64)",
            'UPDATE perdure.effects SET effect_spec = effect_spec || \'{"to": "me"}\'',
            'UPDATE perdure.outbox_events SET payload = payload || \'{"to": "me"}\'',
            "UPDATE perdure.run_checkpoints SET checkpoint_data = '{}'",
            "UPDATE perdure.steps SET created_at = created_at - interval '1 day'",
            "UPDATE perdure.runs SET id = gen_random_uuid()",
        ):
            assert attempt(connection, statement) in {"PD003", "PD004"}, statement
