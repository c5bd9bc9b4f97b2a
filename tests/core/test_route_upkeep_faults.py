"""Upkeep of routes when streams are away, changes are many, or somebody stops it; and the registry's own routes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import pytest

from perdure.core.copying import SETTLE_S_MAX
from perdure.core.registry import commit_change
from perdure.core.route_upkeep import ACTOR, UNRELAYED_MAX, show_own_place, write_lab_routes
from perdure.domain.kinds import KINDS, Kind
from perdure.domain.route import RouteKey, Target
from perdure.domain.route_changes import By, RouteSettings, make_route, settle_copy
from perdure.errors import BackendDown, Invalid, NoRoute, StaleVersion
from perdure.testing.driver_faults import Crashed
from perdure.testing.routed import RoutedPlane
from tests.support.route_worlds import WHY, Life, RouteWorld

ACME: Final = "t_acme"
HERE: Final = Target(backend="a")


async def versions_told(plane: RoutedPlane, tenant: str) -> list[Any]:
    """What the tenant's stream tells of its routes."""
    page = await plane.tenant(tenant).streams.read(f"routing/{tenant}", limit=500)
    return [(event.data["kind"], event.data["version"]) for event in page.events]


async def test_events_that_nobody_can_relay_do_not_hide_those_behind_them() -> None:
    world = RouteWorld()
    async with world.process() as plane:
        stores = plane.stores
        by = By(actor=ACTOR, at=world.clock.now())
        for number in range(UNRELAYED_MAX + 5):
            key = RouteKey(kind=Kind.TABLES, tenant=f"t_stuck{number}", mode="lab", env="dev")
            change = make_route(key, HERE, RouteSettings(), route_id=stores.environment.ids.new(), by=by)
            await stores.routing.store.commit(change, timeout_s=30)
        await plane.tenant(ACME).routes.set("streams", "a")
        assert await plane.upkeep.once() == 0
        assert await plane.upkeep.once() == 1
        assert await versions_told(plane, ACME) == [("streams", 1)]


async def test_events_of_a_tenant_wait_behind_the_one_that_cannot_be_relayed_and_others_do_not() -> None:
    world = RouteWorld()
    fails = {"t_slow"}

    async def fail(place: str, name: str) -> None:
        if place == "a" and name == "commit" and fails:
            raise BackendDown("down on purpose")

    async with world.process(Life(hook=fail)) as plane, world.process() as quick:
        await quick.tenant("t_slow").routes.set("streams", "a")
        await quick.tenant(ACME).routes.set("streams", "b")
        for tier in ("pro", "free", "enterprise"):
            await quick.tenant("t_slow").routes.set("streams", "a", tier=tier)
        began = world.clock.monotonic()
        assert await plane.upkeep.once() == 1
        assert world.clock.monotonic() - began < 30  # one wait for the tenant, not one for each event
        assert await versions_told(quick, ACME) == [("streams", 1)]
        fails.clear()
        assert await plane.upkeep.once() == 4
        assert await versions_told(quick, "t_slow") == [("streams", version) for version in range(1, 5)]


async def test_a_stream_that_hangs_keeps_nobody_from_seeing_changes_of_routes() -> None:
    world = RouteWorld()
    hangs, released = asyncio.Event(), asyncio.Event()

    async def hang(place: str, name: str) -> None:
        if place == "a" and name == "commit":
            hangs.set()
            await released.wait()

    async def turn(seconds: float) -> None:
        del seconds
        await asyncio.sleep(0)

    async with world.process(Life(hook=hang), sleep=turn) as plane, world.process() as other:
        await other.tenant(ACME).routes.set("streams", "a")
        task = asyncio.create_task(plane.upkeep.run())
        await asyncio.wait_for(hangs.wait(), 30)
        changed = await other.tenant(ACME).routes.set("tables", "b")
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert plane.stores.routing.find(changed.key) == changed
        await plane.upkeep.stop(task)
        assert task.cancelled()
        released.set()


