"""schema.sql, the catalog file and the psql script say the same as the migrations; up, down, up changes nothing."""

from __future__ import annotations

import pytest

from perdure.adapters.postgres import migrate
from perdure.adapters.postgres.catalog import EXPECTED, verify
from perdure.adapters.postgres.migration_files import released_migrations
from perdure.adapters.postgres.migration_script import render_sql
from perdure.errors import Invalid, Refused
from tests.support.databases import DIRECT, Database, engines
from tools.generate_schema import HEADER, SCHEMA, described, dumped


def first(catalog: str, name: str, table_column: str, table: str, statement: str) -> str:
    """A statement about the first trigger or constraint of a table, whatever it is called."""
    table = f"'perdure.{table}'::regclass"
    return f"""DO $$ BEGIN EXECUTE (SELECT format('{statement}', {name}, {table}) FROM {catalog}
        WHERE {table_column} = {table} ORDER BY {name} LIMIT 1); END $$"""  # noqa: S608 - names of this file


def psql(database: Database, script: str) -> None:
    arguments = ["--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1", "--file=-"]
    database.server.run("psql", *arguments, "--dbname", database.direct_dsn("superuser"), stdin=script)


def test_schema_sql_is_what_the_migrations_add_up_to(database: Database) -> None:
    assert SCHEMA.read_text() == HEADER + dumped(database), "run: python tools/generate_schema.py"


@engines(*DIRECT)
def test_the_catalog_file_describes_every_server_alike(database: Database) -> None:
    assert described(database) == EXPECTED.read_text(), "run: python tools/generate_schema.py"


@pytest.mark.parametrize("engine", DIRECT)
def test_schema_sql_alone_makes_the_same_schema(engine: str, request: pytest.FixtureRequest) -> None:
    cluster = request.getfixturevalue("clusters")(engine)
    migrated, installed = cluster.create(), cluster.create_empty()
    try:
        psql(installed, SCHEMA.read_text())
        assert dumped(installed) == dumped(migrated)
        assert described(installed) == described(migrated)
    finally:
        cluster.drop(migrated)
        cluster.drop(installed)


@engines(*DIRECT)
async def test_up_down_up_leaves_an_identical_dump(database: Database) -> None:
    dsn, first = database.direct_dsn("superuser"), dumped(database)
    undone = await migrate.down(dsn, to=0)
    assert [a.version for a in undone] == [m.version for m in reversed(released_migrations())]
    nothing = (
        "SELECT count(*) FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_')"
    )
    assert database.query("SELECT to_regnamespace('perdure')") == [(None,)]
    assert database.query(f"{nothing} AND relnamespace <> 'information_schema'::regnamespace") == [(0,)]
    await migrate.up(dsn, mode="lab", env="dev")
    assert dumped(database) == first


@engines(*DIRECT)
async def test_each_migration_can_be_undone_and_done_again(database: Database) -> None:
    dsn, first = database.direct_dsn("superuser"), dumped(database)
    versions = [m.version for m in released_migrations()]
    for version in reversed(versions[:-1]):
        await migrate.down(dsn, to=version)
    for version in versions:
        await migrate.up(dsn, to=version)
    assert dumped(database) == first


@engines(*DIRECT, fixture="empty_database")
async def test_the_script_does_what_the_runner_does_and_may_be_run_again(empty_database: Database) -> None:
    versions = [m.version for m in released_migrations()]
    psql(empty_database, render_sql(mode="saas", env="prod", to=versions[1]))
    psql(empty_database, render_sql(mode="saas", env="prod"))
    psql(empty_database, render_sql(mode="saas", env="prod"))
    assert described(empty_database) == EXPECTED.read_text()
    found = await migrate.status(empty_database.direct_dsn("superuser"))
    assert (found.state, [a.version for a in found.applied]) == ("current", versions)
    assert empty_database.query("SELECT mode, env FROM perdure.plane_settings") == [("saas", "prod")]


def test_the_script_refuses_what_the_runner_refuses() -> None:
    with pytest.raises(Invalid):
        render_sql(mode="prod", env="x")
    with pytest.raises(Invalid):
        render_sql(mode="lab", env="x'; DROP SCHEMA perdure")
    with pytest.raises(Refused):
        render_sql(mode="lab", env="dev", to=1)


@engines(*DIRECT)
async def test_verify_finds_nothing_in_a_sound_database(database: Database) -> None:
    assert (await verify(database.direct_dsn("app"))).ok


@engines(*DIRECT)
@pytest.mark.parametrize(
    ("damage", "evidence"),
    [
        (first("pg_trigger", "tgname", "tgrelid", "orchestration_events", "DROP TRIGGER %I ON %s"),
         "-trigger orchestration_events."),
        (first("pg_constraint", "conname", "conrelid", "runs", "ALTER TABLE %2$s DROP CONSTRAINT %1$I"),
         "-constraint runs."),
        ("GRANT UPDATE ON perdure.runs TO perdure_app", "+relation runs: grants SELECT, UPDATE to perdure_app"),
        ("GRANT UPDATE (status) ON perdure.runs TO perdure_app", "+column runs.status: grants UPDATE to perdure_app"),
        ("ALTER TABLE perdure.runs NO FORCE ROW LEVEL SECURITY", "-relation runs: kind r"),
        ("ALTER TABLE perdure.runs DISABLE TRIGGER USER", "+trigger runs."),
        ("ALTER TABLE perdure.runs ADD COLUMN extra text DEFAULT 'x'", "+column runs.extra: text default 'x'::text"),
        ("DROP INDEX perdure.idx_events_actor", "-index orchestration_events.idx_events_actor"),
        ("CREATE POLICY open ON perdure.runs USING (true)", "+policy runs.open: permissive * to public using true"),
        ("CREATE OR REPLACE FUNCTION perdure.instant() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT now()'",
         "+routine instant()"),
        ("ALTER FUNCTION perdure.instant() OWNER TO postgres", "+routine instant(): owner postgres"),
    ],
)  # fmt: skip
async def test_verify_names_what_was_changed_by_hand(database: Database, damage: str, evidence: str) -> None:
    database.query(damage)
    found = await verify(database.direct_dsn("superuser"))
    assert not found.ok
    assert any(line.startswith(evidence) for line in found.differences), found.differences
