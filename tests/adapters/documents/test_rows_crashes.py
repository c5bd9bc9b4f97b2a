"""A process that dies before or after any operation: nothing acknowledged is lost, nothing half is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal

import pytest

from perdure.domain.container import Container, make_space
from perdure.domain.kinds import Kind
from perdure.domain.versioned import NO_ROW, DeleteRow, PutRow, RowVersion, VersionedRow
from perdure.testing.contracts.stores import audit
from perdure.testing.driver_faults import Crash, Crashed, FaultyDriver
from perdure.testing.environment import START_DEFAULT
from tests.support.document_stores import Client, World

TIMEOUT_S: Final = 5.0
OPERATIONS_MAX: Final = 60  # far more than any call needs; a sweep that comes here is wrong
ENDS: Final = START_DEFAULT + timedelta(seconds=100)
ITEMS: Final = Container(
    kind=Kind.TABLES,
    space=make_space(tenant="t_acme", mode="lab", env="dev", project="default"),
    name=("items",),
)
RECORD: Final = audit(ITEMS, "write", START_DEFAULT)

Action = Callable[[Client], Awaitable[object]]
Moment = Literal["before", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything that another client sees."""

    rows: dict[str, VersionedRow]
    audits: int
    is_listed: bool


async def look(world: World) -> Seen:
    async with world.client() as client:
        page = await client.rows.query(ITEMS, limit=500, timeout_s=TIMEOUT_S)
        listed, mark = await client.rows.containers(Kind.TABLES, "t_acme", limit=10, timeout_s=TIMEOUT_S)
        audits = await client.rows.audits(ITEMS, limit=10, timeout_s=TIMEOUT_S)
        assert mark is None
        assert not page.more
        seen = Seen(rows={row.key: row for row in page.rows}, audits=len(audits), is_listed=list(listed) == [ITEMS])
        # A name is listed if, and only if, something is under it.
        assert seen.is_listed == bool(seen.rows)
        return seen


async def dies(world: World, action: Action, at: int, moment: Moment) -> bool:
    """Do it with a process that dies at its ``at``-th operation; False if it needed fewer."""
    async with world.client(lambda driver: FaultyDriver(driver, crash=Crash(at=at, moment=moment))) as client:
        try:
            await action(client)
        except Crashed:
            return True
        return False


async def made(*actions: Action, advance_s: float = 0.0) -> World:
    world = World()
    async with world.client() as client:
        for action in actions:
            await action(client)
    world.clock.advance(advance_s)
    return world


async def fill(client: Client) -> None:
    await client.rows.write(
        ITEMS,
        [PutRow(key=key, value=b"1", expires_at=ENDS if key == "b" else None) for key in ("a", "b", "c")],
        timeout_s=TIMEOUT_S,
    )


def put(key: str, value: bytes = b"2", *, expected: RowVersion | None = None, ends: bool = False) -> PutRow:
    return PutRow(key=key, value=value, expected=expected, expires_at=ENDS if ends else None)


def write(*writes: PutRow | DeleteRow) -> Action:
    async def action(client: Client) -> object:
        return await client.rows.write(ITEMS, writes, audit=RECORD, timeout_s=TIMEOUT_S)

    return action


async def erase(client: Client) -> object:
    return await client.rows.erase(ITEMS, timeout_s=TIMEOUT_S)


async def sweep(client: Client) -> object:
    return await client.rows.sweep(limit=100, timeout_s=TIMEOUT_S)


ANYWHERE: Final = {
    "put": write(put("n")),
    "first puts": write(put("n", expected=NO_ROW), put("m", ends=True)),
    "overwriting": write(put("a"), put("b"), put("c")),
    "deletions": write(DeleteRow(key="a"), DeleteRow(key="nothing")),
}
OVER_ROWS: Final = {
    "mixed": write(put("a", expected=RowVersion(version=1)), put("n", ends=True), DeleteRow(key="c")),
    "conditional deletions": write(DeleteRow(key="a"), DeleteRow(key="b", expected=RowVersion(version=1))),
}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", ANYWHERE)
async def test_a_write_into_nothing_is_done_or_not_done_wherever_it_is_cut(name: str, moment: Moment) -> None:
    await cut_everywhere(ANYWHERE[name], moment)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", [*ANYWHERE, *OVER_ROWS])
async def test_a_write_over_rows_is_done_or_not_done_wherever_it_is_cut(name: str, moment: Moment) -> None:
    await cut_everywhere((ANYWHERE | OVER_ROWS)[name], moment, fill)


