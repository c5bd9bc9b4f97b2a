"""How fresh a route is: written by what is known to be new, looked at once for everybody, and never for ever."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from perdure.core.routing import STALENESS_S_MAX
from perdure.core.stores import SETTLE_POLL_S
from perdure.errors import BackendDown, Invalid, Unavailable
from perdure.testing.driver_faults import Crashed
from tests.support.route_worlds import WHY, Life, RouteWorld

ACME: Final = "t_acme"


async def turns(count: int = 100) -> None:
    """Let the others go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_many_writes_with_an_old_snapshot_look_at_the_registry_once() -> None:
    world, reads = RouteWorld(), []

    async def count(place: str, name: str) -> None:
        if place == "home":
            reads.append(name)
        await asyncio.sleep(0)

    async with world.process(Life(hook=count)) as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "a")
        world.clock.advance(STALENESS_S_MAX)
        reads.clear()
        await acme.tables.put("items", "x", 1)
        assert reads == []
        world.clock.advance(0.001)
        await asyncio.gather(*(acme.tables.put("items", f"k{number}", 1) for number in range(20)))
        assert reads == ["get"]


async def test_a_registry_that_hangs_costs_a_write_its_own_time_and_no_more() -> None:
    world = RouteWorld()
    hangs = asyncio.Event()
    is_hanging = [False]

    async def hang(place: str, name: str) -> None:
        del name
        if place == "home" and is_hanging[0]:
            await hangs.wait()

    async with world.process(Life(hook=hang)) as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "a")
        world.clock.advance(STALENESS_S_MAX + 1)
        is_hanging[0] = True
        writes = [acme.tables.put("items", f"k{number}", 1, timeout_s=0.01) for number in range(10)]
        errors = await asyncio.gather(*writes, return_exceptions=True)
        assert [getattr(error, "code", error) for error in errors] == ["routes.stale"] * 10
        is_hanging[0] = False
        hangs.set()
        await acme.tables.put("items", "x", 1)


async def test_a_write_that_is_cancelled_while_it_looks_ends_as_cancelled_and_the_others_go_on() -> None:
    world = RouteWorld()
    reached, released = asyncio.Event(), asyncio.Event()
    released.set()

    async def hang(place: str, name: str) -> None:
        del name
        if place == "home" and not released.is_set():
            reached.set()
            await released.wait()

    async with world.process(Life(hook=hang)) as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "a")
        world.clock.advance(STALENESS_S_MAX + 1)
        released.clear()
        first = asyncio.create_task(acme.tables.put("items", "x", 1))
        await reached.wait()
        second = asyncio.create_task(acme.tables.put("items", "y", 1))
        await turns()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        released.set()
        await second
        assert [row.key for row in (await acme.tables.query("items")).items] == ["y"]


async def test_a_write_that_waits_for_a_copy_goes_on_waiting_while_the_registry_is_away() -> None:
    world = RouteWorld()
    life = Life()
    async with world.process(life) as dying:
        await dying.tenant(ACME).routes.set("tables", "a")

        def die(report: object) -> None:
            life.is_over = getattr(report, "phase", "") == "settle"

        with pytest.raises(Crashed):
            await dying.tenant(ACME).routes.copy("tables", "b", rationale=WHY, progress=die)
    failures = [0]
    waits = 0

    async def fail(place: str, name: str) -> None:
        del name
        if place == "home" and failures[0]:
            failures[0] -= 1
            raise BackendDown("down on purpose")

    async with world.process() as other:

        async def sleep(seconds: float) -> None:
            nonlocal waits
            world.clock.advance(seconds)
            waits += seconds == SETTLE_POLL_S
            if seconds == SETTLE_POLL_S and waits == 2:
                failures[0] = 3
            if waits == 6:
                waits += 1
                await other.tenant(ACME).routes.abandon_copy("tables")

        async with world.process(Life(hook=fail), sleep=sleep) as plane:
            assert (await plane.tenant(ACME).tables.put("items", "x", 1)).version == 1
            assert waits >= 6
            assert failures == [0]


async def test_two_looks_at_once_end_with_the_newest_and_tell_of_it() -> None:
    world = RouteWorld()

    async def hesitate(place: str, name: str) -> None:
        del place, name
        await turns(3)

    async with world.process(Life(hook=hesitate)) as plane, world.process() as other:
        told: list[int] = []

        async def listen(routes: object) -> None:
            del routes
            await turns(2)
            told.append(len(plane.stores.routing.routes))

        plane.stores.routing.on_change(listen)
        looks = []
        for number in range(5):
            await other.tenant(ACME).routes.set("tables", "a", project=f"p{number}")
            looks.append(asyncio.create_task(plane.stores.routing.refresh()))
            await turns(number)
        await asyncio.gather(*looks)
        await plane.stores.routing.refresh()
        assert len(plane.stores.routing.routes) == 5
        assert told[-1] == 5
        assert told == sorted(told)


async def test_a_reason_is_kept_as_one_text_everywhere_and_checked_for_deletions_too() -> None:
    world = RouteWorld()
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "a")
        route = await acme.routes.switch("tables", "b", rationale="  nearer ", data_stays=True)
        history = (await acme.routes.history("tables")).items
        assert (history[-1].rationale, route.switch_rationale) == ("nearer", "nearer")
        with pytest.raises(Invalid, match="rationale"):
            await acme.routes.delete("tables", rationale="two\nlines")
        with pytest.raises(Exception, match="rationale_chars_max"):
            await acme.routes.delete("tables", rationale="x" * 10_000)


async def test_a_write_that_ends_with_somebody_elses_error_is_audited_as_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "perdure.audit")
    world = RouteWorld()

    async def fail(place: str, name: str) -> None:
        del name
        if place == "a":
            raise ValueError("not one of ours")

    async with world.process(Life(hook=fail)) as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "a")
        with pytest.raises(ValueError, match="not one"):
            await acme.tables.put("items", "x", 1)
    assert "store write tables put: ValueError" in caplog.text


async def test_nothing_is_written_before_the_registry_was_read() -> None:
    world = RouteWorld()

    async def fail(place: str, name: str) -> None:
        del name
        if place == "home":
            raise BackendDown("down on purpose")

    async with world.process(Life(hook=fail), start=False) as plane:
        with pytest.raises(Unavailable) as caught:
            await plane.tenant(ACME).tables.put("items", "x", 1)
        assert caught.value.code == "routes.stale"
