"""What a plane does in the background for routed stores: see changes, relay route events, sweep what has expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

from perdure.core.backends import fingerprint
from perdure.core.copying import SETTLE_S_MAX
from perdure.core.fanout import Fanout
from perdure.core.registry import commit_change
from perdure.core.routing import REFRESH_S, Sleep
from perdure.core.stores import Stores
from perdure.core.streams import Sampler, Streams
from perdure.domain.kinds import KINDS, Kind
from perdure.domain.route import SYSTEM_TENANT, CopyPhase, Route, RouteEvent, RouteKey, Target
from perdure.domain.route_changes import By, RouteSettings, abandon_copy, edit_route, make_route, switch_route
from perdure.domain.scope import make_scope
from perdure.domain.stream import StreamEvent
from perdure.errors import NoRoute, PerdureError, StaleVersion
from perdure.ports.routes import EVENTS_RELAYED_MAX

UNRELAYED_MAX: Final = 1_000  # events relayed at a time, and looked at beyond those that could not be the last time
UNRELAYED_LOOK_MAX: Final = 64_000  # events looked at in all; they are held in memory
STUCK_S: Final = 30.0  # while nothing can be relayed and no route changes, it is tried so often
RELAY_S: Final = 5.0  # one event; a stream that takes longer is tried again later, and the others need not wait for it
SWEEP_S: Final = 60.0  # between two sweeps of what has expired; a few small reads each
SWEEP_MAX: Final = 200  # logs and rows removed from one backend at a time: more wait for the next sweep
PROBE_S: Final = 30.0  # between two probes of the backends in use; one small read each
PROBE_TIMEOUT_S: Final = 5.0  # a backend that does not answer for so long is down, whatever it says later
ACTOR: Final = "system:routing"

_log = logging.getLogger(__name__)


class RouteUpkeep:
    """Keeps routes fresh and relays their events: each to the stream ``routing/{tenant}`` of the tenant it is about.

    An event is relayed at least once, under an id that follows from the route and its version, so that the stream has
    it once. While a tenant has no route for streams, or its backend is down, its events wait in the registry.
    """

    def __init__(self, stores: Stores, *, fanout: Fanout, sleep: Sleep = asyncio.sleep) -> None:
        self._stores = stores
        self._fanout = fanout
        self._sleep = sleep
        self._stopping = False
        self._look_at = UNRELAYED_MAX
        self._stuck: tuple[int, float] | None = None
        stores.routing.on_change(self._close_unused)

    async def run(self, *, every_s: float | None = None) -> None:
        """Go on until stopped, every ``REFRESH_S`` seconds. What fails is reported and tried again the next time."""
        every_s = REFRESH_S if every_s is None else every_s
        async with asyncio.TaskGroup() as group:
            # Apart, so that streams that are slow or away keep nobody from seeing changes of routes.
            group.create_task(self._repeat(self._look, every_s), name="perdure-routes-refresh")
            group.create_task(self._repeat(self._relay_unless_stuck, every_s), name="perdure-routes-relay")
            group.create_task(self._repeat(self.sweep, SWEEP_S), name="perdure-sweep")
            group.create_task(self._repeat(self.probe, PROBE_S), name="perdure-probe")

    async def stop(self, task: asyncio.Task[None]) -> None:
        """End the task in which ``run`` goes on, at once."""
        # The flag as well: a driver may answer a cancellation with an error of its own, and the loop would go on.
        self._stopping = True
        task.cancel()
        # Not by awaiting it: that could not tell its cancellation from one of whoever stops it.
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the upkeep of routes had ended with %s", type(error).__name__)

    async def once(self) -> int:
        """See what changed and relay what waits; returns how many events were relayed. Raises ``Unavailable``."""
        await self._look()
        return await self._relay_waiting()

    async def sweep(self) -> int:
        """Remove what is past its lifetime from the backends in use, some of it; returns how much.

        Nothing depends on it: what has expired is not there for anybody. A backend that is away is passed over.
        """
        removed = 0
        for target in self._stores.backends.in_use():
            try:
                async with self._stores.backends.use(target, kind=Kind.MEMORY) as backend:
                    for store in (backend.logs, backend.rows):
                        removed += await store.sweep(limit=SWEEP_MAX, timeout_s=self._stores.timeout_s)
            except PerdureError as exc:
                _log.warning("what has expired in %s stays for now (%s)", target.backend, exc.code)
        return removed

    async def probe(self) -> None:
        """Ask every backend in use for a sign of life; ``routes.show`` and ``routes.coverage`` tell what it said."""
        for target in self._stores.backends.in_use():
            await self._stores.backends.probe(target, kind=Kind.ROUTES, timeout_s=PROBE_TIMEOUT_S)

    async def _repeat(self, work: Callable[[], Awaitable[object]], every_s: float) -> None:
        # Not at once: the routes were read a moment ago, nothing was used yet, and many a plane is open for one call.
        await self._sleep(every_s)
        while not self._stopping:
            try:
                await work()
            except PerdureError as exc:
                age = self._stores.routing.age_s
                _log.warning("the routing registry cannot be used (%s); routes are %.0f s old", exc.code, age)
            except Exception:  # noqa: BLE001 - whatever it was, without this loop no change of a route would be seen
                _log.exception("the upkeep of routes failed unexpectedly, and goes on")
            if not self._stopping:
                await self._sleep(every_s)

    async def _look(self) -> None:
        await self._stores.routing.refresh()
        await self._free_settling()

    async def _relay_waiting(self) -> int:
        store, timeout_s = self._stores.routing.store, self._stores.timeout_s
        waiting = await store.unrelayed(limit=self._look_at, timeout_s=timeout_s)
        relayed: list[str] = []
        blocked: set[str] = set()
        for event in waiting:
            if event.tenant in blocked:
                continue  # after the one that waits: a stream tells of changes in their order
            if len(relayed) == UNRELAYED_MAX:
                break
            try:
                await self._relay(event)
            except NoRoute:
                blocked.add(event.tenant)  # there is no stream to tell; it waits until somebody routes one
            except PerdureError as exc:
                blocked.add(event.tenant)
                _log.warning("route events of %s wait: its stream cannot be written (%s)", event.tenant, exc.code)
            else:
                relayed.append(event.event_id)
        for start in range(0, len(relayed), EVENTS_RELAYED_MAX):
            await store.relayed(relayed[start : start + EVENTS_RELAYED_MAX], timeout_s=timeout_s)
        # Events that nobody can relay must not hide those behind them.
        stuck = len(waiting) - len(relayed)
        is_seen_whole = len(waiting) < self._look_at
        self._look_at = min(UNRELAYED_MAX + stuck, UNRELAYED_LOOK_MAX)
        self._stuck = None
        if stuck and not relayed and is_seen_whole:
            self._stuck = (self._stores.routing.version, self._stores.environment.clock.monotonic())
        return len(relayed)

    async def _relay_unless_stuck(self) -> None:
        """Relay, but do not ask again and again about events that wait for somebody to route their streams."""
        if self._stuck is not None:
            version, tried_at = self._stuck
            is_recent = self._stores.environment.clock.monotonic() - tried_at < STUCK_S
            if is_recent and self._stores.routing.version == version:
                return
        await self._relay_waiting()

    async def _free_settling(self) -> None:
        # Whoever was copying was killed while writes wait; if it was not, its last step finds that the route moved on.
        now = self._stores.environment.clock.now()
        for route in self._stores.routing.routes:
            settled_at = None if route.copy is None else route.copy.settled_at
            overdue = settled_at is not None and now - settled_at > timedelta(seconds=SETTLE_S_MAX)
            if route.copy is None or route.copy.phase is not CopyPhase.SETTLE or not overdue:
                continue
            change = abandon_copy(route, by=By(actor=ACTOR, at=now))
            try:
                await commit_change(self._stores, change)
            except StaleVersion:
                _log.debug("another process has just freed the writes of %s", route.tenant)
                continue
            _log.warning("a copy of %s of %s did not finish in time and was abandoned", route.kind, route.tenant)

    async def _relay(self, event: RouteEvent) -> None:
        scope = make_scope(
            event.tenant,
            actor=ACTOR,
            mode=self._stores.backends.mode,
            env=self._stores.backends.env,
            source="scheduler:routing",
        )
        self._stores.routing.resolve(Kind.STREAMS, scope.space)  # before anybody else is asked about the tenant
        streams = Streams(scope, stores=self._stores, fanout=self._fanout, sampler=Sampler())
        await streams.append(f"routing/{event.tenant}", stream_event(event), timeout_s=RELAY_S)

    async def _close_unused(self, routes: Sequence[Route]) -> None:
        targets = [target for route in routes for target in _targets(route)]
        await self._stores.backends.keep_only({fingerprint(target) for target in targets})


def stream_event(event: RouteEvent) -> StreamEvent:
    """The event as it stands in the tenant's stream."""
    data = {
        "action": event.action,
        "kind": event.kind.value,
        "resource_kind": KINDS[event.kind].resource_kind,
        "route_id": str(event.route_id),
        "version": event.version,
        "actor": event.actor,
        "project_id": event.project,
        "surface_id": event.surface,
        "backend_type": event.backend_type,
        "previous_backend_type": event.previous_backend_type,
        "switch_rationale": event.switch_rationale,
        "last_switch_time": None if event.last_switch_time is None else event.last_switch_time.isoformat(),
    }
    return StreamEvent(
        type=event.type.value,
        event_id=event.event_id,
        ts=event.occurred_at,
        data={name: value for name, value in data.items() if value is not None},
        meta={"priority": "truth", "persist": "always", "storage_class": "audit"},
    )


