"""Conversations that say how long they are kept, for tests of purges and of the garbage that they leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from obstore.store import MemoryStore as Client

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.adapters.objectstore import opening
from perdure.core.turns import Turns
from perdure.domain.retention import Outcome
from perdure.domain.turn_records.agent_records import USER_TURN
from perdure.errors import NotFound
from perdure.ports.documents import DocumentDriver
from perdure.ports.environment import Environment
from perdure.testing.contracts.turns_retention import ending
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness
from perdure.testing.routed import RoutedPlane, RoutedTenant, given, routed_plane
from perdure.testing.watched import WatchedBackend

LIFE_S: Final = 1_000.0
ACME: Final = "t_acme"
TYPE_ID: Final = USER_TURN.type_id


def record(ends_at: datetime | None, *, retention_class: str | None = None, text: str = "hello") -> bytes:
    """The payload of a context's first turn, which says when the context ends."""
    return ending(ends_at, retention_class=retention_class, content=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A plane of its own on data that others share, and its backend, watched."""

    plane: RoutedPlane
    backend: WatchedBackend
    clock: FakeClock

    @property
    def acme(self) -> RoutedTenant:
        """The tenant."""
        return self.plane.tenant(ACME, actor="user:ann")

    @property
    def turns(self) -> Turns:
        """Its turns."""
        return self.acme.turns

    async def begin(
        self, *, retention_class: str | None = None, base: str | None = None, life_s: float | None = LIFE_S
    ) -> tuple[str, str]:
        """A context of two turns that ends after so long; its id, and that of its last turn."""
        turns = self.turns
        made = await turns.create(labels=["x"]) if base is None else await turns.fork(base, labels=["x"])
        ends_at = None if life_s is None else self.clock.now() + timedelta(seconds=life_s)
        payload = record(ends_at, retention_class=retention_class)
        await turns.append(made.context_id, payload, type_id=TYPE_ID)
        ref = await turns.append(made.context_id, b"more", type_id="t", idempotency_key="more")
        return made.context_id, ref.turn_id

    async def purge(self, *, dry_run: bool = False) -> dict[str, str]:
        """Purge; what became of each context: ``removed``, or why it was kept."""
        found: dict[str, str] = {}
        async for one in self.turns.purge(dry_run=dry_run):
            assert one.context_id not in found, "each is told once"
            found[one.context_id] = "removed" if one.outcome is Outcome.REMOVED else str(one.reason)
        return found

    async def said(self, context_id: str) -> list[bytes] | None:
        """The whole history of a context, verified; None if it is not there."""
        try:
            depth = (await self.turns.head(context_id)).head_depth
            found = [turn.payload async for turn in self.turns.iterate(context_id)]
        except NotFound:
            return None
        assert len(found) >= depth
        return found[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What desks share: documents, objects and time."""

    store: MemoryStore
    clock: FakeClock
    objects: Client


def new_data() -> Data:
    """Nothing yet."""
    return Data(store=MemoryStore(), clock=FakeClock(), objects=Client())


@asynccontextmanager
async def opened_desk(
    data: Data,
    *,
    client: int = 0,
    driven: Callable[[DocumentDriver], DocumentDriver] | None = None,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> AsyncIterator[Desk]:
    """A plane on the data, by a driver in between if one is given. Whoever waits lets time pass."""

    async def passes(seconds: float) -> None:
        data.clock.advance(seconds + 0.5)

    environment = Environment(clock=data.clock, randomness=SeededRandomness(client), ids=CountingIds(client))
    driver: DocumentDriver = MemoryDriver(data.store)
    await driver.open()
    kept = opening.memory(mode="lab", env="dev", environment=environment, shared=data.objects)
    backend = DocumentBackend(
        driver if driven is None else driven(driver),
        mode="lab",
        env="dev",
        environment=environment,
        sleep=sleep or passes,
        objects=kept,
    )
    watched = WatchedBackend(backend)
    # What a test breaks is the way to turns, not to the routes that lead there.
    registry = DocumentBackend(driver, mode="lab", env="dev", environment=environment, sleep=sleep or passes)
    specs = [given("main", watched)]
    async with routed_plane(specs, registry.routes, environment=environment, sleep=sleep or passes) as plane:
        desk = Desk(plane=plane, backend=watched, clock=data.clock)
        if not await desk.acme.routes.list():
            for kind in ("turns", "objects"):
                await desk.acme.routes.set(kind, "main")
        yield desk
