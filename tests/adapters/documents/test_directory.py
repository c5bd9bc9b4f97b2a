"""A name is there before what it names, and somebody's new name is never removed with an old one."""

from __future__ import annotations

import pytest

from perdure.adapters.documents import keys
from perdure.adapters.documents.directory import Directory
from perdure.adapters.documents.pointers import GRACE_S, Pointer, Pointers
from perdure.domain.container import Container, session_container, stream_container
from perdure.domain.kinds import Kind
from perdure.errors import Corrupt, Invalid
from perdure.ports.documents import Expect, Put
from perdure.testing.contracts.stores import new_space
from tests.adapters.documents.stores import LogsBackend, World

TIMEOUT_S = 30.0
SPACE = new_space()
STREAM = stream_container(SPACE, "events")


class Desk:
    """A directory and a queue of pointers in a world."""

    def __init__(self, world: World, backend: LogsBackend) -> None:
        self.world = world
        self.driver = backend.driver
        self.directory = Directory(self.driver, holds="log", mode="lab", env="dev")
        self.pointers = Pointers(self.driver, queue="queue", mode="lab", env="dev")

    async def listed(self, *there: Container, limit: int = 10, user: str | None = None) -> list[Container]:
        async def is_there(container: Container) -> bool:
            return container in there

        found: list[Container] = []
        mark: str | None = None
        while True:
            page, mark = await self.directory.list(
                there[0].kind,
                SPACE.tenant,
                user=user,
                after=mark,
                limit=limit,
                is_there=is_there,
                timeout_s=TIMEOUT_S,
            )
            found += page
            if mark is None:
                return found

    async def due(self, after_s: float = 0.0) -> list[Pointer]:
        self.world.clock.advance(after_s)
        return [one async for one in self.pointers.due(self.world.clock.now(), timeout_s=TIMEOUT_S)]


@pytest.fixture
async def desk() -> Desk:
    world = World()
    return Desk(world, await world.open())


async def test_a_name_is_listed_if_what_it_names_is_there(desk: Desk) -> None:
    streams = [stream_container(SPACE, f"s{number}") for number in range(40)]
    for stream in streams:
        await desk.directory.announce(stream, timeout_s=TIMEOUT_S)
    for limit in (1, 7, 40, 100):
        assert set(await desk.listed(*streams[::3], limit=limit)) == set(streams[::3])
    assert await desk.listed(STREAM) == []


async def test_an_error_of_looking_is_an_error_of_the_list(desk: Desk) -> None:
    await desk.directory.announce(STREAM, timeout_s=TIMEOUT_S)

    async def is_there(_: Container) -> bool:
        raise Corrupt("broken on purpose")

    with pytest.raises(Corrupt):
        await desk.directory.list(Kind.STREAMS, SPACE.tenant, limit=5, is_there=is_there, timeout_s=TIMEOUT_S)


async def test_a_name_is_removed_in_the_version_found_only(desk: Desk) -> None:
    assert await desk.directory.find(STREAM, timeout_s=TIMEOUT_S) is None
    await desk.directory.announce(STREAM, timeout_s=TIMEOUT_S)
    found = await desk.directory.find(STREAM, timeout_s=TIMEOUT_S)
    assert found is not None
    await desk.directory.announce(STREAM, timeout_s=TIMEOUT_S)
    assert not await desk.directory.remove(STREAM, version=found, timeout_s=TIMEOUT_S)
    assert await desk.listed(STREAM) == [STREAM]
    found = await desk.directory.find(STREAM, timeout_s=TIMEOUT_S)
    assert found is not None
    assert await desk.directory.remove(STREAM, version=found, timeout_s=TIMEOUT_S)
    assert await desk.listed(STREAM) == []


@pytest.mark.parametrize("mark", ["", "c.", "d.x.y.z", "c.-.a", "c.-.\u00fc.a", "c.-.a.a/b", "z"])
async def test_what_is_no_mark_is_refused(desk: Desk, mark: str) -> None:
    async def is_there(_: Container) -> bool:
        return True

    with pytest.raises(Invalid):
        await desk.directory.list(
            Kind.STREAMS, SPACE.tenant, after=mark, limit=5, is_there=is_there, timeout_s=TIMEOUT_S
        )


async def test_a_mark_of_another_user_is_refused(desk: Desk) -> None:
    log = session_container(SPACE, user="ann", session="s")

    async def is_there(_: Container) -> bool:
        return True

    with pytest.raises(Invalid):
        await desk.directory.list(
            Kind.MEMORY,
            SPACE.tenant,
            user="bob",
            after=keys.directory_sort(log),
            limit=5,
            is_there=is_there,
            timeout_s=TIMEOUT_S,
        )


async def test_an_entry_that_names_nothing_is_corrupt(desk: Desk) -> None:
    partition = keys.directory_partition("log", Kind.STREAMS, tenant=SPACE.tenant, mode="lab", env="dev")
    put = Put(sort=keys.directory_sort(STREAM), version=1, body=b'{"kind":"streams"}', expect=Expect.ANY)
    await desk.driver.commit(partition, [put], timeout_s=TIMEOUT_S)
    with pytest.raises(Corrupt):
        await desk.listed(STREAM)


async def test_a_pointer_is_found_when_it_is_due_and_not_before(desk: Desk) -> None:
    now = desk.world.clock.now()
    logs = [stream_container(SPACE, f"s{number}") for number in range(300)]
    for log in logs:
        await desk.pointers.announce(log, due_at=now, detail="d", timeout_s=TIMEOUT_S)
    later = await desk.pointers.announce(
        STREAM, due_at=now.replace(year=now.year + 1), detail="later", timeout_s=TIMEOUT_S
    )
    due = await desk.due()
    assert len(due) == len(logs)
    assert {one.container for one in due} == set(logs)
    assert (await desk.due(400 * 86_400))[-1:] != []
    assert [one for one in await desk.due() if one.detail == "later"] == [later]


async def test_a_pointer_is_withdrawn_unless_it_was_announced_again(desk: Desk) -> None:
    now = desk.world.clock.now()
    first = await desk.pointers.announce(STREAM, due_at=now, timeout_s=TIMEOUT_S)
    second = await desk.pointers.announce(STREAM, due_at=now, timeout_s=TIMEOUT_S)
    await desk.pointers.withdraw(first, timeout_s=TIMEOUT_S)
    assert await desk.due() == [second]
    await desk.pointers.withdraw(second, timeout_s=TIMEOUT_S)
    await desk.pointers.withdraw(second, timeout_s=TIMEOUT_S)
    assert await desk.due() == []


async def test_a_pointer_whose_change_may_be_on_its_way_is_not_settled(desk: Desk) -> None:
    pointer = await desk.pointers.announce(STREAM, due_at=desk.world.clock.now(), timeout_s=TIMEOUT_S)
    for passed_s, left in ((0.0, 1), (TIMEOUT_S + GRACE_S - 1, 1), (1.0, 0)):
        desk.world.clock.advance(passed_s)
        await desk.pointers.settle(pointer, timeout_s=TIMEOUT_S)
        assert len(await desk.due()) == left
