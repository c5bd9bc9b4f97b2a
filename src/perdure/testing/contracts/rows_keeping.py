"""Sets of rows as a whole: what isolates them, which there are, erasing and copying them, and their audit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from perdure.domain.container import board_container, make_space
from perdure.domain.kinds import Kind
from perdure.domain.versioned import NO_ROW, ROW_WRITES_MAX, VersionedRow
from perdure.errors import Invalid, LimitExceeded, StaleVersion
from perdure.testing.contracts.rows_opening import OTHERS, RowsOpening, Shelf, delete, put, state, table
from perdure.testing.contracts.stores import TIMEOUT_S, audit, new_space, new_tenant

NOON: Final = datetime(2025, 6, 1, 12, tzinfo=UTC)
NASTY: Final = ("None", "null", "-", "~", "a.b", "a", "a/b", "A", "é" * 128, "x" * 128, " ", "😀")


class RowKeepingContract(RowsOpening):
    """Isolation, containers, erasing, restoring, audit."""

    async def test_no_space_sees_another(self, shelf: Shelf) -> None:
        space = shelf.rows.space
        spaces = [
            space,
            replace(space, tenant=new_tenant()),
            *(replace(space, project=text) for text in NASTY),
            *(replace(space, surface=text) for text in NASTY),
            *(replace(space, app=text) for text in NASTY),
            replace(space, project="a", surface="b"),
            replace(space, project="a", app="b"),
            replace(space, project="a.b", surface="c"),
        ]
        assert len(set(spaces)) == len(spaces)
        for number, one in enumerate(spaces):
            row = await shelf.beside(table(one)).put("k", b"%d" % number, expected=NO_ROW)
            assert row.version == 1
        for number, one in enumerate(spaces):
            assert [row.value for row in await shelf.beside(table(one)).all()] == [b"%d" % number]

    @pytest.mark.parametrize("elsewhere", [{"mode": "saas"}, {"env": "prod"}], ids=["mode", "env"])
    async def test_rows_of_another_mode_or_environment_are_refused(
        self, shelf: Shelf, elsewhere: dict[str, str]
    ) -> None:
        row = await shelf.put("k")
        other = shelf.beside(table(new_space(tenant=shelf.rows.space.tenant, **elsewhere)))
        for attempt in (
            other.write(put("k")),
            other.find("k"),
            other.page(),
            other.store.erase(other.rows, timeout_s=TIMEOUT_S),
            other.store.restore(other.rows, [row], timeout_s=TIMEOUT_S),
            other.audits(),
        ):
            with pytest.raises(Invalid):
                await attempt
        assert await shelf.all() == [row]

    async def test_no_container_sees_another_of_its_space(self, shelf: Shelf) -> None:
        space = shelf.rows.space
        containers = [
            table(space, "a"),
            table(space, "b"),
            table(space, "project"),
            board_container(space),
            board_container(space, user="project"),
            board_container(space, user="a"),
            board_container(space, user="a", session="b"),
            board_container(space, user="a.b", session="c"),
            board_container(space, user="a", session="b.c"),
            *(board_container(space, user=text) for text in NASTY if text != "a"),
            board_container(space, user="é" * 128, session="😀" * 128),
        ]
        for number, rows in enumerate(containers):
            await shelf.beside(rows).put("k", b"%d" % number, expected=NO_ROW)
        for number, rows in enumerate(containers):
            assert [row.value for row in await shelf.beside(rows).all()] == [b"%d" % number]

    async def test_every_container_with_a_row_is_listed_once(self, shelf: Shelf, boards: Shelf) -> None:
        names = [f"t{number}" for number in range(7)]
        for name in names:
            await shelf.beside(table(shelf.rows.space, name)).put("k")
        other = table(replace(shelf.rows.space, project="p", surface="s", app="a"))
        await shelf.beside(other).put("k")
        await boards.put("k")
        expected = {table(shelf.rows.space, name) for name in names} | {other}
        for limit in (1, 3, 100):
            found = await shelf.containers(limit=limit)
            assert len(found) == len(expected)
            assert set(found) == expected
        assert await boards.containers() == [boards.rows]

    async def test_the_containers_of_a_user_are_those_of_nobody_else(self, boards: Shelf) -> None:
        space = boards.rows.space
        anns = [board_container(space, user="ann"), board_container(space, user="ann", session="s")]
        others = [board_container(space), board_container(space, user="an"), board_container(space, user="anna")]
        for rows in (*anns, *others):
            await boards.beside(rows).put("k")
        assert set(await boards.containers(user="ann")) == set(anns)
        assert set(await boards.containers(user="ann", limit=1)) == set(anns)
        assert await boards.containers(user="nobody") == []
        assert set(await boards.containers()) == {*anns, *others}

    async def test_what_holds_no_row_is_not_listed(self, shelf: Shelf) -> None:
        assert await shelf.containers() == []
        ends = await self.now(shelf) + timedelta(seconds=60)
        deleted, expired, kept = (shelf.beside(table(shelf.rows.space, name)) for name in ("a", "b", "c"))
        for one in (deleted, kept):
            await one.put("k")
        await expired.put("k", expires_at=ends)
        clock = table(shelf.rows.space, "clock")
        assert set(await shelf.containers()) == {deleted.rows, expired.rows, kept.rows, clock}
        await deleted.delete("k")
        await self.advance(60)
        assert set(await shelf.containers()) == {kept.rows, clock}
        await deleted.put("k")
        assert set(await shelf.containers()) == {deleted.rows, kept.rows, clock}

    async def test_no_tenant_lists_another_ones_containers(self, shelf: Shelf) -> None:
        await shelf.put("k")
        assert await shelf.beside(table(new_space())).containers() == []

    async def test_a_page_of_containers_has_a_size(self, shelf: Shelf) -> None:
        for limit, error in ((0, Invalid), (501, LimitExceeded)):
            with pytest.raises(error):
                await shelf.store.containers(Kind.TABLES, "t_acme", limit=limit, timeout_s=TIMEOUT_S)

    async def test_erasing_removes_every_row_and_the_name(self, shelf: Shelf) -> None:
        other = shelf.beside(table(shelf.rows.space, "other"))
        await other.put("k")
        keys = [f"k{number:03d}" for number in range(230)]
        await shelf.fill(keys)
        assert await shelf.store.erase(shelf.rows, timeout_s=TIMEOUT_S) == len(keys)
        assert await shelf.keys() == []
        assert await shelf.containers() == [other.rows]
        assert await other.keys() == ["k"]
        assert await shelf.store.erase(shelf.rows, timeout_s=TIMEOUT_S) == 0

    async def test_erasing_what_was_never_there_is_fine(self, shelf: Shelf) -> None:
        assert await shelf.store.erase(shelf.rows, timeout_s=TIMEOUT_S) == 0

    async def test_erasing_counts_what_was_there_and_removes_what_had_expired_too(self, shelf: Shelf) -> None:
        ends = await self.now(shelf) + timedelta(seconds=60)
        await shelf.write(put("a"), put("b"), put("c", expires_at=ends), put("d", expires_at=ends))
        await self.advance(60)
        assert await shelf.store.erase(shelf.rows, timeout_s=TIMEOUT_S) == 2
        await shelf.sweep()
        assert await shelf.keys() == []

    async def test_what_was_erased_begins_again(self, shelf: Shelf) -> None:
        old = await shelf.put("k")
        await shelf.store.erase(shelf.rows, timeout_s=TIMEOUT_S)
        await shelf.stale(put("k", expected=state(old)))
        new = await shelf.put("k", expected=NO_ROW)
        assert new.version == 1
        assert new.incarnation != old.incarnation
        assert await shelf.containers() == [shelf.rows]

    async def test_restoring_keeps_versions_incarnations_and_times(self, shelf: Shelf) -> None:
        now = await self.now(shelf)
        rows = [
            VersionedRow(
                key=f"k{number:02d}",
                value=b"[%d.0]" % number,
                version=number + 1,
                incarnation=f"{OTHERS[:-2]}{number:02d}",
                created_at=NOON + timedelta(microseconds=number),
                updated_at=NOON + timedelta(days=number, microseconds=1),
                expires_at=now + timedelta(days=1) if number % 2 else None,
            )
            for number in range(ROW_WRITES_MAX)
        ]
        await shelf.store.restore(shelf.rows, rows, timeout_s=TIMEOUT_S)
        assert await shelf.all() == rows
        assert shelf.rows in await shelf.containers()
        await shelf.store.restore(shelf.rows, rows, timeout_s=TIMEOUT_S)
        assert await shelf.all() == rows
        after = await shelf.put("k05", b"1", expected=state(rows[5]))
        assert (after.version, after.incarnation, after.created_at) == (7, rows[5].incarnation, rows[5].created_at)

    async def test_restoring_overwrites_what_is_there(self, shelf: Shelf) -> None:
        await shelf.put("k", b"1")
        there = await shelf.put("k", b"2")
        row = replace(there, value=b"3", version=9, incarnation=OTHERS, created_at=NOON, updated_at=NOON)
        await shelf.store.restore(shelf.rows, [row], timeout_s=TIMEOUT_S)
        assert await shelf.one("k") == row
        await shelf.stale(put("k", expected=state(there)))
        assert (await shelf.put("k")).version == 10

    async def test_what_was_restored_expires_and_is_swept(self, shelf: Shelf) -> None:
        there = await shelf.put("other")
        ends = there.updated_at + timedelta(seconds=60)
        await shelf.store.restore(shelf.rows, [replace(there, key="k", expires_at=ends)], timeout_s=TIMEOUT_S)
        assert await shelf.keys() == ["k", "other"]
        await self.advance(60)
        assert await shelf.keys() == ["other"]
        assert await shelf.sweep() >= 1

    async def test_51_rows_are_not_restored_at_once_and_none_is_nothing_to_do(self, shelf: Shelf) -> None:
        row = await shelf.put("k")
        rows = [replace(row, key=f"k{number}") for number in range(ROW_WRITES_MAX + 1)]
        with pytest.raises(LimitExceeded):
            await shelf.store.restore(shelf.rows, rows, timeout_s=TIMEOUT_S)
        with pytest.raises(Invalid):
            await shelf.store.restore(shelf.rows, [replace(row, version=0)], timeout_s=TIMEOUT_S)
        await shelf.store.restore(shelf.rows, [], timeout_s=TIMEOUT_S)
        assert await shelf.all() == [row]

    async def test_an_audit_record_is_kept_with_the_write_that_it_tells_of(self, shelf: Shelf) -> None:
        now = await self.now(shelf)
        records = [audit(shelf.rows, operation, now) for operation in ("put", "put", "delete", "never")]
        await shelf.write(put("a"), record=records[0])
        await shelf.write(put("a"), put("b"), record=records[1])
        with pytest.raises(StaleVersion):
            await shelf.write(put("a", expected=NO_ROW), record=records[3])
        await shelf.write(delete("a"), record=records[2])
        assert await shelf.audits() == records[:3]
        assert await shelf.audits(limit=2) == records[:2]
        assert await shelf.audits(after=records[0].audit_id, limit=1) == records[1:2]
        assert await shelf.audits(after=records[2].audit_id) == []
        assert await shelf.keys() == ["b"]

    async def test_audit_records_outlive_the_rows_and_go_with_an_erasing(self, shelf: Shelf) -> None:
        record = audit(shelf.rows, "put", await self.now(shelf))
        other = shelf.beside(table(shelf.rows.space, "other"))
        await shelf.write(put("a"), record=record)
        await other.write(delete("nothing"), record=replace(record, container="other"))
        await shelf.write(delete("a"))
        assert await shelf.audits() == [record]
        assert await other.audits() == [replace(record, container="other")]
        await shelf.store.erase(shelf.rows, timeout_s=TIMEOUT_S)
        assert await shelf.audits() == []
        assert len(await other.audits()) == 1

    async def test_a_page_of_audit_records_has_a_size(self, shelf: Shelf) -> None:
        for limit, error in ((0, Invalid), (501, LimitExceeded)):
            with pytest.raises(error):
                await shelf.audits(limit=limit)

    async def test_the_longest_names_are_names(self, shelf: Shelf) -> None:
        space = make_space(
            tenant="t_" + "x" * 62,
            mode="lab",
            env="dev",
            project="😀" * 128,
            surface="\U0010ffff" * 128,
            app="日" * 128,
        )
        one = shelf.beside(board_container(space, user="😀" * 128, session="é" * 128))
        two = shelf.beside(board_container(space, user="😀" * 128, session="é" * 127 + "e"))
        for here in (one, two):
            await here.store.erase(here.rows, timeout_s=TIMEOUT_S)
            await here.put("\U0010ffff" * 128, b"1", expected=NO_ROW)
        assert len(await one.all()) == len(await two.all()) == 1
