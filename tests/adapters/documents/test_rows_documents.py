"""Rows on documents: what only the documents show."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import pytest

from perdure.adapters.documents import anchors, keys
from perdure.adapters.documents.row_documents import first_version, kept_row
from perdure.adapters.documents.together import TOGETHER_MAX, together
from perdure.domain.versioned import PutRow
from perdure.errors import Corrupt, TimedOut
from perdure.ports.document_rules import VERSION_MAX
from perdure.ports.documents import Document, DocumentDriver, Expect, Put
from perdure.testing.contracts.rows_opening import Shelf, put, table
from perdure.testing.contracts.stores import new_space
from perdure.testing.driver_faults import FaultyDriver
from perdure.testing.environment import START_DEFAULT
from tests.support.document_stores import World

TIMEOUT_S: Final = 5.0
ITEMS: Final = table(new_space(tenant="t_acme"))
PARTITION: Final = keys.rows_partition(ITEMS)


def kept(world: World, stem: str) -> list[Document]:
    """Documents whose sort keys begin so, of all partitions."""
    partitions = world.store._partitions.values()
    return [one for partition in partitions for sort, one in partition.documents.items() if sort.startswith(stem)]


async def test_each_mode_and_environment_has_rows_of_its_own() -> None:
    world = World()
    async with world.client() as lab, world.client(mode="saas") as saas, world.client(env="prod") as prod:
        shelves = [
            Shelf(store=client.rows, rows=table(new_space(tenant="t_acme", mode=mode, env=env)))
            for client, mode, env in ((lab, "lab", "dev"), (saas, "saas", "dev"), (prod, "lab", "prod"))
        ]
        for number, shelf in enumerate(shelves):
            await shelf.put("k", b"%d" % number, expected=0, expires_at=START_DEFAULT + timedelta(seconds=1))
        for number, shelf in enumerate(shelves):
            assert [row.value for row in await shelf.all()] == [b"%d" % number]
            assert await shelf.containers() == [shelf.rows]
        world.clock.advance(1)
        assert [await shelf.sweep() for shelf in shelves] == [1, 1, 1]


@pytest.mark.parametrize("body", [b"{}", b"sw0rdfish", b'{"key":"a","value":1}', b'{"key":"\xff sw0rdfish","value":1}'])
async def test_a_document_that_is_no_row_is_an_error_that_shows_nothing_of_it_and_can_be_erased(body: bytes) -> None:
    world = World()
    async with world.client() as client:
        shelf = Shelf(store=client.rows, rows=ITEMS)
        await shelf.fill(["a", "b"])
        driver = world.driver()
        await driver.open()
        bad = Put(sort=keys.row_sort("a"), version=1, body=body, expect=Expect.ANY)
        await driver.commit(PARTITION, [bad], commit_id="garbage", timeout_s=TIMEOUT_S)
        for attempt in (partial(shelf.find, "a"), shelf.page, partial(shelf.put, "a"), shelf.containers):
            with pytest.raises(Corrupt) as caught:
                await attempt()
            assert "sw0rdfish" not in f"{caught.value} {caught.value.detail}"
        assert (await shelf.one("b")).version == 1
        await client.rows.erase(ITEMS, timeout_s=TIMEOUT_S)
        assert await shelf.keys() == []


async def test_the_version_of_a_document_grows_over_all_lives_of_its_row() -> None:
    world = World()
    versions: list[int] = []
    async with world.client() as client:
        shelf = Shelf(store=client.rows, rows=ITEMS)
        for _ in range(3):
            for _ in range(3):
                await shelf.put("k")
                versions += [document.version for document in kept(world, "r.")]
            await shelf.delete("k")
            world.clock.advance(0.001)
    assert versions == sorted(set(versions))


def test_the_first_version_of_a_document_is_a_version_for_a_long_time() -> None:
    far = START_DEFAULT + timedelta(days=365 * 80)
    assert 0 < first_version("a", START_DEFAULT) < first_version("b", far) <= VERSION_MAX
    assert first_version("a", START_DEFAULT) != first_version("b", START_DEFAULT)


async def test_a_row_has_one_pointer_however_often_its_life_is_made_longer() -> None:
    world = World()
    async with world.client() as client:
        shelf = Shelf(store=client.rows, rows=ITEMS)
        for step in range(10):
            await shelf.put("k", expires_at=START_DEFAULT + timedelta(seconds=100 + step))
        assert len(kept(world, "p.")) == 1
        world.clock.advance(100)
        assert await shelf.sweep() == 0
        assert len(kept(world, "p.")) == 1
        world.clock.advance(9)
        assert await shelf.sweep() == 1
        assert kept(world, "p.") == kept(world, "r.") == []


async def test_a_row_whose_pointer_went_ahead_of_it_gets_another_when_its_life_is_made_shorter() -> None:
    world = World()
    async with world.client() as client:
        shelf = Shelf(store=client.rows, rows=ITEMS)
        for end in (100, 300):
            await shelf.put("k", expires_at=START_DEFAULT + timedelta(seconds=end))
        world.clock.advance(100)
        assert await shelf.sweep() == 0
        await shelf.put("k", expires_at=START_DEFAULT + timedelta(seconds=200))
        world.clock.advance(100)
        assert await shelf.sweep() == 1


async def test_erasing_leaves_not_a_document() -> None:
    world = World()
    async with world.client() as client:
        shelf = Shelf(store=client.rows, rows=ITEMS)
        await shelf.write(*(put(f"k{n}", expires_at=START_DEFAULT + timedelta(days=n + 1)) for n in range(30)))
        await client.rows.erase(ITEMS, timeout_s=TIMEOUT_S)
        assert kept(world, "") == []


async def test_writers_of_one_process_that_begin_together_look_for_the_table_once() -> None:
    world = World()
    operations: list[Counter[str]] = []

    def wrap(driver: DocumentDriver) -> DocumentDriver:
        counting = FaultyDriver(driver)
        operations.append(counting.operations)
        return counting

    async with world.client(wrap) as client:
        shelf = Shelf(store=client.rows, rows=ITEMS)
        await asyncio.gather(*(shelf.put(f"k{number}", expected=0) for number in range(10)))
        assert operations[0] == {"scan": 1, "commit": 3 + 10}
    assert len(kept(world, "n.")) == 1


async def test_a_process_remembers_so_many_tables_and_finds_the_others_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "KNOWN_MAX", 2)
    world = World()
    async with world.client() as client:
        shelves = [Shelf(store=client.rows, rows=table(ITEMS.space, f"t{n}")) for n in range(3)]
        for round_ in range(3):
            for shelf in shelves:
                await shelf.put(f"k{round_}")
        assert len(kept(world, "n.")) == 3
        assert [await shelf.keys() for shelf in shelves] == [["k0", "k1", "k2"]] * 3


async def test_a_writer_that_is_always_too_late_is_told_so_in_time() -> None:
    world = World()
    async with world.client() as other:

        class Meddling(FaultyDriver):
            """Somebody else writes the row after every read."""

            async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
                found = await super().get(partition, sorts, timeout_s=timeout_s)
                await other.rows.write(ITEMS, [PutRow(key="k", value=b"1")], timeout_s=TIMEOUT_S)
                return found

        async with world.client(Meddling) as client:
            with pytest.raises(TimedOut):
                await client.rows.write(ITEMS, [PutRow(key="k", value=b"2")], timeout_s=TIMEOUT_S)
    (document,) = kept(world, "r.")
    assert kept_row(document).row.value == b"1"


async def test_so_many_are_done_at_the_same_time_and_no_more() -> None:
    under_way, most = 0, 0

    async def count(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return number

    numbers = list(range(3 * TOGETHER_MAX + 1))
    assert list(await together([partial(count, number) for number in numbers])) == numbers
    assert most == TOGETHER_MAX


async def test_what_was_begun_together_ends_before_an_error_is_raised() -> None:
    ended: list[int] = []

    async def end(number: int) -> None:
        if number == 0:
            raise TimedOut("the first")
        await asyncio.sleep(0)
        ended.append(number)

    with pytest.raises(TimedOut):
        await together([partial(end, number) for number in range(TOGETHER_MAX + 1)])
    assert ended == list(range(1, TOGETHER_MAX))
