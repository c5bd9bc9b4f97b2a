"""What following a stream promises: everything after a cursor, once and in order, however it comes about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Final, cast

import pytest

from perdure.core.streams import Streams
from perdure.domain.stream import StreamEvent
from perdure.errors import CursorInvalid, Invalid
from perdure.testing.contracts.routed_opening import OpenPlane, Town
from perdure.testing.contracts.stores import OpenAnother
from perdure.testing.contracts.streams_appending import StreamsOpening, event

HOUR_S: Final = 3_600.0  # a poll that no test waits for
SOON_S: Final = 0.005


def following(
    streams: Streams, *, after: str | None = None, poll_s: float = HOUR_S
) -> aclosing[AsyncGenerator[StreamEvent, None]]:
    """Follow the stream ``s`` for as long as the block lasts."""
    return aclosing(cast("AsyncGenerator[StreamEvent, None]", streams.follow("s", after=after, poll_s=poll_s)))


async def take(events: AsyncIterator[StreamEvent], count: int) -> list[object]:
    """What the next events say."""
    return [(await anext(events)).data["n"] for _ in range(count)]


async def take_one(events: AsyncIterator[StreamEvent]) -> StreamEvent:
    """The next event."""
    return await anext(events)


class StreamFollowingContract(StreamsOpening):
    """Followers."""

    async def test_a_follower_gets_what_is_there_and_then_what_comes_at_once(self, streams: Streams) -> None:
        await streams.append("s", event(n=1), event(n=2))
        async with following(streams) as events:
            assert await take(events, 2) == [1, 2]
            waiting = asyncio.ensure_future(take(events, 2))
            await streams.append("s", event(n=3))
            await streams.append("s", event(n=4))
            assert await waiting == [3, 4]

    async def test_a_follower_goes_on_after_a_cursor(self, streams: Streams) -> None:
        await streams.append("s", event(n=1), event(n=2), event(n=3))
        cursor = (await streams.read("s", limit=1)).next_cursor
        async with following(streams, after=cursor) as events:
            assert await take(events, 2) == [2, 3]

    async def test_a_follower_of_a_stream_that_is_not_there_yet_waits_for_it(self, streams: Streams) -> None:
        async with following(streams) as events:
            waiting = asyncio.ensure_future(take(events, 1))
            await asyncio.sleep(0)
            await streams.append("s", event(n=1))
            assert await waiting == [1]

    async def test_a_follower_sees_what_another_process_appends_by_looking(
        self, town: Town, streams: Streams, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        other = await self.neighbour(town, open_another, open_plane)
        async with following(streams, poll_s=SOON_S) as events:
            for n in range(1, 4):
                await other.streams.append("s", event(n=n))
                assert await take(events, 1) == [n]

    async def test_events_that_are_not_kept_reach_followers_of_this_process_without_a_number(
        self, streams: Streams
    ) -> None:
        async with following(streams) as events:
            await streams.append("s", event(n=6))
            assert await take(events, 1) == [6]
            waiting = asyncio.ensure_future(take_one(events))
            await streams.append("s", replace(event(n=7), meta={"persist": "never"}))
            passed = await waiting
            assert (passed.data, passed.sequence, passed.persist) == ({"n": 7}, None, "never")
            await streams.append("s", event(n=8))
            kept = await anext(events)
            assert (kept.data, kept.sequence) == ({"n": 8}, 2)

    async def test_more_than_a_page_is_followed_without_waiting(self, streams: Streams) -> None:
        for first in range(0, 528, 48):
            await streams.append("s", *(event(n=n) for n in range(first, first + 48)))
        async with following(streams) as events:
            assert await take(events, 528) == list(range(528))

    async def test_followers_of_one_stream_each_get_everything(self, streams: Streams) -> None:
        async def follow() -> list[object]:
            async with following(streams) as events:
                return await take(events, 6)

        followers = [asyncio.ensure_future(follow()) for _ in range(3)]
        for n in range(6):
            await streams.append("s", event(n=n))
        assert await asyncio.gather(*followers) == [list(range(6))] * 3
        assert streams._fanout._followers == {}  # noqa: SLF001 - nothing is left of those that went away

    async def test_a_follower_of_what_was_deleted_or_trimmed_is_told(self, streams: Streams) -> None:
        await streams.append("s", event(n=1), event(n=2), event(n=3))
        cursor = (await streams.read("s", limit=1)).next_cursor
        await streams.trim("s", before_sequence=3)
        with pytest.raises(CursorInvalid):
            await anext(streams.follow("s", after=cursor))
        async with following(streams) as events:
            assert await take(events, 1) == [3]
            await streams.delete("s")
            await streams.append("s", event(n=4))
            with pytest.raises(CursorInvalid):
                await anext(events)

    async def test_a_poll_takes_time(self, streams: Streams) -> None:
        for bad in (0, -1, float("nan")):
            with pytest.raises(Invalid):
                await anext(streams.follow("s", poll_s=bad))
