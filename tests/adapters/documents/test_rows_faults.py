"""The whole contract of rows, and that of routes, over a driver that is never well."""

from __future__ import annotations

from typing import ClassVar, Final

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.domain.versioned import NO_ROW, DeleteRow, RowVersion, RowWrite
from perdure.errors import OutcomeUnknown, StaleVersion
from perdure.ports.backend import Backend
from perdure.testing.contracts.registry import RegistryContract
from perdure.testing.contracts.rows import RowsContract
from perdure.testing.contracts.rows_keeping import RowKeepingContract
from perdure.testing.contracts.rows_lifetimes import RowLifetimesContract
from perdure.testing.contracts.rows_opening import put, table
from perdure.testing.contracts.rows_ranges import RowRangesContract
from perdure.testing.contracts.rows_values import RowValuesContract
from perdure.testing.contracts.stores import new_space
from perdure.testing.driver_faults import Fault, FaultyDriver
from tests.support.document_stores import World, no_sleep
from tests.support.interleaving import YieldingDriver

TIMEOUT_S: Final = 5.0
ITEMS: Final = table(new_space(tenant="t_acme"))


class OnFaultyMemory:
    """Throttled in bursts, down, out of time, and pages torn."""

    read_chances: ClassVar = {Fault.THROTTLED: 0.05, Fault.DOWN: 0.05, Fault.TIMED_OUT: 0.05, Fault.TORN: 0.4}
    commit_chances: ClassVar = {Fault.THROTTLED: 0.1, Fault.DOWN: 0.1, Fault.TIMED_OUT: 0.1}

    @pytest.fixture(autouse=True)
    def world(self) -> World:
        self._world = World()
        return self._world

    async def open_backend(self) -> Backend:
        driver = FaultyDriver(
            YieldingDriver(self._world.driver()),
            read_chances=self.read_chances,
            commit_chances=self.commit_chances,
            seed=self._world.clients,
            burst=3,
            retry_after_s=0.0,
        )
        backend = DocumentBackend(driver, mode="lab", env="dev", environment=self._world.environment(), sleep=no_sleep)
        await backend.open()
        return backend

    async def advance(self, seconds: float) -> None:
        self._world.clock.advance(seconds)


class TestRowsOnFaultyMemory(OnFaultyMemory, RowsContract):
    pass


class TestRegistryOnFaultyMemory(OnFaultyMemory, RegistryContract):
    pass


class OnForgetfulMemory(OnFaultyMemory):
    """Most answers to commits are lost, after they were done or without."""

    commit_chances: ClassVar = {Fault.LOST_DONE: 0.4, Fault.LOST_UNDONE: 0.3}


class TestRowValuesOnForgetfulMemory(OnForgetfulMemory, RowValuesContract):
    pass


class TestRowRangesOnForgetfulMemory(OnForgetfulMemory, RowRangesContract):
    pass


class TestRowLifetimesOnForgetfulMemory(OnForgetfulMemory, RowLifetimesContract):
    pass


class TestRowKeepingOnForgetfulMemory(OnForgetfulMemory, RowKeepingContract):
    pass


class TestRegistryOnForgetfulMemory(OnForgetfulMemory, RegistryContract):
    pass


@pytest.mark.parametrize("lost", [Fault.LOST_DONE, Fault.LOST_UNDONE])
async def test_a_write_whose_answer_was_lost_is_done_once(lost: Fault) -> None:
    world = World()
    async with world.client() as client:
        await client.rows.write(ITEMS, [put("warm"), put("old"), put("gone")], timeout_s=TIMEOUT_S)
    steps: list[list[RowWrite]] = [
        [put("first", expected=NO_ROW)],
        [put("warm")],
        [put("warm", expected=RowVersion(version=2))],
        [put("warm", expected=RowVersion(version=3)), DeleteRow(key="old", expected=RowVersion(version=1))],
        [DeleteRow(key="gone"), DeleteRow(key="nothing")],
    ]
    # Of each pair of answers one is lost, beginning after those by which the table becomes known.
    script = [None, *([lost, None] * 20)]
    async with world.client(lambda driver: FaultyDriver(driver, commits=script)) as client:
        await client.rows.write(ITEMS, steps[0], timeout_s=TIMEOUT_S)
        for step in steps[1:]:
            await client.rows.write(ITEMS, step, timeout_s=TIMEOUT_S)
        page = await client.rows.query(ITEMS, limit=10, timeout_s=TIMEOUT_S)
        assert {row.key: row.version for row in page.rows} == {"first": 1, "warm": 4}


async def test_a_lost_answer_that_nothing_explains_is_said_to_be_unknown_and_nothing_is_guessed() -> None:
    world = World()
    async with world.client() as client:
        await client.rows.write(ITEMS, [put("a")], timeout_s=TIMEOUT_S)
    async with world.client(lambda driver: FaultyDriver(driver, commits=[Fault.LOST_DONE])) as client:
        with pytest.raises(OutcomeUnknown):  # it is gone, and who did it cannot be told
            await client.rows.write(ITEMS, [DeleteRow(key="a", expected=RowVersion(version=1))], timeout_s=TIMEOUT_S)


async def test_a_stale_expectation_is_told_as_such_after_a_lost_answer_that_was_not_done() -> None:
    world = World()
    async with world.client() as client:
        await client.rows.write(ITEMS, [put("a")], timeout_s=TIMEOUT_S)
    async with world.client(lambda driver: FaultyDriver(driver, commits=[None, Fault.LOST_UNDONE])) as client:
        with pytest.raises(StaleVersion):
            await client.rows.write(ITEMS, [put("a", expected=NO_ROW)], timeout_s=TIMEOUT_S)
