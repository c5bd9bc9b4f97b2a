"""Everything the routing registry promises, in one class.

::

    class TestRegistryOnSomething(RegistryContract):
        async def open_backend(self) -> Backend: ...

        async def advance(self, seconds: float) -> None: ...

An engine may live longer than a test, and then its registry does: a test looks at its own tenants' routes only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from perdure.core.environment import SystemIds
from perdure.domain.kinds import Kind
from perdure.domain.route import (
    TIERS,
    CopyPhase,
    Route,
    RouteChange,
    RouteCopy,
    RouteEvent,
    RouteEventType,
    RouteHistory,
    RouteKey,
    Target,
)
from perdure.errors import Invalid, LimitExceeded, StaleVersion
from perdure.ports.backend import Backend
from perdure.ports.routes import EVENTS_RELAYED_MAX, RouteStore
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother, StoreContract, new_tenant

NOON: Final = datetime(2025, 6, 1, 12, 0, 0, 250, tzinfo=UTC)
ACTOR: Final = "user:ann"

_IDS: Final = SystemIds()


def new_route(tenant: str | None = None, **values: Any) -> Route:
    """The first version of a route."""
    known: dict[str, Any] = {
        "route_id": _IDS.new(),
        "kind": Kind.TABLES,
        "tenant": tenant or new_tenant(),
        "mode": "lab",
        "env": "dev",
        "backend": "memory",
        "version": 1,
        "created_at": NOON,
        "updated_at": NOON,
        "updated_by": ACTOR,
    }
    return Route(**(known | values))


def next_route(route: Route, **values: Any) -> Route:
    """The next version of a route, a second later."""
    later = replace(route, version=route.version + 1, updated_at=route.updated_at + timedelta(seconds=1))
    return replace(later, **values)


def change_to(route: Route, *, action: str = "upsert", rationale: str | None = None) -> RouteChange:
    """Everything that the making of this version of a route writes."""
    history = RouteHistory(
        route_id=route.route_id,
        version=route.version,
        action=action,
        actor=route.updated_by,
        occurred_at=route.updated_at,
        rationale=rationale,
        from_backend=None if route.version == 1 else "memory",
        to_backend=route.backend,
        config_digest="0" * 64,
        request_id="req-1",
    )
    event = RouteEvent(
        event_id=f"route:{route.route_id}:{route.version}",
        type=RouteEventType.CHANGED,
        tenant=route.tenant,
        route_id=route.route_id,
        version=route.version,
        kind=route.kind,
        action=action,
        actor=route.updated_by,
        occurred_at=route.updated_at,
        backend_type=route.backend,
        switch_rationale=rationale,
        project=route.project,
        surface=route.surface,
    )
    return RouteChange(route=route, expected_version=route.version - 1, history=history, event=event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A registry, as one client sees it, in few words."""

    store: RouteStore

    async def commit(self, change: RouteChange) -> int:
        """One change."""
        return await self.store.commit(change, timeout_s=TIMEOUT_S)

    async def make(self, route: Route) -> Route:
        """Write a version of a route."""
        await self.commit(change_to(route))
        return route

    async def version(self) -> int:
        """The registry's version."""
        return await self.store.version(timeout_s=TIMEOUT_S)

    async def routes(self, *tenants: str) -> dict[RouteKey, Route]:
        """These tenants' routes, by what they are for."""
        snapshot = await self.store.load(timeout_s=TIMEOUT_S)
        assert not snapshot.quarantined
        mine = [route for route in snapshot.routes if route.tenant in tenants]
        assert len({route.key for route in mine}) == len(mine)
        return {route.key: route for route in mine}

    async def history(self, key: RouteKey, *, after: int = 0, limit: int = 100) -> list[RouteHistory]:
        """A route's history, page after page."""
        entries: list[RouteHistory] = []
        more = True
        while more:
            page = await self.store.history(key, after=after, limit=limit, timeout_s=TIMEOUT_S)
            assert len(page.entries) <= limit
            assert page.entries or not page.more
            entries += page.entries
            after = entries[-1].version if entries else after
            more = page.more
        return entries

    async def unrelayed(self, *tenants: str) -> list[RouteEvent]:
        """These tenants' events that wait."""
        events = await self.store.unrelayed(limit=1_000, timeout_s=TIMEOUT_S)
        return [event for event in events if event.tenant in tenants]

    async def relayed(self, *event_ids: str) -> None:
        """Acknowledge events."""
        await self.store.relayed(event_ids, timeout_s=TIMEOUT_S)


