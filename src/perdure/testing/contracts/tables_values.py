"""What tables promise about values and ranges: the same answers, byte for byte and in the same order, everywhere."""

from __future__ import annotations

import math
from typing import Final

import pytest

from perdure.core.tables import Tables
from perdure.domain.canonical import JsonValue
from perdure.domain.table import Row, TablePut
from perdure.errors import Invalid, LimitExceeded
from perdure.testing.contracts.routed_opening import Town
from perdure.testing.contracts.stores import new_tenant
from perdure.testing.contracts.tables_rows import TablesOpening

# Ordered by the bytes of their UTF-8, which is by code points: no engine's own idea of order survives this list.
KEYS: Final = (
    "\x01",
    " ",
    "!",
    "#",
    "%2F",
    "/",
    "0",
    "1",
    "10",
    "2",
    "A",
    "Z",
    "\\",
    "_",
    "a",
    "a ",
    "a#b",
    "a/b",
    "a/b/c",
    "aa",
    "ab",
    "z",
    "~",
    "~a",
    "\x7f",
    "é",
    "ÿ",
    "Ω",
    "日本",
    "\ue000",
    "\uffff",
    "\U00010000",
    "🚀",
    "\U0010ffff",
    "\U0010ffff\U0010ffff",
    "\U0010ffffa",
)

