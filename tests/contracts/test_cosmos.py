"""Every contract that holds in a Cosmos DB container, as far as an emulator can say."""

from __future__ import annotations

import pytest

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
from tests.support.cosmos import LARGE_BODIES, CosmosServer

pytestmark = LARGE_BODIES


class OnCosmos:
    @pytest.fixture(autouse=True)
    def database(self, cosmos: CosmosServer) -> str:
        self._account = cosmos
        self._database = cosmos.new_database()
        return self._database

    async def open_driver(self) -> DocumentDriver:
        driver = self._account.driver(self._database)
        await driver.open()
        return driver


class TestDocumentsOnCosmos(OnCosmos, DocumentDriverContract):
    pass


class TestLogsOnCosmos(OnCosmos, StoresOnDocuments, LogsContract):
    pass


class TestRowsOnCosmos(OnCosmos, StoresOnDocuments, RowsContract):
    pass


class TestRegistryOnCosmos(OnCosmos, StoresOnDocuments, RegistryContract):
    pass


class TestStreamsOnCosmos(OnCosmos, StoresOnDocuments, StreamsContract):
    pass


class TestTablesOnCosmos(OnCosmos, StoresOnDocuments, TablesContract):
    pass


class TestTelemetryOnCosmos(OnCosmos, StoresOnDocuments, TelemetryContract):
    pass


class TestMemoryOnCosmos(OnCosmos, StoresOnDocuments, MemoryContract):
    pass


class TestRoutesOnCosmos(OnCosmos, StoresOnDocuments, RoutesContract):
    pass


class TestTurnsOnCosmos(OnCosmos, StoresOnDocuments, TurnsOnEmulator, TurnsContract):
    pass


@pytest.mark.soak
class TestTurnsOnCosmosAtLength(OnCosmos, StoresOnDocuments, TurnsAtLength, TurnsContract):
    pass


class TestWorkOnCosmos(OnCosmos, StoresOnDocuments, WorkContract):
    pass


class TestWorkFacadeOnCosmos(OnCosmos, StoresOnDocuments, WorkFacadeContract):
    pass
