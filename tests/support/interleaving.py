"""Several clients, one operation at a time, in every order there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from perdure.ports.capabilities import Capabilities
from perdure.ports.documents import Document, DocumentDriver, Page, Write


class SteppedDriver:
    """A driver that waits before each operation until it is told to go on."""

    def __init__(self, driver: DocumentDriver) -> None:
        self._driver = driver
        self.waiting: asyncio.Future[None] | None = None

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
        """Wait, and get."""
        await self._turn()
        return await self._driver.get(partition, sorts, timeout_s=timeout_s)

    async def scan(
        self, partition: str, *, start: str, end: str, limit: int, reverse: bool = False, timeout_s: float
    ) -> Page:
        """Wait, and scan."""
        await self._turn()
        return await self._driver.scan(
            partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=timeout_s
        )

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """Wait, and commit."""
        await self._turn()
        return await self._driver.commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)

    async def _turn(self) -> None:
        self.waiting = asyncio.get_running_loop().create_future()
        await self.waiting
        self.waiting = None


class YieldingDriver(SteppedDriver):
    """A driver that lets everybody else go on before each operation, as one does that waits for an engine."""

    async def _turn(self) -> None:
        await asyncio.sleep(0)


@dataclass
class Order:
    """Which client goes on at each point where several could: given for the first ones, the first of them then."""

    chosen: list[int]
    choices: list[int] = field(default_factory=list)

    def next(self, count: int) -> int:
        """One of so many."""
        at = len(self.choices)
        if at == len(self.chosen):
            self.chosen.append(0)
        self.choices.append(count)
        return self.chosen[at]

    def following(self) -> Order | None:
        """The order after this one, None after the last."""
        chosen = list(self.chosen)
        while chosen and chosen[-1] + 1 >= self.choices[len(chosen) - 1]:
            chosen.pop()
        return Order([*chosen[:-1], chosen[-1] + 1]) if chosen else None


def every_order() -> Iterator[Order]:
    """Orders to run with, one after another, until all were run. Each must be used before the next is asked for."""
    order: Order | None = Order([])
    while order is not None:
        yield order
        order = order.following()


async def interleave(
    order: Order, clients: Sequence[tuple[SteppedDriver, Callable[[], Awaitable[object]]]]
) -> Sequence[object]:
    """Run the clients in this order, and return what each returned."""

    async def run(action: Callable[[], Awaitable[object]]) -> object:
        return await action()

    tasks = [asyncio.create_task(run(action)) for _, action in clients]
    while not all(task.done() for task in tasks):
        ready = [
            driver
            for (driver, _), task in zip(clients, tasks, strict=True)
            if not task.done() and driver.waiting is not None and not driver.waiting.done()
        ]
        unsettled = sum(not task.done() for task in tasks) - len(ready)
        if unsettled:
            await asyncio.sleep(0)
            continue
        waiting = ready[order.next(len(ready))].waiting
        assert waiting is not None
        waiting.set_result(None)
        await asyncio.sleep(0)
    return [task.result() for task in tasks]
