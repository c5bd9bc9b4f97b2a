"""A node for tests of task lists: its root, its clock, and time that passes when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import perdure
from perdure.core.tasklists import TaskList
from perdure.ports.environment import Environment
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness


class Desk:
    """A node: its root, its clock, and naps that end when the clock has come so far."""

    def __init__(self, root: Path | None, *, number: int = 1) -> None:
        self.root = root
        self.clock = FakeClock()
        self.environment = Environment(
            clock=self.clock, randomness=SeededRandomness(number), ids=CountingIds(space=number)
        )
        self._naps: list[tuple[float, asyncio.Event]] = []

    def open(self, name: str = "sprint", **given: Any) -> TaskList:
        return perdure.tasklists.open(
            name, **({"root": self.root, "environment": self.environment, "sleep": self.sleep} | given)
        )

    async def sleep(self, seconds: float) -> None:
        ended = asyncio.Event()
        self._naps.append((self.clock.monotonic() + seconds, ended))
        await ended.wait()

    async def advance(self, seconds: float) -> None:
        """Let time pass, and what was waiting for it go on."""
        for _ in range(20):
            await asyncio.sleep(0)
        self.clock.advance(seconds)
        for due, ended in self._naps:
            if due <= self.clock.monotonic() + 1e-6:
                ended.set()

    def snapshots(self, name: str = "sprint") -> list[Path]:
        assert self.root is not None
        return sorted((self.root / name).glob("*.snapshot"))


async def until(condition: Callable[[], bool]) -> None:
    """Let tasks and threads go on until it is so; the suite's time limit ends what never comes."""
    while not condition():  # noqa: ASYNC110 - what is waited for is done by a thread, which tells nobody
        await asyncio.sleep(0)


async def health(tasks: TaskList) -> Any:
    observed = await tasks.observe()
    assert observed is not None
    return observed.health
