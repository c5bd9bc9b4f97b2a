"""Every contract that holds in the memory of this process."""

from __future__ import annotations

import pytest

from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.ports.documents import DocumentDriver
from perdure.testing.contracts import (
    DocumentDriverContract,
    LogsContract,
    MemoryContract,
    RegistryContract,
    RoutesContract,
    RowsContract,
    StreamsContract,
    TablesContract,
    TelemetryContract,
    TurnsContract,
    WorkContract,
    WorkFacadeContract,
)
from tests.contracts.document_stores import StoresOnDocuments
from tests.contracts.turn_stores import TurnsInMemory


class OnMemory:
    @pytest.fixture(autouse=True)
    def store(self) -> MemoryStore:
        self._store = MemoryStore()
        return self._store

    async def open_driver(self) -> DocumentDriver:
        driver = MemoryDriver(self._store)
        await driver.open()
        return driver


class TestDocumentsOnMemory(OnMemory, DocumentDriverContract):
    pass


class TestLogsOnMemory(OnMemory, StoresOnDocuments, LogsContract):
    pass


class TestRowsOnMemory(OnMemory, StoresOnDocuments, RowsContract):
    pass


class TestRegistryOnMemory(OnMemory, StoresOnDocuments, RegistryContract):
    pass


class TestStreamsOnMemory(OnMemory, StoresOnDocuments, StreamsContract):
    pass


class TestTablesOnMemory(OnMemory, StoresOnDocuments, TablesContract):
    pass


class TestTelemetryOnMemory(OnMemory, StoresOnDocuments, TelemetryContract):
    pass


class TestMemoryOnMemory(OnMemory, StoresOnDocuments, MemoryContract):
    pass


class TestRoutesOnMemory(OnMemory, StoresOnDocuments, RoutesContract):
    pass


class TestTurnsOnMemory(OnMemory, StoresOnDocuments, TurnsInMemory, TurnsContract):
    pass


class TestWorkOnMemory(OnMemory, StoresOnDocuments, WorkContract):
    pass


class TestWorkFacadeOnMemory(OnMemory, StoresOnDocuments, WorkFacadeContract):
    pass
