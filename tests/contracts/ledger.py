"""How a test file opens the ledger of its engine for the contracts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

import psycopg
import pytest

import perdure
from perdure.testing.clock import DatabaseClock
from tests.conftest import MakeDatabase
from tests.support.databases import Database, Engine

Connection = psycopg.AsyncConnection[Any]


class OnPostgres:
    """The fixtures of the contracts; a class of an engine names it."""

    engine: ClassVar[Engine]

    @pytest.fixture
    def ledger(self, make_database: MakeDatabase) -> Database:
        return make_database(self.engine)

    @pytest.fixture
    async def plane(self, ledger: Database) -> AsyncIterator[perdure.Plane]:
        async with perdure.open(ledger.dsn("app"), mode="lab", env="dev") as plane:
            yield plane

    @pytest.fixture
    def clock(self, ledger: Database) -> DatabaseClock:
        return DatabaseClock(ledger.direct_dsn("superuser"))

    @pytest.fixture
    def connect(self, ledger: Database) -> Callable[[], AbstractAsyncContextManager[Connection]]:
        @asynccontextmanager
        async def connect() -> AsyncIterator[Connection]:
            connection = await psycopg.AsyncConnection.connect(
                ledger.dsn("app"), autocommit=True, prepare_threshold=None
            )
            async with connection:
                yield connection

        return connect
