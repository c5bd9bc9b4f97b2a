"""How a test file opens the stores of its engine for the contracts: a document backend over the driver it opens."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from datetime import datetime, timedelta

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.environment import SystemClock, SystemIds, SystemRandomness
from perdure.ports.backend import Backend
from perdure.ports.documents import DocumentDriver
from perdure.ports.environment import Environment


class ShiftedClock:
    """The machine's clock, moved by a test. The engines behind a driver stay where they are."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._ahead_s = 0.0

    def now(self) -> datetime:
        """The time of day, moved."""
        return self._clock.now() + timedelta(seconds=self._ahead_s)

    def monotonic(self) -> float:
        """The machine's own: how long a caller waits has nothing to do with the time of day."""
        return self._clock.monotonic()

    def advance(self, seconds: float) -> None:
        """Move it on."""
        self._ahead_s += seconds


async def no_sleep(seconds: float) -> None:
    """Try again at once, after everybody else."""
    del seconds
    await asyncio.sleep(0)


class StoresOnDocuments:
    """What ``StoreContract`` asks for, over any driver; the clients of one test share their time."""

    _shifted: ShiftedClock | None = None

    @abstractmethod
    async def open_driver(self) -> DocumentDriver:
        """A driver that is open; called again in one test, another client on the same data."""

    async def open_backend(self) -> Backend:
        """Another client."""
        return self.over(await self.open_driver())

    async def advance(self, seconds: float) -> None:
        """Let time pass for every client of this test."""
        self._time().advance(seconds)

    async def open_elsewhere(self) -> Backend:
        """A backend that has nothing to do with this one."""
        driver = MemoryDriver(MemoryStore())
        await driver.open()
        return self.over(driver)

    def over(self, driver: DocumentDriver) -> DocumentBackend:
        """A client over a driver that is open."""
        environment = Environment(clock=self._time(), randomness=SystemRandomness(), ids=SystemIds())
        return DocumentBackend(driver, mode="lab", env="dev", environment=environment, sleep=no_sleep)

    def _time(self) -> ShiftedClock:
        if self._shifted is None:
            self._shifted = ShiftedClock()
        return self._shifted


class ElsewhereInMemory:
    """Another place for what is on an engine: memory, whose time moves with the engine's."""

    _elsewhere: ShiftedClock | None = None

    async def open_elsewhere(self) -> Backend:
        """A backend that has nothing to do with the engine."""
        self._elsewhere = self._elsewhere or ShiftedClock()
        driver = MemoryDriver(MemoryStore())
        await driver.open()
        environment = Environment(clock=self._elsewhere, randomness=SystemRandomness(), ids=SystemIds())
        return DocumentBackend(driver, mode="lab", env="dev", environment=environment, sleep=no_sleep)

    async def advance(self, seconds: float) -> None:
        """Let time pass there too."""
        await super().advance(seconds)  # type: ignore[misc]  # that of the engine
        if self._elsewhere is not None:
            self._elsewhere.advance(seconds)
