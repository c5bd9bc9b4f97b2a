"""The contract of objects on PostgreSQL 18."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from perdure.adapters.postgres.objects import PostgresObjects
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.core.environment import system_environment
from perdure.domain.container import Space
from perdure.domain.ids import tenant_uuid
from perdure.ports.objects import ObjectStore
from perdure.testing.contracts.objects import ObjectsContract
from tests.conftest import Clusters
from tests.support.databases import Database


class TestObjectsOnPg18(ObjectsContract):
    @pytest.fixture(scope="class")
    @classmethod
    def shared_database(cls, clusters: Clusters) -> Iterator[Database]:
        """Every test has tenants of its own, so that one database will do."""
        cluster = clusters("pg18")
        database = cluster.create()
        yield database
        cluster.drop(database)

    @pytest.fixture(autouse=True)
    async def _place(self, shared_database: Database) -> AsyncIterator[None]:
        self._database = shared_database
        self._sessions: list[Session] = []
        yield
        for session in self._sessions:
            await session.close()

    async def open_store(self) -> ObjectStore:
        session = Session(self._database.dsn("app"), settings=PoolSettings(connections_max=4))
        await session.open()
        self._sessions.append(session)
        return PostgresObjects(session, mode="lab", env="dev", environment=system_environment())

    async def damage(self, space: Space, digest: str) -> None:
        self._database.query("ALTER TABLE perdure.object_chunks DISABLE TRIGGER append_only")
        changed = self._database.query(
            "UPDATE perdure.object_chunks AS kept SET data = set_byte(data, 0, get_byte(data, 0) # 1)"
            " WHERE tenant_id = %s AND digest = decode(%s, 'hex') AND chunk_no = (SELECT max(chunk_no) / 2"
            " FROM perdure.object_chunks AS each WHERE (each.tenant_id, each.space_id, each.digest)"
            " = (kept.tenant_id, kept.space_id, kept.digest)) RETURNING 1",
            tenant_uuid(space.tenant),
            digest,
        )
        self._database.query("ALTER TABLE perdure.object_chunks ENABLE TRIGGER append_only")
        assert changed == [(1,)]
