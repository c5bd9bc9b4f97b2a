"""With one tenant's context set, another tenant does not exist: not to read, write, refer to, or guess."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from uuid import UUID

import psycopg
import pytest

import perdure
from perdure.adapters.postgres.ledger import PostgresLedger
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.domain.canonical import json_bytes
from perdure.domain.scope import make_scope
from perdure.errors import Forbidden, Invalid, NotFound, PerdureError
from perdure.testing.contracts.ledger import MAIL, begin, everything, story
from perdure.testing.contracts.ledger_events import live
from tests.adapters.postgres.lives import (
    ACME,
    OTHER,
    RELATIONS,
    WITH_TENANT,
    ask,
    attempt,
    connected,
    enter,
    live_in,
    opened,
)
from tests.support.databases import DIRECT, Database, engines

DENIED = "42501"
RELAY_SEES = {"outbox_events", "tenants", "steps"}
# What nobody does to records of the past, whose tenant they may be.
RECORDS = {
    ("log_entries", "UPDATE"),
    ("object_chunks", "UPDATE"),
    ("route_events", "UPDATE"),
    ("route_history", "DELETE"),
    ("route_history", "UPDATE"),
    ("store_audit", "UPDATE"),
    ("telemetry_entries", "UPDATE"),
    ("work_attributes", "UPDATE"),
    ("work_history", "DELETE"),
    ("work_history", "UPDATE"),
}


def tables(database: Database) -> list[str]:
    return [name for (name,) in database.query(WITH_TENANT)]


def test_every_table_forces_row_level_security(database: Database) -> None:
    names = set(tables(database))
    assert len(names) == 31
    forced = "SELECT relname::text FROM pg_class WHERE relrowsecurity AND relforcerowsecurity AND relkind = 'r'"
    assert {name for (name,) in database.query(forced)} == names
    policies = "SELECT tablename::text, cmd FROM pg_policies WHERE schemaname = 'perdure' AND cmd <> 'ALL'"
    commands = Counter((table, command) for table, command in database.query(policies))
    for name in names:
        for command in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            assert commands[name, command] == (2 if (name, command) in {(t, "SELECT") for t in RELAY_SEES} else 1)
    for (view,) in database.query(
        "SELECT relname::text FROM pg_class WHERE relkind = 'v' AND relnamespace = 'perdure'::regnamespace"
    ):
        options = database.query("SELECT reloptions::text FROM pg_class WHERE relname = %s", view)
        assert "security_invoker=true" in str(options), view


def test_no_policy_lets_anybody_past_the_tenant_but_those_of_owner_and_relay(database: Database) -> None:
    rows = database.query("""
        SELECT tablename::text, cmd, roles::text, coalesce(qual, with_check) FROM pg_policies
        WHERE schemaname = 'perdure' AND coalesce(qual, with_check) NOT LIKE '%current_tenant_id()%' ORDER BY 1, 2""")
    assert [(table, command, roles) for table, command, roles, _ in rows] == [
        ("outbox_events", "SELECT", "{perdure_relay}"),
        ("plane_settings", "SELECT", "{public}"),
        ("route_registry", "SELECT", "{public}"),
        ("status_transitions", "SELECT", "{public}"),
        ("steps", "SELECT", "{perdure_relay}"),
        ("tenants", "ALL", "{perdure_owner}"),
        ("tenants", "SELECT", "{perdure_relay}"),
        ("user_tenants", "ALL", "{perdure_owner}"),
        ("work_transitions", "SELECT", "{public}"),
    ]


@engines(*DIRECT)
async def test_no_context_means_zero_rows(database: Database) -> None:
    await live_in(database, "t_acme", "t_other")
    for role in ("app", "maintenance", "owner"):
        with connected(database, role) as connection:
            for name in tables(database):
                if role == "owner" and name == "tenants":
                    continue  # administration is its task
                assert ask(connection, f"SELECT count(*) FROM perdure.{name}") == 0, (role, name)  # noqa: S608
            connection.execute("SELECT set_config('app.current_tenant_id', '', true)")
            assert ask(connection, "SELECT count(*) FROM perdure.orchestration_events") == 0


@engines(*DIRECT)
async def test_a_tenant_sees_its_own_rows_in_every_table_and_no_others(database: Database) -> None:
    await live_in(database, "t_acme", "t_other")
    database.query(
        "INSERT INTO perdure.user_tenants (user_id, tenant_id) SELECT gen_random_uuid(), tenant_id FROM perdure.tenants"
    )
    for tenant in (ACME, OTHER):
        for role in ("app", "maintenance"):
            with connected(database, role, tenant=tenant) as connection:
                for name in tables(database):
                    seen = connection.execute(f"SELECT DISTINCT tenant_id FROM perdure.{name}".encode()).fetchall()  # noqa: S608
                    assert seen == [(tenant,)], (role, name)


@engines(*DIRECT)
async def test_another_tenant_is_absent(database: Database) -> None:
    runs = await live_in(database, "t_acme")
    async with opened(database) as plane:
        acme, other = (plane.scope(slug, actor="agent:tester") for slug in ("t_acme", "t_other"))
        run = await acme.runs.get(runs["t_acme"])
        told = await story(acme, run)
        before = await everything(acme)
        for identifier in (run.id, run.correlation_id, run.signal_id, told.steps[0].id, told.effects[0].id):
            with pytest.raises(NotFound):
                await other.trace(identifier)
        with pytest.raises(NotFound):
            await other.outbox.requeue(told.outbox[0].id, reason="mine now")
        for attempted in (other.runs.cancel(run, "x"), other.runs.get(run.id), other.signals.get(run.signal_id)):
            with pytest.raises(NotFound):
                await attempted
        assert await other.signals.find("inbox", "msg-1") is None
        assert await everything(other) == ()
        assert await everything(acme) == before


@engines(*DIRECT)
async def test_what_is_absent_is_told_in_the_same_words_as_what_never_was(database: Database) -> None:
    runs = await live_in(database, "t_acme")
    nobody = UUID("01900000-0000-7000-8000-000000000000")
    async with opened(database) as plane:
        acme, other = (plane.scope(slug, actor="agent:tester") for slug in ("t_acme", "t_other"))
        run = await acme.runs.get(runs["t_acme"])
        told = await story(acme, run)
        mine = await begin(other, "mine")

        async def words(run_id: UUID, signal_id: UUID, entry_id: UUID) -> list[tuple[type, str, object]]:
            said: list[tuple[type, str, object]] = []
            for attempted in (
                other.runs.get(run_id),
                other.trace(run_id),
                other.signals.get(signal_id),
                other.runs.start("x", signal=signal_id),
                other.outbox.requeue(entry_id, reason="x"),
            ):
                with pytest.raises(PerdureError) as caught:
                    await attempted
                message = caught.value.message
                for identifier in (run_id, signal_id, entry_id):
                    message = message.replace(str(identifier), "ID")
                said.append((type(caught.value), message, caught.value.code))
            return said

        assert await words(run.id, run.signal_id, told.outbox[0].id) == await words(nobody, nobody, nobody)
        assert (await other.runs.get(mine.id)).status is perdure.RunStatus.RUNNING


@engines(*DIRECT)
async def test_keys_and_ids_of_another_tenant_are_free_to_use(database: Database) -> None:
    async with opened(database):
        pass  # the first plane makes the control plane's routes, with ids that the others do not need
    runs = await live_in(database, "t_acme", "t_other", "t_third", same_ids=True)
    assert len(set(runs.values())) == 1
    for table in tables(database):
        if table in {"tenants", "tenant_sequences", "user_tenants"}:
            continue
        # The control plane has routes of its own.
        counts = database.query(
            f"SELECT count(*), count(DISTINCT tenant_id) FROM perdure.{table} WHERE tenant_id <> %s GROUP BY tenant_id",  # noqa: S608
            perdure.tenant_uuid("t_system"),
        )
        assert len(counts) == 3, table
        assert len(set(counts)) == 1, table
    assert database.query("SELECT count(*) FROM perdure.outbox_events GROUP BY idempotency_key") == [(3,)] * 2


@engines(*DIRECT)
async def test_a_crafted_request_reaches_no_row_of_another_tenant(database: Database) -> None:
    await live_in(database, "t_acme")
    async with opened(database) as plane:
        run = await begin(plane.scope("t_acme", actor="agent:tester"), "msg-2")
        await begin(plane.scope("t_other", actor="agent:tester"))
    before = database.query("SELECT * FROM perdure.runs WHERE tenant_id = %s ORDER BY id", ACME)
    step = database.query("SELECT id FROM perdure.steps WHERE tenant_id = %s LIMIT 1", ACME)[0][0]
    words: dict[str, object] = {
        "correlation_id": str(run.correlation_id),
        "actor": "agent:x",
        "source": "api:x",
        "events": [],
    }
    counts = {"steps": 0, "failed": 0, "open": 0, "effects": 0, "checkpoints": 0}
    new = "01900000-0000-7000-8000-0000000000aa"
    started = {"id": new, "type": "RUN_STARTED", "aggregate": "RUN", "aggregate_id": new}
    data = {"run_id": new, "signal_id": str(run.signal_id), "run_type": "SIGNAL_PROCESSING", "name": "x"}
    crafted: list[tuple[dict[str, object], type[PerdureError]]] = [
        ({"run_id": str(run.id), "counts": counts, "run_end": {"status": "CANCELLED", "exit_reason": "x"}}, NotFound),
        (
            {
                "run_id": new,
                "counts": counts,
                "events": [started | {"data": data}],
                "run": {"id": new, "started": 0, "last_event_id": new},
            },
            Invalid,  # no such signal: the foreign key carries the tenant
        ),
        ({"signal": {"id": str(run.signal_id), "take_up": True, "last_event_id": new}}, NotFound),
    ]
    session = Session(database.dsn("app"), settings=PoolSettings())
    await session.open()
    try:
        ledger, scope = PostgresLedger(session), make_scope("t_other", actor="agent:x", mode="lab", env="dev")
        for change, expected in crafted:
            with pytest.raises(expected):
                await ledger.commit(scope, [json_bytes(words | change)])
            many = await ledger.commit(scope, [json_bytes(words | change)] * 2)
            assert all(isinstance(result["error"], expected) for result in many)
        assert not await ledger.renew_run_lease(scope, run.id, token=step, lease_s=60)
        claimed = await ledger.claim_runs(scope, worker="w", limit=50, lease_s=60, name=None)
        assert {found["run"]["tenant_id"] for found in claimed} == {str(OTHER)}
    finally:
        await session.close()
    assert database.query("SELECT * FROM perdure.runs WHERE tenant_id = %s ORDER BY id", ACME) == before


@engines(*DIRECT)
async def test_even_the_owner_reaches_only_the_tenant_of_its_context(database: Database) -> None:
    runs = await live_in(database, "t_acme", "t_other")
    names = [name for name in tables(database) if name not in {"orchestration_events", "tenants", "user_tenants"}]
    with connected(database, "owner", tenant=OTHER) as connection:
        for name in names:
            for statement in (
                f"UPDATE perdure.{name} SET tenant_id = tenant_id WHERE tenant_id = '{ACME}'",  # noqa: S608
                f"DELETE FROM perdure.{name} WHERE tenant_id = '{ACME}'",  # noqa: S608
            ):
                refused = (name, statement.split()[0]) in RECORDS
                assert attempt(connection, statement) == ("PD001" if refused else 0), statement
            moved = attempt(connection, f"UPDATE perdure.{name} SET tenant_id = '{ACME}'")  # noqa: S608
            assert moved in {"42501", "PD001", "PD003", "PD004"}, (name, moved)
        assert (
            attempt(
                connection,
                "INSERT INTO perdure.entity_references (tenant_id, id, entity_type, entity_id, run_id, aggregate_type,"
                " aggregate_id, correlation_id, actor) VALUES (%s, %s, 'x', 'y', %s, 'RUN', %s, %s, 'agent:x')",
                *(ACME, runs["t_acme"], runs["t_acme"], runs["t_acme"], runs["t_acme"]),
            )
            == DENIED
        )
        # A foreign key looks past row-level security, so it must carry the tenant itself.
        assert (
            attempt(
                connection,
                "INSERT INTO perdure.entity_references (tenant_id, id, entity_type, entity_id, run_id, aggregate_type,"
                " aggregate_id, correlation_id, actor) VALUES (%s, %s, 'x', 'y', %s, 'RUN', %s, %s, 'agent:x')",
                *(OTHER, runs["t_acme"], runs["t_acme"], runs["t_acme"], runs["t_acme"]),
            )
            == "23503"
        )


def test_every_foreign_key_and_unique_key_carries_the_tenant(database: Database) -> None:
    keys = database.query("""
        SELECT conrelid::regclass::text, conname::text, array_agg(attname::text ORDER BY position)
        FROM pg_constraint
        CROSS JOIN LATERAL unnest(conkey) WITH ORDINALITY AS part (number, position)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = number
        WHERE connamespace = 'perdure'::regnamespace AND contype IN ('f', 'p', 'u') GROUP BY 1, 2""")
    without = {(table.removeprefix("perdure."), name) for table, name, columns in keys if "tenant_id" not in columns}
    assert without == {
        ("plane_settings", "pk_plane_settings"),
        ("route_registry", "pk_route_registry"),
        ("schema_migrations", "pk_schema_migrations"),
        ("status_transitions", "pk_status_transitions"),
        ("tenants", "uq_tenants_slug"),
        ("work_transitions", "pk_work_transitions"),
    }


@engines(*DIRECT)
async def test_context_never_survives_a_commit_nor_a_call(database: Database) -> None:
    setting = "SELECT coalesce(current_setting('app.current_tenant_id', true), '')"
    async with opened(database) as plane:
        run = await begin(plane.scope("t_acme", actor="agent:tester"))
    with psycopg.connect(database.direct_dsn("app"), autocommit=True) as connection:
        request = json.dumps({"tenant_id": str(ACME), "worker": "w", "limit": 1, "lease_s": 60, "user_id": None})
        for outer in (False, True):
            with connection.transaction() if outer else nullcontext():
                assert ask(connection, "SELECT jsonb_array_length(perdure.claim_runs(%s))", request) == int(not outer)
                assert ask(connection, setting) == ""
                assert ask(connection, "SELECT count(*) FROM perdure.runs") == 0
        with connection.transaction():
            enter(connection, ACME)
            assert ask(connection, "SELECT id FROM perdure.runs") == run.id
        assert ask(connection, setting) == ""
        assert ask(connection, "SELECT count(*) FROM perdure.runs") == 0
        stranger = json.dumps({"tenant_id": str(ACME), "user_id": str(OTHER), "worker": "w", "limit": 1, "lease_s": 60})
        with connection.transaction():
            assert attempt(connection, "SELECT perdure.claim_runs(%s)", stranger) == "PD016"
            assert ask(connection, setting) == ""


@engines(*DIRECT)
async def test_a_user_who_is_not_a_member_reads_and_writes_nothing(database: Database) -> None:
    member, stranger = UUID(int=1), UUID(int=2)
    async with opened(database) as plane:
        run = await live(plane.scope("t_acme", actor="agent:tester"), "msg-1")
        database.query("INSERT INTO perdure.user_tenants (user_id, tenant_id) VALUES (%s, %s)", member, ACME)
        admitted = plane.scope("t_acme", actor="user:ada", user=member)
        assert (await admitted.trace(run.id)).runs[0].id == run.id
        refused = plane.scope("t_acme", actor="user:eve", user=stranger)
        for attempted in (
            refused.trace(run.id),
            refused.runs.get(run.id),
            refused.runs.claim(),
            begin(refused, "msg-2"),
            refused.events.after(0),
        ):
            with pytest.raises(Forbidden) as caught:
                await attempted
            assert caught.value.code == "not_a_member"
        elsewhere = plane.scope("t_other", actor="user:ada", user=member)
        with pytest.raises(Forbidden):
            await begin(elsewhere)
    assert database.query("SELECT slug FROM perdure.tenants WHERE slug <> 't_system'") == [("t_acme",)]


@engines(*DIRECT)
async def test_a_raw_write_as_app_or_relay_is_denied(database: Database) -> None:
    await live_in(database, "t_acme")
    for role in ("app", "relay", "maintenance"):
        with connected(database, role, tenant=ACME) as connection:
            for (name,) in database.query(RELATIONS):
                (column,) = database.query(
                    "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum = 1",
                    f"perdure.{name}",
                )[0]
                statements = {
                    "INSERT": f"INSERT INTO perdure.{name} SELECT * FROM perdure.{name}",  # noqa: S608
                    "UPDATE": f"UPDATE perdure.{name} SET {column} = {column}",  # noqa: S608
                    "DELETE": f"DELETE FROM perdure.{name}",  # noqa: S608
                    "TRUNCATE": f"TRUNCATE perdure.{name}",
                }
                for verb, statement in statements.items():
                    if (role, name, verb) == ("maintenance", "orchestration_events", "DELETE"):
                        continue  # its half of the one door
                    assert attempt(connection, statement) == DENIED, (role, name, verb)


@engines(*DIRECT)
async def test_the_relay_sees_what_is_due_and_nothing_else(database: Database) -> None:
    async with opened(database) as plane:
        run = await begin(plane.scope("t_acme", actor="agent:tester"))
        async with plane.scope("t_acme", actor="agent:tester").change(run) as change:
            change.effect(change.step("notify", output={"private": True}), "SEND_EMAIL", MAIL)
            change.wait("approve", request={"private": True})
    with connected(database, "relay") as connection:
        assert ask(connection, "SELECT count(*) FROM perdure.outbox_events") == 1
        slugs = ask(connection, "SELECT array_agg(slug::text ORDER BY slug) FROM perdure.tenants")
        assert slugs == ["t_acme", "t_system"]  # the control plane is a tenant too
        columns = "tenant_id, id, wait_until, step_type, status"
        assert ask(connection, f"SELECT count(*) FROM (SELECT {columns} FROM perdure.steps) AS steps") == 1  # noqa: S608
        assert attempt(connection, "SELECT input_context FROM perdure.steps") == DENIED
        for name in set(tables(database)) - RELAY_SEES:
            assert attempt(connection, f"SELECT 1 FROM perdure.{name}") == DENIED, name  # noqa: S608


async def test_a_dead_letter_is_not_revived_by_hand(database: Database) -> None:
    await live_in(database, "t_acme")
    by_hand = "UPDATE perdure.outbox_events SET status = 'PENDING', retry_count = 0, processed_at = NULL"
    with connected(database, "app", tenant=ACME) as connection:
        assert attempt(connection, by_hand) == DENIED
    for tenant in (ACME, None):
        with connected(database, "owner", tenant=tenant) as connection:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(by_hand)
            assert (caught.value.sqlstate, "perdure outbox requeue" in str(caught.value.diag.message_hint)) == (
                "PD019",
                True,
            )
