"""Appending: dense numbers, each id once, all entries of a call or none, and nothing lost between many writers."""

from __future__ import annotations

import asyncio

import pytest

from perdure.domain.log import (
    APPEND_BYTES_MAX,
    APPEND_ENTRIES_MAX,
    ENTRY_BYTES_MAX,
    ENTRY_ID_BYTES_MAX,
    Appended,
    LogSettings,
)
from perdure.errors import Invalid, KeyReused, LimitExceeded, StaleVersion
from perdure.testing.contracts.logs_opening import LogsOpening, Shelf, entries, entry, is_dense, outcomes, text

APPENDERS = 25
IDS = (
    "a/b",
    "a#b",
    "a.b",
    "-",
    "~",
    "%2F",
    "..",
    "e" * 400,
    "\u00fc\u6f22\U0001f98a",
    "\U0010ffff",
    "A",
    "a",
    " a ",
    "a\nb",
)


class LogsAppendingContract(LogsOpening):
    """What appending promises."""

    async def test_entries_are_numbered_from_1_without_gaps_in_the_order_given(self, shelf: Shelf) -> None:
        first = await shelf.append(*entries(1, 3))
        second = await shelf.append(*entries(4, 2))
        assert [(one.entry_id, one.sequence) for one in (*first, *second)] == [(f"e{n}", n) for n in range(1, 6)]
        assert {one.duplicate for one in (*first, *second)} == {False}
        assert {one.epoch for one in (*first, *second)} == {(await shelf.one_head()).epoch}
        assert await shelf.ids() == ["e1", "e2", "e3", "e4", "e5"]

    async def test_an_entry_is_read_as_it_was_appended(self, shelf: Shelf) -> None:
        body = '{"b": 1.10, "a": "\u00fc\\u00fc", "n": 12345678901234567890}'.encode()
        await shelf.append(entry("e1", body, fingerprint="f1"))
        (read,) = await shelf.all()
        assert (read.sequence, read.entry_id, read.fingerprint, read.body) == (1, "e1", "f1", body)
        assert read.recorded_at.utcoffset() is not None

    async def test_many_writers_at_the_same_time_lose_nothing_and_leave_no_gap(
        self, shelf: Shelf, rival: Shelf
    ) -> None:
        async def write(writer: int) -> list[Appended]:
            hands = (shelf, rival)[writer % 2]
            return [(await hands.append(entry(f"w{writer}-{number}")))[0] for number in range(4)]

        written = await asyncio.gather(*(write(writer) for writer in range(APPENDERS)))
        found = await shelf.all()
        assert is_dense(found)
        assert {one.entry_id: one.sequence for one in found} == {
            one.entry_id: one.sequence for many in written for one in many
        }
        assert len(found) == APPENDERS * 4
        for many in written:
            assert [one.sequence for one in many] == sorted(one.sequence for one in many)

    async def test_entries_of_one_call_stay_together_among_many_writers(self, shelf: Shelf, rival: Shelf) -> None:
        calls = [[entry(f"w{writer}-{number}") for number in range(3)] for writer in range(APPENDERS)]
        await asyncio.gather(*((shelf, rival)[n % 2].append(*call) for n, call in enumerate(calls)))
        ids = await shelf.ids()
        assert len(ids) == 3 * APPENDERS
        groups = {tuple(ids[start : start + 3]) for start in range(0, len(ids), 3)}
        assert groups == {tuple(one.entry_id for one in call) for call in calls}

    async def test_an_entry_that_is_there_keeps_its_number_and_is_not_written_again(self, shelf: Shelf) -> None:
        await shelf.append(*entries(1, 3))
        again = await shelf.append(*entries(2, 3))
        assert [(one.sequence, one.duplicate) for one in again] == [(2, True), (3, True), (4, False)]
        assert await shelf.ids() == ["e1", "e2", "e3", "e4"]

    async def test_an_entry_that_another_client_wrote_is_there_too(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.append(entry("e1"))
        await rival.append(entry("e2"))
        (again,) = await shelf.append(entry("e2"))
        assert (again.sequence, again.duplicate) == (2, True)

    async def test_the_same_entry_twice_in_one_call_is_written_once(self, shelf: Shelf) -> None:
        written = await shelf.append(entry("e1"), entry("e2"), entry("e1"))
        assert [(one.sequence, one.duplicate) for one in written] == [(1, False), (2, False), (1, True)]
        with pytest.raises(KeyReused):
            await shelf.append(entry("e3", b"1"), entry("e3", b"2"))
        assert await shelf.ids() == ["e1", "e2"]

    async def test_an_id_with_other_content_is_refused_and_nothing_of_the_call_is_written(self, shelf: Shelf) -> None:
        await shelf.append(entry("e1", b"1"))
        with pytest.raises(KeyReused):
            await shelf.append(entry("e2"), entry("e1", b"2"), entry("e3"))
        assert await shelf.ids() == ["e1"]
        assert [one.sequence for one in await shelf.append(entry("e4"))] == [2]

    async def test_one_entry_appended_by_many_at_the_same_time_is_written_once(
        self, shelf: Shelf, rival: Shelf
    ) -> None:
        written = await asyncio.gather(*((shelf, rival)[n % 2].append(entry("e1")) for n in range(APPENDERS)))
        assert {one.sequence for (one,) in written} == {1}
        assert await shelf.ids() == ["e1"]

    async def test_the_expected_sequence_must_be_that_of_the_head(self, shelf: Shelf) -> None:
        for wrong in (1, 7):
            with pytest.raises(StaleVersion):
                await shelf.append(entry("e0"), expected=wrong)
        assert await shelf.head() is None
        await shelf.append(*entries(1, 2), expected=0)
        for wrong in (0, 1, 3):
            with pytest.raises(StaleVersion):
                await shelf.append(entry("e3"), expected=wrong)
        await shelf.append(entry("e3"), expected=2)
        assert await shelf.ids() == ["e1", "e2", "e3"]

    async def test_what_is_expected_does_not_matter_for_entries_that_are_all_there(self, shelf: Shelf) -> None:
        await shelf.append(*entries(1, 2), expected=0)
        again = await shelf.append(*entries(1, 2), expected=0)
        assert [(one.sequence, one.duplicate) for one in again] == [(1, True), (2, True)]
        with pytest.raises(StaleVersion):
            await shelf.append(*entries(1, 3), expected=0)

    async def test_of_many_that_expect_the_same_one_succeeds(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.append(entry("e0"))
        tried = await outcomes(*((shelf, rival)[n % 2].append(entry(f"w{n}"), expected=1) for n in range(APPENDERS)))
        assert sum(isinstance(one, StaleVersion) for one in tried) == APPENDERS - 1
        assert len(await shelf.ids()) == 2

    async def test_settings_are_those_of_the_call_that_makes_the_log(self, shelf: Shelf) -> None:
        await shelf.append(entry("e1"), settings=LogSettings(ttl_s=600, attributes=b'{"title":"one"}'))
        await shelf.append(entry("e2"), settings=LogSettings(ttl_s=5, attributes=b'{"title":"two"}'))
        head = await shelf.one_head()
        assert (head.settings.ttl_s, head.settings.attributes, head.version) == (600, b'{"title":"one"}', 1)

    @pytest.mark.parametrize("entry_id", IDS, ids=ascii)
    async def test_an_id_may_be_any_text(self, shelf: Shelf, entry_id: str) -> None:
        await shelf.append(entry("other"))
        (written,) = await shelf.append(entry(entry_id))
        position = await shelf.locate(entry_id)
        assert position is not None
        assert (written.sequence, position.sequence) == (2, 2)
        assert await shelf.ids() == ["other", entry_id]

    async def test_ids_that_are_alike_are_different(self, shelf: Shelf) -> None:
        written = await shelf.append(*(entry(entry_id) for entry_id in IDS))
        assert [one.sequence for one in written] == list(range(1, len(IDS) + 1))
        assert await shelf.ids() == list(IDS)

    async def test_an_append_takes_so_many_entries_and_not_one_more(self, shelf: Shelf) -> None:
        await self._refused(shelf, "append_entries_max", count=APPEND_ENTRIES_MAX + 1)
        await shelf.append(*entries(1, APPEND_ENTRIES_MAX))
        assert len(await shelf.all()) == APPEND_ENTRIES_MAX
        with pytest.raises(Invalid):
            await shelf.append()

    async def test_an_entry_takes_so_many_bytes_and_not_one_more(self, shelf: Shelf) -> None:
        await self._refused(shelf, "entry_bytes_max", body=text(ENTRY_BYTES_MAX + 1))
        await shelf.append(entry("e1", text(ENTRY_BYTES_MAX)))
        assert len((await shelf.all())[0].body) == ENTRY_BYTES_MAX

    async def test_an_append_takes_so_many_bytes_and_not_one_more(self, shelf: Shelf) -> None:
        """With ids as long as they may be, which count towards what the engine takes."""
        size, rest = divmod(APPEND_BYTES_MAX, APPEND_ENTRIES_MAX)
        new = [
            entry(f"{number:02}".ljust(ENTRY_ID_BYTES_MAX, "\x01"), text(size + (rest if number == 0 else 0)))
            for number in range(APPEND_ENTRIES_MAX)
        ]
        with pytest.raises(LimitExceeded) as caught:
            await shelf.append(entry("e0", text(size + rest + 1)), *new[1:])
        assert (caught.value.detail["limit"], caught.value.detail["actual"]) == (
            "append_bytes_max",
            APPEND_BYTES_MAX + 1,
        )
        await shelf.append(*new)
        assert [one.entry_id for one in await shelf.all()] == [one.entry_id for one in new]

    async def test_an_id_takes_so_many_bytes_and_not_one_more(self, shelf: Shelf) -> None:
        longest = "\u00fc" * (ENTRY_ID_BYTES_MAX // 2)
        await self._refused(shelf, "entry_id_bytes_max", entry_id=longest + "x")
        await shelf.append(entry(longest))
        assert await shelf.ids() == [longest]

    @pytest.mark.parametrize("entry_id", ["", "a\0b", "a\ud800"], ids=ascii)
    async def test_an_id_that_is_no_text_is_refused(self, shelf: Shelf, entry_id: str) -> None:
        with pytest.raises(Invalid):
            await shelf.append(entry(entry_id))
        assert await shelf.head() is None

    @staticmethod
    async def _refused(shelf: Shelf, limit: str, *, count: int = 1, entry_id: str = "e", body: bytes = b"{}") -> None:
        with pytest.raises(LimitExceeded) as caught:
            await shelf.append(*(entry(entry_id if count == 1 else f"e{number}", body) for number in range(count)))
        assert caught.value.detail["limit"] == limit
        assert await shelf.head() is None
