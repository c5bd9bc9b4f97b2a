"""The end of a row: to the second, everywhere at once, and what sweeping makes of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from perdure.domain.versioned import NO_ROW
from perdure.testing.contracts.rows_opening import RowsOpening, Shelf, delete, put, table
from perdure.testing.contracts.stores import TIMEOUT_S

LIFETIME_S: Final = 100


class RowLifetimesContract(RowsOpening):
    """Expiry and sweeping. Engines share their queues between tests, so a test sweeps its own and counts rows."""

    async def ends(self, shelf: Shelf) -> datetime:
        """A time that comes in ``LIFETIME_S``."""
        return await self.now(shelf) + timedelta(seconds=LIFETIME_S)

    async def test_a_row_is_there_until_its_time_and_absent_from_then_on(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        row = await shelf.put("a", b"1", expires_at=ends)
        await self.advance(LIFETIME_S - 30)
        assert await shelf.find("a") == row
        await self.advance(30)  # now is ends, or what little of real time went by later
        assert await shelf.find("a") is None

    async def test_an_expired_row_is_absent_everywhere_at_once(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        await shelf.write(put("a"), put("b", expires_at=ends), put("c", expires_at=ends), put("d"))
        assert await shelf.keys() == ["a", "b", "c", "d"]
        await self.advance(LIFETIME_S)
        assert sorted(await shelf.store.get(shelf.rows, ["a", "b", "c", "d"], timeout_s=TIMEOUT_S)) == ["a", "d"]
        assert await shelf.keys() == ["a", "d"]
        assert await shelf.keys(limit=1) == ["a", "d"]
        assert await shelf.keys(reverse=True, limit=1) == ["d", "a"]
        assert await shelf.keys("b") == []
        assert (await shelf.stale(put("b", expected=1))).detail["found"] == 0

    async def test_expired_rows_do_not_end_a_page(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        gone = [f"m{number:03d}" for number in range(45)]
        await shelf.write(*(put(key, expires_at=ends) for key in gone))
        await shelf.fill(["a", "z"])
        await self.advance(LIFETIME_S)
        for reverse in (False, True):
            page = await shelf.page(limit=2, reverse=reverse)
            assert sorted(row.key for row in page.rows) == ["a", "z"]
            assert not page.more
            assert (await shelf.page(limit=1, reverse=reverse)).more
        assert not (await shelf.page(limit=1, after="a", reverse=True)).more
        assert [row.key for row in (await shelf.page(limit=1, after="a")).rows] == ["z"]

    async def test_nothing_but_expired_rows_is_an_empty_page_without_more(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        await shelf.write(*(put(f"k{number}", expires_at=ends) for number in range(10)))
        await self.advance(LIFETIME_S)
        page = await shelf.page(limit=1)
        assert (list(page.rows), page.more) == ([], False)

    async def test_a_put_decides_about_the_end_anew(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        await shelf.put("forever", expires_at=ends)
        await shelf.put("longer", expires_at=ends)
        await shelf.put("shorter", expires_at=ends + timedelta(seconds=LIFETIME_S))
        forever = await shelf.put("forever")
        longer = await shelf.put("longer", expires_at=ends + timedelta(seconds=LIFETIME_S))
        await shelf.put("shorter", expires_at=ends)
        assert (forever.expires_at, forever.version) == (None, 2)
        await self.advance(LIFETIME_S)
        assert await shelf.all() == [forever, longer]
        await self.advance(LIFETIME_S)
        assert await shelf.all() == [forever]

    async def test_what_expired_begins_again_as_another_and_is_not_swept_for_the_old_ones_end(
        self, shelf: Shelf
    ) -> None:
        ends = await self.ends(shelf)
        old = await shelf.put("a", expires_at=ends)
        await shelf.put("b", expires_at=ends)
        await self.advance(LIFETIME_S)
        new = await shelf.put("a", expected=NO_ROW)
        other = await shelf.put("b", expires_at=ends + timedelta(seconds=LIFETIME_S))
        assert (new.version, other.version) == (1, 1)
        assert new.incarnation != old.incarnation
        await shelf.sweep()
        assert await shelf.all() == [new, other]

    async def test_a_row_whose_time_was_over_before_it_was_written_is_never_there(self, shelf: Shelf) -> None:
        now = await self.now(shelf)
        await self.advance(1)
        await shelf.put("a", expires_at=now)
        assert await shelf.find("a") is None
        await self.advance(1)
        assert (await shelf.put("a", expected=NO_ROW)).version == 1

    async def test_sweeping_removes_what_is_over_and_nothing_else(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        boards = shelf.beside(table(shelf.rows.space, "second"))
        await shelf.write(*(put(f"k{number}", expires_at=ends) for number in range(12)), put("stays"))
        await boards.write(put("k", expires_at=ends), put("later", expires_at=ends + timedelta(seconds=LIFETIME_S)))
        await shelf.sweep()
        assert len(await shelf.keys()) == 13
        await self.advance(LIFETIME_S)
        assert await shelf.sweep() >= 13
        assert await shelf.keys() == ["stays"]
        assert await boards.keys() == ["later"]
        await self.advance(LIFETIME_S)
        assert await shelf.sweep() >= 1
        assert await boards.keys() == []

    async def test_a_sweep_removes_as_many_as_it_was_asked_for_at_most(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        await shelf.write(*(put(f"k{number}", expires_at=ends) for number in range(5)))
        await self.advance(LIFETIME_S)
        assert 1 <= await shelf.store.sweep(limit=2, timeout_s=TIMEOUT_S) <= 2
        await shelf.sweep()
        assert await shelf.store.sweep(limit=2, timeout_s=TIMEOUT_S) == 0

    async def test_a_row_that_was_given_a_longer_life_is_swept_when_that_is_over(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        for step in range(3):
            await shelf.put("a", expires_at=ends + timedelta(seconds=step * LIFETIME_S))
        row = await shelf.put("a", expires_at=ends + timedelta(seconds=3 * LIFETIME_S))
        await self.advance(LIFETIME_S)
        await shelf.sweep()
        assert await shelf.one("a") == row
        await self.advance(3 * LIFETIME_S)
        assert await shelf.find("a") is None
        assert await shelf.sweep() >= 1

    async def test_a_row_that_was_given_a_shorter_life_is_swept_when_that_is_over(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        await shelf.put("a", expires_at=ends + timedelta(seconds=5 * LIFETIME_S))
        await shelf.put("a", expires_at=ends)
        await self.advance(LIFETIME_S)
        assert await shelf.sweep() >= 1

    async def test_a_deleted_row_needs_no_sweep(self, shelf: Shelf) -> None:
        ends = await self.ends(shelf)
        await shelf.put("a", expires_at=ends)
        await shelf.write(delete("a"))
        await self.advance(LIFETIME_S)
        await shelf.sweep()
        assert await shelf.keys() == []
