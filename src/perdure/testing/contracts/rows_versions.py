"""What a write expects, what it leaves, and who wins."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from perdure.domain.versioned import NO_ROW, ROW_WRITES_MAX, RowVersion, VersionedRow
from perdure.errors import Invalid, LimitExceeded, StaleVersion
from perdure.testing.contracts.rows_opening import (
    OTHERS,
    RowsOpening,
    Shelf,
    delete,
    outcomes,
    put,
    state,
    table,
)
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother

WRITERS: Final = 20
LIFETIME_S: Final = 60


class RowVersionsContract(RowsOpening):
    """Expectations, versions, incarnations and races."""

    async def test_the_first_put_is_version_1_of_a_new_incarnation(self, shelf: Shelf) -> None:
        row = await shelf.put("a", b'{"n":1}')
        assert (row.key, row.value, row.version, row.expires_at) == ("a", b'{"n":1}', 1, None)
        assert row.created_at == row.updated_at
        assert row.created_at.utcoffset() == timedelta(0)
        assert row.incarnation
        assert await shelf.one("a") == row

    async def test_a_put_over_a_row_raises_its_version_by_one_and_keeps_what_it_was_made_with(
        self, shelf: Shelf
    ) -> None:
        first = await shelf.put("a", b"1")
        await self.advance(5)
        second = await shelf.put("a", b"2")
        assert second == replace(first, value=b"2", version=2, updated_at=second.updated_at)
        assert second.updated_at >= first.updated_at + timedelta(seconds=5)
        assert await shelf.one("a") == second

    async def test_a_put_of_the_same_value_is_a_new_version_too(self, shelf: Shelf) -> None:
        assert [(await shelf.put("a", b"1")).version for _ in range(4)] == [1, 2, 3, 4]

    @pytest.mark.parametrize("expected", [None, NO_ROW])
    async def test_a_put_where_nothing_is_expects_nothing(self, shelf: Shelf, expected: RowVersion | None) -> None:
        assert (await shelf.put("a", expected=expected)).version == 1

    @pytest.mark.parametrize("expected", [RowVersion(version=1), RowVersion(version=1, incarnation=OTHERS)])
    async def test_where_nothing_is_no_version_is_there(self, shelf: Shelf, expected: RowVersion) -> None:
        for write in (put("a", expected=expected), delete("a", expected=expected)):
            error = await shelf.stale(write)
            assert error.detail["key"] == "a"
            assert error.detail["found"] == 0
        assert await shelf.find("a") is None

    @pytest.mark.parametrize("with_incarnation", ["by version", "by version and incarnation"])
    async def test_a_write_that_finds_the_version_it_expects_succeeds(
        self, shelf: Shelf, with_incarnation: str
    ) -> None:
        await shelf.put("a", b"1")
        row = await shelf.put("a", b"2")
        expected = state(row) if "incarnation" in with_incarnation else RowVersion(version=2)
        assert (await shelf.put("a", b"3", expected=expected)).version == 3
        await shelf.delete("a", expected=replace(expected, version=3))
        assert await shelf.find("a") is None

    @pytest.mark.parametrize(
        "expected",
        [NO_ROW, RowVersion(version=1), RowVersion(version=3), RowVersion(version=2, incarnation=OTHERS)],
    )
    async def test_a_put_that_finds_something_else_is_refused_and_told_what_is_there(
        self, shelf: Shelf, expected: RowVersion
    ) -> None:
        await shelf.put("a", b"1")
        before = await shelf.put("a", b"2")
        error = await shelf.stale(put("a", b"3", expected=expected))
        assert error.detail["key"] == "a"
        assert error.detail["found"] == 2
        assert await shelf.one("a") == before

    @pytest.mark.parametrize(
        "expected", [RowVersion(version=1), RowVersion(version=3), RowVersion(version=2, incarnation=OTHERS)]
    )
    async def test_a_deletion_that_finds_something_else_is_refused(self, shelf: Shelf, expected: RowVersion) -> None:
        await shelf.put("a", b"1")
        before = await shelf.put("a", b"2")
        error = await shelf.stale(delete("a", expected=expected))
        assert error.detail["key"] == "a"
        assert error.detail["found"] == 2
        assert await shelf.one("a") == before

    async def test_a_deletion_expects_nothing_or_a_version(self, shelf: Shelf) -> None:
        await shelf.delete("a")
        await shelf.put("a")
        await shelf.delete("a")
        assert await shelf.find("a") is None
        with pytest.raises(Invalid):
            await shelf.write(delete("a", expected=NO_ROW))

    async def test_a_version_below_0_is_refused(self, shelf: Shelf) -> None:
        with pytest.raises(Invalid):
            await shelf.write(put("a", expected=RowVersion(version=-1)))

    async def test_what_was_deleted_begins_again_as_another(self, shelf: Shelf) -> None:
        await shelf.put("a")
        old = await shelf.put("a")
        await shelf.delete("a")
        await self.advance(5)
        new = await shelf.put("a", expected=NO_ROW)
        assert new.version == 1
        assert new.incarnation != old.incarnation
        assert new.created_at == new.updated_at > old.updated_at

    async def test_a_version_of_an_earlier_incarnation_is_told_apart(self, shelf: Shelf) -> None:
        old = await shelf.put("a", b'"old"')
        await shelf.delete("a")
        new = await shelf.put("a", b'"new"')
        assert old.version == new.version
        for write in (put("a", expected=state(old)), delete("a", expected=state(old))):
            error = await shelf.stale(write)
            assert error.detail["found"] == 1
        assert await shelf.one("a") == new
        await shelf.put("a", expected=RowVersion(version=1))

    async def test_an_expired_row_is_absent_for_every_expectation(self, shelf: Shelf) -> None:
        ends = await self.now(shelf) + timedelta(seconds=LIFETIME_S)
        old = [await shelf.put(key, expires_at=ends) for key in ("a", "b", "c")]
        await self.advance(LIFETIME_S + 1)
        for row in old:
            for expected in (state(row), RowVersion(version=1)):
                assert (await shelf.stale(put(row.key, expected=expected))).detail["found"] == 0
                assert (await shelf.stale(delete(row.key, expected=expected))).detail["found"] == 0
        await shelf.delete("a")
        new = [await shelf.put("a"), await shelf.put("b"), await shelf.put("c", expected=NO_ROW)]
        assert [row.version for row in new] == [1, 1, 1]
        assert {row.incarnation for row in new}.isdisjoint(row.incarnation for row in old)
        assert all(row.created_at == row.updated_at for row in new)

    async def test_a_write_gives_the_new_rows_in_its_order(self, shelf: Shelf) -> None:
        await shelf.fill(["b", "c"])
        made = await shelf.write(put("z", b"1"), delete("c"), put("b", b"2"), delete("q"), put("a", b"3"))
        assert [None if row is None else (row.key, row.value, row.version) for row in made] == [
            ("z", b"1", 1),
            None,
            ("b", b"2", 2),
            None,
            ("a", b"3", 1),
        ]
        assert await shelf.keys() == ["a", "b", "z"]

    async def test_a_failed_expectation_writes_nothing(self, shelf: Shelf) -> None:
        await shelf.fill(["a", "b"])
        before = await shelf.all()
        error = await shelf.stale(put("a", b"1"), put("n", b"1"), put("b", expected=7), delete("c"))
        assert error.detail["key"] == "b"
        await shelf.stale(delete("a"), put("n"), delete("missing", expected=1))
        await shelf.stale(put("n", expected=NO_ROW), put("a", expected=NO_ROW))
        assert await shelf.all() == before

    async def test_50_rows_are_written_at_once(self, shelf: Shelf) -> None:
        keys = [f"k{number:03d}" for number in range(ROW_WRITES_MAX)]
        await shelf.write(*(put(key) for key in keys))
        assert await shelf.keys() == keys
        rows = await shelf.write(*(put(key, b"2", expected=1) for key in keys))
        assert {row.version for row in rows if row} == {2}
        assert list(await shelf.write(*(delete(key, expected=2) for key in keys))) == [None] * ROW_WRITES_MAX
        assert await shelf.keys() == []

    async def test_51_rows_and_none_are_refused(self, shelf: Shelf) -> None:
        with pytest.raises(LimitExceeded) as caught:
            await shelf.write(*(put(f"k{number}") for number in range(ROW_WRITES_MAX + 1)))
        assert caught.value.detail == {"limit": "row_writes_max", "allowed": 50, "actual": 51}
        with pytest.raises(Invalid):
            await shelf.write()
        assert await shelf.keys() == []

    async def test_a_key_twice_in_one_write_is_refused(self, shelf: Shelf) -> None:
        with pytest.raises(Invalid):
            await shelf.write(put("a"), delete("a"))
        assert await shelf.keys() == []

    async def test_puts_without_expectation_always_succeed_whoever_else_writes(
        self, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        rivals = await self.rivals(shelf, open_another, WRITERS)
        results = await outcomes(*(rival.put("hot", b"%d" % number) for number, rival in enumerate(rivals)))
        rows = [row for row in results if isinstance(row, VersionedRow)]
        assert sorted(row.version for row in rows) == list(range(1, WRITERS + 1))
        assert len({row.incarnation for row in rows}) == 1
        assert await rivals[0].one("hot") == max(rows, key=lambda row: row.version)

    @pytest.mark.parametrize("expected", [NO_ROW, RowVersion(version=1)])
    async def test_of_all_that_expect_the_same_one_wins(
        self, shelf: Shelf, open_another: OpenAnother, expected: RowVersion
    ) -> None:
        rivals = await self.rivals(shelf, open_another, 8)
        for key in ("a", "b", "c"):
            if expected.version:
                await shelf.put(key)
            results = await outcomes(
                *(rival.put(key, b"%d" % number, expected=expected) for number, rival in enumerate(rivals))
            )
            won = [row for row in results if isinstance(row, VersionedRow)]
            assert len(won) == 1
            assert sum(isinstance(result, StaleVersion) for result in results) == len(rivals) - 1
            assert await shelf.one(key) == won[0]

    async def test_of_all_that_delete_the_same_version_one_wins(self, shelf: Shelf, open_another: OpenAnother) -> None:
        await shelf.put("a")
        rivals = await self.rivals(shelf, open_another, 6)
        results = await outcomes(*(rival.delete("a", expected=1) for rival in rivals))
        assert results.count(None) == 1
        assert sum(isinstance(result, StaleVersion) for result in results) == len(rivals) - 1

    async def test_writes_of_several_rows_that_cross_are_all_or_none(
        self, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        keys = ["a", "b", "c", "d"]
        rivals = await self.rivals(shelf, open_another, 8)
        results = await outcomes(
            *(
                rival.write(*(put(key, b"%d" % number) for key in (keys if number % 2 else keys[::-1])))
                for number, rival in enumerate(rivals)
            )
        )
        assert not [result for result in results if isinstance(result, BaseException)]
        rows = await shelf.all()
        assert [row.version for row in rows] == [len(rivals)] * len(keys)
        assert len({row.value for row in rows}) == 1

    async def test_rows_of_other_containers_do_not_meet(self, shelf: Shelf) -> None:
        other = shelf.beside(table(shelf.rows.space, "others"))
        await shelf.put("a", b"1")
        await other.put("a", b"2", expected=NO_ROW)
        await shelf.delete("a")
        assert (await other.one("a")).value == b"2"

    async def test_what_another_client_erased_is_listed_when_it_is_written_again(
        self, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        other = shelf.seen_by(await open_another())
        for round_ in range(3):
            await shelf.write(put("k", expected=NO_ROW), put(f"k{round_}"))
            await other.store.erase(shelf.rows, timeout_s=TIMEOUT_S)
            await shelf.put("k", expected=NO_ROW)
            assert await other.containers() == [shelf.rows]
            assert await other.keys() == ["k"]
            await other.put("more")
            assert await shelf.store.erase(shelf.rows, timeout_s=TIMEOUT_S) == 2
            assert await other.containers() == []
