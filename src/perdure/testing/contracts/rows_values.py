"""What goes in comes out: values to the byte, keys to the character, and both up to their limits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from perdure.domain.versioned import KEY_BYTES_MAX, ROW_WRITES_BYTES_MAX, ROWS_GET_MAX, VALUE_BYTES_MAX, PutRow
from perdure.errors import Invalid, LimitExceeded
from perdure.testing.contracts.rows_opening import RowsOpening, Shelf, delete, put, text
from perdure.testing.contracts.stores import TIMEOUT_S

VALUES: Final = (
    b"null",
    b"true",
    b"0",
    b"-0",
    b"1",
    b"1.0",
    b"1.00",
    b"1e2",
    b"-1.5E-300",
    b"9007199254740993",
    b"123456789012345678901234567890",
    b"0.1000000000000000055511151231257827",
    b'""',
    b'"\\u0041\\/\\n\\"\\\\\\ud83d\\ude00"',
    b'"\\u0000"',
    '"naïve café 日本 😀 \u2028"'.encode(),
    b"[]",
    b"{}",
    b'{"b":1,"a":2,"B":3}',
    b'{"a":1,"a":2}',
    b'{ "spaced" : [ 1 , 2 ] }',
    b'[[[[{"deep":[null,[true,[{}]]]}]]]]',
    b'"' + b'\\"' * 1_000 + b'"',
    b'{"value":{"value":1},",\\"value\\":":","}',
)
SYSTEM_NAMES: Final = (
    b'{"id":1,"key":"other","pk":"x","sk":"y","_etag":"z","_ts":0,"_rid":"r","ttl":1,"expires_at":0,"version":-1,'
    b'"value":null,"body":[],"commit_id":null,"__name__":"n","created_at":5,"incarnation":"no"}'
)
KEYS: Final = (
    "a/b",
    "a#b",
    "a\\b",
    "a?b",
    "a b",
    " ",
    ".",
    "..",
    "__id__",
    "~",
    "~~",
    "-",
    "%",
    "'; drop table rows",
    "\t\n\r",
    "\x01",
    "\x7f",
    "é",
    "e\u0301",
    "ß",
    "A",
    "日本",
    "\ue000",
    "\uffff",
    "😀",
    "\U0010ffff",
    "\U0010ffff\U0010ffff",
)
NOT_JSON: Final = (b"", b"nul", b"{'a':1}", b"[1,]", b"1 2", b"NaN", b"Infinity", b'"\xff"', b"01", b"[" * 100_000)


class RowValuesContract(RowsOpening):
    """Exact values, any keys, and the limits of both."""

    @pytest.mark.parametrize("value", [*VALUES, SYSTEM_NAMES], ids=repr)
    async def test_a_value_comes_back_byte_for_byte(self, shelf: Shelf, value: bytes) -> None:
        assert (await shelf.put("a", value)).value == value
        assert (await shelf.one("a")).value == value
        assert [row.value for row in await shelf.all()] == [value]

    async def test_every_value_of_one_write_comes_back_byte_for_byte(self, shelf: Shelf) -> None:
        values = {f"k{number:02d}": value for number, value in enumerate((*VALUES, SYSTEM_NAMES))}
        await shelf.write(*(put(key, value) for key, value in values.items()))
        found = await shelf.store.get(shelf.rows, list(values), timeout_s=TIMEOUT_S)
        assert {key: row.value for key, row in found.items()} == values
        assert {row.key: row.value for row in await shelf.all()} == values

    async def test_every_key_is_itself_and_no_other(self, shelf: Shelf) -> None:
        for number, key in enumerate(KEYS):
            assert (await shelf.put(key, b"%d" % number)).version == 1
        found = await shelf.store.get(shelf.rows, KEYS, timeout_s=TIMEOUT_S)
        assert {key: row.value for key, row in found.items()} == {key: b"%d" % n for n, key in enumerate(KEYS)}
        assert all(row.key == key for key, row in found.items())
        assert await shelf.keys() == sorted(KEYS, key=str.encode)

    async def test_a_row_looks_the_same_however_it_is_read(self, shelf: Shelf) -> None:
        ends = datetime(2999, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)
        written = await shelf.put("a", b"[1.0]", expires_at=ends)
        assert written.expires_at == ends
        assert await shelf.one("a") == written
        assert list((await shelf.page()).rows) == [written]
        assert list((await shelf.page(reverse=True)).rows) == [written]

    async def test_a_get_gives_what_is_there_and_nothing_else(self, shelf: Shelf) -> None:
        await shelf.fill(["a", "c"])
        found = await shelf.store.get(shelf.rows, ["c", "b", "a", "a"], timeout_s=TIMEOUT_S)
        assert sorted(found) == ["a", "c"]
        assert await shelf.store.get(shelf.rows, [], timeout_s=TIMEOUT_S) == {}

    async def test_100_rows_are_read_at_once_and_101_are_refused(self, shelf: Shelf) -> None:
        keys = [f"k{number:03d}" for number in range(ROWS_GET_MAX)]
        await shelf.fill(keys)
        assert sorted(await shelf.store.get(shelf.rows, keys, timeout_s=TIMEOUT_S)) == keys
        with pytest.raises(LimitExceeded) as caught:
            await shelf.store.get(shelf.rows, [*keys, "more"], timeout_s=TIMEOUT_S)
        assert caught.value.detail == {"limit": "rows_get_max", "allowed": 100, "actual": 101}

    @pytest.mark.parametrize("key", ["k" * KEY_BYTES_MAX, "😀" * (KEY_BYTES_MAX // 4), "\U0010ffff" * 128])
    async def test_a_key_of_512_bytes_is_a_key(self, shelf: Shelf, key: str) -> None:
        await shelf.put(key, b"1")
        await shelf.put(key, b"2", expected=1)
        assert (await shelf.one(key)).value == b"2"
        assert await shelf.keys(key) == [key]
        assert list((await shelf.page(after=key)).rows) == []
        await shelf.delete(key)

    async def test_50_rows_with_the_longest_keys_and_the_most_bytes_are_written_at_once(self, shelf: Shelf) -> None:
        keys = [f"{number:02d}".ljust(KEY_BYTES_MAX, "k") for number in range(50)]
        size, rest = divmod(ROW_WRITES_BYTES_MAX, len(keys))
        await shelf.write(*(put(key, text(size + (rest if key == keys[0] else 0))) for key in keys))
        assert await shelf.keys() == keys
        await shelf.write(*(delete(key) for key in keys))

    async def test_a_key_of_513_bytes_is_refused_everywhere(self, shelf: Shelf) -> None:
        key = "é" * 256 + "k"
        for attempt in (shelf.write(put(key)), shelf.write(delete(key)), shelf.find(key), shelf.page(key)):
            with pytest.raises(LimitExceeded) as caught:
                await attempt
            assert caught.value.detail == {"limit": "key_bytes_max", "allowed": 512, "actual": 513}
        with pytest.raises(LimitExceeded):
            await shelf.page(after=key)

    @pytest.mark.parametrize("key", ["", "\0", "a\0b", "\ud800", "a\udfff"], ids=ascii)
    async def test_what_is_no_key_is_refused(self, shelf: Shelf, key: str) -> None:
        for attempt in (shelf.write(put(key)), shelf.write(delete(key)), shelf.find(key), shelf.page(after=key)):
            with pytest.raises(Invalid):
                await attempt
        if key:
            with pytest.raises(Invalid):
                await shelf.page(key)

    @pytest.mark.parametrize("value", [text(VALUE_BYTES_MAX), b'"' + b'\\"' * (VALUE_BYTES_MAX // 2 - 1) + b'"'])
    async def test_a_value_of_the_greatest_size_is_kept(self, shelf: Shelf, value: bytes) -> None:
        await shelf.put("k" * KEY_BYTES_MAX, value)
        assert (await shelf.one("k" * KEY_BYTES_MAX)).value == value

    async def test_a_larger_value_is_refused(self, shelf: Shelf) -> None:
        with pytest.raises(LimitExceeded) as caught:
            await shelf.write(put("a"), put("b", text(VALUE_BYTES_MAX + 1)))
        assert caught.value.detail == {"limit": "value_bytes_max", "allowed": 262_144, "actual": 262_145}
        assert await shelf.keys() == []

    async def test_a_write_of_the_greatest_size_is_kept_and_a_larger_one_refused(self, shelf: Shelf) -> None:
        quarter = ROW_WRITES_BYTES_MAX // 4
        writes: list[PutRow] = [put(f"k{number}", text(quarter)) for number in range(4)]
        await shelf.write(*writes)
        assert [len(row.value) for row in await shelf.all()] == [quarter] * 4
        with pytest.raises(LimitExceeded) as caught:
            await shelf.write(*writes, put("more", b"1"))
        assert caught.value.detail == {"limit": "row_writes_bytes_max", "allowed": 1_048_576, "actual": 1_048_577}

    @pytest.mark.parametrize("value", NOT_JSON, ids=lambda value: ascii(value[:12]))
    async def test_what_is_not_json_is_refused(self, shelf: Shelf, value: bytes) -> None:
        with pytest.raises(Invalid):
            await shelf.write(put("a"), put("b", value))
        assert await shelf.keys() == []

    async def test_a_time_without_a_zone_is_refused(self, shelf: Shelf) -> None:
        with pytest.raises(Invalid):
            await shelf.write(put("a", expires_at=datetime(2999, 1, 1)))  # noqa: DTZ001 - that is what is refused
