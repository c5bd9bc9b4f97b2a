"""The contracts of the facades over a driver that throttles, times out, loses answers and tears pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.ports.documents import DocumentDriver
from perdure.testing.contracts import (
    MemoryContract,
    RoutesContract,
    StreamsContract,
    TablesContract,
    TurnsContract,
    WorkContract,
)
from perdure.testing.contracts.memory_sessions import SessionsContract
from perdure.testing.contracts.streams_appending import StreamAppendingContract
from perdure.testing.contracts.tables_values import TableValuesContract
from perdure.testing.contracts.turns_appending import TurnAppendingContract
from perdure.testing.contracts.turns_parents import TurnParentsContract
from perdure.testing.contracts.turns_surviving import TurnSurvivingContract
from perdure.testing.driver_faults import Fault, FaultyDriver, Replicas
from tests.contracts.document_stores import StoresOnDocuments
from tests.contracts.turn_stores import TurnsOnBackend

READ_CHANCES = {Fault.THROTTLED: 0.02, Fault.DOWN: 0.02, Fault.TIMED_OUT: 0.02, Fault.TORN: 0.2}
COMMIT_CHANCES = {Fault.THROTTLED: 0.03, Fault.DOWN: 0.03, Fault.TIMED_OUT: 0.03}
LOST_CHANCES = {Fault.LOST_DONE: 0.15, Fault.LOST_UNDONE: 0.1}


class OnFaults(StoresOnDocuments):
    """Faults after which it is known that nothing was done: nobody notices them."""

    commit_chances: ClassVar[Mapping[Fault, float]] = COMMIT_CHANCES
    lag: ClassVar[int | None] = None

    @pytest.fixture(autouse=True)
    def store(self) -> MemoryStore:
        self._store = MemoryStore()
        self._replicas = None if self.lag is None else Replicas(lag=self.lag)
        self._clients = 0
        return self._store

    async def open_driver(self) -> DocumentDriver:
        self._clients += 1
        driver = FaultyDriver(
            MemoryDriver(self._store),
            read_chances=READ_CHANCES,
            commit_chances=self.commit_chances,
            seed=self._clients,
            burst=3,
            retry_after_s=0.001,
            replicas=self._replicas,
        )
        await driver.open()
        return driver


class OnLostAnswers(OnFaults):
    """And answers that are lost.

    An append is always found out about. A row that somebody else wrote over since, or that is gone, tells nothing: the
    outcome is unknown then, as promised, so that contracts of rows with rivals or conditional deletions are not for it.
    """

    commit_chances = COMMIT_CHANCES | LOST_CHANCES


class OnReplicas(OnFaults):
    """And clients that see each other's commits late, as session consistency allows."""

    lag = 4


class TestStreamsOnMemoryWithFaults(OnFaults, StreamsContract):
    pass


class TestTablesOnMemoryWithFaults(OnFaults, TablesContract):
    pass


class TestMemoryOnMemoryWithFaults(OnFaults, MemoryContract):
    pass


class TestRoutesOnMemoryWithFaults(OnFaults, RoutesContract):
    pass


class TestTurnsOnMemoryWithFaults(OnFaults, TurnsOnBackend, TurnsContract):
    pass


class TestStreamsWithLostAnswers(OnLostAnswers, StreamsContract):
    pass


class TestSessionsWithLostAnswers(OnLostAnswers, SessionsContract):
    pass


class TestTableValuesWithLostAnswers(OnLostAnswers, TableValuesContract):
    pass


class TestStreamsOnReplicas(OnReplicas, StreamAppendingContract):
    pass


class TestSessionsOnReplicas(OnReplicas, SessionsContract):
    pass


class TestTurnsWithLostAnswers(OnLostAnswers, TurnsOnBackend, TurnsContract):
    pass


class TestTurnsOnReplicas(
    OnReplicas, TurnsOnBackend, TurnAppendingContract, TurnParentsContract, TurnSurvivingContract
):
    pass


class TestWorkOnMemoryWithFaults(OnFaults, WorkContract):
    pass


class TestWorkWithLostAnswers(OnLostAnswers, WorkContract):
    pass
