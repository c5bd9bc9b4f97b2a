"""A backend of routed stores on PostgreSQL: every port over one session."""

from __future__ import annotations

import asyncio
from typing import Final

from perdure.adapters.postgres.logs import PostgresLogs
from perdure.adapters.postgres.objects import PostgresObjects
from perdure.adapters.postgres.routes import PostgresRoutes
from perdure.adapters.postgres.rows import PostgresRows
from perdure.adapters.postgres.session import Session
from perdure.adapters.postgres.telemetry import PostgresTelemetry
from perdure.adapters.postgres.work import PostgresWork
from perdure.domain.container import PART_CHARS_MAX, STREAM_CHARS_MAX
from perdure.domain.log import APPEND_BYTES_MAX, ENTRY_BYTES_MAX
from perdure.domain.versioned import KEY_BYTES_MAX, ROW_WRITES_MAX
from perdure.ports.capabilities import Capabilities
from perdure.ports.environment import Environment
from perdure.ports.logs import LogStore
from perdure.ports.objects import ObjectStore
from perdure.ports.patience import Sleep
from perdure.ports.routes import RouteStore
from perdure.ports.rows import RowStore
from perdure.ports.telemetry import TelemetryStore
from perdure.ports.work import WorkStore

# The server's own limits are far above ours, so ours are what holds.
CAPABILITIES: Final = Capabilities(
    consistency="strong",
    durable=True,
    shared=True,
    ttl=False,
    change_feed=False,
    node_local=False,
    document_bytes_max=ENTRY_BYTES_MAX,
    sort_bytes_max=KEY_BYTES_MAX,
    partition_name_bytes_max=4 * (3 * PART_CHARS_MAX + STREAM_CHARS_MAX),
    batch_writes_max=ROW_WRITES_MAX,
    batch_bytes_max=APPEND_BYTES_MAX,
    partition_bytes_max=None,
)


class PostgresBackend:
    """Routed stores of one (mode, env) in the database of the ledger, or in another.

    ``session`` is an open one of the app role; with ``owns_session`` it is closed with the backend.
    """

    def __init__(
        self,
        session: Session,
        *,
        mode: str,
        env: str,
        environment: Environment,
        owns_session: bool,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._session = session
        self._owns_session = owns_session
        self._logs = PostgresLogs(session, mode=mode, env=env, environment=environment, sleep=sleep)
        self._rows = PostgresRows(session, mode=mode, env=env, environment=environment, sleep=sleep)
        self._routes = PostgresRoutes(session, mode=mode, env=env, environment=environment, sleep=sleep)
        self._telemetry = PostgresTelemetry(session, mode=mode, env=env, environment=environment, sleep=sleep)
        self._objects = PostgresObjects(session, mode=mode, env=env, environment=environment, sleep=sleep)
        self._work = PostgresWork(session, mode=mode, env=env, environment=environment, sleep=sleep)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return CAPABILITIES

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
    def objects(self) -> ObjectStore:
        """Where objects are kept."""
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

    async def probe(self, *, timeout_s: float) -> None:
        """Read the registry's version: through pool, role, schema and row-level security."""
        await self._routes.version(timeout_s=timeout_s)

    async def close(self) -> None:
        """Let go of the session. Safe to call twice."""
        if self._owns_session:
            self._owns_session = False
            await self._session.close()
