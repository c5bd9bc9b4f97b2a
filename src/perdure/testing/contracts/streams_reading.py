"""What reading a stream promises: from every position, exactly the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from perdure.core.streams import Streams
from perdure.domain.stream import StreamEvent
from perdure.errors import BackendDown, CursorInvalid, Forbidden, Invalid, LimitExceeded, NotFound
from perdure.testing.contracts.routed_opening import Town
from perdure.testing.contracts.stores import new_tenant
from perdure.testing.contracts.streams_appending import StreamsOpening, event, read_all
from perdure.testing.watched import failing

POSITIONS: Final = 60
BATCH: Final = 48
STREAM_NAMES: Final = (
    "a/b",
    "a_b",
    "a#b",
    "a\\b?c",
    "..",
    ".",
    "__x__",
    "Ärger ☃ 🚀",
    " blank edges ",
    "x" * 300,
    "s" * 500 + "/tail",
    "s" * 500 + "_tail",
    "%2F",
    "a",
    "A",
)


async def fill(streams: Streams, stream: str, count: int) -> None:
    """Append events numbered from 1."""
    for first in range(1, count + 1, BATCH):
        await streams.append(stream, *(event(n=n) for n in range(first, min(first + BATCH, count + 1))))


def numbers(events: Sequence[StreamEvent]) -> list[object]:
    """What ``fill`` wrote."""
    return [found.data["n"] for found in events]


class StreamReadingContract(StreamsOpening):
    """Pages, cursors, trimming, names and errors."""

    async def _resume_everywhere(self, streams: Streams, count: int, *, limit: int) -> None:
        cursors = [(await streams.head("s")).cursor]
        await fill(streams, "s", count)
        for number in range(1, count + 1):
            page = await streams.read("s", after=cursors[-1], limit=1)
            assert numbers(page.events) == [number]
            assert page.has_more == (number < count)
            cursors.append(page.next_cursor)
        for position, cursor in enumerate(cursors):
            page = await streams.read("s", after=cursor, limit=limit)
            assert numbers(page.events) == list(range(position + 1, min(position + limit, count) + 1))
            assert page.head_sequence == count

    async def test_r25_resume_at_every_position_gives_exactly_the_rest(self, streams: Streams) -> None:
        await self._resume_everywhere(streams, POSITIONS, limit=500)

    @pytest.mark.soak
    async def test_r25_10_000_events_resume_at_every_position(self, streams: Streams) -> None:
        await self._resume_everywhere(streams, 10_000, limit=100)

    async def test_r26_a_page_is_one_call_wherever_it_begins(self, town: Town, streams: Streams) -> None:
        await fill(streams, "s", POSITIONS)
        after: str | None = None
        while True:
            mark = len(town.backend.calls)
            page = await streams.read("s", after=after, limit=30)
            assert town.calls_since(mark) == ["logs.read"]
            if not page.has_more:
                break
            after = page.next_cursor

    async def test_events_are_read_backwards_too(self, streams: Streams) -> None:
        await fill(streams, "s", 7)
        newest = await streams.read("s", limit=3, reverse=True)
        assert (numbers(newest.events), newest.has_more) == ([7, 6, 5], True)
        older = await streams.read("s", after=newest.next_cursor, limit=3, reverse=True)
        assert (numbers(older.events), older.has_more) == ([4, 3, 2], True)
        last = await streams.read("s", after=older.next_cursor, limit=3, reverse=True)
        assert (numbers(last.events), last.has_more) == ([1], False)

    async def test_r30_a_cursor_at_the_head_reads_nothing_and_then_what_comes(self, streams: Streams) -> None:
        await fill(streams, "s", 3)
        head = await streams.head("s")
        page = await streams.read("s", after=head.cursor)
        assert (page.events, page.has_more, page.head_sequence) == ((), False, 3)
        await streams.append("s", event(n=4))
        for cursor in (head.cursor, page.next_cursor):
            assert numbers((await streams.read("s", after=cursor)).events) == [4]

    async def test_r30_malformed_foreign_and_unknown_cursors_are_unknown(self, town: Town, streams: Streams) -> None:
        await fill(streams, "s", 3)
        await streams.append("other", event(n=1))
        stranger = new_tenant()
        await self.settle_in(town, stranger)
        theirs = town.plane.tenant(stranger).streams
        await fill(theirs, "s", 3)
        elsewhere = town.plane.tenant(town.tenant, project="p2").streams
        await fill(elsewhere, "s", 3)
        cursor = (await streams.read("s", limit=1)).next_cursor
        wrong = [
            "nonsense",
            cursor[:-1],
            cursor + "A",
            "x" * 400,
            (await streams.head("other")).cursor,
            (await theirs.head("s")).cursor,
            (await elsewhere.head("s")).cursor,
            (await theirs.read("s", limit=1)).events[0].event_id or "",
        ]
        for bad in wrong:
            with pytest.raises(CursorInvalid) as caught:
                await streams.read("s", after=bad)
            assert caught.value.code == "streams.cursor_invalid"
            assert caught.value.detail == {"reason": "unknown"}

    async def test_r30_a_cursor_longer_than_any_is_refused_as_a_cursor(self, streams: Streams) -> None:
        await fill(streams, "s", 1)
        for bad in ("", "x" * 5_000, "\ud800", "a\0b"):
            with pytest.raises(CursorInvalid):
                await streams.read("s", after=bad)

    async def test_the_bare_id_of_an_event_is_a_cursor(self, streams: Streams) -> None:
        events = [replace(event(n=n), event_id=f"id-{n}") for n in range(1, 5)]
        await streams.append("s", *events)
        assert numbers((await streams.read("s", after="id-2")).events) == [3, 4]
        assert numbers((await streams.read("s", after="id-2", reverse=True)).events) == [1]

    async def test_r30_a_cursor_into_what_was_trimmed_is_expired_and_says_where_to_go_on(
        self, streams: Streams
    ) -> None:
        begin = (await streams.head("s")).cursor
        await fill(streams, "s", 10)
        early = [(await streams.read("s", limit=n)).next_cursor for n in (1, 3)]
        late = (await streams.read("s", limit=5)).next_cursor
        assert await streams.trim("s", before_sequence=6) == 5
        for cursor in (*early, begin):
            with pytest.raises(CursorInvalid) as caught:
                await streams.read("s", after=cursor)
            assert caught.value.code == "streams.cursor_invalid"
            assert caught.value.detail["reason"] == "expired"
            again = await streams.read("s", after=str(caught.value.detail["earliest_cursor"]))
            assert numbers(again.events) == [6, 7, 8, 9, 10]
        assert numbers((await streams.read("s", after=late)).events) == [6, 7, 8, 9, 10]
        assert numbers((await streams.read("s")).events) == [6, 7, 8, 9, 10]
        head = await streams.head("s")
        assert (head.sequence, head.earliest) == (10, 6)

    async def test_a_stream_trimmed_to_nothing_goes_on_counting(self, streams: Streams) -> None:
        await fill(streams, "s", 3)
        assert await streams.trim("s", before_sequence=100) == 3
        assert await streams.trim("s", before_sequence=100) == 0
        empty = await streams.read("s")
        assert (empty.events, empty.head_sequence) == ((), 3)
        (added,) = await streams.append("s", event(n=4))
        assert added.sequence == 4
        assert numbers((await streams.read("s", after=empty.next_cursor)).events) == [4]

    async def test_a_stream_is_trimmed_by_age(self, town: Town, streams: Streams) -> None:
        await fill(streams, "s", 3)
        await self.pass_time(100)
        middle = town.clock.now()
        await self.pass_time(100)
        await streams.append("s", event(n=4))
        assert await streams.trim("s", before=middle) == 3
        assert numbers((await streams.read("s")).events) == [4]
        with pytest.raises(Invalid):
            await streams.trim("s")
        with pytest.raises(Invalid):
            await streams.trim("s", before=middle.replace(tzinfo=None))
        assert await streams.trim("never-used", before_sequence=5) == 0

    async def test_deleting_a_stream_begins_another_life_of_it(self, streams: Streams) -> None:
        await fill(streams, "s", 3)
        old = await streams.head("s")
        middle = (await streams.read("s", limit=1)).next_cursor
        assert await streams.delete("s")
        assert numbers((await streams.read("s")).events) == []
        await streams.append("s", event(n=100))
        new = await streams.head("s")
        assert (new.sequence, new.earliest) == (1, 1)
        assert new.epoch > old.epoch
        for cursor in (old.cursor, middle):
            with pytest.raises(CursorInvalid) as caught:
                await streams.read("s", after=cursor)
            assert caught.value.detail == {"reason": "unknown"}
        assert numbers((await streams.read("s")).events) == [100]
        assert not await streams.delete("never-used")

    async def test_a_stream_nobody_appended_to_is_empty(self, streams: Streams) -> None:
        head = await streams.head("s")
        assert (head.sequence, head.earliest) == (0, 1)
        page = await streams.read("s")
        assert (page.events, page.head_sequence, page.has_more) == ((), 0, False)
        await fill(streams, "s", 2)
        for cursor in (head.cursor, page.next_cursor):
            assert numbers((await streams.read("s", after=cursor)).events) == [1, 2]

    async def test_an_event_is_found_by_its_id(self, streams: Streams) -> None:
        await streams.append("s", *(replace(event(n=n), event_id=f"id-{n}") for n in range(1, 4)))
        assert (await streams.get("s", "id-2")).sequence == 2
        for stream, event_id in (("s", "id-9"), ("other", "id-2")):
            with pytest.raises(NotFound):
                await streams.get(stream, event_id)

    async def test_r32_more_than_a_megabyte_pages_correctly(self, streams: Streams) -> None:
        text = "y" * 180_000
        for n in range(1, 31):
            await streams.append("s", event(n=n, text=text))
        pages = 0
        found: list[object] = []
        after: str | None = None
        while True:
            page = await streams.read("s", after=after)
            pages += 1
            found += numbers(page.events)
            after = page.next_cursor
            if not page.has_more:
                break
        assert found == list(range(1, 31))
        assert pages > 1

    async def test_r35_any_characters_make_a_stream_of_its_own(self, streams: Streams) -> None:
        for number, name in enumerate(STREAM_NAMES):
            await streams.append(name, replace(event(n=number), event_id="same id/#?"))
        for number, name in enumerate(STREAM_NAMES):
            assert numbers(await read_all(streams, name)) == [number]
        listed: list[str] = []
        cursor: str | None = None
        while True:
            names = await streams.list(cursor=cursor, limit=4)
            listed += names.items
            cursor = names.next_cursor
            if cursor is None:
                break
        assert sorted(listed) == sorted(STREAM_NAMES)

    async def test_r24_what_is_no_name_is_refused(self, streams: Streams) -> None:
        for bad in ("", "two\nlines", "nul\0", "\ud800", "x" * 513):
            with pytest.raises((Invalid, LimitExceeded)):
                await streams.append(bad, event())

    async def test_r36_the_same_name_in_another_space_is_another_stream(self, town: Town) -> None:
        stranger = new_tenant()
        await self.settle_in(town, stranger)
        spaces = [
            town.acme,
            town.plane.tenant(stranger),
            town.plane.tenant(town.tenant, project="p2"),
            town.plane.tenant(town.tenant, surface="s"),
            town.plane.tenant(town.tenant, app="s"),
            town.plane.tenant(town.tenant, surface="a", app="b"),
        ]
        for number, space in enumerate(spaces):
            await space.streams.append("same", replace(event(n=number), event_id="same"))
        for number, space in enumerate(spaces):
            assert numbers(await read_all(space.streams, "same")) == [number]
            assert (await space.streams.list()).items == ("same",)

    async def test_r37_a_backend_that_is_down_is_an_error_and_never_nothing(self, town: Town, streams: Streams) -> None:
        await fill(streams, "s", 1)
        town.backend.before = failing(BackendDown("gone"), among="logs.")
        calls = (
            streams.read("s"),
            streams.head("s"),
            streams.get("s", "x"),
            streams.list(),
            streams.trim("s", before_sequence=1),
        )
        for call in calls:
            with pytest.raises(BackendDown) as caught:
                await call
            assert caught.value.code == "streams.backend_unavailable"
            assert caught.value.detail == {"kind": "streams", "backend": "main"}
        town.backend.before = None
        town.backend.before = failing(Forbidden("not with these credentials"), among="logs.")
        with pytest.raises(Forbidden):
            await streams.read("s")

    async def test_a_page_has_1_to_500_events(self, streams: Streams) -> None:
        with pytest.raises(Invalid):
            await streams.read("s", limit=0)
        with pytest.raises(LimitExceeded):
            await streams.read("s", limit=501)
        with pytest.raises(Invalid):
            await streams.list(limit=0)

    async def test_what_is_no_mark_of_a_list_is_refused(self, streams: Streams) -> None:
        await fill(streams, "s", 1)
        for bad in ("nonsense", "", "x" * 5_000, "\ud800"):
            with pytest.raises(Invalid):
                await streams.list(cursor=bad)
