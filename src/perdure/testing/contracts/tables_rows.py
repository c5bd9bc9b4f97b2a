"""What tables promise about rows: versions, batches, lifetimes, isolation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from perdure.core.tables import Tables
from perdure.domain.kinds import Kind
from perdure.domain.table import IfVersion, Row, TableDelete, TablePut
from perdure.domain.versioned import KEY_BYTES_MAX, ROW_WRITES_MAX, ROWS_GET_MAX, VALUE_BYTES_MAX
from perdure.errors import BackendDown, Invalid, LimitExceeded, NotFound, OutcomeUnknown, StaleVersion, Throttled
from perdure.testing.contracts.routed_opening import OpenPlane, RoutedOpening, Town
from perdure.testing.contracts.stores import OpenAnother, new_tenant
from perdure.testing.watched import failing


class TablesOpening(RoutedOpening):
    """A tenant whose tables are on the backend."""

    kinds = (Kind.TABLES,)

    @pytest.fixture
    def tables(self, town: Town) -> Tables:
        """The tenant's tables."""
        return town.acme.tables


async def stale(tables: Tables, key: str, if_version: IfVersion, *, found: int) -> None:
    """A put and a deletion that expect what is not there say so, and change nothing."""
    before = await tables.find("t", key)
    with pytest.raises(StaleVersion) as caught:
        await tables.put("t", key, "never", if_version=if_version)
    assert (caught.value.detail["key"], caught.value.detail["found"]) == (key, found)
    if if_version != 0:
        with pytest.raises(StaleVersion) as caught:
            await tables.delete("t", key, if_version=if_version)
        assert (caught.value.detail["key"], caught.value.detail["found"]) == (key, found)
    assert await tables.find("t", key) == before


