"""Pages of rows: prefixes, order, both directions, and what happens to them while others write."""

from __future__ import annotations

from typing import Final

import pytest

from perdure.domain.versioned import ROWS_PAGE_BYTES_MAX, ROWS_PAGE_MAX, VALUE_BYTES_MAX
from perdure.errors import Invalid, LimitExceeded
from perdure.testing.contracts.rows_opening import RowsOpening, Shelf, put, text

KEYS: Final = (
    "!",
    "A",
    "Z",
    "a",
    "a!",
    "a/b",
    "a/b/c",
    "aa",
    "ab",
    "a~",
    "a\u00ff",
    "a\u0100",
    "a\ud7ff",
    "a\ue000",
    "a\uffff",
    "a\U00010000",
    "a\U0010ffff",
    "a\U0010ffffb",
    "a\U0010ffff\U0010ffff",
    "b",
    "~",
    "~a",
    "é",
    "\ud7ff",
    "\ue000",
    "😀",
    "\U0010ffff",
    "\U0010ffffz",
    "\U0010ffff\U0010ffff",
)
PREFIXES: Final = (
    "",
    "a",
    "a/",
    "a/b",
    "a\ud7ff",
    "a\U0010ffff",
    "a\U0010ffff\U0010ffff",
    "~",
    "\ud7ff",
    "\U0010ffff",
    "\U0010ffff\U0010ffff\U0010ffff",
    "nothing",
)


def in_order(keys: tuple[str, ...], prefix: str = "") -> list[str]:
    """The keys that begin so, in the order of their bytes."""
    return sorted((key for key in keys if key.startswith(prefix)), key=str.encode)


class RowRangesContract(RowsOpening):
    """Queries."""

    @pytest.mark.parametrize("prefix", PREFIXES, ids=ascii)
    async def test_a_prefix_finds_what_begins_with_it_in_the_order_of_bytes(self, shelf: Shelf, prefix: str) -> None:
        await shelf.fill(KEYS)
        expected = in_order(KEYS, prefix)
        assert await shelf.keys(prefix) == expected
        assert await shelf.keys(prefix, reverse=True) == expected[::-1]
        for limit in (1, 2, 7):
            assert await shelf.keys(prefix, limit=limit) == expected
            assert await shelf.keys(prefix, limit=limit, reverse=True) == expected[::-1]

    async def test_a_prefix_is_text_and_not_a_pattern(self, shelf: Shelf) -> None:
        keys = ("a%b", "a_b", "a*b", "a\\b", "axb", "a.b")
        await shelf.fill(keys)
        for key in keys:
            assert await shelf.keys(key[:2]) == [key]

    async def test_an_empty_table_has_an_empty_page(self, shelf: Shelf) -> None:
        for reverse in (False, True):
            page = await shelf.page(reverse=reverse)
            assert (list(page.rows), page.more) == ([], False)

    async def test_more_says_whether_the_range_goes_on(self, shelf: Shelf) -> None:
        await shelf.fill(["a1", "a2", "a3", "b"])
        for reverse in (False, True):
            assert (await shelf.page("a", limit=2, reverse=reverse)).more
            assert not (await shelf.page("a", limit=3, reverse=reverse)).more
            assert not (await shelf.page("a", limit=4, reverse=reverse)).more

    async def test_after_leaves_out_the_key_itself_and_need_not_be_there(self, shelf: Shelf) -> None:
        await shelf.fill(["a", "b", "c"])
        assert [row.key for row in (await shelf.page(after="b")).rows] == ["c"]
        assert [row.key for row in (await shelf.page(after="bb")).rows] == ["c"]
        assert [row.key for row in (await shelf.page(after="a\U0010ffff")).rows] == ["b", "c"]
        assert [row.key for row in (await shelf.page(after="c")).rows] == []

    async def test_in_reverse_after_means_before(self, shelf: Shelf) -> None:
        await shelf.fill(["a", "b", "c"])
        assert [row.key for row in (await shelf.page(after="b", reverse=True)).rows] == ["a"]
        assert [row.key for row in (await shelf.page(after="bb", reverse=True)).rows] == ["b", "a"]
        assert [row.key for row in (await shelf.page(after="a", reverse=True)).rows] == []

    async def test_after_may_lie_outside_the_prefix(self, shelf: Shelf) -> None:
        await shelf.fill(["a", "b1", "b2", "c"])
        for after, forward, backward in (("a", ["b1", "b2"], []), ("c", [], ["b2", "b1"])):
            assert [row.key for row in (await shelf.page("b", after=after)).rows] == forward
            assert [row.key for row in (await shelf.page("b", after=after, reverse=True)).rows] == backward

    @pytest.mark.parametrize("reverse", [False, True])
    async def test_rows_that_nobody_touches_come_exactly_once_while_others_write(
        self, shelf: Shelf, *, reverse: bool
    ) -> None:
        quiet = [f"k{number:03d}" for number in range(0, 60, 2)]
        await shelf.fill(quiet)
        seen: list[str] = []
        step, more = 0, True
        while more:
            page = await shelf.page("k", after=seen[-1] if seen else None, limit=4, reverse=reverse)
            seen += [row.key for row in page.rows]
            more = page.more
            for number in range(step % 3, 60, 7):
                if number % 2:
                    await shelf.put(f"k{number:03d}")
            await shelf.delete(f"k{(step * 10 + 1) % 60:03d}")
            step += 1
        assert [key for key in seen if int(key[1:]) % 2 == 0] == (quiet[::-1] if reverse else quiet)
        assert len(set(seen)) == len(seen)
        assert seen == sorted(seen, reverse=reverse)

    async def test_a_page_shows_what_was_acknowledged_before(self, shelf: Shelf) -> None:
        for number in range(5):
            await shelf.put("a", b"%d" % number)
            assert [row.value for row in (await shelf.page("a")).rows] == [b"%d" % number]
        await shelf.delete("a")
        assert list((await shelf.page("a")).rows) == []

    async def test_a_page_of_500_rows_and_no_more(self, shelf: Shelf) -> None:
        await shelf.fill([f"k{number:04d}" for number in range(ROWS_PAGE_MAX + 1)])
        page = await shelf.page(limit=ROWS_PAGE_MAX)
        assert len(page.rows) == ROWS_PAGE_MAX
        assert page.more
        with pytest.raises(LimitExceeded) as caught:
            await shelf.page(limit=ROWS_PAGE_MAX + 1)
        assert caught.value.detail == {"limit": "rows_page_max", "allowed": 500, "actual": 501}
        with pytest.raises(Invalid):
            await shelf.page(limit=0)

    @pytest.mark.parametrize("reverse", [False, True])
    async def test_a_page_ends_where_its_values_are_too_many_bytes(self, shelf: Shelf, *, reverse: bool) -> None:
        fit = ROWS_PAGE_BYTES_MAX // VALUE_BYTES_MAX
        keys = [f"k{number:02d}" for number in range(fit + 2)]
        for key in keys:
            await shelf.put(key, text(VALUE_BYTES_MAX))
        page = await shelf.page(reverse=reverse)
        assert 1 <= len(page.rows) <= fit
        assert page.more
        assert await shelf.keys(reverse=reverse) == (keys[::-1] if reverse else keys)

    async def test_a_page_past_many_bytes_goes_on_where_it_ended(self, shelf: Shelf) -> None:
        await shelf.write(*(put(f"a{number}", text(VALUE_BYTES_MAX)) for number in range(4)))
        await shelf.fill([f"b{number:02d}" for number in range(40)])
        assert len(await shelf.keys(limit=10)) == 44
