"""The engines that tests run on are what they claim to be."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.support.databases import ALL, Cluster, Database, Engine, engines
from tests.support.servers import ROLES, Server, Version, bin_directory, engine_missing


@engines(*ALL)
@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_role_connects_as_itself_and_only_the_superuser_is_one(database: Database, role: str) -> None:
    with psycopg.connect(database.dsn(role)) as connection:
        found = connection.execute(
            "SELECT current_user::text, rolsuper, rolbypassrls, current_database() FROM pg_roles "
            "WHERE rolname = current_user"
        ).fetchone()
    is_superuser = role == "superuser"
    assert found == (ROLES[role], is_superuser, is_superuser, database.name)


@engines(*ALL)
def test_each_engine_has_its_version_and_its_pooler(database: Database) -> None:
    major = int(database.query("SHOW server_version_num")[0][0]) // 10_000
    assert major == (18 if database.engine == "pg18" else 15)
    assert database.pooled == (database.engine == "pg15-pgbouncer")
    assert (f":{database.port}/" in database.dsn("app")) != database.pooled
    assert f":{database.port}/" in database.dsn("owner")


@engines("pg15-pgbouncer")
def test_the_pooler_gives_a_session_away_between_transactions(database: Database) -> None:
    whose = "SELECT pg_backend_pid()"
    with psycopg.connect(database.dsn("app")) as one, psycopg.connect(database.dsn("app")) as other:
        first = one.execute(whose).fetchone()
        one.commit()
        assert other.execute(whose).fetchone() == first
        assert one.execute(whose).fetchone() != first


def test_databases_share_nothing(make_database: Callable[..., Database]) -> None:
    one, other = make_database("pg18"), make_database("pg18", mode="saas", env="prod")
    one.query("CREATE TABLE perdure.mine ()")
    assert other.query("SELECT to_regclass('perdure.mine')") == [(None,)]
    assert one.query("SELECT mode, env FROM perdure.plane_settings") == [("lab", "dev")]
    assert other.query("SELECT mode, env FROM perdure.plane_settings") == [("saas", "prod")]


def test_a_cluster_makes_and_drops_databases_under_their_users(clusters: Callable[[Engine], Cluster]) -> None:
    cluster = clusters("pg18")
    database = cluster.create_empty()
    with psycopg.connect(database.dsn("superuser"), autocommit=True) as connection:
        cluster.drop(database)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.fixture(params=["pg18", "pg15"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    version: Version = request.param
    if bin_directory(version) is None:
        engine_missing(f"PostgreSQL {version.removeprefix('pg')}", "see tests/conftest.py")
    server = Server(version, durable=True, settings={"max_connections": "20"})
    yield server
    server.discard()


def test_a_killed_server_starts_again_with_what_it_acknowledged(server: Server) -> None:
    server.start()
    server.execute("CREATE TABLE kept (i int)")
    for number in range(3):
        with psycopg.connect(server.dsn(), autocommit=True) as busy:
            busy.execute("INSERT INTO kept VALUES (%s)", (number,))
            before = server.pid
            server.kill()
            select.select([busy.fileno()], [], [], 30)  # an idle backend hangs up when it notices
            with pytest.raises(psycopg.OperationalError):
                busy.execute("SELECT 1")
        server.start()
        assert server.pid != before
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SELECT i FROM kept ORDER BY i").fetchall() == [(0,), (1,), (2,)]
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW max_connections").fetchone() == ("20",)


def test_an_engine_that_is_missing_fails_in_ci_and_skips_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nothing was proved on it; install it"):
        engine_missing("an engine", "install it")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="nothing was proved on it; install it"):
        engine_missing("an engine", "install it")
    monkeypatch.setenv("PERDURE_TEST_PG15_BIN", "/nowhere")
    assert bin_directory("pg15") is None