class TableRowsContract(TablesOpening):
    """Compare-and-swap and all that hangs on it."""

    async def test_r47_every_expectation_against_every_state(self, tables: Tables) -> None:
        await stale(tables, "a", 1, found=0)
        first = await tables.put("t", "a", 1, if_version=0)
        assert (first.version, first.value) == (1, 1)
        await stale(tables, "a", 0, found=1)
        await stale(tables, "a", 2, found=1)
        second = await tables.put("t", "a", 2, if_version=1)
        assert (second.version, second.incarnation) == (2, first.incarnation)
        await stale(tables, "a", first, found=2)
        third = await tables.put("t", "a", 3, if_version=second)
        assert (await tables.put("t", "a", 4)).version == third.version + 1 == 4
        await tables.delete("t", "a", if_version=4)
        assert await tables.find("t", "a") is None
        await stale(tables, "a", 4, found=0)
        await tables.delete("t", "a")

    async def test_r47_a_row_made_anew_is_told_apart_from_the_one_before(self, tables: Tables) -> None:
        old = await tables.put("t", "a", "old")
        await tables.delete("t", "a")
        new = await tables.put("t", "a", "new", if_version=0)
        assert (old.version, new.version) == (1, 1)
        assert old.incarnation != new.incarnation
        await stale(tables, "a", old, found=1)
        assert (await tables.put("t", "a", "newer", if_version=1)).version == 2

    async def test_r47_of_writers_that_read_the_same_version_one_wins(
        self, town: Town, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        other = await self.neighbour(town, open_another, open_plane)
        row = await town.acme.tables.put("t", "hot", 0)

        async def write(number: int) -> Row | None:
            try:
                return await (town.acme, other)[number % 2].tables.put("t", "hot", number, if_version=row)
            except StaleVersion:
                return None

        won = [found for found in await asyncio.gather(*(write(number) for number in range(8))) if found is not None]
        assert [found.version for found in won] == [2]
        assert await other.tables.get("t", "hot") == won[0]

    @pytest.mark.parametrize("bad", [True, False, -1, "1", 1.5])
    async def test_what_is_no_version_is_refused(self, tables: Tables, bad: object) -> None:
        with pytest.raises(Invalid):
            await tables.put("t", "a", 1, if_version=bad)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(Invalid):
            await tables.delete("t", "a", if_version=bad)  # type: ignore[arg-type]  # that is the point

    async def test_a_row_tells_when_it_was_made_and_changed(self, tables: Tables) -> None:
        first = await tables.put("t", "a", 1)
        await self.pass_time(60)
        second = await tables.put("t", "a", 2)
        assert second.created_at == first.created_at == first.updated_at
        assert second.updated_at >= first.updated_at + timedelta(seconds=60)
        assert await tables.get("t", "a") == second

    async def test_a_batch_is_written_whole_or_not_at_all(self, tables: Tables) -> None:
        await tables.put("t", "b", 1)
        rows = await tables.write("t", [TablePut(key="a", value=1), TableDelete(key="b"), TablePut(key="c", value=3)])
        assert [None if row is None else (row.key, row.value) for row in rows] == [("a", 1), None, ("c", 3)]
        with pytest.raises(StaleVersion) as caught:
            await tables.write("t", [TablePut(key="z", value=1), TablePut(key="a", value=2, if_version=7)])
        assert (caught.value.detail["key"], caught.value.detail["found"]) == ("a", 1)
        assert [row.key for row in (await tables.query("t")).items] == ["a", "c"]
        assert (await tables.get("t", "a")).value == 1

    async def test_a_batch_has_1_to_50_rows_of_different_keys(self, town: Town, tables: Tables) -> None:
        puts = [TablePut(key=f"k{number}", value=number) for number in range(ROW_WRITES_MAX)]
        assert len(await tables.write("t", puts)) == ROW_WRITES_MAX
        mark = len(town.backend.calls)
        with pytest.raises(LimitExceeded) as caught:
            await tables.write("t", [*puts, TablePut(key="more", value=1)])
        assert caught.value.detail["limit"] == "row_writes_max"
        with pytest.raises(Invalid):
            await tables.write("t", [])
        assert town.calls_since(mark) == []
        with pytest.raises(Invalid):
            await tables.write("t", [TablePut(key="twice", value=1), TableDelete(key="twice")])

    async def test_rows_are_found_many_at_a_time(self, tables: Tables) -> None:
        for number in range(3):
            await tables.put("t", f"k{number}", number)
        found = await tables.get_many("t", ["k2", "k0", "missing", "k2"])
        assert {key: row.value for key, row in found.items()} == {"k0": 0, "k2": 2}
        assert await tables.get_many("t", []) == {}
        with pytest.raises(LimitExceeded):
            await tables.get_many("t", [str(number) for number in range(ROWS_GET_MAX + 1)])
        with pytest.raises(NotFound):
            await tables.get("t", "missing")

    async def test_r51_tenants_projects_surfaces_and_apps_have_tables_of_their_own(self, town: Town) -> None:
        stranger = new_tenant()
        await self.settle_in(town, stranger)
        spaces = [
            town.acme,
            town.plane.tenant(stranger),
            town.plane.tenant(town.tenant, project="p2"),
            town.plane.tenant(town.tenant, surface="x"),
            town.plane.tenant(town.tenant, app="x"),
            town.plane.tenant(town.tenant, surface="x", app="x"),
        ]
        for number, space in enumerate(spaces):
            assert (await space.tables.put("t", "a", number, if_version=0)).version == 1
        for number, space in enumerate(spaces):
            assert (await space.tables.get("t", "a")).value == number
            assert [row.value for row in (await space.tables.query("t")).items] == [number]
            assert await space.tables.find("other", "a") is None
        await town.acme.tables.delete("t", "a")
        assert (await spaces[1].tables.get("t", "a")).value == 1

    async def test_r52_an_expired_row_is_gone_at_once_for_everybody(self, town: Town, tables: Tables) -> None:
        kept = await tables.put("t", "kept", 1, ttl_s=120)
        old = await tables.put("t", "gone", 1, ttl_s=60)
        assert old.expires_at == town.clock.now() + timedelta(seconds=60)
        await self.pass_time(59)
        assert await tables.get("t", "gone") == old
        await self.pass_time(2)
        assert await tables.find("t", "gone") is None
        assert [row.key for row in (await tables.query("t")).items] == [kept.key]
        assert set(await tables.get_many("t", ["gone", "kept"])) == {"kept"}
        await stale(tables, "gone", old, found=0)
        new = await tables.put("t", "gone", 2, if_version=0)
        assert (new.version, new.expires_at) == (1, None)
        assert new.incarnation != old.incarnation

    async def test_a_lifetime_is_that_of_the_last_put(self, town: Town, tables: Tables) -> None:
        await tables.put("t", "a", 1, ttl_s=60)
        row = await tables.put("t", "a", 2)
        assert (row.version, row.expires_at) == (2, None)
        ends = town.clock.now() + timedelta(seconds=60)
        assert (await tables.put("t", "a", 3, expires_at=ends)).expires_at == ends
        await self.pass_time(61)
        assert await tables.find("t", "a") is None

    async def test_what_is_no_lifetime_is_refused(self, town: Town, tables: Tables) -> None:
        now = town.clock.now()
        for bad in (0, -1, float("nan"), float("inf"), 1e12):
            with pytest.raises(Invalid):
                await tables.put("t", "a", 1, ttl_s=bad)
        with pytest.raises(Invalid):
            await tables.put("t", "a", 1, ttl_s=5, expires_at=now)
        with pytest.raises(Invalid):
            await tables.put("t", "a", 1, expires_at=now.replace(tzinfo=None))

    async def test_r33_an_oversize_value_or_key_is_refused_before_the_backend_is_asked(
        self, town: Town, tables: Tables
    ) -> None:
        mark = len(town.backend.calls)
        with pytest.raises(LimitExceeded) as caught:
            await tables.put("t", "a", "x" * (VALUE_BYTES_MAX - 1))
        assert caught.value.detail == {
            "limit": "value_bytes_max",
            "allowed": VALUE_BYTES_MAX,
            "actual": VALUE_BYTES_MAX + 1,
        }
        with pytest.raises(LimitExceeded):
            await tables.put("t", "k" * (KEY_BYTES_MAX + 1), 1)
        for key in ("", "a\0b", "\ud800"):
            with pytest.raises(Invalid):
                await tables.put("t", key, 1)
        for name in ("", "Upper", "1st", "a-b", "a/b", "x" * 64, "a\n"):
            with pytest.raises(Invalid):
                await tables.put(name, "a", 1)
        assert town.calls_since(mark) == []
        assert len(str((await tables.put("t", "a", "x" * (VALUE_BYTES_MAX - 2))).value)) == VALUE_BYTES_MAX - 2

    async def test_r53_what_stays_throttled_is_surfaced_with_when_to_come_back(
        self, town: Town, tables: Tables
    ) -> None:
        town.backend.before = failing(Throttled("slow down", retry_after_s=1.5), among="rows.")
        for call in (tables.put("t", "a", 1), tables.query("t"), tables.find("t", "a")):
            with pytest.raises(Throttled) as caught:
                await call
            assert caught.value.code == "tables.throttled"
            assert caught.value.detail == {"retry_after_s": 1.5, "kind": "tables", "backend": "main"}

    async def test_r37_a_backend_that_is_down_is_an_error_and_never_nothing(self, town: Town, tables: Tables) -> None:
        await tables.put("t", "a", 1)
        town.backend.before = failing(BackendDown("gone"), among="rows.")
        for call in (tables.find("t", "a"), tables.query("t"), tables.get_many("t", ["a"]), tables.delete("t", "a")):
            with pytest.raises(BackendDown) as caught:
                await call
            assert caught.value.code == "tables.backend_unavailable"

    async def test_r28_a_put_whose_answer_was_lost_can_be_repeated_by_version(self, town: Town, tables: Tables) -> None:
        row = await tables.put("t", "a", 1)
        town.backend.after = failing(OutcomeUnknown("lost"), among="rows.write", times=1)
        with pytest.raises(OutcomeUnknown):
            await tables.put("t", "a", 2, if_version=row)
        with pytest.raises(StaleVersion) as caught:
            await tables.put("t", "a", 2, if_version=row)
        assert caught.value.detail["found"] == 2
        assert await tables.get("t", "a") == replace(
            row, value=2, version=2, updated_at=(await tables.get("t", "a")).updated_at
        )
