"""How much a request may hold, to the last byte, and what is refused before the engine hears of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from perdure.errors import Invalid, LimitExceeded
from perdure.ports.document_rules import BOUND_CHARS_MAX, VERSION_MAX, commit_bytes
from perdure.ports.documents import (
    COMMIT_BYTES_MAX,
    COMMIT_WRITES_MAX,
    DOCUMENT_BYTES_MAX,
    GET_DOCUMENTS_MAX,
    PARTITION_CHARS_MAX,
    SCAN_DOCUMENTS_MAX,
    SORT_CHARS_MAX,
    DocumentDriver,
    Expect,
    Remove,
    Require,
)
from perdure.testing.contracts.documents_opening import (
    END,
    FIRST,
    DocumentsContract,
    Shelf,
    must_be,
    put,
    text,
)

NAMES_BAD = ("", "1a", "-a", ".a", "~a", "a b", "a/b", "a_b", "a#b", "a:b", "a\n", "\na", "a\x00", "ä", "a\u212a", "a%")
BOUNDS_BAD = ("", "a b", "a/b", "a_b", "ä", "a\n", "\x7f")
ALPHABET = "Azaz09.~-"

BODIES = {
    "nothing": b"null",
    "layout": b' { "b" : 1,\n\t"a":[ ] } ',
    "order and doubles of fields": b'{"b":1,"a":2,"b":3}',
    "unicode": '{"é":"日本語 \U0001f600 \u2028\u00a0\ufeff"}'.encode(),
    "escapes": rb'{"nul":"\u0000","lone":"\ud800","pair":"\ud83d\ude00","slash":"\/","quote":"\"\\"}',
    "large integers": b"[9007199254740993,-9223372036854775809,123456789012345678901234567890123456789012345678901]",
    "floats": b"[1.0,1,-0.0,1e400,1E-400,0.1,0.30000000000000004,1.7976931348623157e308,5e-324]",
    "depth": b"[" * 90 + b"]" * 90,
    "a text that looks like a number": b'"123"',
}

Attempt = Callable[[DocumentDriver, str], Awaitable[object]]


class DocumentLimitsContract(DocumentsContract):
    """Edges of numbers and sizes, names, and bodies that come back as they went."""

    async def test_a_commit_writes_so_many_documents_and_not_one_more(self, shelf: Shelf) -> None:
        writes = [put(f"k{number:03}") for number in range(COMMIT_WRITES_MAX)]
        await shelf.commit(*writes)
        assert await shelf.sorts() == [write.sort for write in writes]
        again = [put(write.sort, 2, expect=1) for write in writes]
        await refused("commit_writes_max", shelf.commit(*again, put("z")))
        assert {document.version for document in await shelf.all()} == {1}
        await shelf.commit(*again)
        await shelf.commit(*(Remove(sort=write.sort, expect=2) for write in writes[1:]), Require(sort="k000"))
        assert await shelf.sorts() == ["k000"]

    async def test_a_get_finds_so_many_documents_and_not_one_more(self, shelf: Shelf) -> None:
        sorts = [f"k{number:03}" for number in range(GET_DOCUMENTS_MAX)]
        await shelf.fill(*sorts[::2])
        found = await shelf.get(*reversed(sorts))
        assert sorted(found) == sorts[::2]
        assert all(found[sort].sort == sort for sort in found)
        await refused("get_documents_max", shelf.get(*sorts, "z"))

    async def test_a_get_of_nothing_finds_nothing(self, shelf: Shelf) -> None:
        assert await shelf.get() == {}
        assert await shelf.get("a", "b") == {}

    async def test_a_get_brings_more_than_sixteen_megabytes(self, shelf: Shelf) -> None:
        sorts = [f"k{number:03}" for number in range(48)]
        for start in range(0, len(sorts), 4):
            await shelf.commit(*(put(sort, body=text(370_000)) for sort in sorts[start : start + 4]))
        found = await shelf.get(*sorts)
        assert [found[sort].body == text(370_000) for sort in sorts] == [True] * len(sorts)

    @pytest.mark.parametrize("filling", ["x", '\\"', "\\\\", "\\u0000", "é", "\U0001f600"])
    async def test_a_body_may_be_so_large_and_not_one_byte_more(self, shelf: Shelf, filling: str) -> None:
        inside = filling.encode() * ((DOCUMENT_BYTES_MAX - 2) // len(filling.encode()))
        body = b'"' + inside + b" " * (DOCUMENT_BYTES_MAX - len(inside) - 2) + b'"'
        assert len(body) == DOCUMENT_BYTES_MAX
        await shelf.commit(put("a", body=body))
        assert (await shelf.one("a")).body == body
        assert [document.body == body for document in await shelf.all()] == [True]
        await refused("document_bytes_max", shelf.commit(put("a", 2, body + b" ")))
        assert (await shelf.one("a")).version == 1

    async def test_a_commit_may_be_so_large_and_not_one_byte_more(self, shelf: Shelf) -> None:
        writes = [put(f"k{number}", body=text(300_000)) for number in range(7)]
        surplus = commit_bytes(shelf.partition, writes) - COMMIT_BYTES_MAX
        writes[-1] = replace(writes[-1], body=text(300_000 - surplus))
        await refused("commit_bytes_max", shelf.commit(*writes[:-1], replace(writes[-1], body=writes[-1].body + b" ")))
        assert await shelf.sorts() == []
        await shelf.commit(*writes)
        assert [document.body for document in await shelf.all()] == [write.body for write in writes]

    async def test_names_may_be_so_long_and_not_one_character_more(self, shelf: Shelf) -> None:
        long = shelf.beside(shelf.partition.ljust(PARTITION_CHARS_MAX, "p"))
        sort = "s" * SORT_CHARS_MAX
        before = sort[:-1] + "r"
        await long.fill(sort, before)
        assert sorted(await long.get(sort, before)) == await long.sorts() == [before, sort]
        assert await long.sorts(sort, sort + "-") == [sort]
        assert await long.sorts(before + "-", "s" * BOUND_CHARS_MAX) == [sort]
        await long.commit(Remove(sort=sort, expect=1))
        assert await long.sorts() == [before]
        longer = long.beside(long.partition + "p")
        for attempt in (long.commit(put(sort + "s")), long.get(sort + "s")):
            await refused("sort_chars_max", attempt)
        for attempt in (longer.commit(put("a")), longer.get("a"), longer.all()):
            await refused("partition_chars_max", attempt)
        await refused("bound_chars_max", long.page(sort, "s" * (BOUND_CHARS_MAX + 1)))

    async def test_a_commit_may_name_the_longest_partition_a_hundred_times(self, shelf: Shelf) -> None:
        long = shelf.beside(shelf.partition.ljust(PARTITION_CHARS_MAX, "p"))
        sorts = [f"k{number:03}".ljust(SORT_CHARS_MAX, "s") for number in range(COMMIT_WRITES_MAX)]
        await long.fill(*sorts)
        assert sorted(await long.get(*sorts)) == sorts
        assert await long.sorts() == sorts

    @pytest.mark.parametrize("name", NAMES_BAD)
    async def test_a_name_of_other_characters_is_refused(self, shelf: Shelf, name: str) -> None:
        other = shelf.beside(name)
        attempts: Sequence[Awaitable[object]] = (
            shelf.commit(put(name)),
            shelf.commit(Remove(sort=name, expect=Expect.ANY)),
            shelf.commit(Require(sort=name)),
            shelf.get(name),
            other.commit(put("a")),
            other.get("a"),
            other.page(FIRST, END),
        )
        for attempt in attempts:
            with pytest.raises(Invalid):
                await attempt

    @pytest.mark.parametrize("bound", BOUNDS_BAD)
    async def test_a_bound_of_other_characters_is_refused(self, shelf: Shelf, bound: str) -> None:
        for start, end in ((bound, END), (FIRST, bound)):
            with pytest.raises(Invalid):
                await shelf.page(start, end)

    async def test_a_range_that_ends_before_it_starts_is_refused(self, shelf: Shelf) -> None:
        for reverse in (False, True):
            with pytest.raises(Invalid):
                await shelf.page("b", "a", reverse=reverse)

    async def test_a_scan_returns_so_many_documents_and_not_one_more(self, shelf: Shelf) -> None:
        sorts = [f"k{number:04}" for number in range(SCAN_DOCUMENTS_MAX + 1)]
        await shelf.fill(*sorts)
        page = await shelf.page(FIRST, END, limit=SCAN_DOCUMENTS_MAX)
        assert [document.sort for document in page.documents] == sorts[: len(page.documents)]
        assert len(page.documents) <= SCAN_DOCUMENTS_MAX
        assert page.more
        assert await shelf.sorts() == sorts
        await refused("scan_documents_max", shelf.page(FIRST, END, limit=SCAN_DOCUMENTS_MAX + 1))
        for limit in (0, -1):
            with pytest.raises(Invalid):
                await shelf.page(FIRST, END, limit=limit)

    async def test_two_writes_of_one_key_are_refused(self, shelf: Shelf) -> None:
        for other in (put("a", 2), Remove(sort="a", expect=Expect.ANY), Require(sort="a")):
            with pytest.raises(Invalid):
                await shelf.commit(put("a"), put("b"), other)
        assert await shelf.sorts() == []
        with pytest.raises(Invalid):
            await shelf.get("a", "b", "a")

    async def test_a_commit_that_makes_no_sense_is_refused(self, shelf: Shelf) -> None:
        for writes in (
            (),
            (Remove(sort="a", expect=Expect.ABSENT),),
            (put("a", -1),),
            (put("a", VERSION_MAX + 1),),
            (put("a", expect=-1),),
            (put("a", body=b""),),
            (put("a", expires_at=datetime(2099, 1, 1)),),  # noqa: DTZ001 - naive on purpose
        ):
            with pytest.raises(Invalid):
                await shelf.commit(put("b"), *writes) if writes else await shelf.commit()
        assert await shelf.sorts() == []

    async def test_what_is_refused_never_reaches_the_engine(self, driver: DocumentDriver, shelf: Shelf) -> None:
        await driver.close()  # so that whatever reached the engine would say that it is down
        many = [put(f"k{number:03}") for number in range(COMMIT_WRITES_MAX + 1)]
        for attempt in (
            shelf.commit(*many),
            shelf.commit(put("a", body=text(DOCUMENT_BYTES_MAX + 1))),
            shelf.commit(*(put(f"k{number}", body=text(320_000)) for number in range(6))),
            shelf.get(*(write.sort for write in many)),
            shelf.page(FIRST, END, limit=SCAN_DOCUMENTS_MAX + 1),
        ):
            with pytest.raises(LimitExceeded):
                await attempt
        with pytest.raises(Invalid):
            await shelf.commit(put("a"), put("a"))

    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
    async def test_a_body_comes_back_byte_for_byte(self, shelf: Shelf, body: bytes) -> None:
        await shelf.commit(put("a", body=body), put("b"))
        assert (await shelf.one("a")).body == body
        assert [document.body for document in await shelf.all()] == [body, b"{}"]
        assert type((await shelf.one("a")).body) is bytes

    @pytest.mark.parametrize("version", [0, 1, 2**31, 2**53 - 1])
    async def test_a_version_comes_back_as_it_went(self, shelf: Shelf, version: int) -> None:
        await shelf.commit(put("a", version))
        assert (await shelf.one("a")).version == version
        assert type((await shelf.one("a")).version) is int
        await shelf.commit(put("a", 3, expect=version))

    @pytest.mark.parametrize(
        "moment",
        [
            datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2037, 1, 2, 3, 4, 5, 1, tzinfo=UTC),
            datetime(2037, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            datetime(2100, 6, 1, tzinfo=timezone(timedelta(hours=-11))),
        ],
    )
    async def test_a_time_to_expire_comes_back_to_the_microsecond(self, shelf: Shelf, moment: datetime) -> None:
        await shelf.commit(put("a", expires_at=moment), put("b"))
        for document in (await shelf.one("a"), (await shelf.all())[0]):
            assert document.expires_at == moment
            assert document.expires_at.utcoffset() is not None
        assert (await shelf.one("b")).expires_at is None
        await shelf.commit(put("a", 2, expect=1))
        assert (await shelf.one("a")).expires_at is None

    async def test_what_has_expired_is_returned_until_the_engine_removes_it(
        self, driver: DocumentDriver, shelf: Shelf
    ) -> None:
        must_be(not driver.capabilities.ttl, "one that removes nothing itself")
        past = datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
        await shelf.commit(put("a", expires_at=past))
        assert (await shelf.one("a")).expires_at == past
        assert await shelf.sorts() == ["a"]
        await shelf.fails(put("a", expect=Expect.ABSENT))

    async def test_its_capabilities_hold_what_every_request_may(self, driver: DocumentDriver) -> None:
        able = driver.capabilities
        assert able.document_bytes_max >= DOCUMENT_BYTES_MAX
        assert able.sort_bytes_max >= SORT_CHARS_MAX
        assert able.partition_name_bytes_max >= PARTITION_CHARS_MAX
        assert able.batch_writes_max >= COMMIT_WRITES_MAX
        assert able.batch_bytes_max >= COMMIT_BYTES_MAX


async def refused(limit: str, attempt: Awaitable[object]) -> None:
    """It raises ``LimitExceeded`` naming the limit, with both numbers."""
    with pytest.raises(LimitExceeded) as caught:
        await attempt
    detail = caught.value.detail
    assert detail["limit"] == limit
    assert isinstance(detail["allowed"], int)
    assert isinstance(detail["actual"], int)
    assert detail["actual"] > detail["allowed"]
