"""What the routed stores' tables and functions let happen, tried with raw SQL and with other tenants' names."""

from __future__ import annotations

from uuid import UUID

import pytest

import perdure
from perdure.domain.container import make_space, stream_container
from perdure.domain.log import LogSettings, NewEntry
from perdure.domain.route import SYSTEM_TENANT
from perdure.domain.versioned import DeleteRow, PutRow
from perdure.errors import Invalid, Refused
from perdure.testing.contracts.registry import change_to, new_route, next_route
from perdure.testing.contracts.rows_opening import table
from tests.adapters.postgres.lives import ACME, OTHER, ask, attempt, connected, keep_something, live_in, stores
from tests.conftest import MakeDatabase
from tests.support.databases import DIRECT, Database, engines

REFUSED = "PD001"
SYSTEM = perdure.tenant_uuid(SYSTEM_TENANT)
ROUTE_TABLES = ("routes", "route_history", "route_events")


@engines(*DIRECT)
async def test_what_happened_to_a_route_is_not_rewritten(database: Database) -> None:
    await live_in(database, "t_acme")
    for role in ("superuser", "owner"):
        for tenant in (ACME, SYSTEM):
            with connected(database, role, tenant=tenant) as connection:
                for statement in (
                    "UPDATE perdure.route_history SET record = record",
                    "DELETE FROM perdure.route_history",
                    "TRUNCATE perdure.route_history",
                    "UPDATE perdure.route_events SET record = '{}'",
                    "TRUNCATE perdure.route_events",
                    "UPDATE perdure.store_audit SET record = record",
                    "TRUNCATE perdure.store_audit",
                    "UPDATE perdure.log_entries SET body = body",
                ):
                    assert attempt(connection, statement) == REFUSED, (role, statement)


@engines(*DIRECT)
async def test_an_event_goes_when_it_was_relayed_and_the_history_stays(database: Database) -> None:
    async with stores(database) as backend:
        first, second = change_to(new_route("t_acme")), change_to(new_route("t_other"))
        for change in (first, second):
            await backend.routes.commit(change, timeout_s=30)
        await backend.routes.relayed([first.event.event_id], timeout_s=30)
        assert database.query("SELECT event_id FROM perdure.route_events") == [(second.event.event_id,)]
        assert await backend.routes.commit(first, timeout_s=30) == 1
        assert list(await backend.routes.unrelayed(limit=9, timeout_s=30)) == [second.event]
    assert database.query("SELECT count(*) FROM perdure.route_history") == [(2,)]


@engines(*DIRECT)
async def test_the_control_plane_sees_the_routes_of_all_and_a_tenant_its_own(database: Database) -> None:
    await live_in(database, "t_acme", "t_other")
    async with stores(database) as backend:
        await backend.routes.commit(change_to(new_route(SYSTEM_TENANT, project="only")), timeout_s=30)
    for role in ("app", "maintenance", "owner"):
        for tenant, seen in ((ACME, {ACME}), (OTHER, {OTHER}), (SYSTEM, {ACME, OTHER, SYSTEM}), (None, set())):
            with connected(database, role, tenant=tenant) as connection:
                for name in ROUTE_TABLES:
                    found = ask(connection, f"SELECT coalesce(array_agg(tenant_id), '{{}}') FROM perdure.{name}")  # noqa: S608
                    assert set(found) == seen, (role, tenant, name)
    with connected(database, "app", tenant=SYSTEM) as connection:
        for name in ("logs", "log_entries", "versioned_rows", "store_audit"):
            others = f"SELECT count(*) FROM perdure.{name} WHERE tenant_id <> %s"  # noqa: S608
            assert ask(connection, others, SYSTEM) == 0, name
        assert attempt(connection, "UPDATE perdure.routes SET version = 9") == "42501"


@engines(*DIRECT)
async def test_another_tenants_log_and_rows_are_out_of_reach_under_their_own_names(database: Database) -> None:
    async with stores(database) as backend:
        for slug in ("t_acme", "t_other"):
            await keep_something(backend, slug)
        logs, rows = backend.logs, backend.rows
        mine, theirs = (
            make_space(tenant=slug, mode="lab", env="dev", project="default") for slug in ("t_acme", "t_other")
        )
        before = database.query(
            "SELECT * FROM perdure.log_entries WHERE tenant_id = %s ORDER BY log_id, sequence", ACME
        )
        log = stream_container(theirs, "news")
        assert await logs.trim(log, before=3, timeout_s=30) == 2
        assert await logs.clear(log, timeout_s=30)
        assert await logs.erase(log, timeout_s=30)
        assert await logs.head(log, timeout_s=30) is None
        await rows.write(table(theirs), [DeleteRow(key="a")], timeout_s=30)
        assert await rows.erase(table(theirs), timeout_s=30) == 0
        assert await rows.get(table(mine), ["a"], timeout_s=30)
        after = database.query("SELECT * FROM perdure.log_entries WHERE tenant_id = %s ORDER BY log_id, sequence", ACME)
        assert after == before != []