async def show_own_place(stores: Stores, target: Target) -> None:
    """Write, or correct, the route of ``t_system`` that shows where the registry itself is kept."""
    key = RouteKey(kind=Kind.ROUTES, tenant=SYSTEM_TENANT, mode=stores.backends.mode, env=stores.backends.env)
    routing = stores.routing
    old = routing.find_any(key)
    if old is not None and not old.deleted and old.target == target:
        return
    by = By(actor=ACTOR, at=stores.environment.clock.now())
    if old is None:
        change = make_route(key, target, RouteSettings(), route_id=stores.environment.ids.new(), by=by)
    elif old.backend == target.backend:
        change = edit_route(old, target, RouteSettings(), by=by)
    else:
        # It was moved with its rows, which tell of where it was before.
        change = switch_route(old, target, RouteSettings(), rationale="the registry is kept there now", by=by)
    try:
        await commit_change(stores, change)
    except StaleVersion:
        _log.debug("another process has just written where the registry is")
        await routing.refresh()


async def write_lab_routes(stores: Stores, target: Target) -> None:
    """Write the default routes of lab for every kind; a registry that anybody else ever used is left alone.

    Interrupted, or done by two planes at once, it is completed by whoever opens the next one.
    """
    if any(not _is_own(route) for route in stores.routing.all_routes):
        return
    is_stale = False
    for kind, row in KINDS.items():
        key = RouteKey(kind=kind, tenant=SYSTEM_TENANT, mode=stores.backends.mode, env=stores.backends.env)
        if not row.routed or kind is Kind.ROUTES or stores.routing.find_any(key) is not None:
            continue
        by = By(actor=ACTOR, at=stores.environment.clock.now())
        change = make_route(key, target, RouteSettings(default=True), route_id=stores.environment.ids.new(), by=by)
        try:
            await commit_change(stores, change)
        except StaleVersion:
            _log.debug("another process has just written the lab route of %s", kind)
            is_stale = True
    if is_stale:
        await stores.routing.refresh()


def _is_own(route: Route) -> bool:
    return route.kind is Kind.ROUTES or (route.version == 1 and route.updated_by == ACTOR)


def _targets(route: Route) -> Sequence[Target]:
    if route.copy is None or route.copy.phase is CopyPhase.DONE:
        return (route.target,)
    return (route.target, route.copy.other)
