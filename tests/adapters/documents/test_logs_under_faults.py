"""The contract of logs, whole, while clients come in any order and the engine has one of its days."""

from __future__ import annotations

import asyncio
from typing import ClassVar, cast

import pytest

from perdure.ports.backend import Backend
from perdure.ports.documents import DocumentDriver
from perdure.testing.contracts.logs import LogsContract
from perdure.testing.driver_faults import Fault, FaultyDriver
from tests.adapters.documents.stores import InterleavedDriver, World


class OnMemory(LogsContract):
    """The contract over the memory driver; a class says what is in between."""

    seed: ClassVar[int]

    @pytest.fixture(autouse=True)
    def world(self) -> World:
        self._world = World()
        return self._world

    async def open_backend(self) -> Backend:
        # Time stands still while somebody waits: how long a call takes is not what these tests are about.
        backend = await self._world.open(self.wrap, sleep=lambda _: asyncio.sleep(0))
        return cast("Backend", backend)

    async def advance(self, seconds: float) -> None:
        self._world.clock.advance(seconds)

    def wrap(self, driver: DocumentDriver) -> DocumentDriver:
        return InterleavedDriver(driver, seed=self.seed + self._world.clients)


class TestLogsInAnyOrder(OnMemory):
    seed = 100


class TestLogsInAnotherOrder(OnMemory):
    seed = 200


class TestLogsUnderThrottling(OnMemory):
    seed = 300

    def wrap(self, driver: DocumentDriver) -> DocumentDriver:
        chances = {Fault.THROTTLED: 0.04, Fault.DOWN: 0.02, Fault.TIMED_OUT: 0.02}
        return FaultyDriver(
            super().wrap(driver),
            read_chances=chances | {Fault.TORN: 0.3},
            commit_chances=chances,
            seed=self._world.clients,
            burst=3,
        )


class TestLogsWithLostAnswers(OnMemory):
    seed = 400

    def wrap(self, driver: DocumentDriver) -> DocumentDriver:
        return FaultyDriver(
            super().wrap(driver),
            read_chances={Fault.TORN: 0.2},
            commit_chances={Fault.LOST_DONE: 0.1, Fault.LOST_UNDONE: 0.1},
            seed=self._world.clients,
        )
