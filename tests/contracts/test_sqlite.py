"""Every contract that holds on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.adapters.sqlite.driver import SqliteDriver
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


class OnSqlite:
    @pytest.fixture(autouse=True)
    def path(self, tmp_path: Path) -> Path:
        self._path = tmp_path / "documents.db"
        return self._path

    async def open_driver(self) -> DocumentDriver:
        driver = SqliteDriver(self._path)
        await driver.open()
        return driver


class TestDocumentsOnSqlite(OnSqlite, DocumentDriverContract):
    pass


class TestRowsOnSqlite(OnSqlite, StoresOnDocuments, RowsContract):
    pass


class TestRegistryOnSqlite(OnSqlite, StoresOnDocuments, RegistryContract):
    pass


class TestLogsOnSqlite(OnSqlite, StoresOnDocuments, LogsContract):
    pass


class TestStreamsOnSqlite(OnSqlite, StoresOnDocuments, StreamsContract):
    pass


class TestTablesOnSqlite(OnSqlite, StoresOnDocuments, TablesContract):
    pass


class TestTelemetryOnSqlite(OnSqlite, StoresOnDocuments, TelemetryContract):
    pass


class TestMemoryOnSqlite(OnSqlite, StoresOnDocuments, MemoryContract):
    pass


class TestRoutesOnSqlite(OnSqlite, StoresOnDocuments, RoutesContract):
    pass


class TestTurnsOnSqlite(OnSqlite, StoresOnDocuments, TurnsOnBackend, TurnsContract):
    pass


class TestWorkOnSqlite(OnSqlite, StoresOnDocuments, WorkContract):
    pass


class TestWorkFacadeOnSqlite(OnSqlite, StoresOnDocuments, WorkFacadeContract):
    pass
