"""Writing and erasing at the same time, in every order of their operations: what is there is in the directory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Final

import pytest

from perdure.domain.container import Container, make_space
from perdure.domain.kinds import Kind
from perdure.domain.versioned import NO_ROW, DeleteRow, PutRow, RowWrite
from perdure.ports.documents import DocumentDriver
from perdure.testing.environment import START_DEFAULT
from tests.support.document_stores import Client, World, no_sleep
from tests.support.interleaving import Order, SteppedDriver, every_order, interleave

TIMEOUT_S: Final = 5.0
ITEMS: Final = Container(
    kind=Kind.TABLES,
    space=make_space(tenant="t_acme", mode="lab", env="dev", project="default"),
    name=("items",),
)

Action = Callable[[Client], Awaitable[object]]


def write(*writes: RowWrite) -> Action:
    return lambda client: client.rows.write(ITEMS, writes, timeout_s=TIMEOUT_S)


def put(key: str, *, first: bool = False) -> PutRow:
    return PutRow(key=key, value=b"1", expected=NO_ROW if first else None)


def erase(client: Client) -> Awaitable[object]:
    return client.rows.erase(ITEMS, timeout_s=TIMEOUT_S)


async def race(setup: Action | None, warm: Action | None, actions: tuple[Action, ...]) -> set[tuple[str, ...]]:
    """Every outcome there is: the keys that are left, each time checked to be in the directory.

    ``setup`` was done by somebody before, and ``warm`` by the first client, who remembers it.
    """
    outcomes: set[tuple[str, ...]] = set()
    for order in every_order():
        world = World()
        async with AsyncExitStack() as stack:
            if setup is not None:
                await setup(await stack.enter_async_context(world.client()))
            clients = []
            for action in actions:
                stepped: list[SteppedDriver] = []
                client = await stack.enter_async_context(world.client(stepping(stepped), sleep=no_sleep))
                clients.append((stepped[0], client, action))
            if warm is not None:
                driver, client, _ = clients[0]
                await interleave(Order([]), [(driver, partial(warm, client))])
            await interleave(order, [(driver, partial(action, client)) for driver, client, action in clients])
            looking = await stack.enter_async_context(world.client())
            page = await looking.rows.query(ITEMS, limit=100, timeout_s=TIMEOUT_S)
            listed, _ = await looking.rows.containers(Kind.TABLES, "t_acme", limit=10, timeout_s=TIMEOUT_S)
            keys = tuple(row.key for row in page.rows)
            assert list(listed) == ([ITEMS] if keys else []), f"{keys} are not listed after {order}"
            outcomes.add(keys)
    return outcomes


def stepping(made: list[SteppedDriver]) -> Callable[[DocumentDriver], DocumentDriver]:
    def wrap(driver: DocumentDriver) -> DocumentDriver:
        made.append(SteppedDriver(driver))
        return made[-1]

    return wrap


async def test_a_first_write_and_an_erasing_of_nothing() -> None:
    assert await race(None, None, (write(put("n")), erase)) == {(), ("n",)}


async def test_a_write_and_an_erasing_of_rows() -> None:
    assert await race(write(put("a"), put("z")), None, (write(put("n", first=True)), erase)) == {(), ("n",)}


@pytest.mark.parametrize("first", [False, True])
async def test_a_write_by_who_knows_the_table_and_an_erasing(*, first: bool) -> None:
    assert await race(None, write(put("a")), (write(put("n", first=first)), erase)) == {(), ("n",)}


async def test_overwriting_one_row_and_adding_others_while_everything_is_erased() -> None:
    outcomes = await race(None, write(put("m")), (write(put("m"), put("a"), put("z")), erase))
    # A row that was already found is removed in its new version too, as if it had been written first.
    assert outcomes == {(), ("a", "m", "z"), ("a", "z")}


async def test_moving_a_row_while_everything_is_erased() -> None:
    outcomes = await race(None, write(put("z")), (write(DeleteRow(key="z"), put("a")), erase))
    assert outcomes == {(), ("a",)}


async def test_two_first_writes() -> None:
    assert await race(None, None, (write(put("a")), write(put("b")))) == {("a", "b")}


async def test_two_erasings() -> None:
    assert await race(write(put("a"), put("b")), None, (erase, erase)) == {()}


async def expire(client: Client) -> None:
    ends = START_DEFAULT - timedelta(seconds=1)
    await client.rows.write(ITEMS, [PutRow(key="a", value=b"1", expires_at=ends)], timeout_s=TIMEOUT_S)


def sweep(client: Client) -> Awaitable[object]:
    return client.rows.sweep(limit=10, timeout_s=TIMEOUT_S)


async def test_a_row_that_is_made_anew_while_the_old_one_is_swept_stays() -> None:
    assert await race(expire, None, (write(put("a")), sweep)) == {("a",)}
