"""What copying promises: everything is there afterwards as it was, whoever writes meanwhile and whoever dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import pytest

from perdure.core.copying import CopyReport
from perdure.core.stores import SETTLE_POLL_S
from perdure.domain.kinds import TENANT_KINDS
from perdure.domain.memory import Message
from perdure.domain.route import CopyPhase
from perdure.domain.table import Row
from perdure.errors import (
    BackendDown,
    CursorInvalid,
    IllegalTransition,
    Invalid,
    NoRoute,
    NotFound,
    PerdureError,
    Unavailable,
)
from perdure.ports.backend import LOGS_AND_ROWS
from perdure.testing.contracts.routed_opening import OpenPlane, Town
from perdure.testing.contracts.routes_changing import WHY, RoutesOpening
from perdure.testing.contracts.stores import OpenAnother, new_tenant
from perdure.testing.contracts.streams_appending import event, read_all
from perdure.testing.contracts.streams_reading import fill, numbers
from perdure.testing.contracts.tables_values import everything
from perdure.testing.driver_faults import Crashed
from perdure.testing.routed import RoutedTenant
from perdure.testing.watched import WatchedBackend, failing

EVENTS: Final = 60
ROWS: Final = 60
WRITES_MEANWHILE: Final = 3
COPIED_KINDS: Final = tuple(kind for kind in TENANT_KINDS if kind in LOGS_AND_ROWS)
DAY_S: Final = 86_400.0  # the clock of a write that waits runs ahead of the engines


async def copy(tenant: RoutedTenant, kind: str, backend: str) -> CopyReport:
    """Copy and switch, without waiting for other processes, of which there are none."""
    return await tenant.routes.copy(kind, backend, rationale=WHY, settle_s=0)


async def copy_back(tenant: RoutedTenant, kind: str) -> CopyReport:
    """The way back."""
    return await tenant.routes.copy_back(kind, rationale=WHY, settle_s=0)


class RouteCopyingContract(RoutesOpening):
    """Copies to the other backend, and back."""

    @pytest.fixture
    async def home(self, town: Town) -> Town:
        """A tenant that has everything on the backend."""
        for kind in COPIED_KINDS:
            await town.acme.routes.set(kind, "main")
        return town

    async def test_a_copied_stream_keeps_numbers_ids_and_cursors_there_and_back(self, home: Town) -> None:
        streams = home.acme.streams
        await fill(streams, "s", EVENTS)
        await streams.append("s", replace(event(n=EVENTS + 1), event_id="known"))
        trimmed = (await streams.read("s", limit=2)).next_cursor
        await streams.trim("s", before_sequence=6)
        await streams.append("other/name", event(n=1))
        await fill(streams, "emptied", 3)
        await streams.trim("emptied", before_sequence=4)
        middle = (await streams.read("s", limit=10)).next_cursor
        head, events = await streams.head("s"), await read_all(streams, "s")
        for number, back in enumerate((False, True)):
            report = await (copy_back(home.acme, "streams") if back else copy(home.acme, "streams", "spare"))
            assert (report.phase, report.containers) == ("done", 3)
            assert report.verified == EVENTS + 1 - 5 + 1 + number
            assert (await home.acme.routes.get("streams")).backend == ("main" if back else "spare")
            there = await streams.head("s")
            assert (there.epoch, there.earliest, there.sequence) == (head.epoch, 6, head.sequence + number)
            assert (await read_all(streams, "s"))[: len(events)] == events
            assert numbers((await streams.read("s", after=middle, limit=2)).events) == [16, 17]
            (again,) = await streams.append("s", replace(event(n=EVENTS + 1), event_id="known"))
            assert (again.sequence, again.duplicate) == (EVENTS + 1, True)
            (new,) = await streams.append("s", event(n=f"after {number}"))
            assert new.sequence == EVENTS + 2 + number
            assert (await streams.head("emptied")).sequence == 3
            with pytest.raises(CursorInvalid) as caught:
                await streams.read("s", after=trimmed)
            assert caught.value.detail["reason"] == "expired"
        assert numbers(await read_all(streams, "s"))[-2:] == ["after 0", "after 1"]

    async def test_copied_rows_keep_versions_incarnations_and_lifetimes(self, home: Town) -> None:
        tables = home.acme.tables
        await self._fill_table(home)
        kept = await tables.put("t", "changed", 1, ttl_s=1_000)
        await self.pass_time(5)
        kept = await tables.put("t", "changed", 2, ttl_s=1_000)
        await tables.put("t", "gone soon", 1, ttl_s=60)
        await tables.put("u", "a", {"deep": [1.0, None, 2**70]})
        before = {name: (await home.acme.tables.query(name, limit=500)).items for name in ("t", "u")}
        report = await copy(home.acme, "tables", "spare")
        assert (report.phase, report.containers, report.verified) == ("done", 2, ROWS + 3)
        assert {name: (await tables.query(name, limit=500)).items for name in ("t", "u")} == before
        assert (await tables.put("t", "changed", 3, if_version=kept)).version == kept.version + 1
        await self.pass_time(61)
        assert await tables.find("t", "gone soon") is None
        await copy_back(home.acme, "tables")
        found = await tables.get("t", "changed")
        assert (found.value, found.version, found.incarnation) == (3, kept.version + 1, kept.incarnation)
        assert await tables.find("t", "gone soon") is None

    async def test_copied_memory_keeps_sessions_settings_and_boards(self, home: Town) -> None:
        memory = home.acme.memory
        await memory.append("s", Message(role="user", content="a", message_id="m"), user="ann", ttl_s=100)
        await memory.append("long", *(Message(role="user", content=n) for n in range(30)), user="bob")
        await memory.configure("long", user="bob", metadata={"topic": "x"})
        await memory.boards.put("plan", {"n": 1}, metadata={"m": 2})
        board = await memory.boards.put("plan", {"n": 2}, user="ann", session="s")
        session = await memory.get_session("long", user="bob")
        cursor = (await memory.window("long", user="bob", limit=10)).next_cursor
        await self.pass_time(50)
        report = await copy(home.acme, "memory", "spare")
        assert report.containers == 4
        assert await memory.get_session("long", user="bob") == session
        rest = await memory.window("long", user="bob", after=cursor)
        assert [message.content for message in rest.messages] == list(range(10, 30))
        assert await memory.boards.get("plan", user="ann", session="s") == board
        assert (await memory.boards.get("plan")).metadata == {"m": 2}
        (again,) = await memory.append("s", Message(role="user", content="a", message_id="m"), user="ann")
        assert again.duplicate
        await self.pass_time(45)
        assert await memory.find_session("s", user="ann") is not None
        await self.pass_time(6)
        assert await memory.find_session("s", user="ann") is None
        await copy_back(home.acme, "memory")
        assert await memory.find_session("s", user="ann") is None
        assert (await memory.get_session("long", user="bob")).metadata == {"topic": "x"}

    async def test_a_copy_moves_what_its_route_serves_and_nothing_else(self, home: Town, spare: WatchedBackend) -> None:
        stranger = home.plane.tenant(new_tenant())
        await stranger.routes.set("tables", "main")
        p2 = home.plane.tenant(home.tenant, project="p2")
        p3 = home.plane.tenant(home.tenant, project="p3")
        await home.acme.routes.set("tables", "main", project="p2")
        for number, each in enumerate((home.acme, p3, p2, stranger)):
            await each.tables.put("t", "a", number)
        report = await copy(home.acme, "tables", "spare")
        assert report.containers == 2
        mark = len(spare.calls)
        assert (await p2.tables.get("t", "a")).value == 2
        assert (await stranger.tables.get("t", "a")).value == 3
        assert spare.calls[mark:] == []
        assert (await p3.tables.get("t", "a")).value == 1
        assert (await home.acme.tables.get("t", "a")).value == 0
        assert spare.calls[mark:] != []

    async def test_a_copy_passes_over_what_no_route_serves_any_more(self, home: Town) -> None:
        acme = home.plane.tenant(new_tenant())
        for project in ("p1", "p2"):
            await acme.routes.set("tables", "main", project=project)
            await home.plane.tenant(acme.scope.tenant, project=project).tables.put("t", "a", project)
        await acme.routes.delete("tables", project="p2")
        report = await acme.routes.copy("tables", "spare", project="p1", rationale=WHY, settle_s=0)
        assert report.containers == 1
        assert (await home.plane.tenant(acme.scope.tenant, project="p1").tables.get("t", "a")).value == "p1"

    async def test_appends_and_puts_go_on_while_the_copy_fills(self, home: Town) -> None:
        await fill(home.acme.streams, "s", EVENTS)
        await self._fill_table(home)
        wrote: list[int] = []

        async def write(number: int) -> None:
            await home.acme.streams.append("s", event(n=EVENTS + number))
            await home.acme.tables.put("t", "k01", f"changed {number}")
            await home.acme.tables.put("t", f"new {number}", number)
            await home.acme.tables.delete("t", f"k{number + 10:02d}")

        async def hook(name: str) -> None:
            if name in {"logs.read", "rows.query"} and len(wrote) < WRITES_MEANWHILE and not writing.locked():
                async with writing:
                    wrote.append(len(wrote) + 1)
                    await write(wrote[-1])

        writing = asyncio.Lock()
        home.backend.before = hook
        for kind in ("streams", "tables"):
            await copy(home.acme, kind, "spare")
        home.backend.before = None
        count = len(wrote)
        assert count == WRITES_MEANWHILE
        assert numbers(await read_all(home.acme.streams, "s")) == list(range(1, EVENTS + count + 1))
        keys = {row.key for row in await everything(home.acme.tables)}
        assert keys >= {f"new {number}" for number in range(1, count + 1)}
        assert keys.isdisjoint(f"k{number + 10:02d}" for number in range(1, count + 1))
        assert (await home.acme.tables.get("t", "k01")).version == 1 + count

    async def test_writes_wait_while_a_copy_settles_and_then_go_to_the_new_backend(self, home: Town) -> None:
        await home.acme.tables.put("t", "a", "old")
        waiting: list[asyncio.Task[Row]] = []

        def progress(report: CopyReport) -> None:
            if report.phase == "settle" and not waiting:
                put = home.acme.tables.put("t", "a", "new", timeout_s=DAY_S)
                waiting.append(asyncio.ensure_future(put))

        report = await home.acme.routes.copy("tables", "spare", rationale=WHY, settle_s=0, progress=progress)
        assert report.phase == "done"
        row = await waiting[0]
        assert (row.value, row.version) == ("new", 2)
        assert (await home.acme.tables.get("t", "a")) == row

    async def test_a_write_waits_for_a_settling_copy_no_longer_than_it_has_time(self, home: Town) -> None:
        await home.acme.tables.put("t", "a", 1)
        await self._die_while_settling(home)
        with pytest.raises(Unavailable) as caught:
            await home.acme.tables.put("t", "a", 2, timeout_s=3)
        assert caught.value.code == "tables.settling"
        assert caught.value.detail == {"retry_after_s": SETTLE_POLL_S}
        assert (await home.acme.tables.get("t", "a")).value == 1
        await home.acme.streams.append("s", event(n=1))

    async def test_a_copy_that_was_given_up_leaves_the_old_backend_serving(self, home: Town) -> None:
        await self._fill_table(home)
        await self._die_while_settling(home)
        with pytest.raises(IllegalTransition):
            await home.acme.routes.switch("tables", "spare", rationale=WHY, data_stays=True)
        with pytest.raises(IllegalTransition):
            await home.acme.routes.delete("tables")
        assert (await home.acme.routes.abandon_copy("tables")).copy is None
        with pytest.raises(IllegalTransition):
            await home.acme.routes.abandon_copy("tables")
        await home.acme.tables.delete("t", "k01")
        await home.acme.tables.put("t", "k02", "changed")
        assert (await home.acme.routes.get("tables")).backend == "main"
        before = await everything(home.acme.tables)
        await copy(home.acme, "tables", "spare")
        assert await everything(home.acme.tables) == before

    async def test_upkeep_frees_writes_of_a_copy_that_nobody_finishes(self, home: Town) -> None:
        await home.acme.tables.put("t", "a", 1)
        await self._die_while_settling(home)
        await self.pass_time(500)
        await home.plane.upkeep.once()
        assert (await home.acme.routes.get("tables")).copy is not None
        await self.pass_time(200)
        await home.plane.upkeep.once()
        route = await home.acme.routes.get("tables")
        assert (route.copy, route.backend) == (None, "main")
        assert (await home.acme.tables.put("t", "a", 2)).version == 2

    async def test_a_copied_context_keeps_ids_heads_keys_forks_and_labels_there_and_back(self, home: Town) -> None:
        turns = home.acme.turns
        context = await turns.create(labels=["run:7"])
        refs = [
            await turns.append(context.context_id, bytes([n]), type_id="t", idempotency_key=f"k{n}") for n in range(6)
        ]
        fork = await turns.fork(refs[2].turn_id)
        await turns.append(fork.context_id, b"other", type_id="t")
        await turns.publish_bundle("b.v1", b"{}")
        before = [await turns.list(one.context_id) for one in (context, fork)]
        for back in (False, True):
            await (copy_back(home.acme, "turns") if back else copy(home.acme, "turns", "spare"))
            assert [await turns.list(one.context_id) for one in (context, fork)] == before
            assert [one.context_id for one in (await turns.contexts(label="run:7")).items] == [context.context_id]
            assert await turns.find_bundle("b.v1") == b"{}"
            again = await turns.append(context.context_id, b"\x03", type_id="t", idempotency_key="k3")
            assert (again.turn_id, again.replayed) == (refs[3].turn_id, True)
        later = await turns.create()
        assert int(later.context_id) > int(fork.context_id)
        assert (await turns.append(fork.context_id, b"more", type_id="t")).depth == 5

    async def _killed_at_every_step(self, home: Town, spare: WatchedBackend, *, stride: int) -> None:
        await fill(home.acme.streams, "s", 10)
        await home.acme.memory.append("s", Message(role="user", content="a"), user="ann")
        await home.acme.memory.boards.put("plan", {"n": 1})
        context = await home.acme.turns.create(labels=["l"])
        await home.acme.turns.append(context.context_id, b"a", type_id="t")
        await self._fill_table(home)
        rows, events = await everything(home.acme.tables), await read_all(home.acme.streams, "s")
        deaths = 0
        for kind in COPIED_KINDS:
            for step in range(1, 1_000, stride):
                calls = 0

                async def die(name: str, *, step: int = step) -> None:
                    nonlocal calls
                    calls += 1
                    if calls == step:
                        raise BackendDown(f"died at {name}")

                home.backend.before = spare.before = die
                try:
                    await copy(home.acme, kind, "spare")
                    break
                except PerdureError:
                    deaths += 1
                finally:
                    home.backend.before = spare.before = None
        assert deaths > 2 * len(COPIED_KINDS)
        assert {route.backend for route in await home.acme.routes.list()} == {"spare"}
        assert await everything(home.acme.tables) == rows
        assert await read_all(home.acme.streams, "s") == events
        assert (await home.acme.memory.boards.get("plan")).data == {"n": 1}
        assert len((await home.acme.memory.window("s", user="ann")).messages) == 1
        assert [turn.payload for turn in await home.acme.turns.list(context.context_id)] == [b"a"]

    async def test_a_copy_killed_at_many_steps_goes_on_and_ends_complete(
        self, home: Town, spare: WatchedBackend
    ) -> None:
        await self._killed_at_every_step(home, spare, stride=4)

    @pytest.mark.soak
    async def test_a_copy_killed_at_every_step_goes_on_and_ends_complete(
        self, home: Town, spare: WatchedBackend
    ) -> None:
        await self._killed_at_every_step(home, spare, stride=1)

    async def test_a_copy_goes_on_in_another_process(
        self, home: Town, spare: WatchedBackend, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        await self._fill_table(home)
        await self._die_while_settling(home)
        other = (await open_plane(("main", await open_another()), ("spare", spare))).tenant(home.tenant)
        with pytest.raises(IllegalTransition):
            await other.routes.copy("tables", "spare", config={"place": "x"}, rationale=WHY, settle_s=0)
        assert (await copy(other, "tables", "spare")).phase == "done"
        assert len(await everything(other.tables)) == ROWS

    async def test_the_way_back_is_open_for_a_time(self, home: Town) -> None:
        with pytest.raises(IllegalTransition):
            await copy_back(home.acme, "tables")
        await home.acme.tables.put("t", "a", 1)
        await home.acme.routes.copy("tables", "spare", rationale=WHY, settle_s=0, rollback_s=100)
        route = await home.acme.routes.get("tables")
        assert route.copy is not None
        assert (route.copy.phase, route.copy.other.backend) == (CopyPhase.DONE, "main")
        assert (route.previous_backend_type, route.switch_rationale) == ("main", WHY)
        with pytest.raises(Invalid, match="already"):
            await copy(home.acme, "tables", "spare")
        await self.pass_time(101)
        with pytest.raises(IllegalTransition):
            await copy_back(home.acme, "tables")
        assert (await home.acme.tables.get("t", "a")).value == 1

    async def test_a_copy_from_a_default_gives_the_tenant_a_route_of_its_own(self, home: Town) -> None:
        acme = home.plane.tenant(new_tenant())
        with pytest.raises((NoRoute, NotFound)):
            await copy(acme, "tables", "spare")
        await home.admin.routes.set("tables", "main", default=True)
        try:
            await acme.tables.put("t", "a", 1)
            await copy(acme, "tables", "spare")
            assert (await acme.routes.get("tables")).backend == "spare"
            assert (await acme.tables.get("t", "a")).value == 1
            with pytest.raises(Invalid, match="default"):
                await copy(home.admin, "tables", "spare")
        finally:
            await home.admin.routes.delete("tables")

    async def test_history_tells_the_steps_of_a_copy(self, home: Town) -> None:
        await home.acme.tables.put("t", "a", 1)
        reports: list[CopyReport] = []
        await home.acme.routes.copy("tables", "spare", rationale=WHY, settle_s=0, progress=reports.append)
        assert [report.phase for report in reports] == sorted((r.phase for r in reports), key=_order)
        assert reports[-1].digest != ""
        history = (await home.acme.routes.history("tables")).items
        assert [(entry.action, entry.to_backend) for entry in history] == [
            ("set", "main"),
            ("copy-begin", "main"),
            ("copy-settle", "main"),
            ("copy-finish", "spare"),
        ]

    async def _fill_table(self, home: Town) -> None:
        for number in range(ROWS):
            await home.acme.tables.put("t", f"k{number:02d}", number)

    async def _die_while_settling(self, home: Town) -> None:
        """Leave writes waiting: a process that is killed cannot even let them go on."""

        def progress(report: CopyReport) -> None:
            if report.phase == "settle":
                home.backend.before = failing(Crashed())
                raise Crashed

        with pytest.raises(Crashed):
            await home.acme.routes.copy("tables", "spare", rationale=WHY, settle_s=0, progress=progress)
        home.backend.before = None


def _order(phase: str) -> int:
    return ("backfill", "settle", "done").index(phase)
