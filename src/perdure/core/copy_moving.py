"""Moving what one route keeps from one running backend to another, for as long as the copy is in these hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from perdure.core.copy_sync import LogCopier, RowCopier, Tally
from perdure.core.routing import REFRESH_S
from perdure.core.stores import WRITE_S_MAX, Stores
from perdure.domain.container import Container
from perdure.domain.kinds import Kind
from perdure.domain.route import CopyPhase, Route
from perdure.errors import NoRoute, StaleVersion
from perdure.ports.backend import Backend

LIST_CONTAINERS: Final = 500  # of one page of the directory
LOOK_S: Final = 2 * REFRESH_S  # a copier that has not seen the registry for longer looks before it writes


class Hold:
    """The copy of a route while it is in these hands: at a version that nobody has moved on from.

    Another process may have abandoned the copy, or have taken it over and finished it. Then the other backend is what
    serves, and a copier that was only slow would remove what was written there since.
    """

    def __init__(self, stores: Stores, route: Route) -> None:
        self._stores = stores
        self.route = route

    @property
    def phase(self) -> CopyPhase | None:
        """The phase of the copy."""
        return None if self.route.copy is None else self.route.copy.phase

    async def check(self) -> None:
        """Raise ``StaleVersion`` if the route moved on, and ``Unavailable`` if that cannot be found out."""
        routing = self._stores.routing
        if routing.age_s > LOOK_S:
            await routing.refresh()
        route = routing.find(self.route.key)
        # Older than ours: a change of our own that could not be read again yet.
        if route is None or route.version > self.route.version:
            raise StaleVersion(
                "the copy was abandoned, or another process has taken it over; nothing more is copied from here",
                expected=self.route.version,
                found=0 if route is None else route.version,
            )


class Mover:
    """Makes one backend what another is, in everything that a route serves."""

    def __init__(self, stores: Stores, hold: Hold, source: Backend, target: Backend, *, tally: Tally) -> None:
        self._stores = stores
        self._hold = hold
        self._source = source
        self._target = target
        self._tally = tally
        # As for all who write: whoever takes the copy over waits so long for what is under way.
        self._timeout_s = timeout_s = min(stores.timeout_s, WRITE_S_MAX)
        self._logs = LogCopier(source.logs, target.logs, tally=tally, guard=hold.check, timeout_s=timeout_s)
        self._rows = RowCopier(source.rows, target.rows, tally=tally, guard=hold.check, timeout_s=timeout_s)

    async def move(self, report: Callable[[], object], *, still: bool) -> None:
        """Copy every container that the route serves, and compare it; rows only when they stand still."""
        self._tally.containers = 0
        async for log in self._served(self._source, logs=True):
            await self._logs.sync(log, still=still)
            self._tally.containers += 1
            report()
        async for rows in self._served(self._source, logs=False):
            await self._rows.sync(rows, still=still)
            self._tally.containers += 1
            report()

    async def settle(self, report: Callable[[], object]) -> None:
        """Copy and compare all of it while nobody writes, again if what the route serves became another."""
        while True:
            beside = self._beside()
            await self.move(report, still=True)
            await self._remove_surplus()
            await self._stores.routing.refresh()
            if self._beside() == beside:
                return

    async def _remove_surplus(self) -> None:
        """Remove from the new backend what the old one no longer has."""
        async for log in self._served(self._target, logs=True):
            if await self._source.logs.head(log, timeout_s=self._timeout_s) is None:
                await self._hold.check()
                self._tally.removed += await self._target.logs.erase(log, timeout_s=self._timeout_s)
        async for rows in self._served(self._target, logs=False):
            page = await self._source.rows.query(rows, limit=1, timeout_s=self._timeout_s)
            if not page.rows:
                await self._hold.check()
                self._tally.removed += await self._target.rows.erase(rows, timeout_s=self._timeout_s)

    def _beside(self) -> frozenset[tuple[object, ...]]:
        """The other routes of the tenant, by which it follows what this one serves."""
        mine = self._hold.route
        return frozenset(
            (route.key, route.route_id)
            for route in self._stores.routing.routes
            if (route.kind, route.tenant) == (mine.kind, mine.tenant) and route.route_id != mine.route_id
        )

    async def _served(self, backend: Backend, *, logs: bool) -> AsyncIterator[Container]:
        kind, tenant = self._hold.route.kind, self._hold.route.tenant
        if (kind is Kind.STREAMS and not logs) or (kind is Kind.TABLES and logs):
            return
        cursor: str | None = None
        while True:
            store = backend.logs if logs else backend.rows
            found, cursor = await store.containers(
                kind, tenant, after=cursor, limit=LIST_CONTAINERS, timeout_s=self._timeout_s
            )
            for container in found:
                if self._is_served(container):
                    yield container
            if cursor is None:
                return

    def _is_served(self, container: Container) -> bool:
        try:
            resolved = self._stores.routing.resolve(container.kind, container.space)
        except NoRoute:
            return False  # what a deleted route left behind
        return resolved.route.route_id == self._hold.route.route_id
