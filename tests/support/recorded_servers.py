"""Turns for recorders behind our own CXDB server: every client of them is one on a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from perdure.adapters.cxdb.backend import CxdbAddress, CxdbBackend
from perdure.adapters.cxdb.endpoint import Endpoint, parse_endpoint
from perdure.adapters.cxdb.http import HttpAddress
from perdure.adapters.cxdb.http_server.serving import serving_http
from perdure.adapters.cxdb.pool import PoolSettings
from perdure.adapters.cxdb.server import Profile, ServerSettings, serving
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.core.environment import SystemClock
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.ports.documents import DocumentDriver
from perdure.ports.secrets import Secret
from perdure.testing.environment import fake_environment
from tests.contracts.document_stores import no_sleep
from tests.support.recorded_turns import SPACE, Kept, TurnsOver

WAIT_S = 30.0


class KeptByServer(Kept):
    """What a server keeps in memory, while it runs and when it starts again."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        self._stack = AsyncExitStack()
        self._running = AsyncExitStack()
        self._address: CxdbAddress | None = None

    @property
    def address(self) -> CxdbAddress:
        """Where it is served."""
        assert self._address is not None, "not started"
        return self._address

    async def start(self) -> None:
        """Serve, where it was served before if it was."""
        environment = fake_environment()
        driver = MemoryDriver(self.documents)
        await driver.open()
        backend = DocumentBackend(driver, mode="lab", env="dev", environment=environment, sleep=no_sleep)
        self._running.push_async_callback(backend.close)
        store = StoredTurns(TurnParts(backend.logs, backend.rows, environment=environment, sleep=no_sleep), self.blobs)
        before = self._address
        settings = ServerSettings(profile=self.profile, port=0 if before is None else before.binary.port)
        server = await self._running.enter_async_context(serving(store, SPACE, settings=settings, rows=backend.rows))
        http_port = 0 if before is None or before.http is None else int(before.http.base_url.rpartition(":")[2])
        http = await self._running.enter_async_context(
            serving_http(server.turns, SPACE, clock=environment.clock, profile=self.profile, port=http_port)
        )
        self._address = CxdbAddress(
            binary=parse_endpoint(f"127.0.0.1:{server.port}"),
            http=HttpAddress(base_url=f"http://127.0.0.1:{http.port}"),
        )

    async def stop(self) -> None:
        """Serve no more, until it starts again."""
        await self._running.aclose()

    async def close(self) -> None:
        """Close the server and every client."""
        await self._stack.aclose()
        await self.stop()

    async def client(self, driver: DocumentDriver | None = None) -> TurnsOver:
        """Another client, which remembers nothing of the others."""
        assert driver is None, "a server has its own"
        return self.client_on(self.address)

    def client_by(
        self, port: int, *, http_port: int | None = None, token: str | None = None, timeout_s: float = WAIT_S
    ) -> TurnsOver:
        """A client by another way, as through a proxy."""
        address = replace(self.address, binary=Endpoint(host="127.0.0.1", port=port))
        if http_port is not None:
            address = replace(address, http=HttpAddress(base_url=f"http://127.0.0.1:{http_port}"))
        if token is not None:
            address = replace(address, token=Secret(token))
        return self.client_on(address, timeout_s=timeout_s)

    def client_on(self, address: CxdbAddress, *, timeout_s: float = WAIT_S) -> TurnsOver:
        """A client of an address, closed at the end; ``timeout_s`` is its patience with each step."""
        pool = PoolSettings(request_timeout_s=timeout_s, connect_timeout_s=timeout_s)
        backend = CxdbBackend(address, space=SPACE, clock=SystemClock(), redact=str, pool=pool)
        self._stack.push_async_callback(backend.close)
        return TurnsOver(backend.turns)


@asynccontextmanager
async def kept_by_server(profile: Profile) -> AsyncIterator[KeptByServer]:
    """A server that runs."""
    kept = KeptByServer(profile)
    await kept.start()
    try:
        yield kept
    finally:
        await kept.close()
