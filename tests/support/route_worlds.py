"""Routed planes on documents in memory: processes that come and go on the same data, and may be killed at any step."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField
from perdure.ports.capabilities import Capabilities
from perdure.ports.documents import Document, Page, Write
from perdure.ports.environment import Environment
from perdure.testing.driver_faults import Crashed
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness
from perdure.testing.routed import RoutedPlane, routed_plane

PLACES = ("home", "a", "b")  # where the registry is, and the backends that routes name
WHY = "because a test wants it"

T = TypeVar("T")
Hook = Callable[[str, str], Awaitable[None]]


@dataclass
class Life:
    """What one process may do before it dies, counted over all its drivers; and what happens before each operation."""

    dies_at: int | None = None
    moment: Literal["before", "after"] = "before"
    hook: Hook | None = None
    operations: int = 0
    is_over: bool = False

    async def begin(self, place: str, name: str) -> bool:
        """Count an operation; True if the process dies with it."""
        if self.is_over:
            raise Crashed
        self.operations += 1
        dies = self.operations == self.dies_at
        if dies and self.moment == "before":
            self.end()
        if self.hook is not None:
            await self.hook(place, name)
        return dies

    def end(self) -> None:
        """Die: nothing is written any more."""
        self.is_over = True
        raise Crashed


class MortalDriver:
    """A driver of a process that dies."""

    def __init__(self, driver: MemoryDriver, *, place: str, life: Life) -> None:
        self._driver = driver
        self._place = place
        self._life = life

    @property
    def capabilities(self) -> Capabilities:
        """Those of the driver behind it."""
        return self._driver.capabilities

    async def open(self) -> None:
        """Open the driver behind it."""
        await self._driver.open()

    async def close(self) -> None:
        """Close the driver behind it."""
        await self._driver.close()

    async def probe(self, *, timeout_s: float) -> None:
        """Probe the driver behind it."""
        await self._driver.probe(timeout_s=timeout_s)

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """Get, or die."""
        dies = await self._life.begin(self._place, "get")
        found = await self._driver.get(partition, sorts, timeout_s=timeout_s)
        return self._end(found, dies=dies)

    async def scan(
        self, partition: str, *, start: str, end: str, limit: int, reverse: bool = False, timeout_s: float
    ) -> Page:
        """Scan, or die."""
        dies = await self._life.begin(self._place, "scan")
        page = await self._driver.scan(
            partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=timeout_s
        )
        return self._end(page, dies=dies)

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """Commit, or die, before it or after it."""
        dies = await self._life.begin(self._place, "commit")
        tokens = await self._driver.commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)
        return self._end(tokens, dies=dies)

    def _end(self, answer: T, *, dies: bool) -> T:
        if dies or self._life.is_over:
            self._life.end()
        return answer


@dataclass
class RouteWorld:
    """Three places with documents, a clock for everybody, and processes on them."""

    stores: dict[str, MemoryStore] = field(default_factory=lambda: {place: MemoryStore() for place in PLACES})
    clock: FakeClock = field(default_factory=FakeClock)
    processes: int = 0

    def fork(self) -> RouteWorld:
        """The same world once more, from here on apart."""
        return RouteWorld(
            stores=copy.deepcopy(self.stores), clock=FakeClock(self.clock.now()), processes=self.processes
        )

    async def sleep(self, seconds: float) -> None:
        """Let the time pass that somebody waits; for worlds where one does at a time."""
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    @asynccontextmanager
    async def process(
        self,
        life: Life | None = None,
        *,
        timeout_s: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        start: bool = True,
    ) -> AsyncIterator[RoutedPlane]:
        """A process: its own clients, snapshot, ids and chance."""
        self.processes += 1
        life = life or Life()
        waits = sleep or self.sleep
        environment = Environment(
            clock=self.clock, randomness=SeededRandomness(self.processes), ids=CountingIds(self.processes)
        )

        def backend(place: str) -> DocumentBackend:
            driver = MortalDriver(MemoryDriver(self.stores[place]), place=place, life=life)
            return DocumentBackend(driver, mode="lab", env="dev", environment=environment, sleep=waits)

        def spec(place: str) -> BackendSpec:
            async def start(request: BackendRequest) -> Backend:
                del request
                opened = backend(place)
                await opened.open()
                return opened

            return BackendSpec(name=place, lab_only=True, config=(ConfigField(name="place"),), open=start)

        async with AsyncExitStack() as stack:
            home = backend("home")
            await home.open()
            stack.push_async_callback(home.close)
            plane = await stack.enter_async_context(
                routed_plane(
                    [spec("a"), spec("b")],
                    home.routes,
                    environment=environment,
                    timeout_s=timeout_s,
                    sleep=waits,
                    start=start,
                )
            )
            yield plane


class Ticking:
    """Time that passes by itself while others work: so much for each few turns of the event loop."""

    def __init__(self, clock: FakeClock, *, step_s: float = 1.0, turns: int = 3) -> None:
        self._clock = clock
        self._step_s = step_s
        self._turns = turns

    async def sleep(self, seconds: float) -> None:
        """Wait until so much time has passed."""
        ends = self._clock.monotonic() + seconds
        await asyncio.sleep(0)
        while self._clock.monotonic() < ends:  # noqa: ASYNC110 - time passes in turns of the loop, not by events
            await asyncio.sleep(0)

    async def run(self) -> None:
        """Let time pass until cancelled."""
        while True:
            for _ in range(self._turns):
                await asyncio.sleep(0)
            self._clock.advance(self._step_s)


def hesitant(seed: int, *, turns_max: int = 4) -> Hook:
    """Some turns of the loop before each operation, by chance: so that others come in between."""
    chance = SeededRandomness(seed)

    async def hook(place: str, name: str) -> None:
        del place, name
        for _ in range(int(chance.random() * (turns_max + 1))):
            await asyncio.sleep(0)

    return hook
