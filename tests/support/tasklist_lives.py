"""A list whose checkpoints a test watches: it counts its mutations, and its disk waits if it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from perdure.core.tasklist_checkpointing import CheckpointOutcome, ListCheckpoints
from perdure.core.tasklist_root import SnapshotRoot
from perdure.domain.tasklists.settings import PersistencePolicy
from tests.support.node_files import (
    CODEC,
    LIST,
    Events,
    FaultyFiles,
    Opened,
    WanderingClock,
    decode_number,
    number,
    policy,
)
from tests.support.node_files import snapshot_root as make_root


class Life:
    """A list that counts its mutations, its root, and the clock of both."""

    def __init__(self, root: SnapshotRoot, clock: WanderingClock, events: Events) -> None:
        self.root = root
        self.clock = clock
        self.events = events
        self.value = 0
        self.threads: set[str] = set()
        self.checkpoints: ListCheckpoints

    async def open(self) -> None:
        await self.root.open()
        opened = await self.root.open_list(LIST, codec=CODEC, decode=decode_number, capture=self.capture)
        self.value = opened.recovery.value or 0
        self.checkpoints = opened.checkpoints

    def capture(self) -> Callable[[], bytes]:
        value = self.value

        def encode() -> bytes:
            self.threads.add(threading.current_thread().name)
            return number(value)

        return encode

    async def mutate(self, count: int = 1) -> CheckpointOutcome:
        self.value += count
        return await self.checkpoints.mutated(count)

    @property
    def health(self) -> tuple[str, str | None]:
        health = self.checkpoints.health.value
        return health.state.value, None if health.last_error is None else health.last_error.code.value


class Gate:
    """Holds every sync until it is let go."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reached = asyncio.Event()
        self.released = threading.Event()

    def __call__(self, _number: int, name: str, _arguments: tuple[object, ...]) -> None:
        if name == "sync":
            self._loop.call_soon_threadsafe(self._reached.set)
            self.released.wait()

    async def begin(self) -> None:
        """Return when a write is held; the loop goes on meanwhile."""
        await self._reached.wait()


@asynccontextmanager
async def living(
    root: Path, rules: PersistencePolicy | None = None, files: FaultyFiles | None = None
) -> AsyncIterator[Life]:
    clock, events = WanderingClock(), Events()
    life = Life(make_root(root, rules or policy(), files=files, clock=clock, events=events), clock, events)
    await life.open()
    try:
        yield life
    finally:
        if files is not None:
            files.fault = lambda _number, _name, _arguments: None
        await life.root.close()


def on_disk(root: Path) -> int | None:
    """What a fresh start loads."""
    with Opened(root, policy()) as fresh:
        return fresh.recovery.value
