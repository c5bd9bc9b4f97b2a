"""Who may run migrations, and what the runner makes of a server that never heard of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.adapters.postgres import migrate
from perdure.errors import Refused
from tests.migrations.tiny import ONE, write
from tests.support.databases import Database, engines
from tests.support.servers import Server, Version, bin_directory, engine_missing

ROLES = ["perdure_app", "perdure_maintenance", "perdure_owner", "perdure_relay"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write(tmp_path, ONE, "apples")
    return tmp_path


@pytest.fixture(params=["pg18", "pg15"])
def bare(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database on a server of its own, where nobody made the roles yet; ``admin`` owns it and may create roles."""
    version: Version = request.param
    if bin_directory(version) is None:
        engine_missing(f"PostgreSQL {version.removeprefix('pg')}", "see the fixtures of the same name")
    server = Server(version)
    try:
        server.start()
        server.execute("CREATE ROLE admin LOGIN CREATEROLE")
        server.execute("CREATE ROLE nobody LOGIN")
        server.execute("CREATE DATABASE ledger OWNER admin")
        yield Database(name="ledger", engine=version, server=server, pooler=None)
    finally:
        server.discard()


async def up(database: Database, role: str, directory: Path) -> list[migrate.Applied]:
    return await migrate.up(database.direct_dsn(role), mode="lab", env="dev", directory=directory)


async def test_one_who_may_create_roles_needs_nothing_prepared(bare: Database, directory: Path) -> None:
    assert [a.version for a in await up(bare, "admin", directory)] == [ONE]
    flags = "rolsuper OR rolbypassrls OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication"
    rows = bare.query(f"SELECT rolname::text, {flags} FROM pg_roles WHERE rolname LIKE 'perdure%' ORDER BY 1")  # noqa: S608
    assert rows == [(role, False) for role in ROLES]
    assert bare.query("SELECT applied_by FROM perdure.schema_migrations") == [("admin",)]
    assert bare.query("SELECT tableowner::text FROM pg_tables WHERE tablename = 'apples'") == [("perdure_owner",)]
    assert len(await migrate.down(bare.direct_dsn("admin"), to=0, directory=directory)) == 1
    assert len(await up(bare, "admin", directory)) == 1


async def test_a_superuser_and_then_the_owner_itself_may_migrate(bare: Database, directory: Path) -> None:
    await up(bare, "superuser", directory)
    await migrate.down(bare.direct_dsn("superuser"), to=0, directory=directory)
    bare.query("ALTER ROLE perdure_owner LOGIN")
    assert [a.version for a in await up(bare, "owner", directory)] == [ONE]


async def test_one_who_may_not_create_roles_is_told_what_to_do(bare: Database, directory: Path) -> None:
    with pytest.raises(Refused, match="role perdure_owner does not exist") as caught:
        await up(bare, "nobody", directory)
    assert caught.value.code == "roles_missing"
    assert "perdure migrate --sql" in caught.value.message
    await up(bare, "admin", directory)
    with pytest.raises(Refused, match="nobody may not become perdure_owner"):
        await up(bare, "nobody", directory)
    bare.query("GRANT perdure_owner TO nobody")
    assert await up(bare, "nobody", directory) == []


async def test_a_database_of_somebody_else_is_refused(bare: Database, directory: Path) -> None:
    bare.query("CREATE ROLE other LOGIN CREATEROLE")
    with pytest.raises(Refused, match="perdure_owner may not create a schema in database ledger"):
        await up(bare, "other", directory)
    assert bare.query("SELECT to_regnamespace('perdure')") == [(None,)]


async def test_a_role_that_bypasses_row_security_is_refused(bare: Database, directory: Path) -> None:
    bare.query("CREATE ROLE perdure_app BYPASSRLS")
    with pytest.raises(Refused, match="role perdure_app bypasses row-level security"):
        await up(bare, "superuser", directory)
    bare.query("ALTER ROLE perdure_app NOBYPASSRLS")
    assert len(await up(bare, "superuser", directory)) == 1


@engines("pg15-pgbouncer")
async def test_a_pooler_is_refused_and_the_server_behind_it_is_not(database: Database) -> None:
    with pytest.raises(Refused, match="is a connection pooler; migrations need a DSN of the server itself") as caught:
        await migrate.up(database.pooled_dsn("superuser"), mode="lab", env="dev")
    assert caught.value.code == "pooled_dsn"
    assert await migrate.up(database.direct_dsn("superuser"), mode="lab", env="dev") == []
