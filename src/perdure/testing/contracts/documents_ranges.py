"""What a scan returns: the documents of a range in the order of their bytes, each exactly once."""

from __future__ import annotations

import pytest

from perdure.ports.document_rules import LOWEST_CHARACTER
from perdure.ports.documents import SCAN_BYTES_MAX, Expect, Remove
from perdure.testing.contracts.documents_opening import END, FIRST, DocumentsContract, Shelf, put, text

# In the order of their bytes, which is neither that of a dictionary nor that of a language.
ORDERED = (
    *("A", "A-", "A--", "A-.", "A-Z", "A.", "A0", "A00", "A1", "A10", "A2", "A9", "AA", "AB", "Aa", "Az", "A~", "A~~"),
    *("B", "Z", "ZZ", "Zz", "a", "a-", "a-b", "a.b", "a0", "aA", "aB", "aa", "ab", "a~", "b", "z", "zZ", "zz", "z~"),
)
KEYS = ("b", "d", "f", "h", "j")


class DocumentRangesContract(DocumentsContract):
    """Order, bounds, limits, pages, and that partitions know nothing of each other."""

    async def test_documents_come_in_the_order_of_their_bytes(self, shelf: Shelf) -> None:
        await shelf.fill(*(ORDERED[::2][::-1] + ORDERED[1::2]))
        assert tuple(await shelf.sorts()) == ORDERED
        assert tuple(await shelf.sorts(reverse=True)) == ORDERED[::-1]

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("start", ["-", ".", "0", "A", "A-", "A0", "A~~", "AAAA", "Z", "a", "zz", "~"])
    async def test_a_range_has_its_start_and_not_its_end(self, shelf: Shelf, start: str, *, reverse: bool) -> None:
        await shelf.fill(*ORDERED)
        for end in ("-", "A", "A.", "A~", "a", "a-", "z", "z~", "~", "~~"):
            if end >= start:
                expected = [sort for sort in ORDERED if start <= sort < end]
                found = await shelf.sorts(start, end, reverse=reverse)
                assert found == (expected[::-1] if reverse else expected)

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize(("start", "end"), [("c", "d"), ("b", "b"), ("k", "z"), ("A", "a"), ("c", "c"), ("-", "A")])
    async def test_an_empty_range_is_an_empty_page_and_the_last(
        self, shelf: Shelf, start: str, end: str, *, reverse: bool
    ) -> None:
        await shelf.fill(*KEYS)
        page = await shelf.page(start, end, reverse=reverse)
        assert (list(page.documents), page.more) == ([], False)

    async def test_a_partition_nobody_wrote_to_is_empty(self, shelf: Shelf) -> None:
        for reverse in (False, True):
            page = await shelf.page(FIRST, END, reverse=reverse)
            assert (list(page.documents), page.more) == ([], False)

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("limit", [1, 2, 4, 5, 6, 100])
    async def test_a_page_says_more_exactly_if_there_is_more(self, shelf: Shelf, limit: int, *, reverse: bool) -> None:
        await shelf.fill(*KEYS)
        for start, end in (("A", "~"), ("b", "j"), ("b", "k"), ("d", "h"), ("j", "z"), ("a", "c")):
            expected = [sort for sort in KEYS if start <= sort < end]
            expected = expected[::-1] if reverse else expected
            page = await shelf.page(start, end, limit=limit, reverse=reverse)
            sorts = [document.sort for document in page.documents]
            assert 1 <= len(sorts) <= limit
            assert sorts == expected[: len(sorts)]
            assert page.more == (len(sorts) < len(expected))

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("limit", [1, 3, 7])
    async def test_pages_walk_a_range_and_see_everything_once(self, shelf: Shelf, limit: int, *, reverse: bool) -> None:
        await shelf.fill(*ORDERED)
        sorts = [document.sort for document in await shelf.all(limit=limit, reverse=reverse)]
        assert tuple(sorts) == (ORDERED[::-1] if reverse else ORDERED)

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize(("count", "length"), [(45, 30_000), (14, 370_000)])
    async def test_pages_of_large_bodies_see_everything_once(
        self, shelf: Shelf, count: int, length: int, *, reverse: bool
    ) -> None:
        sorts = [f"k{number:02}" for number in range(count)]
        for start in range(0, count, 4):
            await shelf.commit(*(put(sort, body=text(length)) for sort in sorts[start : start + 4]))
        seen: list[str] = []
        async for page in shelf.pages(reverse=reverse):
            sizes = [len(document.body) for document in page.documents]
            assert sum(sizes[:-1]) < SCAN_BYTES_MAX
            assert {document.body == text(length) for document in page.documents} == {True}
            assert page.documents or not page.more
            seen += [document.sort for document in page.documents]
        assert seen == (sorts[::-1] if reverse else sorts)

    async def test_a_walk_of_small_and_large_bodies_sees_everything_once(self, shelf: Shelf) -> None:
        lengths = {f"k{number:02}": 370_000 if number % 3 == 0 else 2 + number for number in range(40)}
        sorts = list(lengths)
        for start in range(0, len(sorts), 10):
            await shelf.commit(*(put(sort, body=text(lengths[sort])) for sort in sorts[start : start + 10]))
        documents = await shelf.all(limit=39)
        assert {document.sort: len(document.body) for document in documents} == lengths
        assert [document.sort for document in documents] == sorts

    async def test_a_walk_sees_what_stays_though_others_write_beside_it(self, shelf: Shelf) -> None:
        await shelf.fill(*KEYS)
        seen = []
        async for page in shelf.pages(limit=2):
            seen += [document.sort for document in page.documents]
            await shelf.commit(put("a"), Remove(sort="b", expect=Expect.ANY))
        assert seen == list(KEYS)

    async def test_the_next_key_after_a_key_begins_where_it_ends(self, shelf: Shelf) -> None:
        await shelf.fill("a", "a-", "a--", "a.", "b")
        assert await shelf.sorts("a" + LOWEST_CHARACTER) == ["a-", "a--", "a.", "b"]
        assert await shelf.sorts("a-" + LOWEST_CHARACTER) == ["a--", "a.", "b"]

    async def test_partitions_know_nothing_of_each_other(self, shelf: Shelf) -> None:
        names = ("", "-", "-a", "a", "A", "~", "-a-b", ".b", "0")
        shelves = [shelf.beside(shelf.partition + name) for name in names]
        shelves.append(shelf.beside(shelf.partition.swapcase()))
        for number, other in enumerate(shelves):
            await other.commit(*(put(sort, number, expect=Expect.ABSENT) for sort in ("a", "a-b", "b", "A")))
        await shelves[1].commit(Remove(sort="a", expect=1), put("b", 77, expect=1))
        for number, other in enumerate(shelves):
            found = [(document.sort, document.version) for document in await other.all()]
            if number == 1:
                assert found == [("A", 1), ("a-b", 1), ("b", 77)]
            else:
                assert found == [(sort, number) for sort in ("A", "a", "a-b", "b")]
                assert (await other.one("a")).version == number

    async def test_a_scan_reads_the_whole_document(self, shelf: Shelf) -> None:
        await shelf.commit(put("a", 3, b'{"a":1}'), put("b", 4, b'{"b":1}'))
        assert await shelf.all() == [await shelf.one("a"), await shelf.one("b")]
