"""The contract of objects in memory."""

from __future__ import annotations

import pytest
from obstore.store import MemoryStore

from perdure.adapters.objectstore import opening
from perdure.core.environment import system_environment
from perdure.domain.container import Space
from perdure.ports.objects import ObjectStore
from perdure.testing.contracts.objects import ObjectsContract
from perdure.testing.contracts.stores import TIMEOUT_S
from tests.contracts.obstore_stores import flip_a_byte


class TestObjectsOnMemory(ObjectsContract):
    @pytest.fixture(autouse=True)
    def _place(self) -> None:
        self._client = MemoryStore()

    async def open_store(self) -> ObjectStore:
        store = opening.memory(mode="lab", env="dev", environment=system_environment(), shared=self._client)
        await store.open(timeout_s=TIMEOUT_S)
        return store

    async def damage(self, space: Space, digest: str) -> None:
        await flip_a_byte(self._client, space, digest)
