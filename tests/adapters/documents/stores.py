"""Logs over a driver that a test owns: its time, its faults, and the order in which its clients come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from perdure.adapters.documents.logs import DocumentLogs
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.ports.capabilities import Capabilities
from perdure.ports.documents import Document, DocumentDriver, Page, Write
from perdure.ports.environment import Environment
from perdure.ports.patience import Sleep
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness

WAITS_MAX = 6  # turns that others may get before and after a call


class InterleavedDriver:
    """Gives way to others before and after every call, so that calls come in an order that chance decides."""

    def __init__(self, driver: DocumentDriver, *, seed: int) -> None:
        self._driver = driver
        self._randomness = SeededRandomness(seed)

    @property
    def capabilities(self) -> Capabilities:
        return self._driver.capabilities

    async def open(self) -> None:
        await self._driver.open()

    async def close(self) -> None:
        await self._driver.close()

    async def probe(self, *, timeout_s: float) -> None:
        await self._driver.probe(timeout_s=timeout_s)

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        await self._give_way()
        found = await self._driver.get(partition, sorts, timeout_s=timeout_s)
        await self._give_way()
        return found

    async def scan(
        self, partition: str, *, start: str, end: str, limit: int, reverse: bool = False, timeout_s: float
    ) -> Page:
        await self._give_way()
        page = await self._driver.scan(
            partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=timeout_s
        )
        await self._give_way()
        return page

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        await self._give_way()
        try:
            return await self._driver.commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)
        finally:
            await self._give_way()

    async def _give_way(self) -> None:
        for _ in range(int(self._randomness.random() * WAITS_MAX)):
            await asyncio.sleep(0)


class LogsBackend:
    """The part of a backend that contracts of logs ask for."""

    def __init__(self, driver: DocumentDriver, *, environment: Environment, sleep: Sleep) -> None:
        self.driver = ResilientDriver(driver, environment=environment, sleep=sleep)
        self.logs = DocumentLogs(self.driver, mode="lab", env="dev")

    async def close(self) -> None:
        await self.logs.close()
        await self.driver.close()


class World:
    """Data that outlives its clients, and the time all of them go by."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.clients = 0

    async def sleep(self, seconds: float) -> None:
        """Time passes; nobody waits."""
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def open(
        self,
        wrap: Callable[[DocumentDriver], DocumentDriver] = lambda driver: driver,
        *,
        sleep: Sleep | None = None,
    ) -> LogsBackend:
        """Another client on the same data."""
        self.clients += 1
        environment = Environment(
            clock=self.clock, randomness=SeededRandomness(self.clients), ids=CountingIds(self.clients)
        )
        backend = LogsBackend(wrap(MemoryDriver(self.store)), environment=environment, sleep=sleep or self.sleep)
        await backend.driver.open()
        return backend
