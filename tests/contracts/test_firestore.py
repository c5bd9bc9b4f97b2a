"""Every contract that holds on Firestore, on our fake of it."""

from __future__ import annotations

import pytest

from perdure.adapters.firestore.driver import FirestoreDriver
from perdure.core.environment import SystemClock
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
from tests.contracts.turn_stores import TurnsOnBackend
from tests.support.firestore import FakeServer


class OnFirestore:
    @pytest.fixture(autouse=True)
    def server(self, firestore_server: FakeServer) -> None:
        self._endpoint, self._project = firestore_server.endpoint, firestore_server.new_project()

    async def open_driver(self) -> DocumentDriver:
        driver = FirestoreDriver(project=self._project, endpoint=self._endpoint, clock=SystemClock())
        await driver.open()
        return driver


class TestDocumentsOnFirestore(OnFirestore, DocumentDriverContract):
    pass


class TestLogsOnFirestore(OnFirestore, StoresOnDocuments, LogsContract):
    pass


class TestRowsOnFirestore(OnFirestore, StoresOnDocuments, RowsContract):
    pass


class TestRegistryOnFirestore(OnFirestore, StoresOnDocuments, RegistryContract):
    pass


class TestStreamsOnFirestore(OnFirestore, StoresOnDocuments, StreamsContract):
    pass


class TestTablesOnFirestore(OnFirestore, StoresOnDocuments, TablesContract):
    pass


class TestTelemetryOnFirestore(OnFirestore, StoresOnDocuments, TelemetryContract):
    pass


class TestMemoryOnFirestore(OnFirestore, StoresOnDocuments, MemoryContract):
    pass


class TestRoutesOnFirestore(OnFirestore, StoresOnDocuments, RoutesContract):
    pass


class TestTurnsOnFirestore(OnFirestore, StoresOnDocuments, TurnsOnBackend, TurnsContract):
    pass


class TestWorkOnFirestore(OnFirestore, StoresOnDocuments, WorkContract):
    pass


class TestWorkFacadeOnFirestore(OnFirestore, StoresOnDocuments, WorkFacadeContract):
    pass
