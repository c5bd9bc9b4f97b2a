"""The contract of objects in a bucket of S3."""

from __future__ import annotations

import pytest
from obstore.store import S3Store

from perdure.adapters.objectstore import opening
from perdure.core.environment import system_environment
from perdure.domain.container import Space
from perdure.ports.objects import ObjectStore
from perdure.testing.contracts.objects import ObjectsContract
from perdure.testing.contracts.stores import TIMEOUT_S
from tests.contracts.obstore_stores import flip_a_byte
from tests.support.object_stores import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
    S3Server,
    s3_server,  # noqa: F401 - a fixture, found by its name here
)


class TestObjectsOnS3(ObjectsContract):
    @pytest.fixture(autouse=True)
    def _place(self, s3_server: S3Server) -> None:  # noqa: F811 - the fixture
        self._server = s3_server
        self._bucket = s3_server.new_bucket()

    async def open_store(self) -> ObjectStore:
        store = opening.s3(
            bucket=self._bucket,
            region=REGION,
            endpoint=self._server.endpoint,
            prefix="some/where",
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            mode="lab",
            env="dev",
            environment=system_environment(),
        )
        await store.open(timeout_s=TIMEOUT_S)
        return store

    async def damage(self, space: Space, digest: str) -> None:
        client = S3Store(
            self._bucket,
            prefix="some/where",
            region=REGION,
            endpoint=self._server.endpoint,
            access_key_id=ACCESS_KEY_ID.reveal(),
            secret_access_key=SECRET_ACCESS_KEY.reveal(),
            client_options={"allow_http": True},
        )
        await flip_a_byte(client, space, digest)