@engines(*DIRECT)
async def test_no_context_outlives_a_call_of_a_stores_function(database: Database) -> None:
    await live_in(database, "t_acme")
    setting = "SELECT coalesce(current_setting('app.current_tenant_id', true), '')"
    calls = (
        ("SELECT perdure.clear_log(%s, %s, NULL, 1000)", ACME, UUID(int=5)),
        ("SELECT perdure.erase_rows(%s, %s, 10, 1000)", ACME, UUID(int=5)),
        ("SELECT perdure.finish_route_events(%s, 1000)", ["x"]),
        ("SELECT perdure.sweep_logs(10, 10, 1000)",),
        ("SELECT perdure.sweep_rows(10, 1000)",),
        ("SELECT perdure.admit(%s, 't_acme', NULL)", ACME),
    )
    with connected(database, "app") as connection:
        for statement, *given in calls:
            connection.execute(statement.encode(), given)
            assert ask(connection, setting) == ""
            assert ask(connection, "SELECT count(*) FROM perdure.logs") == 0


async def test_outside_lab_an_unknown_tenant_is_refused_by_every_store(make_database: MakeDatabase) -> None:
    database = make_database("pg18", mode="saas", env="prod")
    space = make_space(tenant="t_new", mode="saas", env="prod", project="default")
    log = stream_container(space, "news")
    entries = [NewEntry(entry_id="e", fingerprint="f", body=b"1")]
    async with stores(database, mode="saas", env="prod") as backend:
        for attempted in (
            backend.logs.append(log, entries, timeout_s=30),
            backend.logs.configure(log, LogSettings(), timeout_s=30),
            backend.rows.write(table(space), [PutRow(key="a", value=b"1")], timeout_s=30),
            backend.routes.commit(change_to(new_route("t_new", mode="saas", env="prod")), timeout_s=30),
        ):
            with pytest.raises(Refused) as caught:
                await attempted
            assert caught.value.code == "unknown_tenant"
        database.query(
            "INSERT INTO perdure.tenants (tenant_id, slug) VALUES (%s, 't_new')", perdure.tenant_uuid("t_new")
        )
        assert [done.sequence for done in await backend.logs.append(log, entries, timeout_s=30)] == [1]


async def test_what_is_of_another_plane_is_refused_before_anything_is_sent(database: Database) -> None:
    async with stores(database) as backend:
        await backend.close()
        for mode, env in (("saas", "dev"), ("lab", "prod")):
            space = make_space(tenant="t_acme", mode=mode, env=env, project="default")
            route = new_route("t_acme", mode=mode, env=env)
            for attempted in (
                backend.logs.head(stream_container(space, "news"), timeout_s=30),
                backend.rows.get(table(space), ["a"], timeout_s=30),
                backend.routes.commit(change_to(route), timeout_s=30),
                backend.routes.history(route.key, after=0, limit=1, timeout_s=30),
            ):
                with pytest.raises(Invalid, match="this database serves mode 'lab' and env 'dev'"):
                    await attempted


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("record = 'secret'", "not JSON"),
        (
            'record = replace(record, \'"backend":"memory"\', \'"backend":12345\')',
            "not a route of this release at $.backend",
        ),
        ('record = replace(record, \'"kind":"tables"\', \'"kind":"secret"\')', "not a route of this release at $.kind"),
        ("record = replace(record, 't_acme', 't_other')", "the record is of another route than its row"),
        (
            'record = replace(record, \'"kind":"tables"\', \'"kind":"streams"\')',
            "the record is of another route than its row",
        ),
    ],
)
async def test_a_route_that_cannot_be_read_is_set_aside_and_the_others_are_served(
    database: Database, damage: str, problem: str
) -> None:
    async with stores(database) as backend:
        good, bad = new_route("t_good"), new_route("t_acme")
        for route in (good, bad):
            await backend.routes.commit(change_to(route), timeout_s=30)
        database.query(f"UPDATE perdure.routes SET {damage} WHERE tenant_id = %s", ACME)  # noqa: S608 - of this file
        found = await backend.routes.load(timeout_s=30)
        assert (found.version, list(found.routes)) == (2, [good])
        ((where, told),) = [(one.where, one.problem) for one in found.quarantined]
        assert told == problem
        assert str(ACME) in where
        newer = next_route(bad, backend="postgres")
        await backend.routes.commit(change_to(newer), timeout_s=30)
        assert newer in (await backend.routes.load(timeout_s=30)).routes


async def test_a_route_with_fields_of_a_newer_release_is_served(database: Database) -> None:
    async with stores(database) as backend:
        route = new_route("t_acme")
        await backend.routes.commit(change_to(route), timeout_s=30)
        database.query("UPDATE perdure.routes SET record = '{\"newer\":[1],' || substr(record, 2)")
        assert list((await backend.routes.load(timeout_s=30)).routes) == [route]


def test_the_policies_name_the_control_plane_by_the_id_of_its_slug(database: Database) -> None:
    policies = "SELECT count(*) FROM pg_policies WHERE tablename = ANY (%s) AND coalesce(qual, with_check) LIKE %s"
    assert database.query(policies, list(ROUTE_TABLES), f"%{SYSTEM}%") == [(12,)]
