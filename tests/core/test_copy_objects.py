"""Copies of objects: there and back, killed at every call, with damage, deletions and strangers on the other side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import pytest
from obstore.store import MemoryStore

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory import driver as memory_driver
from perdure.adapters.memory.driver import MemoryDriver
from perdure.adapters.objectstore import opening
from perdure.core import copy_objects
from perdure.core.copying import CopyReport
from perdure.domain.container import Space
from perdure.domain.object import READ_CHUNK_BYTES_MAX, ObjectRef
from perdure.domain.route import CopyPhase
from perdure.errors import BackendDown, DigestMismatch, NotFound, Unavailable
from perdure.testing.driver_faults import Crashed
from perdure.testing.environment import fake_environment
from perdure.testing.routed import RoutedPlane, RoutedTenant, given, routed_plane
from perdure.testing.watched import WatchedBackend, failing
from tests.contracts.obstore_stores import flip_a_byte

Moment: TypeAlias = Literal["before", "after"]

ACME: Final = "t_acme"
WHY: Final = "because a test wants it"
STRIDE: Final = 11  # every so many calls in the short form
LARGE: Final = b"ab" * READ_CHUNK_BYTES_MAX + b"tail"
CONTENTS: Final = (b"", b"one", b"two", b"a fourth")


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a backend keeps when no process runs."""

    documents: memory_driver.MemoryStore
    objects: MemoryStore


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process: a plane on two watched backends."""

    plane: RoutedPlane
    main: WatchedBackend
    spare: WatchedBackend

    @property
    def acme(self) -> RoutedTenant:
        """The tenant that moves."""
        return self.plane.tenant(ACME)


class World:
    """Two places, and processes that come and go on them."""

    def __init__(self) -> None:
        self.main, self.spare = (Place(documents=memory_driver.MemoryStore(), objects=MemoryStore()) for _ in range(2))

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Process]:
        """A process with clients of its own; the registry is on the first place."""
        environment = fake_environment()
        async with AsyncExitStack() as stack:
            watched = []
            for place in (self.main, self.spare):
                kept = opening.memory(mode="lab", env="dev", environment=environment, shared=place.objects)
                backend = DocumentBackend(
                    MemoryDriver(place.documents), mode="lab", env="dev", environment=environment, objects=kept
                )
                await backend.open()
                stack.push_async_callback(backend.close)
                watched.append(WatchedBackend(backend))
            main, spare = watched
            specs = [given("main", main), given("spare", spare)]
            plane = await stack.enter_async_context(routed_plane(specs, main.routes, environment=environment))
            yield Process(plane=plane, main=main, spare=spare)


@pytest.fixture
async def world() -> World:
    world = World()
    await furnish(world)
    return world


async def furnish(world: World) -> None:
    """A tenant with objects in two projects, and another tenant beside it."""
    async with world.process() as process:
        for tenant in (ACME, "t_other"):
            await process.plane.tenant(tenant).routes.set("objects", "main")
        for content in CONTENTS:
            await process.acme.objects.put(content, media_type="text/plain")
        await process.plane.tenant(ACME, project="p2").objects.put(b"one")
        await process.plane.tenant("t_other").objects.put(b"a stranger's")


async def copy(tenant: RoutedTenant, *, back: bool = False) -> CopyReport:
    """Copy and switch, without waiting for other processes, of which there are none."""
    if back:
        return await tenant.routes.copy_back("objects", rationale=WHY, settle_s=0)
    return await tenant.routes.copy("objects", "spare", rationale=WHY, settle_s=0)


async def known(tenant: RoutedTenant) -> list[tuple[str, int, str]]:
    """What is listed; of when it was put a copy tells nothing."""
    return [(ref.digest, ref.size_bytes, ref.media_type) for ref in (await tenant.objects.list()).items]


async def check(process: Process, *more: bytes) -> None:
    """Everything is there and verified."""
    objects = process.acme.objects
    refs = (await objects.list()).items
    assert sorted([await objects.get(ref.digest) for ref in refs]) == sorted((*CONTENTS, *more))
    assert {ref.media_type for ref in refs} == {"text/plain"}
    second = process.plane.tenant(ACME, project="p2").objects
    (only,) = (await second.list()).items
    assert await second.get(only.digest) == b"one"


async def there(backend: WatchedBackend, space: Space) -> Sequence[ObjectRef]:
    """What a backend keeps of a space."""
    assert backend.objects is not None
    return (await backend.objects.list(space, limit=500, timeout_s=5)).objects


async def test_objects_are_copied_there_and_back(world: World):
    async with world.process() as process:
        before = await known(process.acme)
        for back in (False, True):
            report = await copy(process.acme, back=back)
            assert (report.phase, report.containers, report.objects, report.removed) == ("done", 2, 5, 0)
            assert report.verified == 5
            assert (await process.acme.routes.get("objects")).backend == ("main" if back else "spare")
            assert await known(process.acme) == before
            await check(process)
        stranger = process.plane.tenant("t_other")
        assert await there(process.spare, stranger.scope.space) == ()
        assert (await stranger.routes.get("objects")).backend == "main"


async def test_the_same_objects_have_the_same_digest_of_a_copy(world: World):
    async with world.process() as process:
        there, back = await copy(process.acme), await copy(process.acme, back=True)
        assert len(there.digest) == 64
        assert there.digest == back.digest
        await process.acme.objects.put(b"another")
        assert (await copy(process.acme)).digest != back.digest


async def test_what_changed_since_an_earlier_copy_is_copied_and_what_is_gone_is_removed(world: World):
    async with world.process() as process:
        await copy(process.acme)
        (one, *_), two = [ref for ref in (await process.acme.objects.list()).items if ref.size_bytes == 3], b"three"
        await process.acme.objects.delete(one.digest)
        ref = await process.acme.objects.put(two)
        await process.acme.objects.put(b"", media_type="text/css")
        before = await known(process.acme)
        report = await copy(process.acme, back=True)
        assert report.removed == 1
        assert await known(process.acme) == before
        assert await process.acme.objects.get(ref.digest) == two
        with pytest.raises(NotFound):
            await process.acme.objects.get(one.digest)


async def test_pages_of_objects_are_copied_to_the_last(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copy_objects, "OBJECTS_PAGE_MAX", 2)
    async with world.process() as process:
        for number in range(6):
            await process.acme.objects.put(bytes([number]), media_type="text/plain")
        before = await known(process.acme)
        await copy(process.acme)
        assert await known(process.acme) == before
        for digest, _, _ in before[::2]:
            await process.acme.objects.delete(digest)
        assert (await copy(process.acme, back=True)).removed == 5


async def test_a_put_and_a_delete_while_the_copy_fills_are_not_lost(world: World):
    async with world.process() as process:
        objects = process.acme.objects
        refs = (await objects.list()).items
        calls = 0

        async def meanwhile(name: str) -> None:
            nonlocal calls
            calls += name == "objects.put"
            if calls == 3 and name == "objects.put":
                calls += 1
                process.spare.before = None
                await objects.put(b"meanwhile", media_type="text/plain")
                await objects.delete(refs[0].digest)
                await objects.put(await objects.get(refs[1].digest), media_type="text/css")

        process.spare.before = meanwhile
        await copy(process.acme)
        assert calls == 4
        found = {digest: media_type for digest, _, media_type in await known(process.acme)}
        assert refs[0].digest not in found
        assert found[refs[1].digest] == "text/css"
        assert await objects.get((await objects.put(b"meanwhile")).digest) == b"meanwhile"
        assert len(found) == len(CONTENTS)


@pytest.mark.parametrize("moment", ["objects.get", "objects.put"])
async def test_an_object_that_is_deleted_while_it_is_copied_is_passed_over(world: World, moment: str):
    async with world.process() as process:
        victim = (await process.acme.objects.list()).items[-1]
        source, target = process.main, process.spare
        passed = 0

        async def delete(name: str) -> None:
            nonlocal passed
            passed += name == moment
            if name == moment and passed == len(CONTENTS):
                assert source.objects is not None
                source.before = target.before = None
                await source.objects.delete(process.acme.scope.space, victim.digest, timeout_s=5)
                if moment == "objects.put":
                    raise NotFound("read to nowhere")  # as from the chunks of a store that reads piece by piece

        (source if moment == "objects.get" else target).before = delete
        assert (await copy(process.acme)).phase == "done"
        assert victim.digest not in {digest for digest, _, _ in await known(process.acme)}
        assert len(await known(process.acme)) == len(CONTENTS) - 1


async def test_an_object_that_is_there_and_cannot_be_found_stops_the_copy(world: World):
    async with world.process() as process:
        process.main.before = failing(NotFound("lost"), among="objects.get", times=1)
        with pytest.raises(NotFound):
            await copy(process.acme)
        assert (await process.acme.routes.get("objects")).backend == "main"
        assert (await copy(process.acme)).phase == "done"
        await check(process)


async def test_a_damaged_object_switches_nothing(world: World):
    async with world.process() as process:
        space = process.acme.scope.space
        damaged = await process.acme.objects.put(LARGE, media_type="text/plain")
        await flip_a_byte(world.main.objects, space, damaged.digest)
        with pytest.raises(DigestMismatch):
            await copy(process.acme)
        route = await process.acme.routes.get("objects")
        assert (route.backend, route.copy and route.copy.phase) == ("main", CopyPhase.BACKFILL)
        assert damaged.digest not in {ref.digest for ref in await there(process.spare, space)}
        await process.acme.objects.put(LARGE, media_type="text/plain")
        assert (await copy(process.acme)).phase == "done"
        await check(process, LARGE)


async def test_a_damaged_object_on_the_other_side_is_made_whole(world: World):
    async with world.process() as process:
        digest = (await process.acme.objects.put(LARGE, media_type="text/plain")).digest
        await copy(process.acme)
        await flip_a_byte(world.main.objects, process.acme.scope.space, digest)
        await copy(process.acme, back=True)
        await check(process, LARGE)


async def test_what_a_stranger_left_on_the_other_side_is_removed(world: World):
    async with world.process() as process:
        space = process.acme.scope.space
        assert process.spare.objects is not None
        await process.spare.objects.put(space, b"left behind", timeout_s=5)
        stranger = process.plane.tenant("t_other").scope.space
        await process.spare.objects.put(stranger, b"not ours", timeout_s=5)
        assert (await copy(process.acme)).removed == 1
        await check(process)
        assert len(await there(process.spare, stranger)) == 1


async def die(world: World, step: int, moment: Moment, *, back: bool) -> bool:
    """Copy in a process that is killed before or after its step-th call; whether it lived to the end."""
    async with world.process() as process:
        calls, is_over = 0, False

        async def count(name: str) -> None:
            del name
            nonlocal calls, is_over
            calls += 1
            is_over = is_over or calls >= step
            if is_over:
                raise Crashed

        async def see(name: str) -> None:
            del name
            if is_over:
                raise Crashed

        for backend in (process.main, process.spare):
            backend.before, backend.after = (count, see) if moment == "before" else (see, count)
        try:
            await copy(process.acme, back=back)
        except Crashed:
            return False
        return True


async def sweep(moment: Moment, *, back: bool, stride: int) -> None:
    """Kill a copy everywhere, and finish it."""
    phases: set[CopyPhase | None] = set()
    lived, step = False, 1 - stride
    while not lived:
        step += stride
        world = World()
        await furnish(world)
        if back:
            async with world.process() as process:
                await copy(process.acme)
        lived = await die(world, step, moment, back=back)
        async with world.process() as process:
            await check(process)
            phases.add(await finish(process, to="main" if back else "spare"))
            await check(process)
            assert (await process.acme.routes.get("objects")).backend == ("main" if back else "spare")
    assert step > 2 * len(CONTENTS)
    assert {CopyPhase.BACKFILL, CopyPhase.SETTLE, None} <= phases


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("back", [False, True])
async def test_a_killed_copy_loses_nothing_and_can_be_finished(moment: Moment, *, back: bool):
    await sweep(moment, back=back, stride=STRIDE)


@pytest.mark.soak
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("back", [False, True])
async def test_a_copy_killed_at_any_call_loses_nothing_and_can_be_finished(moment: Moment, *, back: bool):
    await sweep(moment, back=back, stride=1)


async def finish(process: Process, *, to: str) -> CopyPhase | None:
    """Go on with what a dead process left; in which phase that was, None if it was not begun, or was done."""
    route = await process.acme.routes.get("objects")
    phase = None if route.copy is None or route.copy.phase is CopyPhase.DONE else route.copy.phase
    if phase is CopyPhase.SETTLE:
        with pytest.raises(Unavailable):
            await process.acme.objects.put(b"refused", timeout_s=0.01)
    if route.backend != to:
        await copy(process.acme, back=to == "main")
    return phase


async def test_a_copy_whose_backend_goes_away_for_a_moment_is_done_again(world: World):
    async with world.process() as process:
        for call in ("objects.list", "objects.put", "objects.find", "objects.spaces"):
            process.spare.before = failing(BackendDown("gone"), among=call, times=1)
            if call == "objects.put":
                process.spare.after = failing(BackendDown("gone"), among=call, times=1)
            with pytest.raises(BackendDown):
                await copy(process.acme)
            assert (await process.acme.routes.get("objects")).backend == "main"
            process.spare.before = process.spare.after = None
            await process.acme.objects.put(b"one", media_type="text/plain")  # writes go on
        assert (await copy(process.acme)).phase == "done"
        await check(process)
