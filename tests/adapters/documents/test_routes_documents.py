"""The registry on documents: what cannot be read, what is cut, and what a call costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal
from uuid import UUID

import msgspec
import pytest

from perdure.adapters.documents import keys
from perdure.domain.route import Route, RouteKey
from perdure.errors import Corrupt
from perdure.ports.documents import Expect, Put
from perdure.testing.contracts.registry import Registry, change_to, new_route, next_route
from perdure.testing.driver_faults import Crash, Crashed, Fault, FaultyDriver
from tests.support.document_stores import World

TIMEOUT_S: Final = 5.0
OPERATIONS_MAX: Final = 30
REGISTRY: Final = keys.routes_partition("lab", "dev")


async def overwrite(world: World, sort: str, body: bytes, *, version: int = 1) -> None:
    """Write garbage past the store."""
    driver = world.driver()
    await driver.open()
    put = Put(sort=sort, version=version, body=body, expect=Expect.ANY)
    await driver.commit(REGISTRY, [put], commit_id="garbage", timeout_s=TIMEOUT_S)


async def test_a_registry_that_never_was_is_empty_and_has_version_0() -> None:
    async with World().client() as client:
        snapshot = await client.routes.load(timeout_s=TIMEOUT_S)
        assert (snapshot.version, list(snapshot.routes), list(snapshot.quarantined)) == (0, [], [])
        assert await client.routes.version(timeout_s=TIMEOUT_S) == 0


async def test_each_mode_and_environment_has_a_registry_of_its_own() -> None:
    world = World()
    async with world.client() as lab, world.client(mode="saas") as saas, world.client(env="prod") as prod:
        registries = [Registry(store=client.routes) for client in (lab, saas, prod)]
        route = new_route("t_acme")
        await registries[0].make(route)
        await registries[1].make(next_route(new_route("t_acme", mode="saas", backend="x"), version=1))
        assert [await registry.version() for registry in registries] == [1, 1, 0]
        assert await registries[0].routes("t_acme") == {route.key: route}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"sw0rdfish", "it is not JSON"),
        (b'"sw0rdfish', "it is not JSON"),
        (b'{"backend":"\xff sw0rdfish"}', "it is not"),
        (b"[]", "it is not a route"),
        (b'{"backend":"sw0rdfish"}', "a field is missing"),
    ],
)
async def test_a_record_that_cannot_be_read_is_quarantined_and_the_others_are_served(body: bytes, problem: str) -> None:
    world = World()
    async with world.client() as client:
        registry = Registry(store=client.routes)
        good, bad = await registry.make(new_route("t_acme")), await registry.make(new_route("t_acme", project="p"))
        await overwrite(world, keys.route_sort(bad.key), body)
        snapshot = await client.routes.load(timeout_s=TIMEOUT_S)
        assert list(snapshot.routes) == [good]
        (quarantined,) = snapshot.quarantined
        assert quarantined.where == keys.route_sort(bad.key)
        assert problem in quarantined.problem
        assert "sw0rdfish" not in quarantined.problem
        await registry.make(new_route("t_other"))


@pytest.mark.parametrize(
    "changed",
    [{"tier": "sw0rdfish"}, {"config": {"sw0rdfish": [1]}}, {"tenant": "t_sw0rdfish"}, {"version": 2}, {"kind": 1}],
    ids=str,
)
async def test_a_record_that_was_tampered_with_is_quarantined(changed: dict[str, object]) -> None:
    world = World()
    async with world.client() as client:
        route = new_route("t_acme")
        await Registry(store=client.routes).make(route)
        body = msgspec.json.encode(msgspec.to_builtins(route) | changed)
        await overwrite(world, keys.route_sort(route.key), body)
        snapshot = await client.routes.load(timeout_s=TIMEOUT_S)
        assert not snapshot.routes
        (quarantined,) = snapshot.quarantined
        assert "sw0rdfish" not in quarantined.problem


async def test_fields_of_a_newer_release_are_passed_over() -> None:
    world = World()
    async with world.client() as client:
        route = new_route("t_acme")
        registry = Registry(store=client.routes)
        await registry.make(route)
        body = msgspec.json.encode(msgspec.to_builtins(route) | {"colour": "blue", "nested": {"a": [1]}})
        await overwrite(world, keys.route_sort(route.key), body)
        assert await registry.routes("t_acme") == {route.key: route}


async def test_a_registry_that_cannot_be_read_is_an_error_and_never_empty() -> None:
    world = World()
    async with world.client() as client:
        await Registry(store=client.routes).make(new_route("t_acme"))
    broken = {Fault.DOWN: 1.0}
    async with world.client(lambda driver: FaultyDriver(driver, read_chances=broken)) as client:
        with pytest.raises(Exception, match="down on purpose"):
            await client.routes.load(timeout_s=TIMEOUT_S)


async def test_history_and_events_that_cannot_be_read_are_an_error() -> None:
    world = World()
    async with world.client() as client:
        route = new_route("t_acme")
        await Registry(store=client.routes).make(route)
        await overwrite(world, keys.history_sort(route.key, 1), b"{}")
        await overwrite(world, keys.outbox_sort(1), b"{}")
        with pytest.raises(Corrupt):
            await client.routes.history(route.key, after=0, limit=10, timeout_s=TIMEOUT_S)
        with pytest.raises(Corrupt):
            await client.routes.unrelayed(limit=10, timeout_s=TIMEOUT_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything there is to see."""

    version: int
    routes: dict[RouteKey, Route]
    history: int
    events: int


