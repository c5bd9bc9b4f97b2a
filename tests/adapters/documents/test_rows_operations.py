"""How many operations of the driver each call costs: one round trip where one will do."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Final

import pytest

from perdure.domain.container import Container, make_space
from perdure.domain.kinds import Kind
from perdure.domain.versioned import NO_ROW, DeleteRow, PutRow, RowVersion, VersionedRow
from perdure.ports.documents import DocumentDriver
from perdure.testing.driver_faults import FaultyDriver
from perdure.testing.environment import START_DEFAULT
from tests.support.document_stores import Client, World

TIMEOUT_S: Final = 5.0
ITEMS: Final = Container(
    kind=Kind.TABLES,
    space=make_space(tenant="t_acme", mode="lab", env="dev", project="default"),
    name=("items",),
)


class Counted:
    """A client whose operations are counted."""

    def __init__(self) -> None:
        self.world = World()
        self.operations: Counter[str] = Counter()
        self.client: Client

    def wrap(self, driver: DocumentDriver) -> DocumentDriver:
        counting = FaultyDriver(driver)
        self.operations = counting.operations
        return counting

    async def cost(self, call: Awaitable[object]) -> dict[str, int]:
        """The operations of one call."""
        before = Counter(self.operations)
        await call
        return dict(self.operations - before)

    def write(self, *writes: PutRow | DeleteRow) -> Awaitable[object]:
        return self.client.rows.write(ITEMS, writes, timeout_s=TIMEOUT_S)


@pytest.fixture
async def counted() -> AsyncIterator[Counted]:
    """A client that has written a row to the table already."""
    counted = Counted()
    async with counted.world.client(counted.wrap) as client:
        counted.client = client
        await counted.write(PutRow(key="warm", value=b"1"))
        yield counted


async def test_a_get_is_one_get(counted: Counted) -> None:
    for keys in (["warm"], [f"k{number}" for number in range(100)]):
        assert await counted.cost(counted.client.rows.get(ITEMS, keys, timeout_s=TIMEOUT_S)) == {"get": 1}
    assert await counted.cost(counted.client.rows.get(ITEMS, [], timeout_s=TIMEOUT_S)) == {}


async def test_a_write_is_one_get_and_one_commit(counted: Counted) -> None:
    for write in (
        PutRow(key="warm", value=b"2"),
        PutRow(key="warm", value=b"3", expected=RowVersion(version=2)),
        PutRow(key="new", value=b"1"),
        DeleteRow(key="warm", expected=RowVersion(version=3)),
    ):
        assert await counted.cost(counted.write(write)) == {"get": 1, "commit": 1}
    assert await counted.cost(counted.write(*(PutRow(key=f"k{n}", value=b"1") for n in range(50)))) == {
        "get": 1,
        "commit": 1,
    }


async def test_what_need_not_be_read_is_one_commit(counted: Counted) -> None:
    for write in (PutRow(key="new", value=b"1", expected=NO_ROW), DeleteRow(key="warm"), DeleteRow(key="nothing")):
        assert await counted.cost(counted.write(write)) == {"commit": 1}


async def test_a_row_with_an_end_costs_one_pointer_and_a_longer_life_none(counted: Counted) -> None:
    ends = START_DEFAULT + timedelta(seconds=100)
    assert await counted.cost(counted.write(PutRow(key="t", value=b"1", expires_at=ends))) == {"get": 1, "commit": 2}
    for step in range(1, 4):
        counted.world.clock.advance(10)
        later = ends + timedelta(seconds=10 * step)
        assert await counted.cost(counted.write(PutRow(key="t", value=b"1", expires_at=later))) == {
            "get": 1,
            "commit": 1,
        }
    sooner = ends - timedelta(seconds=1)
    assert await counted.cost(counted.write(PutRow(key="t", value=b"1", expires_at=sooner))) == {"get": 1, "commit": 2}


async def test_the_first_write_to_a_table_by_a_process_costs_a_constant_more(counted: Counted) -> None:
    table = Container(kind=Kind.TABLES, space=ITEMS.space, name=("second",))
    put = [PutRow(key="k", value=b"1")]
    assert await counted.cost(counted.client.rows.write(table, put, timeout_s=TIMEOUT_S)) == {
        "get": 1,
        "scan": 1,
        "commit": 4,
    }
    assert await counted.cost(counted.client.rows.write(table, put, timeout_s=TIMEOUT_S)) == {"get": 1, "commit": 1}


async def test_a_page_is_one_scan_of_as_many_rows(counted: Counted) -> None:
    for start in range(0, 300, 50):
        await counted.write(*(PutRow(key=f"k{start + n:03d}", value=b"1") for n in range(50)))
    for limit in (1, 10, 299, 500):
        query = counted.client.rows.query(ITEMS, prefix="k", limit=limit, timeout_s=TIMEOUT_S)
        assert await counted.cost(query) == {"scan": 1}
    page = counted.client.rows.query(ITEMS, prefix="k", after="k100", limit=10, reverse=True, timeout_s=TIMEOUT_S)
    assert await counted.cost(page) == {"scan": 1}


async def test_a_page_past_many_expired_rows_costs_few_scans(counted: Counted) -> None:
    ends = START_DEFAULT + timedelta(seconds=1)
    for start in range(0, 600, 50):
        await counted.write(*(PutRow(key=f"k{start + n:03d}", value=b"1", expires_at=ends) for n in range(50)))
    counted.world.clock.advance(1)
    query = counted.client.rows.query(ITEMS, limit=1, timeout_s=TIMEOUT_S)
    assert (await counted.cost(query))["scan"] <= 5


async def test_a_sweep_reads_and_removes_the_rows_of_a_table_together(counted: Counted) -> None:
    ends = START_DEFAULT + timedelta(seconds=1)
    await counted.write(*(PutRow(key=f"k{n}", value=b"1", expires_at=ends) for n in range(50)))
    counted.world.clock.advance(1)
    cost = await counted.cost(counted.client.rows.sweep(limit=100, timeout_s=TIMEOUT_S))
    assert cost["get"] == 1
    assert cost["commit"] == 1 + 50  # and every pointer, which are in four partitions
    assert cost["scan"] == 4


async def test_a_copied_page_is_one_commit(counted: Counted) -> None:
    found = await counted.client.rows.get(ITEMS, ["warm"], timeout_s=TIMEOUT_S)
    rows: list[VersionedRow] = list(found.values())
    assert await counted.cost(counted.client.rows.restore(ITEMS, rows, timeout_s=TIMEOUT_S)) == {"commit": 1}
