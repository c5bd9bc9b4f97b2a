"""Every contract that holds on Firestore, on the official emulator, where there is one."""

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
from tests.contracts.turn_stores import TurnsAtLength, TurnsOnEmulator
from tests.support.firestore import EmulatorServer


class OnFirestoreEmulator:
    @pytest.fixture(autouse=True)
    def server(self, firestore_emulator: EmulatorServer) -> None:
        self._endpoint, self._project = firestore_emulator.endpoint, firestore_emulator.new_project()

    async def open_driver(self) -> DocumentDriver:
        driver = FirestoreDriver(project=self._project, endpoint=self._endpoint, clock=SystemClock())
        await driver.open()
        return driver


class TestDocumentsOnFirestoreEmulator(OnFirestoreEmulator, DocumentDriverContract):
    pass


class TestLogsOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, LogsContract):
    pass


class TestRowsOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, RowsContract):
    pass


class TestRegistryOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, RegistryContract):
    pass


class TestStreamsOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, StreamsContract):
    pass


class TestTablesOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, TablesContract):
    pass


class TestTelemetryOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, TelemetryContract):
    pass


class TestMemoryOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, MemoryContract):
    pass


class TestRoutesOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, RoutesContract):
    pass


class TestTurnsOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, TurnsOnEmulator, TurnsContract):
    pass


@pytest.mark.soak
class TestTurnsOnFirestoreEmulatorAtLength(OnFirestoreEmulator, StoresOnDocuments, TurnsAtLength, TurnsContract):
    pass


class TestWorkOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, WorkContract):
    pass


class TestWorkFacadeOnFirestoreEmulator(OnFirestoreEmulator, StoresOnDocuments, WorkFacadeContract):
    pass