async def test_whoever_stops_it_can_be_cancelled() -> None:
    """The end of the task is not mistaken for the end of whoever waits for it, nor the reverse."""
    world = RouteWorld()
    async with world.process() as plane:
        stubborn = asyncio.Event()

        async def never_ends() -> None:
            while not stubborn.is_set():
                try:
                    await stubborn.wait()
                except asyncio.CancelledError:
                    continue

        task = asyncio.create_task(never_ends())
        stopping = asyncio.create_task(plane.upkeep.stop(task))
        for _ in range(10):
            await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        stubborn.set()
        await task


async def test_what_nobody_expected_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    world = RouteWorld()
    broken = [True]

    async def turn(seconds: float) -> None:
        del seconds
        await asyncio.sleep(0)

    async with world.process(sleep=turn) as plane, world.process() as other:

        async def break_down(routes: object) -> None:
            del routes
            if broken:
                broken.clear()
                raise RuntimeError("a listener of somebody else")

        plane.stores.routing.on_change(break_down)
        task = asyncio.create_task(plane.upkeep.run())
        await other.tenant(ACME).routes.set("tables", "a")
        for _ in range(200):
            await asyncio.sleep(0)
        changed = await other.tenant(ACME).routes.set("tables", "a", tier="pro")
        for _ in range(200):
            await asyncio.sleep(0)
        assert plane.stores.routing.find(changed.key) == changed
        await plane.upkeep.stop(task)
    assert "failed unexpectedly" in caplog.text


async def test_an_overdue_copy_is_given_up_with_an_audit_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "perdure.audit")
    world = RouteWorld()
    life = Life()

    def die(report: Any) -> None:
        life.is_over = report.phase == "settle"

    async with world.process(life) as plane:
        await plane.tenant(ACME).routes.set("tables", "a")
        with pytest.raises(Crashed):
            await plane.tenant(ACME).routes.copy("tables", "b", rationale=WHY, progress=die)
    async with world.process() as plane:
        world.clock.advance(SETTLE_S_MAX + 1)
        await plane.upkeep.once()
        assert (await plane.tenant(ACME).routes.get("tables")).copy is None
    assert "route copy-abandon: ok" in caplog.text


async def test_a_change_that_was_committed_is_a_success_although_the_registry_goes_away_then() -> None:
    world = RouteWorld()
    away = [False]

    async def go_away(place: str, name: str) -> None:
        if place == "home" and away[0]:
            raise BackendDown("down on purpose")
        if place == "home" and name == "commit":
            away.append(True)

    async with world.process(Life(hook=go_away)) as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "a")
        away.clear()
        away.append(False)

        store = plane.stores.routing.store
        commit = store.commit

        async def commit_and_lose(change: Any, *, timeout_s: float) -> int:
            version = await commit(change, timeout_s=timeout_s)
            away[0] = True
            return version

        store.commit = commit_and_lose  # type: ignore[method-assign]
        switched = await acme.routes.switch("tables", "b", rationale=WHY, data_stays=True)
        assert switched.backend == "b"
        with pytest.raises(Exception, match="registry could not be read"):
            await acme.tables.put("items", "x", 1)  # not by the route as it was
        away[0] = False
        await acme.tables.put("items", "x", 1)
        assert (await acme.tables.get("items", "x")).value == 1
        assert (await acme.routes.get("tables")).backend == "b"


@pytest.mark.parametrize("ending", ["cancelled", "ValueError"])
async def test_a_change_that_did_not_end_is_not_audited_as_done(ending: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "perdure.audit")
    world = RouteWorld()
    reached = asyncio.Event()

    async def stop(place: str, name: str) -> None:
        if name == "commit" and place == "home":
            reached.set()
            if ending == "ValueError":
                raise ValueError("not one of ours")
            await asyncio.Event().wait()

    async with world.process(Life(hook=stop)) as plane:
        change = asyncio.create_task(plane.tenant(ACME).routes.set("tables", "a"))
        await reached.wait()
        if ending == "cancelled":
            change.cancel()
        with pytest.raises((ValueError, asyncio.CancelledError)):
            await change
    assert f"route set: {ending}" in caplog.text


