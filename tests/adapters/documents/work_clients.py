"""Units of work over a driver that a test owns: its time, its faults, and every document that is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.work import DocumentWork
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.domain.container import make_space
from perdure.ports.documents import DocumentDriver
from perdure.ports.environment import Environment
from perdure.testing.contracts.work_opening import Desk
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
OUTSIDE = "works."  # what lists units, and what is to be done, is in partitions that begin so


class World:
    """Documents in memory, and any number of clients on them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock()
        self.clients = 0

    async def sleep(self, seconds: float) -> None:
        """Let the time pass that somebody waits."""
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    @asynccontextmanager
    async def client(
        self, wrap: Callable[[DocumentDriver], DocumentDriver] = lambda driver: driver
    ) -> AsyncIterator[Desk]:
        """A client, whose driver a test may wrap."""
        self.clients += 1
        environment = Environment(
            clock=self.clock, randomness=SeededRandomness(self.clients), ids=CountingIds(self.clients)
        )
        driver = ResilientDriver(wrap(MemoryDriver(self.store)), environment=environment, sleep=self.sleep)
        await driver.open()
        yield Desk(store=DocumentWork(driver, mode="lab", env="dev"), space=SPACE)
        await driver.close()

    def sorts(self, prefix: str, *, partitions: str = OUTSIDE) -> list[str]:
        """The sort keys with a prefix, in the partitions with another."""
        return sorted(
            sort
            for name, partition in self.store._partitions.items()
            if name.startswith(partitions)
            for sort in partition.sorts
            if sort.startswith(prefix)
        )
