"""The contract of objects in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.store import LocalStore

from perdure.adapters.objectstore import opening
from perdure.core.environment import system_environment
from perdure.domain.container import Space
from perdure.ports.objects import ObjectStore
from perdure.testing.contracts.objects import ObjectsContract
from perdure.testing.contracts.stores import TIMEOUT_S
from tests.contracts.obstore_stores import flip_a_byte


class TestObjectsOnLocal(ObjectsContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self._directory = tmp_path / "objects"

    async def open_store(self) -> ObjectStore:
        store = opening.local(self._directory, mode="lab", env="dev", environment=system_environment())
        await store.open(timeout_s=TIMEOUT_S)
        return store

    async def damage(self, space: Space, digest: str) -> None:
        await flip_a_byte(LocalStore(self._directory), space, digest)
