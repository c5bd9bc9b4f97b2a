"""A database of its own for every test, copied from a migrated template in milliseconds.

``@engines(*ALL)`` above a test that takes the ``database`` fixture runs it on each engine.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import psycopg
import pytest

from perdure.adapters.postgres import migrate
from tests.support.pgbouncer import Pgbouncer
from tests.support.servers import ROLES, Server

__all__ = ["ALL", "DIRECT", "Cluster", "Database", "Engine", "engines", "run_apart"]

Engine = Literal["pg18", "pg15", "pg15-pgbouncer"]
ALL: tuple[Engine, ...] = ("pg18", "pg15", "pg15-pgbouncer")
DIRECT: tuple[Engine, ...] = ("pg18", "pg15")

POOLED_ROLES = frozenset({"app", "relay", "maintenance"})
"""Who goes through the pooler; the owner migrates and the superuser looks from outside, both directly."""

T = TypeVar("T")


def engines(*names: Engine, fixture: str = "database") -> pytest.MarkDecorator:
    """Runs a test once for each engine, by parametrising ``database``, ``empty_database`` or ``cluster``."""
    return pytest.mark.parametrize(fixture, names or ALL, indirect=True)


def run_apart(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end on a loop and thread of its own, so that fixtures may be plain functions."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One test's database."""

    name: str
    engine: Engine
    server: Server
    pooler: Pgbouncer | None

    @property
    def port(self) -> int:
        """The server's own port, never the pooler's."""
        return self.server.port

    @property
    def pooled(self) -> bool:
        """Whether app, relay and maintenance come through a pooler."""
        return self.pooler is not None

    def dsn(self, role: str = "app") -> str:
        """How a program of this role connects on this engine: through the pooler, if the engine has one.

        ``role`` is superuser, owner, app, relay or maintenance, or the name of any other user (then direct).
        """
        if self.pooler is not None and role in POOLED_ROLES:
            return self.pooler.dsn(role, dbname=self.name)
        return self.direct_dsn(role)

    def direct_dsn(self, role: str = "app") -> str:
        """To the server itself: for LISTEN, migrations and looking from outside."""
        return self.server.dsn(role, dbname=self.name)

    def pooled_dsn(self, role: str = "app") -> str:
        """Through the pooler, also for those who should not."""
        assert self.pooler is not None, f"{self.engine} has no pooler"
        return self.pooler.dsn(role, dbname=self.name)

    def query(self, statement: str, *params: object, role: str = "superuser") -> list[tuple[Any, ...]]:
        """Rows as seen directly from outside; row-level security does not apply to the superuser."""
        with psycopg.connect(self.direct_dsn(role), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params or None)
            return cursor.fetchall() if cursor.description else []


class Cluster:
    """A running server, its pooler if it has one, and templates by mode and env, each migrated once."""

    def __init__(self, engine: Engine, server: Server, *, pooler: Pgbouncer | None = None) -> None:
        self.engine = engine
        self.server = server
        self.pooler = pooler
        self._numbers = itertools.count(1)
        self._templates: dict[tuple[str, str], str] = {}

    def create(self, *, mode: str = "lab", env: str = "dev") -> Database:
        """A migrated database of that plane."""
        return self._create(template=self._template(mode, env))

    def create_empty(self) -> Database:
        """A database in which nothing was ever done; the roles may exist, since they belong to the server."""
        return self._create(template="template0")

    def drop(self, database: Database) -> None:
        """Deletes it, whoever is still connected."""
        self.server.execute(f'DROP DATABASE IF EXISTS "{database.name}" WITH (FORCE)')

    def drop_templates(self) -> None:
        """Deletes what ``create`` copies from."""
        while self._templates:
            _, name = self._templates.popitem()
            self.server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def allow_login(self) -> None:
        """Lets the ledger's roles log in, as an administrator would with passwords."""
        for role in set(ROLES.values()) - {"postgres"}:
            self.server.execute(f"ALTER ROLE {role} LOGIN")

    def _template(self, mode: str, env: str) -> str:
        name = self._templates.get((mode, env))
        if name is None:
            database = self._create(template="template0", prefix=f"template_{mode}_{env}")
            run_apart(migrate.up(database.direct_dsn("superuser"), mode=mode, env=env))
            self.allow_login()
            name = self._templates[mode, env] = database.name
        return name

    def _create(self, *, template: str, prefix: str = "test") -> Database:
        # Two engines may share a server, so the name says which one made it.
        name = f"{prefix}_{self.engine.replace('-', '_')}_{next(self._numbers)}"
        self.server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return Database(name=name, engine=self.engine, server=self.server, pooler=self.pooler)
