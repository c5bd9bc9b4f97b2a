"""Every contract that holds on a directory of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.adapters.filesystem.driver import FilesystemDriver
from perdure.ports.backend import Backend
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


class OnFilesystem:
    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> Path:
        self._directory = tmp_path / "documents"
        return self._directory

    async def open_driver(self) -> DocumentDriver:
        # What an acknowledgement means is tested beside the driver; here it only costs time.
        driver = FilesystemDriver(self._directory, fsync="never")
        await driver.open()
        return driver


class StoresOnFilesystem(OnFilesystem, StoresOnDocuments):
    _driver: DocumentDriver | None = None

    async def open_backend(self) -> Backend:
        # A directory is open once in a process; clients beside each other share its driver, as planes do not.
        self._driver = self._driver or await self.open_driver()
        return self.over(self._driver)


class TestDocumentsOnFilesystem(OnFilesystem, DocumentDriverContract):
    pass


class TestLogsOnFilesystem(StoresOnFilesystem, LogsContract):
    pass


class TestRowsOnFilesystem(StoresOnFilesystem, RowsContract):
    pass


class TestRegistryOnFilesystem(StoresOnFilesystem, RegistryContract):
    pass


class TestStreamsOnFilesystem(StoresOnFilesystem, StreamsContract):
    pass


class TestTablesOnFilesystem(StoresOnFilesystem, TablesContract):
    pass


class TestTelemetryOnFilesystem(StoresOnFilesystem, TelemetryContract):
    pass


class TestMemoryOnFilesystem(StoresOnFilesystem, MemoryContract):
    pass


class TestRoutesOnFilesystem(StoresOnFilesystem, RoutesContract):
    pass


class TestTurnsOnFilesystem(StoresOnFilesystem, TurnsOnBackend, TurnsContract):
    pass


class TestWorkOnFilesystem(StoresOnFilesystem, WorkContract):
    pass


class TestWorkFacadeOnFilesystem(StoresOnFilesystem, WorkFacadeContract):
    pass
