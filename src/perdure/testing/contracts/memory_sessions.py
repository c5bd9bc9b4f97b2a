"""What sessions promise: every message kept once, in order, for as long as the session lives."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import pytest

from perdure.core.memory import ATTRIBUTES_BYTES_MAX, Memory
from perdure.domain.kinds import Kind
from perdure.domain.log import APPEND_ENTRIES_MAX, ENTRY_BYTES_MAX, ENTRY_ID_BYTES_MAX
from perdure.domain.memory import Message
from perdure.errors import (
    BackendDown,
    CursorInvalid,
    Invalid,
    KeyReused,
    LimitExceeded,
    NotFound,
    OutcomeUnknown,
    StaleVersion,
)
from perdure.testing.contracts.routed_opening import OpenPlane, RoutedOpening, Town
from perdure.testing.contracts.stores import OpenAnother, new_tenant
from perdure.testing.watched import failing

APPENDERS: Final = 50
MESSAGES: Final = 1_000
USER: Final = "ann"


def say(content: object, **values: object) -> Message:
    """A message with some content."""
    return Message(role="user", content=content, **values)  # type: ignore[arg-type]  # what tests give is JSON


class MemoryOpening(RoutedOpening):
    """A tenant whose memory is on the backend."""

    kinds = (Kind.MEMORY,)

    @pytest.fixture
    def memory(self, town: Town) -> Memory:
        """The tenant's memory."""
        return town.acme.memory


async def contents(memory: Memory, session: str, *, user: str = USER) -> list[object]:
    """What every message of a session says, page after page."""
    found: list[object] = []
    after: str | None = None
    while True:
        page = await memory.window(session, user=user, after=after, limit=500)
        found += [message.content for message in page.messages]
        after = page.next_cursor
        if not page.has_more:
            return found


