"""Stores over document drivers, with time in the hands of a test: what every test of them begins with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.routes import DocumentRoutes
from perdure.adapters.documents.rows import DocumentRows
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.ports.documents import DocumentDriver
from perdure.ports.environment import Environment
from perdure.ports.patience import Sleep
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness


async def no_sleep(seconds: float) -> None:
    """Let the others go on, and no time pass."""
    del seconds
    await asyncio.sleep(0)


@dataclass
class World:
    """Documents in memory, and any number of clients on them, each with ids and chance of its own."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=FakeClock)
    clients: int = 0

    async def sleep(self, seconds: float) -> None:
        """Let the time pass that somebody waits; for tests of one client."""
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    def driver(self) -> MemoryDriver:
        """A driver on the documents."""
        return MemoryDriver(self.store)

    def environment(self) -> Environment:
        """The environment of a client."""
        self.clients += 1
        return Environment(clock=self.clock, randomness=SeededRandomness(self.clients), ids=CountingIds(self.clients))

    @asynccontextmanager
    async def client(
        self,
        wrap: Callable[[DocumentDriver], DocumentDriver] = lambda driver: driver,
        *,
        mode: str = "lab",
        env: str = "dev",
        sleep: Sleep | None = None,
    ) -> AsyncIterator[Client]:
        """A client, whose driver a test may wrap."""
        driver = ResilientDriver(wrap(self.driver()), environment=self.environment(), sleep=sleep or self.sleep)
        await driver.open()
        yield Client(rows=DocumentRows(driver, mode=mode, env=env), routes=DocumentRoutes(driver, mode=mode, env=env))
        await driver.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The stores of one client."""

    rows: DocumentRows
    routes: DocumentRoutes
