"""Reading: pages that leave nothing out, positions that are ones, and both directions."""

from __future__ import annotations

import pytest

from perdure.domain.log import READ_BYTES_MAX, READ_ENTRIES_MAX, SEQUENCE_MAX, Position
from perdure.errors import Invalid, LimitExceeded
from perdure.testing.contracts.logs_opening import LogsOpening, Shelf, entry, is_dense, text
from perdure.testing.contracts.stores import TIMEOUT_S

LONG = 10_000
PAGES = 2 * READ_ENTRIES_MAX + 1  # on every engine, each time: three pages


class LogsReadingContract(LogsOpening):
    """What reading promises."""

    async def test_a_log_that_is_not_there_has_no_head_no_page_and_no_entry(self, shelf: Shelf) -> None:
        assert await shelf.head() is None
        assert await shelf.find_page() is None
        assert await shelf.find_page(Position(epoch=1, sequence=1)) is None
        assert await shelf.find_page(reverse=True) is None
        assert await shelf.locate("e1") is None

    async def _long_log(self, shelf: Shelf, count: int) -> None:
        await shelf.fill(count)
        forward = await shelf.all()
        assert is_dense(forward)
        assert [one.entry_id for one in forward] == [f"e{number}" for number in range(1, count + 1)]
        assert await shelf.all(reverse=True) == forward[::-1]
        middle = count // 2
        page = await shelf.page(middle, limit=3)
        assert [one.sequence for one in page.entries] == [middle + 1, middle + 2, middle + 3]

    async def test_entries_of_many_pages_are_read_once_each_in_both_directions(self, shelf: Shelf) -> None:
        await self._long_log(shelf, PAGES)

    @pytest.mark.soak
    async def test_ten_thousand_entries_are_read_once_each_in_both_directions(self, shelf: Shelf) -> None:
        await self._long_log(shelf, LONG)

    async def test_reading_goes_on_from_every_position(self, shelf: Shelf) -> None:
        await shelf.fill(30)
        for position in range(31):
            page = await shelf.page(position)
            assert [one.sequence for one in page.entries] == list(range(position + 1, 31))
            assert not page.more
            page = await shelf.page(position, reverse=True)
            assert [one.sequence for one in page.entries] == list(range(position - 1, 0, -1))

    async def test_a_page_says_whether_the_log_goes_on(self, shelf: Shelf) -> None:
        await shelf.fill(5)
        for reverse in (False, True):
            assert (await shelf.page(limit=4, reverse=reverse)).more
            assert not (await shelf.page(limit=5, reverse=reverse)).more
        assert (await shelf.page(3, limit=1)).more
        assert not (await shelf.page(4, limit=1)).more
        assert not (await shelf.page(2, limit=1, reverse=True)).more

    async def test_the_position_of_the_head_gives_an_empty_page(self, shelf: Shelf) -> None:
        await shelf.fill(3)
        page = await shelf.page(3)
        assert (list(page.entries), page.more, page.head) == ([], False, await shelf.one_head())
        await shelf.fill(1, first=4)
        assert [one.sequence for one in (await shelf.page(3)).entries] == [4]

    async def test_a_position_beyond_the_head_is_unknown(self, shelf: Shelf) -> None:
        await shelf.fill(3)
        epoch = (await shelf.one_head()).epoch
        for sequence in (4, 1_000, SEQUENCE_MAX):
            position = Position(epoch=epoch, sequence=sequence)
            lost = await shelf.lost(position)
            assert (lost.reason, lost.code) == ("unknown", "cursor_invalid")

    async def test_a_position_of_another_epoch_is_unknown(self, shelf: Shelf) -> None:
        await shelf.fill(3)
        epoch = (await shelf.one_head()).epoch
        for other in (0, epoch - 1, epoch + 1):
            assert (await shelf.lost(Position(epoch=other, sequence=1))).reason == "unknown"

    async def test_a_position_before_what_was_trimmed_is_expired_and_says_where_to_go_on(self, shelf: Shelf) -> None:
        await shelf.fill(10)
        await shelf.trim(6)
        for position in (0, 1, 4):
            lost = await shelf.lost(position)
            assert (lost.reason, lost.earliest) == ("expired", 6)
        assert [one.sequence for one in (await shelf.page(5)).entries] == [6, 7, 8, 9, 10]
        assert [one.sequence for one in (await shelf.page()).entries] == [6, 7, 8, 9, 10]
        assert [one.sequence for one in (await shelf.page(8, reverse=True)).entries] == [7, 6]

    async def test_the_newest_come_first_in_reverse(self, shelf: Shelf) -> None:
        await shelf.fill(7)
        page = await shelf.page(limit=3, reverse=True)
        assert ([one.sequence for one in page.entries], page.more, page.head.sequence) == ([7, 6, 5], True, 7)

    async def test_a_page_ends_before_it_has_too_many_bytes(self, shelf: Shelf) -> None:
        await shelf.fill(6, body=text(100))
        for reverse in (False, True):
            for bytes_max, count in ((300, 3), (299, 2), (100, 1), (600, 6)):
                page = await shelf.page(bytes_max=bytes_max, reverse=reverse)
                assert (len(page.entries), page.more) == (count, count < 6)

    async def test_the_first_entry_of_a_page_comes_however_large_it_is(self, shelf: Shelf) -> None:
        await shelf.fill(2, body=text(5_000))
        for reverse in (False, True):
            page = await shelf.page(bytes_max=1, reverse=reverse)
            assert (len(page.entries), page.more) == (1, True)
        assert [one.sequence for one in (await shelf.page(1, bytes_max=1)).entries] == [2]

    async def test_more_bytes_than_a_page_holds_are_read_in_pages(self, shelf: Shelf) -> None:
        for number in range(30):
            await shelf.append(entry(f"e{number}", text(250_000)))
        assert is_dense(await shelf.all())
        assert [one.sequence for one in await shelf.all(reverse=True)] == list(range(30, 0, -1))

    async def test_a_page_takes_so_many_entries_and_bytes_and_not_one_more(self, shelf: Shelf) -> None:
        await shelf.fill(1)
        await shelf.page(limit=READ_ENTRIES_MAX, bytes_max=READ_BYTES_MAX)
        for limit, bytes_max, name in (
            (READ_ENTRIES_MAX + 1, 1, "read_entries_max"),
            (1, READ_BYTES_MAX + 1, "read_bytes_max"),
        ):
            with pytest.raises(LimitExceeded) as caught:
                await shelf.page(limit=limit, bytes_max=bytes_max)
            assert caught.value.detail["limit"] == name
        for limit, bytes_max in ((0, 1), (1, 0)):
            with pytest.raises(Invalid):
                await shelf.page(limit=limit, bytes_max=bytes_max)

    async def test_the_head_tells_of_the_log_as_a_whole(self, shelf: Shelf) -> None:
        await shelf.fill(2)
        first = await shelf.one_head()
        await self.advance(60)
        await shelf.fill(3, first=3)
        await shelf.trim(3)
        head = await shelf.one_head()
        assert (head.sequence, head.earliest, head.version, head.epoch) == (5, 3, 1, first.epoch)
        assert head.created_at == first.created_at
        assert (head.updated_at - first.updated_at).total_seconds() >= 60
        assert (await shelf.page()).head == head

    async def test_entries_are_recorded_in_the_store_s_own_time(self, shelf: Shelf) -> None:
        await shelf.fill(1)
        await self.advance(30)
        await shelf.fill(1, first=2)
        first, second = await shelf.all()
        assert 30 <= (second.recorded_at - first.recorded_at).total_seconds() < 30 + TIMEOUT_S

    async def test_an_entry_is_found_by_its_id(self, shelf: Shelf) -> None:
        await shelf.fill(60)
        epoch = (await shelf.one_head()).epoch
        assert await shelf.locate("e51") == Position(epoch=epoch, sequence=51)
        assert await shelf.locate("e61") is None
        await shelf.trim(51)
        assert await shelf.locate("e50") is None
        assert await shelf.locate("e51") == Position(epoch=epoch, sequence=51)

    async def test_another_client_reads_what_was_acknowledged(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.fill(3)
        assert await rival.all() == await shelf.all()
        assert await rival.head() == await shelf.head()
