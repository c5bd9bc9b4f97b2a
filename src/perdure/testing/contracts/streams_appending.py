"""What appending to a stream promises."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from perdure.core.streams import Streams
from perdure.domain.kinds import Kind
from perdure.domain.log import APPEND_ENTRIES_MAX, ENTRY_BYTES_MAX
from perdure.domain.stream import SAMPLE_EVERY_DEFAULT, StreamEvent
from perdure.errors import Forbidden, Invalid, KeyReused, LimitExceeded, OutcomeUnknown, StaleVersion
from perdure.testing.contracts.routed_opening import OpenPlane, RoutedOpening, Town
from perdure.testing.contracts.stores import OpenAnother
from perdure.testing.watched import failing

APPENDERS: Final = 25
EACH: Final = 20


def event(event_type: str = "note", **data: object) -> StreamEvent:
    """An event with some data."""
    return StreamEvent(type=event_type, data=dict(data))  # type: ignore[arg-type]  # what tests give is JSON


async def read_all(streams: Streams, stream: str, *, limit: int = 500) -> list[StreamEvent]:
    """Every event of a stream, page after page."""
    found: list[StreamEvent] = []
    after: str | None = None
    while True:
        page = await streams.read(stream, after=after, limit=limit)
        found += page.events
        after = page.next_cursor
        if not page.has_more:
            return found


class StreamsOpening(RoutedOpening):
    """A tenant whose streams are on the backend."""

    kinds = (Kind.STREAMS,)

    @pytest.fixture
    def streams(self, town: Town) -> Streams:
        """The tenant's streams."""
        return town.acme.streams


