"""The contract of objects in a container of Azure Blob Storage."""

from __future__ import annotations

import pytest
from obstore.store import AzureStore

from perdure.adapters.objectstore import opening
from perdure.core.environment import system_environment
from perdure.domain.container import Space
from perdure.ports.objects import ObjectStore
from perdure.testing.contracts.objects import ObjectsContract
from perdure.testing.contracts.stores import TIMEOUT_S
from tests.contracts.obstore_stores import flip_a_byte
from tests.support.object_stores import (
    ACCOUNT,
    ACCOUNT_KEY,
    AzureServer,
    azure_server,  # noqa: F401 - a fixture, found by its name here
)


class TestObjectsOnAzure(ObjectsContract):
    @pytest.fixture(autouse=True)
    def _place(self, azure_server: AzureServer) -> None:  # noqa: F811 - the fixture
        self._server = azure_server
        self._container = azure_server.new_container()

    async def open_store(self) -> ObjectStore:
        store = opening.azure(
            account=ACCOUNT,
            container=self._container,
            account_key=ACCOUNT_KEY,
            endpoint=self._server.endpoint,
            mode="lab",
            env="dev",
            environment=system_environment(),
        )
        await store.open(timeout_s=TIMEOUT_S)
        return store

    async def damage(self, space: Space, digest: str) -> None:
        client = AzureStore(
            self._container,
            account_name=ACCOUNT,
            account_key=ACCOUNT_KEY.reveal(),
            endpoint=self._server.endpoint,
            client_options={"allow_http": True},
        )
        await flip_a_byte(client, space, digest)
