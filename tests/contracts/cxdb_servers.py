"""How a test file opens turns on a CXDB server: one for the space of each test, and a client of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import ClassVar, Protocol

import pytest

from perdure.adapters.cxdb.backend import CxdbAddress, CxdbBackend
from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX
from perdure.adapters.cxdb.endpoint import parse_endpoint
from perdure.adapters.cxdb.http import HttpAddress
from perdure.adapters.cxdb.http_server.serving import serving_http
from perdure.adapters.cxdb.server import Profile, ServerSettings, serving
from perdure.adapters.cxdb.turns import Keys, TurnSettings
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.environment import SystemClock, system_environment
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import Space
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import check_bundle, check_bundle_id, content_hash
from perdure.errors import KeyReused
from perdure.ports.turns import TurnStore
from perdure.testing.contracts.stores import new_space
from perdure.testing.contracts.turns_opening import Talk
from tests.contracts.document_stores import no_sleep
from tests.contracts.turn_stores import BlobsInMemory


class TurnsOnCxdb:
    """What ``TurnsContract`` asks for, and what every CXDB server lacks."""

    counts_calls: ClassVar[bool] = False
    gives_keys_back: ClassVar[bool] = False
    has_labels: ClassVar[bool] = False
    has_snapshots: ClassVar[bool] = False  # roots that are no trees
    keeps_audits: ClassVar[bool] = False
    keeps_spaces_apart: ClassVar[bool] = False
    lists_bundles: ClassVar[bool] = False
    tells_bases: ClassVar[bool] = False
    tells_times: ClassVar[bool] = False

    keys: ClassVar[Keys] = "durable"

    @abstractmethod
    async def serve(self, stack: AsyncExitStack) -> CxdbAddress:
        """Have a server of ``space`` until the end of the test."""

    async def advance(self, seconds: float) -> None:
        """Nothing here goes by the time of day."""

    @pytest.fixture(autouse=True)
    async def _served(self) -> AsyncIterator[None]:
        self.space = new_space()
        async with AsyncExitStack() as stack:
            self._stack = stack
            self._address = await self.serve(stack)
            yield

    @pytest.fixture
    async def talk(self) -> Talk:
        """The space that is served."""
        return Talk(store=await self.open_turns(), space=self.space)

    async def open_turns(self) -> TurnStore:
        """Another client."""
        return self.client(self._stack, self._address).turns

    def client(self, stack: AsyncExitStack, address: CxdbAddress) -> CxdbBackend:
        """A client that is closed with the stack."""
        backend = CxdbBackend(
            address, space=self.space, clock=SystemClock(), redact=str, turns=TurnSettings(keys=self.keys)
        )
        stack.push_async_callback(backend.close)
        return backend


class OnOurServer(TurnsOnCxdb):
    """Our own server, over turns in memory."""

    profile: ClassVar[Profile]
    frame_bytes_max: ClassVar[int] = PAYLOAD_BYTES_MAX

    async def serve(self, stack: AsyncExitStack) -> CxdbAddress:
        """Both sides."""
        driver = MemoryDriver(MemoryStore())
        await driver.open()
        backend = DocumentBackend(driver, mode="lab", env="dev", environment=system_environment(), sleep=no_sleep)
        stack.push_async_callback(backend.close)
        parts = TurnParts(backend.logs, backend.rows, environment=system_environment(), sleep=no_sleep)
        store = StoredTurns(parts, BlobsInMemory())
        settings = ServerSettings(profile=self.profile, port=0, payload_bytes_max=self.frame_bytes_max)
        server = await stack.enter_async_context(serving(store, self.space, settings=settings, rows=backend.rows))
        binary = parse_endpoint(f"127.0.0.1:{server.port}")
        http = await stack.enter_async_context(
            serving_http(server.turns, self.space, clock=SystemClock(), profile=self.profile, port=0)
        )
        return CxdbAddress(binary=binary, http=HttpAddress(base_url=f"http://127.0.0.1:{http.port}"))


class Bundles(Protocol):
    """The part of a store that keeps bundles."""

    async def publish_bundle(
        self, space: Space, bundle_id: str, bundle: bytes, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> bool:
        """Keep a bundle."""
        ...

    async def find_bundle(self, space: Space, bundle_id: str, *, timeout_s: float) -> bytes | None:
        """A bundle, or None."""
        ...

    async def bundles(self, space: Space, *, after: str | None = None, limit: int, timeout_s: float) -> Page[str]:
        """Their ids."""
        ...


class BundlesOfOneTest:
    """Bundles of a server that keeps those of all tests: the space of the test is part of their ids."""

    def __init__(self, store: Bundles) -> None:
        self._store = store
        self.bundles = store.bundles

    async def publish_bundle(
        self, space: Space, bundle_id: str, bundle: bytes, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> bool:
        """Keep a bundle."""
        check_bundle(bundle_id, bundle)
        own = self._own(space, bundle_id)
        try:
            return await self._store.publish_bundle(space, own, bundle, audit=audit, timeout_s=timeout_s)
        except KeyReused as exc:
            exc.detail["bundle_id"] = bundle_id
            raise

    async def find_bundle(self, space: Space, bundle_id: str, *, timeout_s: float) -> bytes | None:
        """A bundle, or None."""
        return await self._store.find_bundle(space, self._own(space, check_bundle_id(bundle_id)), timeout_s=timeout_s)

    def _own(self, space: Space, bundle_id: str) -> str:
        return content_hash(f"{space.tenant}:{bundle_id}".encode())


class WithBundles:
    """The turns of one store, the bundles of another."""

    def __init__(self, turns: TurnStore, bundles: Bundles) -> None:
        self.create = turns.create
        self.append = turns.append
        self.head = turns.head
        self.get = turns.get
        self.list = turns.list
        self.contexts = turns.contexts
        self.put_blob = turns.put_blob
        self.find_blob = turns.find_blob
        self.attach = turns.attach
        self.snapshot = turns.snapshot
        self.publish_bundle = bundles.publish_bundle
        self.find_bundle = bundles.find_bundle
        self.bundles = bundles.bundles