def own_key(kind: Kind) -> RouteKey:
    """The key of a route of the control plane."""
    return RouteKey(kind=kind, tenant="t_system", mode="lab", env="dev")


def routed_kinds() -> list[Kind]:
    """Kinds that lab has defaults for."""
    return [kind for kind, row in KINDS.items() if row.routed and kind is not Kind.ROUTES]


async def test_lab_routes_of_a_process_that_was_killed_are_completed_by_the_next_one() -> None:
    for number in range(1, 60):
        world = RouteWorld()
        life = Life()
        async with world.process(life) as plane:
            life.dies_at = life.operations + number
            try:
                await write_lab_routes(plane.stores, HERE)
            except Crashed:
                pass
            else:
                assert number > len(routed_kinds())
                return
        async with world.process() as plane:
            await write_lab_routes(plane.stores, HERE)
            await show_own_place(plane.stores, HERE)
            await plane.tenant(ACME).tables.put("items", "x", 1)
            found = {route.kind: (route.version, route.default) for route in plane.stores.routing.routes}
            assert found == {**dict.fromkeys(routed_kinds(), (1, True)), Kind.ROUTES: (1, False)}
    raise AssertionError("it never ended")


async def test_two_planes_that_open_a_new_lab_at_once_agree() -> None:
    world = RouteWorld()

    async def hesitate(place: str, name: str) -> None:
        del place, name
        await asyncio.sleep(0)

    async with world.process(Life(hook=hesitate)) as one, world.process(Life(hook=hesitate)) as other:

        async def begin(plane: RoutedPlane) -> None:
            await write_lab_routes(plane.stores, HERE)
            await show_own_place(plane.stores, HERE)

        await asyncio.gather(begin(one), begin(other))
        for plane in (one, other):
            await plane.stores.routing.refresh()
            assert {route.version for route in plane.stores.routing.routes} == {1}
            assert len(plane.stores.routing.routes) == len(routed_kinds()) + 1
            await plane.tenant(ACME).tables.put("items", "x", 1)


async def test_a_lab_default_that_somebody_deleted_stays_deleted() -> None:
    world = RouteWorld()
    async with world.process() as plane:
        await write_lab_routes(plane.stores, HERE)
        await plane.tenant("t_system").routes.delete("tables")
    async with world.process() as plane:
        await write_lab_routes(plane.stores, HERE)
        with pytest.raises(NoRoute):
            await plane.tenant(ACME).tables.put("items", "x", 1)


async def test_the_route_that_shows_where_the_registry_is_follows_it() -> None:
    world = RouteWorld()
    async with world.process() as plane:
        for target in (HERE, HERE, Target(backend="a", config={"place": "x"}), Target(backend="b")):
            await show_own_place(plane.stores, target)
            shown = plane.stores.routing.find(own_key(Kind.ROUTES))
            assert shown is not None
            assert shown.target == target
        route = await plane.tenant("t_system").routes.get("routes")
        assert (route.version, route.previous_backend_type) == (3, "a")


async def test_nobody_can_change_the_route_of_the_registry() -> None:
    world = RouteWorld()
    async with world.process() as plane:
        await show_own_place(plane.stores, HERE)
        with pytest.raises(Invalid):
            await plane.tenant("t_system").routes.delete("routes")


async def test_a_rival_change_is_audited_as_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "perdure.audit")
    world = RouteWorld()
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        route = await acme.routes.set("tables", "a")
        filling = await acme.routes.get("tables")
        by = By(actor=ACTOR, at=world.clock.now())
        with pytest.raises(Exception, match="phase"):
            settle_copy(filling, by=by)
        change = make_route(route.key, HERE, RouteSettings(), route_id=route.route_id, by=By(actor="user:b", at=by.at))
        with pytest.raises(StaleVersion):
            await commit_change(plane.stores, change)
    assert "route set: stale_version" in caplog.text