class StreamAppendingContract(StreamsOpening):
    """Numbers, duplicates, races, and what an event carries."""

    async def _crowd(self, town: Town, others: Streams, appenders: int, each: int) -> None:
        async def appender(number: int) -> None:
            streams = (town.acme.streams, others)[number % 2]
            for count in range(each):
                await streams.append("crowd", event(by=number, count=count))

        await asyncio.gather(*(appender(number) for number in range(appenders)))
        await self.catch_up(town, lambda: self._has(town, appenders * each))
        events = await read_all(town.acme.streams, "crowd")
        assert [found.sequence for found in events] == list(range(1, appenders * each + 1))
        for number in range(appenders):
            assert [found.data["count"] for found in events if found.data["by"] == number] == list(range(each))

    async def _has(self, town: Town, count: int) -> bool:
        return (await town.acme.streams.head("crowd")).sequence >= count

    async def test_r27_parallel_appenders_lose_nothing(
        self, town: Town, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        others = await self.neighbour(town, open_another, open_plane)
        await self._crowd(town, others.streams, APPENDERS, EACH // 4)

    @pytest.mark.soak
    async def test_r27_100_parallel_appenders_lose_nothing(
        self, town: Town, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        others = await self.neighbour(town, open_another, open_plane)
        await self._crowd(town, others.streams, 100, 100)

    async def test_r28_a_retry_after_a_lost_answer_is_one_event(self, town: Town, streams: Streams) -> None:
        lost = OutcomeUnknown("the answer was lost")
        town.backend.after = failing(lost, among="logs.append", times=1)
        said = replace(event(n=1), event_id="e-1")
        with pytest.raises(OutcomeUnknown):
            await streams.append("s", said)
        (again,) = await streams.append("s", said)
        assert (again.sequence, again.duplicate) == (1, True)
        assert [found.event_id for found in await read_all(streams, "s")] == ["e-1"]

    async def test_a_retry_by_another_moment_and_request_is_the_same_event(self, town: Town) -> None:
        said = replace(event(n=1), event_id="e-1")
        first = town.plane.tenant(town.tenant, request_id="r-1").streams
        (one,) = await first.append("s", said)
        await self.pass_time(5)
        (again,) = await town.plane.tenant(town.tenant, request_id="r-2").streams.append("s", said)
        assert (one.sequence, one.duplicate, again.sequence, again.duplicate) == (1, False, 1, True)
        assert one.cursor == again.cursor

    async def test_an_id_with_other_content_is_refused_and_nothing_is_written(self, streams: Streams) -> None:
        await streams.append("s", replace(event(n=1), event_id="e-1"))
        with pytest.raises(KeyReused):
            await streams.append("s", event(n=2), replace(event(n=3), event_id="e-1"))
        assert [found.data for found in await read_all(streams, "s")] == [{"n": 1}]

    async def test_an_event_twice_in_one_append_is_kept_once(self, streams: Streams) -> None:
        said = replace(event(n=1), event_id="e-1")
        results = await streams.append("s", said, event(n=2), said)
        assert [found.sequence for found in results] == [1, 2, 1]
        assert [found.duplicate for found in results] == [False, False, True]

    async def test_r29_times_that_stand_still_or_go_back_do_not_matter(self, streams: Streams) -> None:
        now = datetime(2026, 5, 1, tzinfo=UTC)
        times = [now, now, now - timedelta(days=400), now + timedelta(days=400), now]
        for number, ts in enumerate(times):
            await streams.append("s", replace(event(n=number), ts=ts))
        page = await streams.read("s", limit=2)
        rest = await streams.read("s", after=page.next_cursor)
        assert [found.data["n"] for found in (*page.events, *rest.events)] == [0, 1, 2, 3, 4]
        assert [found.ts for found in (*page.events, *rest.events)] == times

    async def test_r31_an_event_that_is_never_kept_moves_no_cursor(self, town: Town, streams: Streams) -> None:
        await streams.append("s", event(n=1))
        before = await streams.head("s")
        mark = len(town.backend.calls)
        (passed,) = await streams.append("s", replace(event(n=2), meta={"persist": "never"}))
        assert (passed.sequence, passed.cursor, passed.duplicate) == (None, None, False)
        assert town.calls_since(mark) == []
        assert await streams.head("s") == before
        assert [found.data["n"] for found in await read_all(streams, "s")] == [1]

    async def test_of_sampled_events_one_in_ten_of_each_type_is_kept(self, streams: Streams) -> None:
        def sampled(event_type: str, number: int) -> StreamEvent:
            return replace(event(event_type, n=number), meta={"persist": "sampled"})

        for number in range(2 * SAMPLE_EVERY_DEFAULT):
            await streams.append("s", sampled("frame", number))
        await streams.append("s", sampled("other", 0), sampled("other", 1))
        kept = [(found.type, found.data["n"]) for found in await read_all(streams, "s")]
        assert kept == [("frame", 0), ("frame", SAMPLE_EVERY_DEFAULT), ("other", 0)]

    async def test_r33_an_oversize_event_is_refused_before_the_backend_is_asked(
        self, town: Town, streams: Streams
    ) -> None:
        mark = len(town.backend.calls)
        with pytest.raises(LimitExceeded) as caught:
            await streams.append("s", event(text="x" * ENTRY_BYTES_MAX))
        assert caught.value.detail["limit"] == "entry_bytes_max"
        assert caught.value.detail["allowed"] == ENTRY_BYTES_MAX
        with pytest.raises(LimitExceeded):
            await streams.append("s", *(event(n=number) for number in range(APPEND_ENTRIES_MAX + 1)))
        with pytest.raises(Invalid):
            await streams.append("s")
        assert town.calls_since(mark) == []

    async def test_the_largest_event_is_kept(self, streams: Streams) -> None:
        text = "x" * (ENTRY_BYTES_MAX - 1_000)
        await streams.append("s", event(text=text))
        (found,) = await read_all(streams, "s")
        assert found.data == {"text": text}

    async def test_r34_48_events_are_one_append_and_one_bad_one_writes_none(self, streams: Streams) -> None:
        results = await streams.append("s", *(event(n=number) for number in range(APPEND_ENTRIES_MAX)))
        assert [found.sequence for found in results] == list(range(1, APPEND_ENTRIES_MAX + 1))
        events: list[StreamEvent] = [event(n=number) for number in range(5)]
        with pytest.raises(Invalid):
            await streams.append("s", *events, replace(events[0], data={"bad": float("nan")}))
        with pytest.raises(StaleVersion) as caught:
            await streams.append("s", *events, expected_sequence=47)
        assert caught.value.detail["found"] == APPEND_ENTRIES_MAX
        assert (await streams.head("s")).sequence == APPEND_ENTRIES_MAX

    async def test_an_expected_sequence_lets_one_of_two_writers_win(self, streams: Streams) -> None:
        async def claim(by: str) -> str | None:
            try:
                await streams.append("s", event(by=by), expected_sequence=0)
            except StaleVersion:
                return None
            return by

        winners = [by for by in await asyncio.gather(claim("a"), claim("b"), claim("c")) if by]
        assert len(winners) == 1
        assert [found.data["by"] for found in await read_all(streams, "s")] == winners

    async def test_the_scope_fills_in_what_the_producer_left_out(self, town: Town) -> None:
        acme = town.plane.tenant(
            town.tenant,
            actor="user:ann",
            project="p1",
            surface="squared",
            app="chat",
            session="s-1",
            request_id="r-1",
            trace_id="t-1",
        )
        await acme.streams.append("s", event(n=1))
        (found,) = await read_all(acme.streams, "s")
        assert found.routing == {
            "tenant_id": town.tenant,
            "mode": "lab",
            "env": "dev",
            "project_id": "p1",
            "surface_id": "squared",
            "app_id": "chat",
            "session_id": "s-1",
            "actor_id": "user:ann",
            "actor_type": "human",
        }
        assert found.ids == {"request_id": "r-1"}
        assert (found.trace_id, found.v, found.ts, found.persist) == ("t-1", 1, town.clock.now(), "always")
        assert found.meta["storage_class"] == "stream"

    async def test_unknown_fields_survive_at_the_top_and_inside(self, streams: Streams) -> None:
        said = StreamEvent(
            type="note",
            data={"deep": {"er": [1, 2.5, None, {"x": "y"}]}},
            ids={"run_id": "r", "custom_id": "c"},
            routing={"thread_id": "t", "lane": 7},
            meta={"priority": "gesture", "hint": {"a": 1}},
            extra={"vendor": {"x": 1}, "Ω": [True]},
            span_id="span",
            v=3,
        )
        await streams.append("s", said)
        (found,) = await read_all(streams, "s")
        assert (found.extra, found.data, found.v, found.span_id) == (said.extra, said.data, 3, "span")
        assert found.ids.items() >= said.ids.items()
        assert found.routing.items() >= said.routing.items()
        assert found.meta.items() >= said.meta.items()

    async def test_r04_an_event_that_says_another_identity_is_refused_naming_every_field(
        self, town: Town, streams: Streams
    ) -> None:
        mark = len(town.backend.calls)
        wrong = replace(event(), routing={"tenant_id": "t_other", "mode": "saas", "project_id": "p2", "thread_id": "t"})
        with pytest.raises(Forbidden) as caught:
            await streams.append("s", wrong)
        assert caught.value.code == "identity_override"
        assert caught.value.detail["fields"] == ["tenant_id", "mode", "project_id"]
        assert town.calls_since(mark) == []

    async def test_the_strict_contract_names_everything_that_is_missing(self, town: Town, streams: Streams) -> None:
        with pytest.raises(Invalid, match=r"ids\.request_id, ids\.run_id, ids\.step_id, trace_id"):
            await streams.append("s", event(), strict=True)
        assert (await streams.head("s")).sequence == 0
        traced = town.plane.tenant(town.tenant, request_id="r-1", trace_id="t-1").streams
        await traced.append("s", replace(event(), ids={"run_id": "r", "step_id": "1"}), strict=True)
        assert (await streams.head("s")).sequence == 1
