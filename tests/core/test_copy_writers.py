"""Copies under way while others write: nothing acknowledged is lost, nothing is there twice, and cursors go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest

from perdure.domain.memory import Message
from perdure.domain.stream import StreamEvent
from perdure.errors import StaleVersion, TimedOut, Unavailable
from perdure.testing.routed import RoutedPlane, RoutedTenant
from tests.support.route_worlds import WHY, Life, RouteWorld, Ticking, hesitant

ACME: Final = "t_acme"
KINDS: Final = ("streams", "tables", "memory")


@dataclass
class Acknowledged:
    """What writers were told."""

    events: dict[str, tuple[int, str | None]] = field(default_factory=dict)  # id to number and cursor
    messages: dict[str, int] = field(default_factory=dict)
    increments: int = 0
    waited: Counter[str] = field(default_factory=Counter)
    is_over: bool = False  # writers end what they are at
    is_complete: bool = False  # and now they have

    async def go_on(self, work: Callable[[int], Awaitable[None]]) -> None:
        """Do something again and again until it is over; a write may be told to wait, and nothing else."""
        number = 0
        while not self.is_over:
            number += 1
            try:
                await work(number)
            except TimedOut:
                self.waited["timed_out"] += 1  # it waited until hardly any time was left, and nothing was done
            except Unavailable as exc:
                if not exc.code.endswith(".settling"):
                    raise
                self.waited[exc.code] += 1


def writers(acme: RoutedTenant, name: str, told: Acknowledged) -> list[Callable[[int], Awaitable[None]]]:
    """Everything that one process does to a tenant's data."""

    async def append(number: int) -> None:
        event = StreamEvent(type="X", event_id=f"{name}-{number}")
        (appended,) = await acme.streams.append("log", event)
        assert appended.sequence is not None
        told.events[f"{name}-{number}"] = (appended.sequence, appended.cursor)

    async def increment(number: int) -> None:
        del number
        row = await acme.tables.get("counters", "n")
        try:
            await acme.tables.put("counters", "n", int(str(row.value)) + 1, if_version=row.version)
        except StaleVersion:
            return
        told.increments += 1

    async def say(number: int) -> None:
        message = Message(role="user", content="x", message_id=f"{name}-{number}")
        (remembered,) = await acme.memory.append("chat", message, user="ann")
        told.messages[f"{name}-{number}"] = remembered.sequence

    async def disturb(number: int) -> None:
        await acme.streams.append("trimmed", StreamEvent(type="X"), StreamEvent(type="X"))
        await acme.streams.trim("trimmed", before_sequence=number)
        await acme.tables.put("counters", f"brief-{name}-{number % 7}", number, ttl_s=0.5)
        await acme.tables.put("dropped", f"{name}-{number % 5}", number)
        await acme.tables.delete("dropped", f"{name}-{(number + 2) % 5}")
        await acme.memory.append(f"brief-{name}", Message(role="user", content="x"), user="ann", ttl_s=1)
        if number % 5 == 0:
            await acme.streams.delete("trimmed")
            await acme.memory.delete_session(f"brief-{name}", user="ann")

    return [append, increment, say, disturb]


@asynccontextmanager
async def town(
    world: RouteWorld, *, seed: int, planes: int, sleep: Callable[[float], Awaitable[None]]
) -> AsyncIterator[list[RoutedPlane]]:
    """Some processes, each as hesitant as its seed; the first has routed everything to a."""
    async with AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(
                world.process(Life(hook=hesitant(seed * 10 + number)), sleep=sleep, start=False)
            )
            for number in range(planes)
        ]
        await running[0].stores.routing.start()
        acme = running[0].tenant(ACME)
        for kind in KINDS:
            await acme.routes.set(kind, "a")
        await acme.tables.put("counters", "n", 0)
        for plane in running[1:]:
            await plane.stores.routing.start()
        yield running


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 8))])
async def test_writers_go_on_while_everything_is_copied_there_and_back(seed: int, planes: int) -> None:
    world, told = RouteWorld(), Acknowledged()
    time = Ticking(world.clock)
    async with town(world, seed=seed, planes=planes, sleep=time.sleep) as running:
        ticker = asyncio.create_task(time.run())
        work = [
            asyncio.create_task(told.go_on(one))
            for number, plane in enumerate(running)
            for one in writers(plane.tenant(ACME), f"p{number}", told)
        ]
        acme = running[0].tenant(ACME)
        read: list[str] = []
        follower = asyncio.create_task(follow(acme, read, told))
        try:
            for kind in KINDS:
                await acme.routes.copy(kind, "b", rationale=WHY)
            during = dict(told.events)
            for kind in KINDS:
                await acme.routes.copy_back(kind, rationale=WHY)
        finally:
            told.is_over = True
            await asyncio.gather(*work)
            told.is_complete = True
            await asyncio.wait_for(follower, 60)
            ticker.cancel()
        assert len(told.events) > len(during) > 0
        for plane in running:
            await plane.stores.routing.refresh()
            await check(plane.tenant(ACME), told)
        assert read == [event.event_id for event in await everything(acme)]
        if planes == 2:
            assert running[1].stores.routing.version == running[0].stores.routing.version


async def follow(acme: RoutedTenant, read: list[str], told: Acknowledged) -> None:
    """Read from the beginning, a few at a time, until it is over and everything was read."""
    cursor: str | None = None
    while True:
        was_complete = told.is_complete
        page = await acme.streams.read("log", after=cursor, limit=3)
        read += [event.event_id for event in page.events if event.event_id is not None]
        cursor = page.next_cursor
        if was_complete and not page.events:
            return
        await asyncio.sleep(0)


async def everything(acme: RoutedTenant) -> list[StreamEvent]:
    """Every event of the log."""
    events: list[StreamEvent] = []
    cursor: str | None = None
    while True:
        page = await acme.streams.read("log", after=cursor, limit=500)
        events += page.events
        if not page.has_more:
            return events
        cursor = page.next_cursor


async def check(acme: RoutedTenant, told: Acknowledged) -> None:
    """What was acknowledged is there, once, where it was said to be; and nothing else."""
    events = await everything(acme)
    assert {event.event_id: event.sequence for event in events} == {
        event_id: sequence for event_id, (sequence, _) in told.events.items()
    }
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    for sequence, cursor in list(told.events.values())[::17]:
        page = await acme.streams.read("log", after=cursor, limit=1)
        assert [event.sequence for event in page.events] == ([sequence + 1] if sequence < len(events) else [])
    row = await acme.tables.get("counters", "n")
    assert (row.value, row.version) == (told.increments, told.increments + 1)
    messages = (await acme.memory.window("chat", user="ann", last=500)).messages
    wanted = sorted(told.messages.items(), key=lambda item: item[1])[-500:]
    assert [(message.message_id, message.sequence) for message in messages] == wanted