async def cut_everywhere(action: Action, moment: Moment, *setup: Action) -> None:
    """Cut a write at each of its operations, and do it again where it was not done."""
    done = values(await look(await made(*setup, action)))
    outcomes: set[bool] = set()
    for at in range(1, OPERATIONS_MAX):
        world = await made(*setup)
        before = values(await look(world))
        has_died = await dies(world, action, at, moment)
        after = values(await look(world))
        if not has_died:
            assert after == done
            assert outcomes == ({False, True} if moment == "after" else {False})
            return
        assert after in (before, done)
        outcomes.add(after == done)
        if after == before:
            async with world.client() as client:
                await action(client)
            assert values(await look(world)) == done
    pytest.fail("a write that never ends")


def values(seen: Seen) -> object:
    return {key: (row.value, row.version) for key, row in seen.rows.items()}, seen.audits, seen.is_listed


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_erasing_that_was_cut_is_finished_by_the_next_and_never_hides_what_is_left(moment: Moment) -> None:
    async def fill_many(client: Client) -> None:
        await fill(client)
        await write(put("x"))(client)
        for start in range(0, 150, 50):
            await client.rows.write(
                ITEMS, [PutRow(key=f"k{start + n:03d}", value=b"1") for n in range(50)], timeout_s=TIMEOUT_S
            )

    for at in range(1, OPERATIONS_MAX):
        world = await made(fill_many)
        all_keys = set((await look(world)).rows)
        has_died = await dies(world, erase, at, moment)
        left = await look(world)
        assert set(left.rows) <= all_keys
        async with world.client() as client:
            assert await erase(client) == len(left.rows)
        assert documents(world) == 0
        if not has_died:
            assert not left.rows
            return
    pytest.fail("an erasing that never ends")


def documents(world: World) -> int:
    """How many documents there are at all."""
    return sum(len(partition.documents) for partition in world.store._partitions.values())


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_write_after_an_erasing_that_was_cut_is_listed(moment: Moment) -> None:
    for at in range(1, OPERATIONS_MAX):
        world = await made(fill)
        has_died = await dies(world, erase, at, moment)
        async with world.client() as client:
            await write(put("n"))(client)
        assert "n" in (await look(world)).rows
        if not has_died:
            return
    pytest.fail("an erasing that never ends")


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_sweep_that_was_cut_is_finished_by_the_next_and_touches_nothing_that_lives(moment: Moment) -> None:
    async def fill_more(client: Client) -> None:
        await client.rows.write(ITEMS, [put(f"k{n}", ends=True) for n in range(6)], timeout_s=TIMEOUT_S)
        await client.rows.write(
            ITEMS,
            [
                PutRow(key="k0", value=b"3"),
                PutRow(key="k1", value=b"3", expires_at=ENDS + timedelta(seconds=1_000)),
                DeleteRow(key="k2"),
                put("stays"),
            ],
            timeout_s=TIMEOUT_S,
        )

    for at in range(1, OPERATIONS_MAX):
        world = await made(fill_more, advance_s=100)
        before = await look(world)
        assert set(before.rows) == {"k0", "k1", "stays"}
        has_died = await dies(world, sweep, at, moment)
        assert await look(world) == before
        async with world.client() as client:
            await sweep(client)
        world.clock.advance(2_000)
        async with world.client() as client:
            await sweep(client)
            assert await sweep(client) == 0
        assert kept_keys(world) == 2
        assert set((await look(world)).rows) == {"k0", "stays"}
        if not has_died:
            return
    pytest.fail("a sweep that never ends")


def kept_keys(world: World) -> int:
    """How many documents of rows there are, expired ones among them."""
    return sum(sort.startswith("r.") for partition in world.store._partitions.values() for sort in partition.documents)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_copy_that_was_cut_is_finished_by_copying_again(moment: Moment) -> None:
    source = await made(fill)
    rows = [replace(row, version=row.version + 6) for row in (await look(source)).rows.values()]

    async def restore(client: Client) -> None:
        await client.rows.restore(ITEMS, rows, timeout_s=TIMEOUT_S)

    for at in range(1, OPERATIONS_MAX):
        world = await made()
        has_died = await dies(world, restore, at, moment)
        assert set((await look(world)).rows) in (set(), {"a", "b", "c"})
        async with world.client() as client:
            await restore(client)
        assert (await look(world)).rows == {row.key: row for row in rows}
        if not has_died:
            return
    pytest.fail("a copy that never ends")