async def look(world: World, key: RouteKey) -> Seen:
    async with world.client() as client:
        registry = Registry(store=client.routes)
        return Seen(
            version=await registry.version(),
            routes=await registry.routes(key.tenant),
            history=len(await registry.history(key)),
            events=len(await registry.unrelayed(key.tenant)),
        )


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_change_is_done_or_not_done_wherever_it_is_cut(moment: Literal["before", "after"]) -> None:
    first = new_route("t_acme")
    second = next_route(first, backend="filesystem")
    outcomes: set[bool] = set()
    for at in range(1, OPERATIONS_MAX):
        world = World()
        async with world.client() as client:
            await Registry(store=client.routes).make(first)
        before = await look(world, first.key)
        has_died = False
        async with world.client(partial(FaultyDriver, crash=Crash(at=at, moment=moment))) as client:
            try:
                await Registry(store=client.routes).make(second)
            except Crashed:
                has_died = True
        after = await look(world, first.key)
        done = Seen(version=2, routes={first.key: second}, history=2, events=2)
        assert after in (before, done)
        outcomes.add(after == done)
        async with world.client() as client:
            await Registry(store=client.routes).make(second)
        assert await look(world, first.key) == done
        if not has_died:
            assert after == done
            assert outcomes == {False, True}
            return
    pytest.fail("a change that never ends")


@pytest.mark.parametrize("fault", [Fault.LOST_DONE, Fault.LOST_UNDONE, Fault.THROTTLED, Fault.DOWN])
async def test_a_change_whose_answer_was_lost_is_written_once(fault: Fault) -> None:
    world = World()
    first = new_route("t_acme")
    async with world.client(lambda driver: FaultyDriver(driver, commits=[fault, fault])) as client:
        assert await Registry(store=client.routes).commit(change_to(first)) == 1
    assert await look(world, first.key) == Seen(version=1, routes={first.key: first}, history=1, events=1)


async def test_events_are_found_behind_others_that_wait_and_torn_pages() -> None:
    world = World()
    torn = {Fault.TORN: 0.7}
    async with world.client(lambda driver: FaultyDriver(driver, read_chances=torn)) as client:
        registry = Registry(store=client.routes)
        routes = [await registry.make(new_route("t_acme", project=f"p{number}")) for number in range(30)]
        events = await registry.unrelayed("t_acme")
        assert [event.route_id for event in events] == [route.route_id for route in routes]
        await registry.relayed(*(event.event_id for event in events[20:]))
        assert await registry.unrelayed("t_acme") == events[:20]
        assert len(await registry.routes("t_acme")) == 30


async def test_a_call_costs_few_operations() -> None:
    world = World()
    counting = FaultyDriver(world.driver())
    operations = counting.operations

    def spent() -> dict[str, int]:
        counted = dict(Counter(operations))
        operations.clear()
        return counted

    async with world.client(lambda _: counting) as client:
        registry = Registry(store=client.routes)
        route = await registry.make(new_route("t_acme", route_id=UUID(int=7)))
        assert spent() == {"get": 1, "commit": 1}
        await registry.make(next_route(route))
        assert spent() == {"get": 1, "commit": 1}
        await registry.version()
        assert spent() == {"get": 1}
        await registry.routes("t_acme")
        assert spent() == {"get": 1, "scan": 1}
        await registry.history(route.key)
        assert spent() == {"scan": 1}
        events = await registry.unrelayed("t_acme")
        assert spent() == {"scan": 1}
        await registry.relayed(*(event.event_id for event in events))
        assert spent() == {"scan": 1, "commit": 1}
