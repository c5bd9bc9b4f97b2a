"""A backend made of a document driver: every port over the same client."""

from __future__ import annotations

import asyncio

from perdure.adapters.documents.logs import DocumentLogs
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.routes import DocumentRoutes
from perdure.adapters.documents.rows import DocumentRows
from perdure.adapters.documents.telemetry import DocumentTelemetry
from perdure.adapters.documents.work import DocumentWork
from perdure.errors import Forbidden
from perdure.ports.capabilities import Capabilities
from perdure.ports.documents import DocumentDriver
from perdure.ports.environment import Environment
from perdure.ports.logs import LogStore
from perdure.ports.objects import ObjectStore
from perdure.ports.patience import Sleep
from perdure.ports.routes import RouteStore
from perdure.ports.rows import RowStore
from perdure.ports.telemetry import TelemetryStore
from perdure.ports.work import WorkStore


class DocumentBackend:
    """Streams, sessions, tables, boards, turns, work and routes of one (mode, env) on a document database.

    ``objects`` is where the same place keeps objects, if it does; it is closed with the backend. ``sleep`` is how it
    waits between attempts. Raises ``Forbidden`` (``forbidden_backend_class``) for a driver whose data is on one
    machine, in any mode but lab.
    """

    def __init__(
        self,
        driver: DocumentDriver,
        *,
        mode: str,
        env: str,
        environment: Environment,
        objects: ObjectStore | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        if mode != "lab" and driver.capabilities.node_local:
            raise Forbidden(
                f"this backend keeps its data on one machine and mode {mode} has several; choose one they all reach",
                code="forbidden_backend_class",
                mode=mode,
            )
        self._driver = ResilientDriver(driver, environment=environment, sleep=sleep)
        self._logs = DocumentLogs(self._driver, mode=mode, env=env)
        self._rows = DocumentRows(self._driver, mode=mode, env=env)
        self._routes = DocumentRoutes(self._driver, mode=mode, env=env)
        self._telemetry = DocumentTelemetry(self._driver, mode=mode, env=env)
        self._work = DocumentWork(self._driver, mode=mode, env=env)
        self._objects = objects

    @property
    def capabilities(self) -> Capabilities:
        """What the driver can do."""
        return self._driver.capabilities

    @property
    def logs(self) -> LogStore:
        """Where streams and sessions are kept."""
        return self._logs

    @property
    def rows(self) -> RowStore:
        """Where tables and blackboards are kept."""
        return self._rows

    @property
    def routes(self) -> RouteStore:
        """Where routes are kept, if this backend holds the registry."""
        return self._routes

    @property
    def objects(self) -> ObjectStore | None:
        """Where objects are kept, if this place has them."""
        return self._objects

    @property
    def turns(self) -> None:
        """Nowhere else: turns are kept in logs and rows."""
        return

    @property
    def work(self) -> WorkStore:
        """Where units of work are kept."""
        return self._work

    @property
    def telemetry(self) -> TelemetryStore:
        """Where telemetry is kept."""
        return self._telemetry

    async def open(self) -> None:
        """Open the driver; once, before anything else."""
        await self._driver.open()

    async def probe(self, *, timeout_s: float) -> None:
        """Ask the engine for a sign of life, once."""
        await self._driver.probe(timeout_s=timeout_s)

    async def close(self) -> None:
        """Finish the appends under way and let go of the driver. Safe to call twice."""
        await self._logs.close()
        if self._objects is not None:
            await self._objects.close()
        await self._driver.close()
