"""Followers in this process: woken when something is appended, and handed what is never kept."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from perdure.domain.container import Container
from perdure.domain.stream import StreamEvent

PASSING_EVENTS_MAX: Final = 1_000  # unkept events that wait for one follower; a slow one loses the oldest


class Passing:
    """What passes one follower."""

    def __init__(self) -> None:
        self._events: deque[StreamEvent] = deque(maxlen=PASSING_EVENTS_MAX)
        self._woken = asyncio.Event()

    def give(self, events: Sequence[StreamEvent]) -> None:
        """Hand over events that are not kept, if any, and wake the follower."""
        self._events.extend(events)
        self._woken.set()

    async def wait(self, seconds: float) -> Sequence[StreamEvent]:
        """Wait until woken, at most that long; the events handed over since the last time."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return ()
        self._woken.clear()
        events = tuple(self._events)
        self._events.clear()
        return events


class Fanout:
    """The followers of every stream in this process."""

    def __init__(self) -> None:
        self._followers: dict[Container, set[Passing]] = {}

    def publish(self, container: Container, events: Sequence[StreamEvent]) -> None:
        """Wake the followers of a stream; ``events`` are those that are not kept."""
        for follower in self._followers.get(container, ()):
            follower.give(events)

    @contextmanager
    def subscribe(self, container: Container) -> Iterator[Passing]:
        """Be a follower of a stream for as long as the block lasts."""
        passing = Passing()
        followers = self._followers.setdefault(container, set())
        followers.add(passing)
        try:
            yield passing
        finally:
            followers.discard(passing)
            if not followers:
                self._followers.pop(container, None)
