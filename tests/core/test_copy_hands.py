"""Copies in whose hands they are: slow, cancelled, failing, taken over, gone on with, and gone back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import pytest

from perdure.core.copying import SETTLE_S_MAX, CopyReport
from perdure.core.routing import STALENESS_S_MAX
from perdure.core.stores import WRITE_S_MAX
from perdure.domain.memory import Message
from perdure.domain.route import CopyPhase
from perdure.domain.stream import StreamEvent
from perdure.domain.table import table_container
from perdure.errors import StaleVersion, TimedOut
from perdure.testing.routed import RoutedTenant
from tests.support.route_worlds import WHY, Life, RouteWorld

ACME: Final = "t_acme"


async def fill(acme: RoutedTenant, kind: str) -> None:
    """A little to copy."""
    await acme.routes.set(kind, "a")
    for key in ("x", "y"):
        await acme.tables.put("items", key, 1)


async def test_a_copier_that_was_given_up_while_it_was_slow_does_no_harm_to_what_serves_now() -> None:
    """It stops before the compaction of what it takes for surplus, although the other backend is its target."""
    world = RouteWorld()
    gate, reached = asyncio.Event(), asyncio.Event()

    def hold_up(report: CopyReport) -> None:
        if report.phase == "settle":
            reached.set()

    async def slow(place: str, name: str) -> None:
        del name
        if place == "b" and reached.is_set():
            await gate.wait()

    async with world.process(Life(hook=slow)) as zombie, world.process() as other:
        await fill(zombie.tenant(ACME), "tables")
        copier = asyncio.create_task(zombie.tenant(ACME).routes.copy("tables", "b", rationale=WHY, progress=hold_up))
        await reached.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        world.clock.advance(SETTLE_S_MAX + 1)
        await other.upkeep.once()
        acme = other.tenant(ACME)
        route = await acme.routes.get("tables")
        assert (route.backend, route.copy) == ("a", None)
        await acme.tables.put("items", "z", "while a serves again")
        assert (await acme.routes.copy("tables", "b", rationale=WHY)).phase == "done"
        await acme.tables.delete("items", "x")
        await acme.tables.put("items", "new", "only in b")
        gate.set()
        with pytest.raises(StaleVersion):
            await copier
        assert [row.key for row in (await acme.tables.query("items")).items] == ["new", "y", "z"]
        assert (await acme.routes.get("tables")).backend == "b"


async def test_a_copy_that_was_taken_over_ends_for_who_had_it_before() -> None:
    world = RouteWorld()
    gate, reached = asyncio.Event(), asyncio.Event()

    async def slow(place: str, name: str) -> None:
        if place == "b" and name == "commit":
            reached.set()
            await gate.wait()

    async with world.process(Life(hook=slow)) as first, world.process() as second:
        await fill(first.tenant(ACME), "tables")
        copier = asyncio.create_task(first.tenant(ACME).routes.copy("tables", "b", rationale=WHY))
        await reached.wait()
        acme = second.tenant(ACME)
        await acme.routes.copy("tables", "b", rationale=WHY)
        await acme.tables.put("items", "new", 1)
        gate.set()
        with pytest.raises(StaleVersion):
            await copier
        assert [row.key for row in (await acme.tables.query("items")).items] == ["new", "x", "y"]
        actions = [entry.action for entry in (await acme.routes.history("tables")).items]
        assert actions == ["set", "copy-begin", "copy-resume", "copy-settle", "copy-finish"]


async def test_a_write_of_this_process_that_began_before_is_waited_for_whatever_settle_s_is() -> None:
    world = RouteWorld()
    gate, reached = asyncio.Event(), asyncio.Event()

    async def slow(place: str, name: str) -> None:
        if place == "a" and name == "commit" and not reached.is_set() and is_armed.is_set():
            reached.set()
            await gate.wait()

    is_armed = asyncio.Event()
    async with world.process(Life(hook=slow)) as plane:
        acme = plane.tenant(ACME)
        await fill(acme, "tables")
        is_armed.set()
        write = asyncio.create_task(acme.tables.put("items", "late", 1))
        await reached.wait()
        copier = asyncio.create_task(acme.routes.copy("tables", "b", rationale=WHY, settle_s=0))
        for _ in range(500):
            await asyncio.sleep(0)
        assert (await acme.routes.get("tables")).backend == "a"
        gate.set()
        await write
        await copier
        assert (await acme.tables.get("items", "late")).value == 1
        assert (await acme.routes.get("tables")).backend == "b"


async def test_no_write_has_more_time_than_a_copy_waits_for() -> None:
    world = RouteWorld()
    async with world.process(timeout_s=600.0) as plane:
        acme = plane.tenant(ACME)
        await fill(acme, "tables")
        container = world_container(acme)
        async with plane.stores.writing(acme.scope, container, "put", timeout_s=600.0) as call:
            assert call.timeout_s == WRITE_S_MAX
        waits: list[float] = []
        real = plane.stores.sleep

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            await real(seconds)

        plane.stores.sleep = sleep
        await acme.routes.copy("tables", "b", rationale=WHY)
        assert max(waits) == STALENESS_S_MAX + WRITE_S_MAX


def world_container(acme: RoutedTenant) -> Any:
    """The container of a table."""
    return table_container(acme.scope.space, "items")


async def test_a_write_whose_time_went_by_before_it_reached_its_backend_is_not_done() -> None:
    world = RouteWorld()
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "a")
        spec = plane.stores.backends._specs["a"]
        opens = spec.open

        async def slowly(request: Any) -> Any:
            world.clock.advance(WRITE_S_MAX)
            return await opens(request)

        object.__setattr__(spec, "open", slowly)
        with pytest.raises(TimedOut):
            await acme.tables.put("items", "x", 1)
        assert await acme.tables.find("items", "x") is None


async def test_a_copy_that_fails_while_writes_wait_lets_them_go_on() -> None:
    world = RouteWorld()

    def fail(report: CopyReport) -> None:
        if report.phase == "settle":
            raise RuntimeError("the caller's own")

    async with world.process() as plane:
        acme = plane.tenant(ACME)
        await fill(acme, "tables")
        with pytest.raises(RuntimeError):
            await acme.routes.copy("tables", "b", rationale=WHY, progress=fail)
        route = await acme.routes.get("tables")
        assert route.copy is not None
        assert route.copy.phase is CopyPhase.BACKFILL
        await acme.tables.put("items", "z", 1)
        assert (await acme.routes.copy("tables", "b", rationale=WHY)).phase == "done"
        assert [row.key for row in (await acme.tables.query("items")).items] == ["x", "y", "z"]


async def test_a_cancelled_copy_ends_as_cancelled_and_lets_writes_go_on() -> None:
    world = RouteWorld()
    settling = asyncio.Event()

    async with world.process() as plane:
        acme = plane.tenant(ACME)
        await fill(acme, "tables")

        async def wait(seconds: float) -> None:
            if seconds > STALENESS_S_MAX:
                settling.set()
                await asyncio.Event().wait()

        plane.stores.sleep = wait
        copier = asyncio.create_task(acme.routes.copy("tables", "b", rationale=WHY))
        await settling.wait()
        copier.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copier
        assert (await acme.tables.put("items", "z", 1)).version == 1


@pytest.mark.parametrize("kind", ["streams", "tables"])
async def test_what_was_written_to_the_other_backend_on_another_occasion_gives_way(kind: str) -> None:
    """Copied, given up, switched there and back: both sides went on by themselves, under the same numbers."""
    world = RouteWorld()
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set(kind, "a")

        async def write(label: str) -> None:
            if kind == "streams":
                await acme.streams.append("log", StreamEvent(type="X", event_id=label))
            else:
                await acme.tables.put("items", "x", label)

        await write("first")
        gives_up = ValueError("enough")

        def stop(report: CopyReport) -> None:
            del report
            raise gives_up

        with pytest.raises(ValueError, match="enough"):
            await acme.routes.copy(kind, "b", rationale=WHY, progress=stop)
        await acme.routes.abandon_copy(kind)
        await acme.routes.switch(kind, "b", rationale=WHY, data_stays=True)
        await write("in b")
        await acme.routes.switch(kind, "a", rationale=WHY, data_stays=True)
        await write("in a")
        await acme.routes.copy(kind, "b", rationale=WHY)
        if kind == "streams":
            assert [event.event_id for event in (await acme.streams.read("log")).events] == ["first", "in a"]
        else:
            assert (await acme.tables.get("items", "x")).value == "in a"


async def test_a_tenant_whose_own_route_was_deleted_is_copied_from_the_default() -> None:
    world = RouteWorld()
    async with world.process() as plane:
        await plane.tenant("t_system").routes.set("tables", "a", default=True)
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "b")
        await acme.routes.delete("tables")
        await acme.tables.put("items", "x", 1)
        await acme.routes.copy("tables", "b", rationale=WHY)
        assert (await acme.routes.get("tables")).backend == "b"
        assert (await acme.tables.get("items", "x")).value == 1


async def test_an_interrupted_way_back_goes_on_by_the_same_call_and_given_up_can_be_begun_again() -> None:
    world = RouteWorld()

    def stop(report: CopyReport) -> None:
        raise ValueError(report.phase)

    async with world.process() as plane:
        acme = plane.tenant(ACME)
        await fill(acme, "tables")
        await acme.routes.copy("tables", "b", rationale=WHY)
        with pytest.raises(ValueError, match="backfill"):
            await acme.routes.copy_back("tables", rationale=WHY, progress=stop)
        left = await acme.routes.abandon_copy("tables")
        assert left.copy is not None
        assert (left.backend, left.copy.phase, left.copy.other.backend) == ("b", CopyPhase.DONE, "a")
        with pytest.raises(ValueError, match="backfill"):
            await acme.routes.copy_back("tables", rationale=WHY, progress=stop)
        assert (await acme.routes.copy_back("tables", rationale=WHY)).phase == "done"
        assert (await acme.routes.get("tables")).backend == "a"


async def test_a_project_whose_route_goes_away_while_the_tenant_is_copied_is_copied_as_well() -> None:
    world = RouteWorld()
    async with world.process() as plane, world.process() as other:
        acme = plane.tenant(ACME)
        await fill(acme, "tables")
        await acme.routes.set("tables", "a", project="p")
        await plane.tenant(ACME, project="p").tables.put("items", "of-p", 1)
        seen: list[str] = []
        pending: list[asyncio.Task[Any]] = []

        def drop(report: CopyReport) -> None:
            seen.append(report.phase)
            if seen.count("settle") == 2:
                pending.append(asyncio.create_task(other.tenant(ACME).routes.delete("tables", project="p")))

        await acme.routes.copy("tables", "b", rationale=WHY, progress=drop)
        await asyncio.gather(*pending)
        await plane.stores.routing.refresh()
        assert (await plane.tenant(ACME, project="p").tables.get("items", "of-p")).value == 1


@pytest.mark.parametrize(
    "times",
    [{"rollback_s": float("inf")}, {"rollback_s": -1.0}, {"rollback_s": float("nan")}, {"settle_s": -1.0}],
)
async def test_times_that_cannot_be_are_refused_before_anything_is_copied(times: Mapping[str, float]) -> None:
    world = RouteWorld()
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        await fill(acme, "tables")
        with pytest.raises(Exception, match="_max"):
            await acme.routes.copy("tables", "b", rationale=WHY, **times)  # type: ignore[arg-type]
        assert (await acme.routes.get("tables")).version == 1


async def test_lists_whose_order_is_the_backends_own_do_not_go_on_in_another_backend() -> None:
    world = RouteWorld()
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        for kind in ("streams", "memory"):
            await acme.routes.set(kind, "a")
        for number in range(4):
            await acme.streams.append(f"s{number}", StreamEvent(type="X"))
            await acme.memory.append(f"s{number}", Message(role="user", content="x"), user="ann")
        streams = await acme.streams.list(limit=2)
        sessions = await acme.memory.sessions(user="ann", limit=2)
        assert len((await acme.streams.list(cursor=streams.next_cursor)).items) == 2
        for kind in ("streams", "memory"):
            await acme.routes.copy(kind, "b", rationale=WHY)
        with pytest.raises(Exception, match="begin again"):
            await acme.streams.list(cursor=streams.next_cursor)
        with pytest.raises(Exception, match="begin again"):
            await acme.memory.sessions(user="ann", cursor=sessions.next_cursor)
        erased = await acme.memory.erase_user("ann")
        assert erased.sessions == 4
