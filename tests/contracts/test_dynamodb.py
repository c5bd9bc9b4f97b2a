"""Every contract that holds in a DynamoDB table."""

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
from tests.support.dynamodb import DynamoDbServer


class OnDynamodb:
    @pytest.fixture(autouse=True)
    def table(self, dynamodb_server: DynamoDbServer) -> str:
        self._server = dynamodb_server
        self._table = dynamodb_server.new_table()
        return self._table

    async def open_driver(self) -> DocumentDriver:
        driver = self._server.driver(self._table)
        await driver.open()
        return driver


class TestDocumentsOnDynamodb(OnDynamodb, DocumentDriverContract):
    pass


class TestLogsOnDynamodb(OnDynamodb, StoresOnDocuments, LogsContract):
    pass


class TestRowsOnDynamodb(OnDynamodb, StoresOnDocuments, RowsContract):
    pass


class TestRegistryOnDynamodb(OnDynamodb, StoresOnDocuments, RegistryContract):
    pass


class TestStreamsOnDynamodb(OnDynamodb, StoresOnDocuments, StreamsContract):
    pass


class TestTablesOnDynamodb(OnDynamodb, StoresOnDocuments, TablesContract):
    pass


class TestTelemetryOnDynamodb(OnDynamodb, StoresOnDocuments, TelemetryContract):
    pass


class TestMemoryOnDynamodb(OnDynamodb, StoresOnDocuments, MemoryContract):
    pass


class TestRoutesOnDynamodb(OnDynamodb, StoresOnDocuments, RoutesContract):
    pass


class TestTurnsOnDynamodb(OnDynamodb, StoresOnDocuments, TurnsOnEmulator, TurnsContract):
    pass


@pytest.mark.soak
class TestTurnsOnDynamodbAtLength(OnDynamodb, StoresOnDocuments, TurnsAtLength, TurnsContract):
    pass


class TestWorkOnDynamodb(OnDynamodb, StoresOnDocuments, WorkContract):
    pass


class TestWorkFacadeOnDynamodb(OnDynamodb, StoresOnDocuments, WorkFacadeContract):
    pass
