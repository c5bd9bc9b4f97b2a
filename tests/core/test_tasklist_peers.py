"""Task lists with peers and watchers: each change is seen, and nodes stay in agreement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.environment import system_environment
from perdure.core.tasklists import TaskList
from perdure.tasklists import Hub, stream_transport
from perdure.testing.routed import given, routed_plane
from tests.support.task_desks import Desk, until

pytestmark = pytest.mark.fast


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "root")


async def test_a_watcher_sees_the_list_after_each_change_and_ends_with_it(desk: Desk):
    seen: list[int] = []

    async def watch(tasks: TaskList) -> None:
        async for view in tasks.watch():
            seen.append(len(view.tasks))  # noqa: PERF401 - looked at while it grows

    async with desk.open() as tasks:
        watching = asyncio.ensure_future(watch(tasks))
        for number in range(3):
            await until(lambda number=number: len(seen) > number)  # type: ignore[misc]  # mypy cannot infer a default
            await tasks.add("write", agent="agent:a")
        await until(lambda: len(seen) == 4)
        await tasks.edit((await tasks.view()).tasks[0].task_id, title="write")
    await watching
    assert seen == [0, 1, 2, 3]


async def test_a_slow_watcher_sees_the_newest_and_each_watcher_all(desk: Desk):
    async with desk.open() as tasks:
        slow, quick = aiter(tasks.watch()), aiter(tasks.watch())
        assert (await anext(slow)).tasks == (await anext(quick)).tasks == ()
        for number in range(5):
            await tasks.add("write", agent="agent:a")
            assert len((await anext(quick)).tasks) == number + 1
        assert len((await anext(slow)).tasks) == 5


async def test_lists_of_two_nodes_stay_in_agreement_and_closing_ends_it(desk: Desk):
    hub, peer = Hub(), Desk(None, number=2)
    async with desk.open() as tasks, peer.open() as other:
        assert await tasks.resync() is None
        syncing = [asyncio.ensure_future(tasks.sync(hub.join())), asyncio.ensure_future(other.sync(hub.join()))]
        await tasks.add("mine", agent="agent:a")
        await other.add("theirs", agent="agent:b")
        views = [await tasks.view(), await other.view()]
        while len({view.view_digest for view in views}) > 1 or len(views[0].tasks) < 2:
            await desk.advance(1)
            await peer.advance(1)
            views = [await tasks.view(), await other.view()]
        found = await tasks.resync()
        assert found is not None
        assert found.deltas_merged > 0
    await asyncio.gather(*syncing)


@pytest.fixture
async def streams() -> AsyncIterator[Any]:
    environment = system_environment()
    driver = MemoryDriver(MemoryStore())
    await driver.open()
    backend = DocumentBackend(driver, mode="lab", env="dev", environment=environment)
    async with routed_plane([given("main", backend)], backend.routes, environment=environment) as plane:
        tenant = plane.tenant("t_acme")
        await tenant.routes.set("streams", "main")
        yield tenant.streams
    await backend.close()


async def test_a_stream_of_any_backend_carries_lists(desk: Desk, streams: Any):
    peer = Desk(None, number=2)
    async with desk.open() as tasks, peer.open() as other:
        for one in (tasks, other):
            asyncio.ensure_future(one.sync(stream_transport(streams, "tasklists/sprint")))  # noqa: RUF006 - the list ends it
        await tasks.add("mine", agent="agent:a")
        while not (await other.view()).tasks:
            await desk.advance(1)
            await peer.advance(1)
