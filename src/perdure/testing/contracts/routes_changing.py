"""What changing routes promises: one commit a change, by version, with a history, and nobody else's."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from dataclasses import replace

import pytest

from perdure.core.routing import Layer
from perdure.domain.kinds import TENANT_KINDS, Kind
from perdure.domain.route import RATIONALE_CHARS_MAX, SYSTEM_TENANT, Route
from perdure.errors import Forbidden, Invalid, LimitExceeded, NoRoute, NotFound, StaleVersion, Unsupported
from perdure.ports.backend import Backend
from perdure.testing.contracts.routed_opening import OpenPlane, RoutedOpening, Town
from perdure.testing.contracts.stores import OpenAnother, new_tenant
from perdure.testing.environment import FakeClock
from perdure.testing.watched import WatchedBackend

WHY = "costs less"


class RoutesOpening(RoutedOpening):
    """A registry on the backend, and routes to it (``main``) and to another one (``spare``)."""

    @abstractmethod
    async def open_elsewhere(self) -> Backend:
        """A backend of (lab, dev) that has nothing to do with the others, and is empty; its time moves with theirs."""

    @pytest.fixture
    async def spare(self, open_another: OpenAnother) -> WatchedBackend:
        """The other backend."""
        del open_another  # closed after it
        return WatchedBackend(await self.open_elsewhere())

    @pytest.fixture
    async def town(
        self, watched: WatchedBackend, spare: WatchedBackend, clock: FakeClock, open_plane: OpenPlane
    ) -> Town:
        """A plane with both backends, and a tenant with routes of ``kinds``, which are none unless a class says so."""
        plane = await open_plane(("main", watched), ("spare", spare))
        town = Town(backend=watched, plane=plane, tenant=new_tenant(), clock=clock)
        await self.settle_in(town, town.tenant)
        return town


class RouteChangingContract(RoutesOpening):
    """Making, editing, switching, deleting."""

    async def test_r06_a_kind_without_a_route_says_so_with_all_it_looked_for(self, town: Town) -> None:
        acme = town.plane.tenant(town.tenant, project="p1")
        calls = {
            "streams": acme.streams.read("s"),
            "tables": acme.tables.put("t", "a", 1),
            "memory": acme.memory.sessions(user="ann"),
        }
        for kind, call in calls.items():
            with pytest.raises(NoRoute) as caught:
                await call
            assert caught.value.code == f"{kind}.missing_route"
            assert caught.value.detail == {
                "kind": kind,
                "tenant": town.tenant,
                "mode": "lab",
                "env": "dev",
                "project": "p1",
            }

    async def test_r07_nothing_in_the_environment_selects_a_backend(
        self, town: Town, spare: WatchedBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("PERDURE_BACKEND", "BACKEND", "ROUTING_REGISTRY_BACKEND", "ENV", "APP_ENV", "PERDURE_TABLES"):
            monkeypatch.setenv(name, "spare")
        with pytest.raises(NoRoute):
            await town.acme.tables.put("t", "a", 1)
        await town.acme.routes.set("tables", "main")
        await town.acme.tables.put("t", "a", 1)
        assert spare.calls == []

    async def test_r08_the_most_specific_route_wins_and_the_answer_names_its_layer(self, town: Town) -> None:
        acme = town.acme.routes
        with pytest.raises(NoRoute):
            await acme.show("tables")
        default = await town.admin.routes.set("tables", "main", tenant=SYSTEM_TENANT, default=True)
        try:
            shown = await acme.show("tables")
            assert (shown.layer, shown.route) == (Layer.SYSTEM, default)
        finally:
            await town.admin.routes.delete("tables")
        of_tenant = await acme.set("tables", "main")
        of_project = await acme.set("tables", "main", project="p1")
        of_surface = await acme.set("tables", "main", project="p1", surface="s1")
        layers = [
            (None, None, Layer.TENANT, of_tenant),
            ("p2", None, Layer.TENANT, of_tenant),
            ("p1", None, Layer.PROJECT, of_project),
            ("p1", "s2", Layer.PROJECT, of_project),
            ("p1", "s1", Layer.SURFACE, of_surface),
            ("p2", "s1", Layer.TENANT, of_tenant),
        ]
        for project, surface, layer, route in layers:
            shown = await acme.show("tables", project=project, surface=surface)
            assert (shown.layer, shown.route) == (layer, route)
            assert shown.health.status == "unknown"

    async def test_r08_a_route_of_the_system_serves_others_only_as_a_default(self, town: Town) -> None:
        await town.admin.routes.set("memory", "main", default=False)
        try:
            with pytest.raises(NoRoute):
                await town.acme.routes.show("memory")
            await town.admin.routes.set("memory", "main", default=True)
            assert (await town.acme.routes.show("memory")).layer is Layer.SYSTEM
        finally:
            await town.admin.routes.delete("memory")
        with pytest.raises(Invalid):
            await town.acme.routes.set("memory", "main", default=True)

    async def test_r09_routes_of_tenant_project_and_surface_stand_beside_each_other(
        self, town: Town, spare: WatchedBackend
    ) -> None:
        await town.acme.routes.set("tables", "main")
        await town.acme.routes.set("tables", "spare", project="p1")
        await town.acme.routes.set("tables", "main", project="p1", surface="s1")
        p1 = town.plane.tenant(town.tenant, project="p1")
        await town.acme.tables.put("t", "a", "main")
        assert "rows.write" not in spare.calls
        await p1.tables.put("t", "a", "spare")
        assert spare.calls == ["rows.write"]
        await town.plane.tenant(town.tenant, project="p1", surface="s1").tables.put("t", "a", "surface")
        assert spare.calls == ["rows.write"]
        assert (await p1.tables.get("t", "a")).value == "spare"
        assert len(await town.acme.routes.list()) == 3
        await town.acme.routes.delete("tables", project="p1")
        assert (await town.acme.tables.get("t", "a")).value == "main"
        with pytest.raises(Invalid):
            await town.acme.routes.set("tables", "main", surface="s1")

    async def test_r10_setting_a_route_again_keeps_what_it_is_and_raises_its_version(self, town: Town) -> None:
        first = await town.acme.routes.set("tables", "main", tier="pro", cost_notes="little")
        await self.pass_time(5)
        second = await town.acme.routes.set("tables", "main", tier="enterprise")
        assert (first.version, second.version) == (1, 2)
        assert second == replace(
            first, version=2, tier="enterprise", updated_at=second.updated_at, updated_by=second.updated_by
        )
        assert second.updated_at > first.updated_at
        assert await town.acme.routes.get("tables") == second
        history = (await town.acme.routes.history("tables")).items
        assert [(entry.version, entry.action, entry.actor) for entry in history] == [
            (1, "set", "agent:tester"),
            (2, "set", "agent:tester"),
        ]

    async def test_r10_another_config_is_not_taken_by_accident(self, town: Town) -> None:
        await town.acme.routes.set("tables", "main", config={"place": "a", "size": 1})
        with pytest.raises(Invalid, match="data_stays"):
            await town.acme.routes.set("tables", "main", config={"place": "b"})
        changed = await town.acme.routes.set("tables", "main", config={"place": "b"}, data_stays=True)
        assert changed.config == {"place": "b"}
        with pytest.raises(Invalid, match="switch"):
            await town.acme.routes.set("tables", "spare", data_stays=True)

    async def test_r11_a_stale_version_is_refused_with_the_one_that_is_there(self, town: Town) -> None:
        with pytest.raises(StaleVersion):
            await town.acme.routes.set("tables", "main", if_version=1)
        await town.acme.routes.set("tables", "main", if_version=0)
        await town.acme.routes.set("tables", "main", tier="pro", if_version=1)
        for wrong in (0, 1, 3):
            for call in (
                town.acme.routes.set("tables", "main", if_version=wrong),
                town.acme.routes.switch("tables", "spare", rationale=WHY, data_stays=True, if_version=wrong),
                town.acme.routes.delete("tables", if_version=wrong),
            ):
                with pytest.raises(StaleVersion) as caught:
                    await call
                assert caught.value.detail == {"found": 2}
        assert len((await town.acme.routes.history("tables")).items) == 2

    async def test_r12_of_two_switches_at_once_one_wins_and_history_has_the_winner(
        self, town: Town, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        await town.acme.routes.set("tables", "main")
        there = await open_another()
        other = (await open_plane(("main", there), ("spare", there), ("third", there))).tenant(town.tenant)

        async def switch(which: int) -> Route | None:
            tenant, backend = ((town.acme, "spare"), (other, "third"))[which]
            try:
                return await tenant.routes.switch(
                    "tables", backend, rationale=f"by {which}", data_stays=True, if_version=1
                )
            except StaleVersion:
                return None

        won = [route for route in await asyncio.gather(switch(0), switch(1)) if route is not None]
        assert [route.version for route in won] == [2]
        history = (await other.routes.history("tables")).items
        assert [(entry.version, entry.to_backend) for entry in history] == [(1, "main"), (2, won[0].backend)]
        assert await other.routes.get("tables") == won[0]

    async def test_r13_a_switch_replaces_the_config_and_tells_what_was(self, town: Town) -> None:
        made = await town.acme.routes.set("tables", "main", config={"place": "old", "size": 3}, tier="pro")
        await self.pass_time(5)
        switched = await town.acme.routes.switch(
            "tables", "spare", rationale=WHY, config={"quiet": True}, data_stays=True
        )
        assert (switched.backend, switched.config, switched.version) == ("spare", {"quiet": True}, 2)
        assert (switched.route_id, switched.created_at, switched.tier) == (made.route_id, made.created_at, "pro")
        assert (switched.previous_backend_type, switched.switch_rationale) == ("main", WHY)
        assert switched.last_switch_time == town.clock.now()
        (_, entry) = (await town.acme.routes.history("tables")).items
        assert (entry.action, entry.from_backend, entry.to_backend, entry.rationale) == ("switch", "main", "spare", WHY)
        await self.pass_time(5)
        edited = await town.acme.routes.set("tables", "spare", config={"quiet": True}, tier="free")
        assert (edited.previous_backend_type, edited.switch_rationale) == ("main", WHY)
        assert edited.last_switch_time == switched.last_switch_time
        with pytest.raises(Invalid, match="already"):
            await town.acme.routes.switch("tables", "spare", rationale=WHY, data_stays=True)
        with pytest.raises(Invalid, match="data_stays"):
            await town.acme.routes.switch("tables", "main", rationale=WHY)

    async def test_r14_a_switch_has_a_reason(self, town: Town) -> None:
        await town.acme.routes.set("tables", "main")
        for empty in ("", "  ", "\n"):
            with pytest.raises(Invalid):
                await town.acme.routes.switch("tables", "spare", rationale=empty, data_stays=True)
            with pytest.raises(Invalid):
                await town.acme.routes.copy("tables", "spare", rationale=empty)
        with pytest.raises(LimitExceeded):
            await town.acme.routes.switch("tables", "spare", rationale="x" * (RATIONALE_CHARS_MAX + 1), data_stays=True)
        assert (await town.acme.routes.get("tables")).version == 1

    async def test_r16_a_tenant_sees_and_changes_its_own_routes_and_the_system_everybodys(self, town: Town) -> None:
        mine = await town.acme.routes.set("tables", "main")
        stranger = town.plane.tenant(new_tenant()).routes
        mark = len(town.backend.calls)
        for call in (
            stranger.set("tables", "main", tenant=town.tenant),
            stranger.switch("tables", "spare", tenant=town.tenant, rationale=WHY, data_stays=True),
            stranger.delete("tables", tenant=town.tenant),
            stranger.get("tables", tenant=town.tenant),
            stranger.show("tables", tenant=town.tenant),
            stranger.history("tables", tenant=town.tenant),
            stranger.list(tenant=town.tenant),
            stranger.coverage(tenant=town.tenant),
            stranger.copy("tables", "spare", tenant=town.tenant, rationale=WHY),
            stranger.copy_back("tables", tenant=town.tenant, rationale=WHY),
            stranger.abandon_copy("tables", tenant=town.tenant),
        ):
            with pytest.raises(Forbidden) as caught:
                await call
            assert caught.value.code == "tenant_mismatch"
        assert town.calls_since(mark) == []
        assert await stranger.list() == []
        with pytest.raises(NotFound):
            await stranger.get("tables")
        assert await town.admin.routes.get("tables", tenant=town.tenant) == mine
        assert mine in await town.admin.routes.list()
        changed = await town.admin.routes.set("tables", "main", tenant=town.tenant, tier="pro")
        assert (changed.version, changed.updated_by) == (2, "user:admin")

    async def test_a_deleted_route_serves_nobody_and_comes_back_with_its_history(self, town: Town) -> None:
        made = await town.acme.routes.set("tables", "main", config={"place": "a"}, tier="pro", audit="writes")
        await town.acme.tables.put("t", "a", 1)
        await town.acme.routes.delete("tables", rationale="done")
        for call in (
            town.acme.routes.get("tables"),
            town.acme.routes.delete("tables"),
            town.acme.routes.switch("tables", "spare", rationale=WHY, data_stays=True),
        ):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(NoRoute):
            await town.acme.tables.find("t", "a")
        assert await town.acme.routes.list() == []
        again = await town.acme.routes.set("tables", "main", if_version=0)
        assert (again.route_id, again.version, again.config) == (made.route_id, 3, {})
        assert (again.tier, again.audit, again.deleted) == ("free", "log", False)
        assert (await town.acme.tables.get("t", "a")).value == 1
        history = (await town.acme.routes.history("tables")).items
        assert [(entry.action, entry.to_backend) for entry in history] == [
            ("set", "main"),
            ("delete", None),
            ("set", "main"),
        ]

    async def test_history_is_read_in_pages(self, town: Town) -> None:
        for number in range(5):
            await town.acme.routes.set("tables", "main", cost_notes=f"note {number}")
        found: list[int] = []
        cursor: str | None = None
        while True:
            page = await town.acme.routes.history("tables", cursor=cursor, limit=2)
            found += [entry.version for entry in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == [1, 2, 3, 4, 5]
        assert (await town.acme.routes.history("streams")).items == ()

    async def test_what_leads_nowhere_is_refused_when_it_is_written(self, town: Town) -> None:
        with pytest.raises(Unsupported) as caught:
            await town.acme.routes.set("tables", "redis")
        assert caught.value.code == "tables.unsupported_backend"
        for config in ({"nonsense": 1}, {"size": "3"}, {"size": True}, {"quiet": 1}, {"place": 5}, {"place": "a\nb"}):
            with pytest.raises(Invalid):
                await town.acme.routes.set("tables", "main", config=config)
        for kind in ("runs", "routes", "nonsense", "", "event_stream"):
            with pytest.raises(Invalid):
                await town.acme.routes.set(kind, "main")
        for settings in ({"tier": "gold"}, {"audit": "all"}, {"cost_notes": "x" * 3_000}, {"project": ""}):
            with pytest.raises((Invalid, LimitExceeded)):
                await town.acme.routes.set("tables", "main", **settings)  # type: ignore[arg-type]  # that is the point
        assert await town.acme.routes.list() == []

    async def test_coverage_lists_every_kind_with_its_route_or_what_is_missing(self, town: Town) -> None:
        await town.acme.routes.set("tables", "spare", tier="pro")
        covered = {row.kind: row for row in await town.acme.routes.coverage()}
        assert tuple(covered) == TENANT_KINDS
        # The ledger and task lists are not routed, and the registry's own place is found by the plane's settings.
        assert set(TENANT_KINDS) == set(Kind) - {Kind.RUNS, Kind.TASKLISTS, Kind.ROUTES}
        tables = covered[Kind.TABLES]
        assert (tables.status, tables.backend, tables.layer, tables.tier) == ("available", "spare", Layer.TENANT, "pro")
        assert (covered[Kind.STREAMS].status, covered[Kind.STREAMS].error) == ("missing", "streams.missing_route")
        assert covered == {row.kind: row for row in await town.admin.routes.coverage(tenant=town.tenant)}

    async def test_r24_weird_projects_and_surfaces_are_routes_of_their_own(self, town: Town) -> None:
        weird = ("../escape", "a/b", "a#b", "a", "A", "*", "%", "None", "null", "-", "🚀", "x" * 128, "'; --")
        for number, project in enumerate(weird):
            await town.acme.routes.set("tables", "main", project=project, cost_notes=str(number))
            await town.acme.routes.set("tables", "main", project=project, surface=project, cost_notes=f"s{number}")
        for number, project in enumerate(weird):
            assert (await town.acme.routes.get("tables", project=project)).cost_notes == str(number)
            shown = await town.acme.routes.show("tables", project=project, surface=project)
            assert shown.route.cost_notes == f"s{number}"
        assert len(await town.acme.routes.list()) == 2 * len(weird)
        for bad in ("", "two\nlines", "nul\0", "\ud800", "x" * 129):
            with pytest.raises((Invalid, LimitExceeded)):
                await town.acme.routes.set("tables", "main", project=bad)