class RegistryContract(StoreContract):
    """Routes, their history and their events."""

    @pytest.fixture
    def registry(self, backend: Backend) -> Registry:
        """The registry, as the client sees it that most tests are about."""
        return Registry(store=backend.routes)

    async def rivals(self, registry: Registry, open_another: OpenAnother, count: int) -> Sequence[Registry]:
        """The same registry in the hands of several clients."""
        other = Registry(store=(await open_another()).routes)
        return [(registry, other)[number % 2] for number in range(count)]

    async def test_a_route_is_loaded_as_it_was_written_by_every_client(
        self, registry: Registry, open_another: OpenAnother
    ) -> None:
        switched = NOON + timedelta(days=1)
        route = new_route(
            kind=Kind.STREAMS,
            project="Prönject / 1",
            surface="squared2",
            config={"table": "äöü", "port": 5432, "tls": True, "password": "secret://env/PW", "big": 2**53},
            required=False,
            default=True,
            audit="writes",
            tier="enterprise",
            cost_notes="cheap\nvery",
            created_at=NOON - timedelta(days=1),
            previous_backend_type="filesystem",
            switch_rationale="growth 😀",
            last_switch_time=switched,
            copy=RouteCopy(
                phase=CopyPhase.DONE,
                other=Target(backend="filesystem", config={"path": "x"}),
                started_at=NOON,
                settled_at=switched,
                rollback_until=switched + timedelta(days=7),
                rationale="growth",
            ),
        )
        await registry.make(route)
        other = Registry(store=(await open_another()).routes)
        for one in (registry, other):
            assert await one.routes(route.tenant) == {route.key: route}
        loaded = (await other.routes(route.tenant))[route.key]
        assert {name: type(value) for name, value in loaded.config.items()} == {
            "table": str,
            "port": int,
            "tls": bool,
            "password": str,
            "big": int,
        }

    async def test_a_change_replaces_the_route_and_raises_the_registrys_version(self, registry: Registry) -> None:
        route = new_route(config={"a": "1", "b": "2"}, copy=None)
        versions = [await registry.version(), await registry.commit(change_to(route))]
        for backend in ("filesystem", "postgres"):
            route = next_route(route, backend=backend, config={"c": backend})
            versions.append(await registry.commit(change_to(route)))
        assert versions == sorted(set(versions))
        assert await registry.version() == versions[-1]
        assert await registry.routes(route.tenant) == {route.key: route}

    async def test_the_snapshots_version_is_the_registrys(self, registry: Registry) -> None:
        version = await registry.commit(change_to(new_route()))
        snapshot = await registry.store.load(timeout_s=TIMEOUT_S)
        assert snapshot.version == version

    async def test_routes_of_a_tenant_its_projects_and_their_surfaces_stand_beside_each_other(
        self, registry: Registry
    ) -> None:
        tenant, other = new_tenant(), new_tenant()
        texts = ("a", "b", "a/b", "a.b", "-", "~", "None", "null", " ", "A", "é", "e\u0301", "x" * 128, "😀" * 128)
        routes = [
            new_route(tenant),
            new_route(other),
            new_route(tenant, kind=Kind.MEMORY),
            *(new_route(tenant, project=text) for text in texts),
            *(new_route(tenant, project="p", surface=text) for text in texts),
            *(new_route(tenant, project=text, surface="😀" * 128) for text in texts),
            new_route(tenant, project="x" * 127 + "y"),
        ]
        for route in routes:
            await registry.make(route)
        assert await registry.routes(tenant, other) == {route.key: route for route in routes}
        for route in routes:
            assert [entry.route_id for entry in await registry.history(route.key)] == [route.route_id]

    async def test_a_tombstone_is_loaded_and_can_be_followed(self, registry: Registry) -> None:
        route = await registry.make(new_route())
        tombstone = await registry.make(next_route(route, deleted=True))
        assert await registry.routes(route.tenant) == {route.key: tombstone}
        with pytest.raises(StaleVersion):
            await registry.commit(change_to(new_route(route.tenant)))
        again = await registry.make(next_route(tombstone, deleted=False, backend="filesystem"))
        assert await registry.routes(route.tenant) == {route.key: again}
        assert [entry.version for entry in await registry.history(route.key)] == [1, 2, 3]

    @pytest.mark.parametrize("stored", [0, 1, 3])
    async def test_a_change_of_another_version_than_the_stored_one_writes_nothing(
        self, registry: Registry, stored: int
    ) -> None:
        route = new_route()
        for version in range(1, stored + 1):
            await registry.commit(change_to(replace(route, version=version)))
        before = await registry.routes(route.tenant), await registry.version()
        for expected in {0, 1, 2, 3, 7} - {stored}:
            wrong = replace(route, version=expected + 1, updated_at=NOON + timedelta(days=1))
            with pytest.raises(StaleVersion) as caught:
                await registry.commit(change_to(wrong))
            assert caught.value.detail["found"] == stored
        assert (await registry.routes(route.tenant), await registry.version()) == before
        assert len(await registry.history(route.key)) == stored
        assert len(await registry.unrelayed(route.tenant)) == stored

    async def test_the_same_change_again_is_acknowledged_and_not_written_twice(self, registry: Registry) -> None:
        first = change_to(new_route())
        key = first.route.key
        version = await registry.commit(first)
        assert await registry.commit(first) == version
        second = change_to(next_route(first.route, backend="filesystem"))
        await registry.commit(second)
        await registry.commit(first)  # whoever repeats it may be late
        await registry.commit(second)
        assert await registry.version() == version + 1
        assert (await registry.routes(first.route.tenant))[key] == second.route
        assert [entry.version for entry in await registry.history(key)] == [1, 2]
        assert len(await registry.unrelayed(first.route.tenant)) == 2

    async def test_of_two_changes_of_one_route_at_the_same_time_one_wins(
        self, registry: Registry, open_another: OpenAnother
    ) -> None:
        rivals = await self.rivals(registry, open_another, 6)
        route = new_route()
        for version in (1, 2, 3):
            tries = [
                change_to(replace(route, version=version, updated_at=NOON + timedelta(seconds=number), tier=tier))
                for number, tier in enumerate(TIERS * 2)
            ]
            results = await asyncio.gather(
                *(rival.commit(change) for rival, change in zip(rivals, tries, strict=True)), return_exceptions=True
            )
            won = [change for change, result in zip(tries, results, strict=True) if isinstance(result, int)]
            assert len(won) == 1
            assert sum(isinstance(result, StaleVersion) for result in results) == len(rivals) - 1
            assert await registry.routes(route.tenant) == {route.key: won[0].route}
            assert (await registry.history(route.key))[-1] == won[0].history

    async def test_changes_of_different_routes_at_the_same_time_all_succeed(
        self, registry: Registry, open_another: OpenAnother
    ) -> None:
        rivals = await self.rivals(registry, open_another, 16)
        tenant = new_tenant()
        routes = [new_route(tenant, project=f"p{number}") for number in range(len(rivals))]
        versions = await asyncio.gather(
            *(rival.commit(change_to(route)) for rival, route in zip(rivals, routes, strict=True))
        )
        assert len(set(versions)) == len(routes)
        assert await registry.version() >= max(versions)
        assert await registry.routes(tenant) == {route.key: route for route in routes}
        assert {event.project for event in await registry.unrelayed(tenant)} == {route.project for route in routes}

    async def test_history_has_one_entry_a_version_as_it_was_written(self, registry: Registry) -> None:
        route = new_route()
        changes = [
            change_to(
                replace(route, version=number, updated_at=NOON + timedelta(seconds=number)), rationale=f"né {number}"
            )
            for number in range(1, 13)
        ]
        for change in changes:
            await registry.commit(change)
        expected = [change.history for change in changes]
        for limit in (1, 5, 12, 100):
            assert await registry.history(route.key, limit=limit) == expected
        assert await registry.history(route.key, after=9) == expected[9:]
        assert await registry.history(route.key, after=12) == []
        page = await registry.store.history(route.key, after=0, limit=12, timeout_s=TIMEOUT_S)
        assert not page.more

    async def test_what_never_was_has_no_history(self, registry: Registry) -> None:
        assert await registry.history(new_route().key) == []

    async def test_an_event_waits_until_it_is_acknowledged(self, registry: Registry, open_another: OpenAnother) -> None:
        route = new_route()
        changes = [change_to(replace(route, version=number)) for number in (1, 2, 3)]
        for change in changes:
            await registry.commit(change)
        events = [change.event for change in changes]
        other = Registry(store=(await open_another()).routes)
        assert await registry.unrelayed(route.tenant) == await other.unrelayed(route.tenant) == events
        await other.relayed(events[1].event_id, "nobody-knows")
        assert await registry.unrelayed(route.tenant) == [events[0], events[2]]
        await registry.relayed(*(event.event_id for event in events))
        await registry.relayed(events[0].event_id)
        await registry.relayed()
        assert await registry.unrelayed(route.tenant) == []

    async def test_what_was_acknowledged_does_not_come_back_with_the_same_change(self, registry: Registry) -> None:
        change = change_to(new_route())
        await registry.commit(change)
        await registry.relayed(change.event.event_id)
        await registry.commit(change)
        assert await registry.unrelayed(change.route.tenant) == []

    async def test_as_many_events_are_given_as_were_asked_for_the_oldest_first(self, registry: Registry) -> None:
        for event in await registry.store.unrelayed(limit=1_000, timeout_s=TIMEOUT_S):
            await registry.relayed(event.event_id)
        tenants = [(await registry.make(new_route())).tenant for _ in range(4)]
        events = await registry.store.unrelayed(limit=3, timeout_s=TIMEOUT_S)
        assert [event.tenant for event in events] == tenants[:3]

    async def test_100_events_are_acknowledged_at_once_and_101_are_refused(self, registry: Registry) -> None:
        tenant = new_tenant()
        for number in range(EVENTS_RELAYED_MAX):
            await registry.make(new_route(tenant, project=f"p{number}"))
        ids = [event.event_id for event in await registry.unrelayed(tenant)]
        assert len(ids) == EVENTS_RELAYED_MAX
        with pytest.raises(LimitExceeded) as caught:
            await registry.relayed(*ids, "more")
        assert caught.value.detail == {"limit": "events_relayed_max", "allowed": 100, "actual": 101}
        await registry.relayed(*ids)
        assert await registry.unrelayed(tenant) == []

    async def test_a_page_holds_something(self, registry: Registry) -> None:
        with pytest.raises(Invalid):
            await registry.store.unrelayed(limit=0, timeout_s=TIMEOUT_S)
        with pytest.raises(Invalid):
            await registry.store.history(new_route().key, after=0, limit=0, timeout_s=TIMEOUT_S)

    @pytest.mark.parametrize("elsewhere", [{"mode": "saas"}, {"env": "prod"}], ids=["mode", "env"])
    async def test_a_route_of_another_mode_or_environment_is_refused(
        self, registry: Registry, elsewhere: dict[str, str]
    ) -> None:
        route = new_route(**elsewhere)
        with pytest.raises(Invalid):
            await registry.commit(change_to(route))
        assert await registry.routes(route.tenant) == {}
