"""Units of work on documents that a test holds in its hands: on memory and on the file of the narrowest engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from perdure.adapters.documents import work_keys
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.adapters.sqlite.driver import SqliteDriver
from perdure.core.work import WorkUnits
from perdure.domain.container import Space
from perdure.domain.work_results import Work
from perdure.ports.documents import Document, DocumentDriver, Expect, Put, Remove, Write
from perdure.ports.environment import Environment
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness
from perdure.testing.routed import RoutedPlane, RoutedTenant, given, routed_plane
from tests.contracts.document_stores import no_sleep

ACME = "t_acme"
OWNER = "worker-1"
ENGINES = ("memory", "sqlite")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A plane with a tenant whose units are on documents, and the driver below all checks."""

    plane: RoutedPlane
    driver: DocumentDriver
    clock: FakeClock

    @property
    def acme(self) -> RoutedTenant:
        """The tenant."""
        return self.plane.tenant(ACME)

    @property
    def work(self) -> WorkUnits:
        """Its units."""
        return self.acme.work

    @property
    def space(self) -> Space:
        """Where they are."""
        return self.acme.scope.space

    async def documents(self, unit: Work) -> dict[str, Document]:
        """Every document of a unit, by sort key."""
        page = await self.driver.scan(
            work_keys.unit_partition(self.space, unit.unit_id), start="a", end="z", limit=1_000, timeout_s=5
        )
        return {document.sort: document for document in page.documents}

    async def overwrite(self, unit: Work, *documents: Document) -> None:
        """Put documents as they are, past every check."""
        writes: list[Write] = [
            Put(sort=one.sort, version=one.version, body=one.body, expect=Expect.ANY) for one in documents
        ]
        await self._commit(unit, writes)

    async def remove(self, unit: Work, *sorts: str) -> None:
        """Remove documents, past every check."""
        await self._commit(unit, [Remove(sort=sort, expect=Expect.ANY) for sort in sorts])

    async def replace_text(self, unit: Work, sort: str, before: bytes, after: bytes) -> None:
        """Change a document's text where it stands."""
        document = (await self.documents(unit))[sort]
        assert before in document.body, document.body
        await self.overwrite(unit, replace(document, body=document.body.replace(before, after)))

    async def _commit(self, unit: Work, writes: list[Write]) -> None:
        partition = work_keys.unit_partition(self.space, unit.unit_id)
        await self.driver.commit(partition, writes, commit_id="tampering", timeout_s=5)


def make_driver(engine: str, folder: Path) -> Callable[[], DocumentDriver]:
    """How to open clients of one database."""
    if engine == "memory":
        store = MemoryStore()
        return lambda: MemoryDriver(store)
    return lambda: SqliteDriver(folder / "documents.db")


@asynccontextmanager
async def open_world(
    driver: DocumentDriver,
    *,
    clock: FakeClock | None = None,
    ids: int = 0,
    route: bool = True,
    work_key: str | None = None,
    environ: dict[str, str] | None = None,
) -> AsyncIterator[World]:
    """A plane on a driver. ``ids`` keeps those of several planes on one database apart; one of them makes routes."""
    time = clock or FakeClock()
    environment = Environment(clock=time, randomness=SeededRandomness(), ids=CountingIds(ids))
    backend = DocumentBackend(driver, mode="lab", env="dev", environment=environment, sleep=no_sleep)
    await driver.open()
    try:
        async with routed_plane(
            [given("main", backend)],
            backend.routes,
            environment=environment,
            work_key=work_key,
            environ=environ,
        ) as plane:
            if route:
                for kind in ("work", "telemetry"):
                    await plane.tenant(ACME).routes.set(kind, "main")
            yield World(plane=plane, driver=driver, clock=time)
    finally:
        await backend.close()
