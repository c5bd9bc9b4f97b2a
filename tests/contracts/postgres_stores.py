"""How a test file opens the stores of its engine for the contracts: one client more each time, on one database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

import pytest

from perdure.adapters.postgres.backend import PostgresBackend
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.core.environment import system_environment
from perdure.ports.backend import Backend
from perdure.testing.clock import DatabaseClock
from tests.conftest import Clusters
from tests.support.databases import Database, Engine


class StoresOnPostgres:
    """What ``StoreContract`` asks for, on a database that the tests of a class share; a class of an engine names it."""

    engine: ClassVar[Engine]

    @pytest.fixture(scope="class")
    @classmethod
    def shared_database(cls, clusters: Clusters) -> Iterator[Database]:
        """Every test has tenants of its own, so that one database will do."""
        cluster = clusters(cls.engine)
        database = cluster.create()
        yield database
        cluster.drop(database)

    @pytest.fixture(autouse=True)
    async def _place(self, shared_database: Database) -> AsyncIterator[None]:
        self._database = shared_database
        self._clock = DatabaseClock(shared_database.direct_dsn("superuser"))
        yield
        if self._clock.ahead_s:
            await self._clock.reset()
        # What one test lets expire is not for another one to sweep up.
        shared_database.query("DELETE FROM perdure.logs; DELETE FROM perdure.versioned_rows")

    async def open_backend(self) -> Backend:
        """Another client of the same database, with a pool of its own."""
        session = Session(self._database.dsn("app"), settings=PoolSettings(connections_max=4))
        await session.open()
        environment = system_environment()
        return PostgresBackend(session, mode="lab", env="dev", environment=environment, owns_session=True)

    async def advance(self, seconds: float) -> None:
        """The database's own time is the stores' time."""
        await self._clock.advance(seconds)
