"""Moving what one route keeps from one running backend to another, for as long as the copy is in these hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from perdure.core.copy_objects import ObjectCopier
from perdure.core.copy_sync import Guard, LogCopier, RowCopier, Tally
from perdure.core.routing import REFRESH_S
from perdure.core.stores import WRITE_S_MAX, Stores
from perdure.domain.container import Container
from perdure.domain.kinds import Kind
from perdure.domain.route import CopyPhase, Route
from perdure.errors import NoRoute, StaleVersion
from perdure.ports.backend import Backend
from perdure.ports.logs import LogStore
from perdure.ports.objects import ObjectStore
from perdure.ports.rows import RowStore

LIST_CONTAINERS: Final = 500  # of one page of the directory
LOG_KINDS: Final = frozenset({Kind.STREAMS, Kind.MEMORY, Kind.TURNS})
ROW_KINDS: Final = frozenset({Kind.TABLES, Kind.MEMORY, Kind.TURNS})
COPIED_KINDS: Final = LOG_KINDS | ROW_KINDS | {Kind.OBJECTS}
LOOK_S: Final = 2 * REFRESH_S  # a copier that has not seen the registry for longer looks before it writes

_Found: TypeAlias = tuple[Sequence[Container], str | None]
_Containers: TypeAlias = Callable[[Kind, str, str | None], Awaitable[_Found]]


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
        self._tally = tally
        # As for all who write: whoever takes the copy over waits so long for what is under way.
        self._timeout_s = timeout_s = min(stores.timeout_s, WRITE_S_MAX)
        kind = hold.route.kind
        self._parts: list[_Logs | _Rows | _Objects] = []
        if kind in LOG_KINDS:
            logs = LogCopier(source.logs, target.logs, tally=tally, guard=hold.check, timeout_s=timeout_s)
            self._parts.append(_Logs(source.logs, target.logs, logs, timeout_s=timeout_s))
        if kind in ROW_KINDS:
            rows = RowCopier(source.rows, target.rows, tally=tally, guard=hold.check, timeout_s=timeout_s)
            self._parts.append(_Rows(source.rows, target.rows, rows, timeout_s=timeout_s))
        if kind is Kind.OBJECTS:
            assert source.objects is not None, "its specification says so"
            assert target.objects is not None, "its specification says so"
            objects = ObjectCopier(source.objects, target.objects, tally=tally, guard=hold.check, timeout_s=timeout_s)
            self._parts.append(_Objects(source.objects, target.objects, objects, timeout_s=timeout_s))

    async def move(self, report: Callable[[], object], *, still: bool) -> None:
        """Copy every container that the route serves, and compare it; rows only when they stand still."""
        self._tally.containers = self._tally.objects = 0
        for part in self._parts:
            async for container in self._served(part.source_containers):
                await part.sync(container, still=still)
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
        for part in self._parts:
            async for container in self._served(part.target_containers):
                self._tally.removed += await part.remove_surplus(container, self._hold.check)

    def _beside(self) -> frozenset[tuple[object, ...]]:
        """The other routes of the tenant, by which it follows what this one serves."""
        mine = self._hold.route
        return frozenset(
            (route.key, route.route_id)
            for route in self._stores.routing.routes
            if (route.kind, route.tenant) == (mine.kind, mine.tenant) and route.route_id != mine.route_id
        )

    async def _served(self, containers: _Containers) -> AsyncIterator[Container]:
        kind, tenant = self._hold.route.kind, self._hold.route.tenant
        cursor: str | None = None
        while True:
            found, cursor = await containers(kind, tenant, cursor)
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


class _Listed:
    """Two stores that name their containers."""

    def __init__(self, source: LogStore | RowStore, target: LogStore | RowStore, *, timeout_s: float) -> None:
        self._lists = (source.containers, target.containers)
        self._timeout_s = timeout_s

    async def source_containers(self, kind: Kind, tenant: str, after: str | None) -> _Found:
        """A page of those to copy."""
        return await self._lists[0](kind, tenant, after=after, limit=LIST_CONTAINERS, timeout_s=self._timeout_s)

    async def target_containers(self, kind: Kind, tenant: str, after: str | None) -> _Found:
        """A page of those that are there already."""
        return await self._lists[1](kind, tenant, after=after, limit=LIST_CONTAINERS, timeout_s=self._timeout_s)


class _Logs(_Listed):
    """The logs of both sides."""

    def __init__(self, source: LogStore, target: LogStore, copier: LogCopier, *, timeout_s: float) -> None:
        super().__init__(source, target, timeout_s=timeout_s)
        self._source = source
        self._target = target
        self.sync = copier.sync

    async def remove_surplus(self, log: Container, guard: Guard) -> int:
        """Remove a log from the target if the source has none."""
        if await self._source.head(log, timeout_s=self._timeout_s) is not None:
            return 0
        await guard()
        return int(await self._target.erase(log, timeout_s=self._timeout_s))


class _Rows(_Listed):
    """The rows of both sides."""

    def __init__(self, source: RowStore, target: RowStore, copier: RowCopier, *, timeout_s: float) -> None:
        super().__init__(source, target, timeout_s=timeout_s)
        self._source = source
        self._target = target
        self.sync = copier.sync

    async def remove_surplus(self, rows: Container, guard: Guard) -> int:
        """Remove a container from the target if the source has no row of it."""
        if (await self._source.query(rows, limit=1, timeout_s=self._timeout_s)).rows:
            return 0
        await guard()
        return await self._target.erase(rows, timeout_s=self._timeout_s)


class _Objects:
    """The objects of both sides; a space of them counts as a container."""

    def __init__(self, source: ObjectStore, target: ObjectStore, copier: ObjectCopier, *, timeout_s: float) -> None:
        self._source = source
        self._target = target
        self._copier = copier
        self._timeout_s = timeout_s

    async def sync(self, container: Container, *, still: bool) -> None:
        """Copy the objects of a space."""
        await self._copier.sync(container.space, still=still)

    async def source_containers(self, kind: Kind, tenant: str, after: str | None) -> _Found:
        """A page of spaces to copy."""
        return await self._spaces(self._source, kind, tenant, after)

    async def target_containers(self, kind: Kind, tenant: str, after: str | None) -> _Found:
        """A page of spaces that are there already."""
        return await self._spaces(self._target, kind, tenant, after)

    async def remove_surplus(self, container: Container, guard: Guard) -> int:
        """Remove the target's objects that the source does not have."""
        del guard  # the copier asks its own
        return await self._copier.remove_surplus(container.space)

    async def _spaces(self, store: ObjectStore, kind: Kind, tenant: str, after: str | None) -> _Found:
        spaces, mark = await store.spaces(tenant, after=after, limit=LIST_CONTAINERS, timeout_s=self._timeout_s)
        return [Container(kind=kind, space=space, name=("objects",)) for space in spaces], mark
