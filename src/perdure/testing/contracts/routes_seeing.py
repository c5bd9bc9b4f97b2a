"""What planes promise about routes that change under them: seen in time, announced once, and never guessed."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import pytest

from perdure.core.routing import STALENESS_S_MAX
from perdure.domain.container import session_container, stream_container
from perdure.domain.memory import Message
from perdure.domain.store_audit import StoreAudit
from perdure.domain.table import table_container
from perdure.errors import BackendDown, Invalid, NotFound, StaleVersion, Unavailable
from perdure.testing.contracts.routed_opening import OpenPlane, Town
from perdure.testing.contracts.routes_changing import WHY, RoutesOpening
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother
from perdure.testing.contracts.streams_appending import event, read_all
from perdure.testing.routed import RoutedTenant
from perdure.testing.watched import WatchedBackend, failing

SECRET: Final = "hunter2-and-more"  # noqa: S105 - of nobody
REFERENCE: Final = "secret://env/PERDURE_TEST_KEY"


def audits_in(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The audit records that were logged."""
    return [record.__dict__["audit"] for record in caplog.records if record.name == "perdure.audit"]


class RouteSeeingContract(RoutesOpening):
    """Refreshing, staleness, events, audits, secrets."""

    async def test_r18_a_restart_reads_the_same_routes(
        self, town: Town, spare: WatchedBackend, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        await town.acme.routes.set("tables", "main", config={"place": "a", "size": 3}, tier="pro", audit="writes")
        await town.acme.routes.set("tables", "spare", project="p1", cost_notes="Ω")
        await town.acme.routes.switch("tables", "main", project="p1", rationale=WHY, data_stays=True)
        await town.acme.routes.set("memory", "main")
        await town.acme.routes.delete("memory")
        later = await open_plane(("main", await open_another()), ("spare", spare))
        again = later.tenant(town.tenant)
        assert await again.routes.list() == await town.acme.routes.list()
        assert [r.key for r in later.stores.routing.routes if r.tenant == town.tenant] != []
        assert (await again.routes.history("memory")).items == (await town.acme.routes.history("memory")).items

    async def test_r18_a_registry_that_cannot_be_read_is_an_error_and_never_an_empty_one(
        self, town: Town, open_plane: OpenPlane
    ) -> None:
        await town.acme.routes.set("tables", "main")
        town.backend.before = failing(BackendDown("gone"), among="routes.")
        with pytest.raises(BackendDown) as caught:
            await open_plane(("main", town.backend))
        assert caught.value.code == "routes.unreadable"
        # A plane that runs goes on with what it knows.
        assert await town.acme.tables.find("t", "a") is None
        await town.acme.tables.put("t", "a", 1)
        with pytest.raises(Unavailable):
            await town.acme.routes.list()
        town.backend.before = None
        assert len(await town.acme.routes.list()) == 1

    async def test_r20_another_process_sees_a_switch_when_it_looks(
        self, town: Town, spare: WatchedBackend, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        await town.acme.routes.set("tables", "main")
        plane = await open_plane(("main", await open_another()), ("spare", spare))
        other = plane.tenant(town.tenant)
        await other.tables.put("t", "a", "old")
        await town.acme.routes.switch("tables", "spare", rationale=WHY, data_stays=True)
        assert await plane.stores.routing.refresh()
        assert not await plane.stores.routing.refresh()
        with pytest.raises(NotFound):
            await other.tables.get("t", "a")
        await other.tables.put("t", "a", "new")
        assert (await town.acme.tables.get("t", "a")).value == "new"

    async def test_r20_nobody_writes_by_routes_older_than_the_bound(
        self, town: Town, spare: WatchedBackend, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        await town.acme.routes.set("tables", "main")
        main = WatchedBackend(await open_another())
        other = (await open_plane(("main", main), ("spare", spare))).tenant(town.tenant)
        await town.acme.routes.switch("tables", "spare", rationale=WHY, data_stays=True)
        await self.pass_time(STALENESS_S_MAX - 1)
        await other.tables.put("t", "old", 1)
        assert main.calls[-1] == "rows.write"
        await self.pass_time(2)
        await other.tables.put("t", "new", 1)
        assert spare.calls[-1] == "rows.write"
        assert "rows.write" not in main.calls[main.calls.index("rows.write") + 1 :]
        await self.pass_time(STALENESS_S_MAX + 1)
        main.before = failing(BackendDown("gone"), among="routes.")
        with pytest.raises(Unavailable) as caught:
            await other.tables.put("t", "never", 1)
        assert caught.value.code == "routes.stale"
        assert spare.calls.count("rows.write") == 1
        assert (await other.tables.get("t", "new")).value == 1

    async def test_r21_calls_under_way_end_on_the_old_backend_and_new_ones_go_to_the_new(
        self, town: Town, spare: WatchedBackend
    ) -> None:
        await town.acme.routes.set("tables", "main")
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def hold(name: str) -> None:
            if name == "rows.write":
                begun.set()
                await go_on.wait()

        town.backend.before = hold
        under_way = asyncio.ensure_future(town.acme.tables.put("t", "a", "old"))
        await begun.wait()
        await town.acme.routes.switch("tables", "spare", rationale=WHY, data_stays=True)
        assert (await town.acme.tables.put("t", "a", "new")).version == 1
        go_on.set()
        assert (await under_way).value == "old"
        assert (await town.acme.tables.get("t", "a")).value == "new"
        await town.acme.routes.switch("tables", "main", rationale=WHY, data_stays=True)
        assert (await town.acme.tables.get("t", "a")).value == "old"
        assert spare.calls.count("rows.write") == 1

    async def test_r19_every_change_is_announced_once_in_the_tenants_stream(
        self, town: Town, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="perdure.audit"):
            await town.acme.routes.set("tables", "main")
            await town.acme.routes.set("streams", "main")
            await town.acme.routes.switch("tables", "spare", rationale=WHY, data_stays=True)
            with pytest.raises(StaleVersion):
                await town.acme.routes.set("tables", "spare", if_version=1)
            await town.acme.routes.delete("tables")
        for _ in range(2):
            await town.plane.upkeep.once()
        events = await read_all(town.acme.streams, f"routing/{town.tenant}")
        assert [(found.type, found.data["kind"], found.data["action"]) for found in events] == [
            ("ROUTE_CHANGED", "tables", "set"),
            ("ROUTE_CHANGED", "streams", "set"),
            ("ROUTE_BACKEND_SWITCHED", "tables", "switch"),
            ("ROUTE_CHANGED", "tables", "delete"),
        ]
        switched = events[2]
        assert (
            switched.data.items()
            >= {
                "backend_type": "spare",
                "previous_backend_type": "main",
                "switch_rationale": WHY,
                "version": 2,
                "actor": "agent:tester",
                "resource_kind": "tabular_store",
            }.items()
        )
        assert (switched.meta["priority"], switched.meta["persist"]) == ("truth", "always")
        said = [(found["operation"], found["outcome"]) for found in audits_in(caplog)]
        assert said == [("set", "ok"), ("set", "ok"), ("switch", "ok"), ("delete", "ok")]

    async def test_r19_events_wait_for_a_stream_that_is_down_or_missing(
        self, town: Town, spare: WatchedBackend
    ) -> None:
        name = f"routing/{town.tenant}"
        await town.acme.routes.set("tables", "main")
        await town.plane.upkeep.once()
        await town.acme.routes.set("streams", "spare")
        spare.before = failing(BackendDown("gone"), among="logs.")
        await town.acme.routes.set("tables", "main", tier="pro")
        await town.plane.upkeep.once()
        spare.before = None
        assert (await town.acme.streams.head(name)).sequence == 0
        await town.plane.upkeep.once()
        await town.plane.upkeep.once()
        events = await read_all(town.acme.streams, name)
        assert [(found.data["kind"], found.data["version"]) for found in events] == [
            ("tables", 1),
            ("streams", 1),
            ("tables", 2),
        ]

    async def test_r19_a_relay_that_dies_before_it_acknowledges_announces_nothing_twice(self, town: Town) -> None:
        await town.acme.routes.set("streams", "main")
        town.backend.before = failing(BackendDown("gone"), among="routes.relayed", times=1)
        with pytest.raises(BackendDown):
            await town.plane.upkeep.once()
        await town.plane.upkeep.once()
        assert len(await read_all(town.acme.streams, f"routing/{town.tenant}")) == 1

    async def test_r19_two_relays_at_once_announce_everything_once(
        self, town: Town, spare: WatchedBackend, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        for _ in range(4):
            await town.acme.routes.set("streams", "main")
        other = await open_plane(("main", await open_another()), ("spare", spare))
        await asyncio.gather(town.plane.upkeep.once(), other.upkeep.once())
        events = await read_all(town.acme.streams, f"routing/{town.tenant}")
        assert sorted(str(found.data["version"]) for found in events) == ["1", "2", "3", "4"]

    async def test_r15_a_secret_is_refused_where_it_would_be_kept(self, town: Town) -> None:
        wrong = (
            {"key": SECRET},
            {"key": f"secret://{SECRET}"},
            {"key": f"secret://env/{SECRET} {SECRET}"},
            {"place": f"https://user:{SECRET}@example.org/db"},
            {"place": f"AccountEndpoint=https://x;AccountKey={SECRET};"},
            {"place": f"host=x password={SECRET}"},
        )
        for config in wrong:
            with pytest.raises(Invalid) as caught:
                await town.acme.routes.set("tables", "main", config=config)
            assert SECRET not in f"{caught.value!r} {caught.value.message} {caught.value.detail}"
        assert await town.acme.routes.list() == []

    async def test_r15_no_secret_shows_anywhere(
        self, town: Town, spare: WatchedBackend, open_plane: OpenPlane, caplog: pytest.LogCaptureFixture
    ) -> None:
        plane = await open_plane(
            ("main", town.backend), ("spare", spare), environ={"PERDURE_TEST_KEY": SECRET, "EMPTY": ""}
        )
        acme = plane.tenant(town.tenant)
        with caplog.at_level(logging.DEBUG):
            await acme.routes.set("streams", "main")
            made = await acme.routes.set("tables", "main", config={"key": REFERENCE})
            await acme.tables.put("t", "a", 1)
            switched = await acme.routes.switch(
                "tables", "spare", rationale=WHY, config={"key": REFERENCE}, data_stays=True
            )
            await acme.tables.put("t", "a", 1)
            missing = await acme.routes.set("memory", "main", config={"key": "secret://env/EMPTY"})
            with pytest.raises(BackendDown) as caught:
                await acme.memory.append("s", Message(role="user", content="x"), user="ann")
            shown = await acme.routes.show("tables", probe=True)
            await plane.upkeep.once()
        events = await read_all(acme.streams, f"routing/{town.tenant}")
        history = await acme.routes.history("tables")
        everything = repr([made, switched, missing, shown, events, history, caught.value, caught.value.detail])
        everything += repr(plane.stores.backends.__dict__) + caplog.text + repr(audits_in(caplog))
        assert len(events) == 4
        assert shown.health.status == "healthy"
        assert SECRET not in everything
        assert REFERENCE in everything

    async def test_a_write_is_audited_in_the_log_and_never_shows_a_value(
        self, town: Town, caplog: pytest.LogCaptureFixture
    ) -> None:
        acme = self._auditor(town)
        await self._route_all(town, None)
        with caplog.at_level(logging.INFO, logger="perdure.audit"):
            await self._write_all(acme)
            town.backend.before = failing(BackendDown("gone"), among="rows.")
            with pytest.raises(BackendDown):
                await acme.tables.put("t", "a", "a value")
            town.backend.before = None
        found = audits_in(caplog)
        assert [(each["kind"], each["operation"], each["container"], each["outcome"]) for each in found] == [
            ("streams", "append", "s", "ok"),
            ("tables", "put", "t", "ok"),
            ("memory", "append", "session/ann/s", "ok"),
            ("tables", "put", "t", "tables.backend_unavailable"),
        ]
        assert all(
            each.items()
            >= {
                "tenant": town.tenant,
                "project": "default",
                "actor": "user:ann",
                "request_id": "r-1",
                "trace_id": "t-1",
                "backend": "main",
            }.items()
            for each in found
        )
        assert "a value" not in repr(found) + caplog.text
        assert await self._kept(town) == [[], [], []]

    async def test_writes_are_audited_in_their_commit_where_the_route_says_so(
        self, town: Town, caplog: pytest.LogCaptureFixture
    ) -> None:
        await self._route_all(town, "writes")
        with caplog.at_level(logging.INFO, logger="perdure.audit"):
            await self._write_all(self._auditor(town))
            with pytest.raises(StaleVersion):
                await town.acme.tables.put("t", "a", 2, if_version=9)
        kept = await self._kept(town)
        assert [[(each.operation, each.outcome) for each in records] for records in kept] == [
            [("append", "committed")],
            [("put", "committed")],
            [("append", "committed")],
        ]
        for (record,) in kept:
            assert (record.tenant, record.actor, record.backend) == (town.tenant, "user:ann", "main")
            assert (record.request_id, record.trace_id, record.project) == ("r-1", "t-1", "default")
            assert "a value" not in repr(record)
        assert len(audits_in(caplog)) == 4

    def _auditor(self, town: Town) -> RoutedTenant:
        return town.plane.tenant(town.tenant, actor="user:ann", request_id="r-1", trace_id="t-1")

    async def _route_all(self, town: Town, audit: str | None) -> None:
        for kind in ("streams", "tables", "memory"):
            await town.acme.routes.set(kind, "main", audit=audit)  # type: ignore[arg-type]  # one of the two

    async def _write_all(self, acme: RoutedTenant) -> None:
        await acme.streams.append("s", event(text="a value"))
        await acme.tables.put("t", "a", "a value")
        await acme.memory.append("s", Message(role="user", content="a value"), user="ann")

    async def _kept(self, town: Town) -> list[list[StoreAudit]]:
        space = town.acme.scope.space
        logs, rows = town.backend.logs, town.backend.rows
        found = [
            await logs.audits(stream_container(space, "s"), limit=100, timeout_s=TIMEOUT_S),
            await rows.audits(table_container(space, "t"), limit=100, timeout_s=TIMEOUT_S),
            await logs.audits(session_container(space, user="ann", session="s"), limit=100, timeout_s=TIMEOUT_S),
        ]
        return [list(records) for records in found]