class SessionsContract(MemoryOpening):
    """Messages, windows and lifetimes."""

    async def test_r54_50_parallel_appends_are_all_kept(
        self, town: Town, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        other = await self.neighbour(town, open_another, open_plane)
        both = (town.acme.memory, other.memory)
        await asyncio.gather(*(both[n % 2].append("s", say(n), user=USER) for n in range(APPENDERS)))

        async def has_all(memory: Memory) -> bool:
            return (await memory.get_session("s", user=USER)).sequence >= APPENDERS

        for memory in both:
            await self.catch_up(town, partial(has_all, memory))
        assert sorted(map(str, await contents(both[0], "s"))) == sorted(str(n) for n in range(APPENDERS))
        assert (await both[1].get_session("s", user=USER)).sequence == APPENDERS

    async def _long_session(self, memory: Memory, count: int) -> None:
        for first in range(0, count, APPEND_ENTRIES_MAX):
            end = min(first + APPEND_ENTRIES_MAX, count)
            await memory.append("s", *(say({"n": n, "text": "x" * 100}) for n in range(first, end)), user=USER)
        found = await contents(memory, "s")
        assert [each["n"] for each in found if isinstance(each, dict)] == list(range(count))
        newest = await memory.window("s", user=USER, last=3)
        assert [message.sequence for message in newest.messages] == [count - 2, count - 1, count]

    async def test_r55_many_messages_are_fine(self, memory: Memory) -> None:
        await self._long_session(memory, MESSAGES)

    @pytest.mark.soak
    async def test_r55_10_000_messages_are_fine(self, memory: Memory) -> None:
        await self._long_session(memory, 10_000)

    async def test_r56_a_read_that_fails_during_an_append_loses_nothing(self, town: Town, memory: Memory) -> None:
        await memory.append("s", say(1), say(2), user=USER)
        town.backend.before = failing(BackendDown("gone"), among="logs.")
        for attempt in (memory.append("s", say(3), user=USER), memory.window("s", user=USER)):
            with pytest.raises(BackendDown) as caught:
                await attempt
            assert caught.value.code == "memory.backend_unavailable"
        town.backend.before = None
        await memory.append("s", say(4), user=USER)
        assert await contents(memory, "s") == [1, 2, 4]

    async def test_r28_a_retry_after_a_lost_answer_is_one_message(self, town: Town, memory: Memory) -> None:
        town.backend.after = failing(OutcomeUnknown("lost"), among="logs.append", times=1)
        said = say("hello", message_id="m-1")
        with pytest.raises(OutcomeUnknown):
            await memory.append("s", said, user=USER)
        await self.pass_time(3)
        (again,) = await memory.append("s", said, user=USER)
        assert (again.message_id, again.sequence, again.duplicate) == ("m-1", 1, True)
        assert await contents(memory, "s") == ["hello"]
        with pytest.raises(KeyReused):
            await memory.append("s", say("other", message_id="m-1"), user=USER)

    async def test_a_message_comes_back_as_it_was_said(self, town: Town, memory: Memory) -> None:
        told = datetime(2020, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
        full = Message(
            role="tool",
            content={"parts": [1, 2.5, None, "\0", 2**70]},
            metadata={"model": "m", "Ω": [1]},
            timestamp=told,
            message_id="id/#? 🚀",
        )
        await memory.append("s", full, say("plain"), user=USER)
        first, second = (await memory.window("s", user=USER)).messages
        assert first == replace(full, sequence=1)
        assert (second.role, second.content, second.metadata, second.sequence) == ("user", "plain", {}, 2)
        assert second.timestamp == town.clock.now()
        assert second.message_id

    async def test_a_window_is_the_last_messages_or_those_after_a_cursor(self, memory: Memory) -> None:
        results = await memory.append("s", *(say(n) for n in range(1, 11)), user=USER)
        last = await memory.window("s", user=USER, last=3)
        assert ([m.content for m in last.messages], last.has_more) == ([8, 9, 10], False)
        first = await memory.window("s", user=USER, limit=4)
        assert ([m.content for m in first.messages], first.has_more) == ([1, 2, 3, 4], True)
        rest = await memory.window("s", user=USER, after=first.next_cursor)
        assert ([m.content for m in rest.messages], rest.has_more) == ([5, 6, 7, 8, 9, 10], False)
        assert [m.content for m in (await memory.window("s", user=USER, after=results[7].cursor)).messages] == [9, 10]
        for cursor in (last.next_cursor, rest.next_cursor):
            end = await memory.window("s", user=USER, after=cursor)
            assert (end.messages, end.has_more) == ((), False)
        assert [m.content for m in (await memory.window("s", user=USER, last=500)).messages] == list(range(1, 11))

    async def test_a_window_holds_so_many_bytes_and_never_nothing(self, memory: Memory) -> None:
        for n in range(6):
            await memory.append("s", say(f"{n}" + "x" * 1_000), user=USER)
        newest = await memory.window("s", user=USER, last=6, bytes_max=2_500)
        assert [str(m.content)[0] for m in newest.messages] == ["4", "5"]
        oldest = await memory.window("s", user=USER, bytes_max=2_500)
        assert ([str(m.content)[0] for m in oldest.messages], oldest.has_more) == (["0", "1"], True)
        following = await memory.window("s", user=USER, after=oldest.next_cursor, bytes_max=1)
        assert [str(m.content)[0] for m in following.messages] == ["2"]

    async def test_r30_a_cursor_of_another_session_user_or_tenant_is_unknown(self, town: Town, memory: Memory) -> None:
        await memory.append("s", say(1), user=USER)
        await memory.append("other", say(1), user=USER)
        await memory.append("s", say(1), user="bob")
        stranger = new_tenant()
        await self.settle_in(town, stranger)
        theirs = town.plane.tenant(stranger).memory
        await theirs.append("s", say(1), user=USER)
        windows = (
            await memory.window("other", user=USER),
            await memory.window("s", user="bob"),
            await theirs.window("s", user=USER),
        )
        for bad in (*(window.next_cursor for window in windows), "nonsense", "", "x" * 5_000):
            with pytest.raises(CursorInvalid) as caught:
                await memory.window("s", user=USER, after=bad)
            assert (caught.value.code, caught.value.detail) == ("memory.cursor_invalid", {"reason": "unknown"})

    async def test_r57_a_sliding_lifetime_is_renewed_by_every_append(self, memory: Memory) -> None:
        await memory.append("s", say(1), user=USER, ttl_s=60)
        await self.pass_time(45)
        await memory.append("s", say(2), user=USER)
        await self.pass_time(45)
        assert await contents(memory, "s") == [1, 2]
        await self.pass_time(16)
        with pytest.raises(NotFound):
            await memory.window("s", user=USER)
        assert await memory.find_session("s", user=USER) is None
        assert (await memory.sessions(user=USER)).items == ()

    async def test_r57_an_absolute_end_is_not_renewed(self, town: Town, memory: Memory) -> None:
        ends = town.clock.now() + timedelta(seconds=60)
        await memory.append("s", say(1), user=USER, expires_at=ends)
        await self.pass_time(45)
        await memory.append("s", say(2), user=USER)
        assert (await memory.get_session("s", user=USER)).expires_at == ends
        await self.pass_time(16)
        with pytest.raises(NotFound):
            await memory.get_session("s", user=USER)

    async def test_r57_a_session_after_its_end_begins_anew(self, memory: Memory) -> None:
        await memory.append("s", say("old", message_id="m"), user=USER, ttl_s=60)
        cursor = (await memory.window("s", user=USER)).next_cursor
        await self.pass_time(61)
        (kept,) = await memory.append("s", say("new", message_id="m"), user=USER)
        assert (kept.sequence, kept.duplicate) == (1, False)
        assert await contents(memory, "s") == ["new"]
        assert (await memory.get_session("s", user=USER)).ttl_s is None
        with pytest.raises(CursorInvalid) as caught:
            await memory.window("s", user=USER, after=cursor)
        assert caught.value.detail == {"reason": "unknown"}

    async def test_a_session_is_configured_by_version(self, town: Town, memory: Memory) -> None:
        made = await memory.configure("s", user=USER, metadata={"topic": "Ω"}, ttl_s=60, if_version=0)
        assert (made.version, made.metadata, made.ttl_s, made.sequence) == (1, {"topic": "Ω"}, 60, 0)
        await memory.append("s", say(1), user=USER, ttl_s=5)
        found = await memory.get_session("s", user=USER)
        assert (found.ttl_s, found.version, found.sequence, found.metadata) == (60, 1, 1, {"topic": "Ω"})
        changed = await memory.configure("s", user=USER, if_version=1)
        assert (changed.version, changed.metadata, changed.ttl_s, changed.expires_at) == (2, {}, None, None)
        for wrong in (0, 1, 3):
            with pytest.raises(StaleVersion) as caught:
                await memory.configure("s", user=USER, metadata={"x": 1}, if_version=wrong)
            assert caught.value.detail["found"] == 2
        await self.pass_time(600)
        assert await contents(memory, "s") == [1]
        with pytest.raises(LimitExceeded):
            await memory.configure("s", user=USER, metadata={"x": "y" * ATTRIBUTES_BYTES_MAX})
        assert town.backend.calls.count("logs.configure") == 5

    async def test_r33_what_is_wrong_is_refused_before_the_backend_is_asked(self, town: Town, memory: Memory) -> None:
        mark = len(town.backend.calls)
        with pytest.raises(LimitExceeded) as caught:
            await memory.append("s", say("x" * ENTRY_BYTES_MAX), user=USER)
        assert caught.value.detail["limit"] == "entry_bytes_max"
        with pytest.raises(LimitExceeded):
            await memory.append("s", *(say(n) for n in range(APPEND_ENTRIES_MAX + 1)), user=USER)
        now = town.clock.now()
        wrong = (
            memory.append("s", user=USER),
            memory.append("s", say(1)),
            memory.append("s", say(1), user=USER, ttl_s=0),
            memory.append("s", say(1), user=USER, expires_at=now.replace(tzinfo=None)),
            memory.append("s", say(1, timestamp=now.replace(tzinfo=None)), user=USER),
            memory.append("s", say(float("nan")), user=USER),
            memory.append("s", Message(role="", content=1), user=USER),
            memory.append("", say(1), user=USER),
            memory.append("s", say(1), user=""),
            memory.append("s", say(1), user="two\nlines"),
            memory.window("s", user=USER, last=0),
            memory.window("s", user=USER, limit=0),
            memory.window("s", user=USER, last=1, after="x"),
            memory.window("s", user=USER, bytes_max=0),
            memory.sessions(user=USER, limit=0),
        )
        for call in wrong:
            with pytest.raises(Invalid):
                await call
        with pytest.raises(LimitExceeded):
            await memory.window("s", user=USER, last=501)
        assert town.calls_since(mark) == []

    async def test_the_longest_id_of_a_message_is_512_bytes(self, memory: Memory) -> None:
        for message_id in ("i" * ENTRY_ID_BYTES_MAX, "🚀" * (ENTRY_ID_BYTES_MAX // 4)):
            (kept,) = await memory.append("s", say(1, message_id=message_id), user=USER)
            assert kept.message_id == message_id
            with pytest.raises(LimitExceeded) as caught:
                await memory.append("s", say(1, message_id=f"{message_id}x"), user=USER)
            assert caught.value.detail["limit"] == "entry_id_bytes_max"
            assert caught.value.detail["allowed"] == ENTRY_ID_BYTES_MAX

    async def test_a_deleted_session_leaves_nothing(self, memory: Memory) -> None:
        await memory.append("s", say(1, message_id="m"), user=USER)
        cursor = (await memory.window("s", user=USER)).next_cursor
        assert await memory.delete_session("s", user=USER)
        assert not await memory.delete_session("s", user=USER)
        with pytest.raises(NotFound):
            await memory.window("s", user=USER)
        assert (await memory.sessions(user=USER)).items == ()
        await memory.append("s", say(2, message_id="m"), user=USER)
        assert await contents(memory, "s") == [2]
        with pytest.raises(CursorInvalid):
            await memory.window("s", user=USER, after=cursor)