VALUES: Final[tuple[JsonValue, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    2**53 + 1,
    -(2**63),
    2**64,
    10**40,
    0.1,
    -0.0,
    1e300,
    5e-324,
    1.0,
    1e16,
    "",
    "nul \0 and \u2028 and 🚀",
    [],
    {},
    [None, [1, [2.5, {"": {"a b": [False]}}]]],
    {
        "id": 1,
        "key": 2,
        "pk": 3,
        "sk": 4,
        "_etag": 5,
        "ttl": 6,
        "version": 7,
        "p": 8,
        "s": 9,
        "_ts": 10,
        "expires_at": 11,
    },
    {"z": 1, "a": 2, "": 3, "Ω": 4, "a.b": 5, "`": 6, "__name__": 7, "$ref": 8},
)


async def everything(tables: Tables, prefix: str = "", *, limit: int = 100, reverse: bool = False) -> list[Row]:
    """All rows of a prefix, page after page."""
    found: list[Row] = []
    cursor: str | None = None
    while True:
        page = await tables.query("t", prefix=prefix, cursor=cursor, limit=limit, reverse=reverse)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


async def keys(tables: Tables, prefix: str = "", *, limit: int = 100, reverse: bool = False) -> list[str]:
    """All keys of a prefix."""
    return [row.key for row in await everything(tables, prefix, limit=limit, reverse=reverse)]


class TableValuesContract(TablesOpening):
    """Values as they were put, and rows in one order."""

    async def test_r46_keys_come_in_the_order_of_their_bytes_with_any_prefix(self, tables: Tables) -> None:
        ordered = sorted(KEYS, key=str.encode)
        await tables.write("t", [TablePut(key=key, value=key) for key in KEYS])
        assert await keys(tables) == ordered
        assert await keys(tables, reverse=True, limit=7) == ordered[::-1]
        assert [row.value for row in await everything(tables, limit=1)] == ordered
        prefixes = (
            "a",
            "a/",
            "~",
            "é",
            "🚀",
            "\U0010ffff",
            "\uffff",
            "\x01",
            "nothing",
            "%",
            "_",
            "\U0010ffff\U0010ffff",
        )
        for prefix in prefixes:
            assert await keys(tables, prefix, limit=2) == [key for key in ordered if key.startswith(prefix)], prefix
            assert await keys(tables, prefix, reverse=True, limit=3) == [
                key for key in reversed(ordered) if key.startswith(prefix)
            ]

    async def test_r49_r50_every_value_comes_back_as_it_was_put(self, tables: Tables) -> None:
        for number, value in enumerate(VALUES):
            put = await tables.put("t", f"{number:03d}", value)
            assert repr(put.value) == repr(value)
        rows = await everything(tables)
        # repr tells 1 from 1.0 from True, and -0.0 from 0.0, and keeps the order of fields.
        assert [repr(row.value) for row in rows] == [repr(value) for value in VALUES]

    @pytest.mark.parametrize("bad", [math.nan, math.inf, {1: 2}, {"a": b"x"}, {"a": object()}, "\ud800", {"\ud800": 1}])
    async def test_what_is_no_json_is_refused(self, tables: Tables, bad: object) -> None:
        with pytest.raises(Invalid):
            await tables.put("t", "a", bad)  # type: ignore[arg-type]  # that is the point
        assert await tables.find("t", "a") is None

    async def test_a_value_that_is_too_deep_is_refused(self, tables: Tables) -> None:
        deep: JsonValue = []
        for _ in range(150):
            deep = [deep]
        with pytest.raises(LimitExceeded):
            await tables.put("t", "a", deep)

    async def test_r48_rows_nobody_touches_come_exactly_once_while_others_are_written(self, tables: Tables) -> None:
        still = [f"k{number:02d}" for number in range(0, 40, 2)]
        await tables.write("t", [TablePut(key=key, value=1) for key in still])
        found: list[str] = []
        cursor: str | None = None
        step = 0
        while True:
            page = await tables.query("t", cursor=cursor, limit=3)
            found += [row.key for row in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
            # Before, behind and at the place where reading goes on.
            await tables.put("t", f"k{step:02d}x", 1)
            await tables.put("t", f"k{39 - step:02d}x", 1)
            await tables.put("t", f"{found[-1]}x", 1)
            await tables.delete("t", f"k{step:02d}x")
            step += 1
        assert [key for key in found if not key.endswith("x")] == still
        assert len(found) == len(set(found))

    async def test_r48_a_cursor_goes_on_after_a_row_that_was_deleted(self, tables: Tables) -> None:
        await tables.write("t", [TablePut(key=key, value=1) for key in "abcd"])
        page = await tables.query("t", limit=2)
        await tables.delete("t", "b")
        assert [row.key for row in (await tables.query("t", cursor=page.next_cursor)).items] == ["c", "d"]

    async def test_a_page_of_large_values_is_cut_and_goes_on(self, tables: Tables) -> None:
        text = "x" * 250_000
        for number in range(20):
            await tables.put("t", f"{number:02d}", text)
        page = await tables.query("t")
        assert page.next_cursor is not None
        assert await keys(tables) == [f"{number:02d}" for number in range(20)]

    async def test_a_cursor_is_of_one_question_and_one_tenant(self, town: Town, tables: Tables) -> None:
        await tables.write("t", [TablePut(key=key, value=1) for key in ("a1", "a2", "a3")])
        cursor = (await tables.query("t", prefix="a", limit=1)).next_cursor
        assert cursor is not None
        stranger = new_tenant()
        await self.settle_in(town, stranger)
        others = (
            tables.query("t", cursor=cursor),
            tables.query("t", prefix="a", cursor=cursor, reverse=True),
            tables.query("u", prefix="a", cursor=cursor),
            town.plane.tenant(stranger).tables.query("t", prefix="a", cursor=cursor),
            town.plane.tenant(town.tenant, project="p2").tables.query("t", prefix="a", cursor=cursor),
            tables.query("t", prefix="a", cursor=cursor + "x"),
            tables.query("t", prefix="a", cursor="nonsense"),
        )
        for query in others:
            with pytest.raises(Invalid):
                await query

    async def test_r24_the_longest_and_strangest_keys_have_cursors(self, tables: Tables) -> None:
        strange = sorted(
            ("\x01" * 512, "\x1f" * 511 + "x", "🚀" * 128, '"' * 512, "\\" * 512, "x" * 512), key=str.encode
        )
        await tables.write("t", [TablePut(key=key, value=1) for key in strange])
        assert await keys(tables, limit=1) == strange
        assert await keys(tables, strange[0][:400], limit=1) == strange[:1]

    async def test_a_page_has_1_to_500_rows(self, tables: Tables) -> None:
        with pytest.raises(Invalid):
            await tables.query("t", limit=0)
        with pytest.raises(LimitExceeded):
            await tables.query("t", limit=501)

    async def test_r26_a_page_is_one_call(self, town: Town, tables: Tables) -> None:
        await tables.write("t", [TablePut(key=f"{number:02d}", value=1) for number in range(30)])
        mark = len(town.backend.calls)
        await everything(tables, limit=10)
        assert town.calls_since(mark) == ["rows.query"] * 3
