"""Which backend keeps a kind for a scope: the routes of the registry, held in memory and kept fresh.

The most specific route wins, and the answer says which layer it was. Nothing else ever selects a backend: without a
route there is an error, whatever the environment says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from perdure.domain.container import Space
from perdure.domain.kinds import Kind
from perdure.domain.route import SYSTEM_TENANT, Quarantined, RegistrySnapshot, Route, RouteKey
from perdure.errors import NoRoute, Unavailable
from perdure.ports.environment import Clock
from perdure.ports.routes import RouteStore

REFRESH_S: Final = 2.0  # how often a plane looks for changes of the registry: other processes see a switch that soon
STALENESS_S_MAX: Final = 15.0  # a write with an older snapshot is refused: its route may have been switched

_log = logging.getLogger(__name__)
Sleep = Callable[[float], Awaitable[None]]
Changed = Callable[[Sequence[Route]], Awaitable[None]]


class Layer(StrEnum):
    """Where the route that was found stands; the first of these that has one."""

    SURFACE = "surface"  # tenant, project and surface
    PROJECT = "project"  # tenant and project
    TENANT = "tenant"
    SYSTEM = "system"  # the default that t_system offers for the kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The route for a scope, and the layer that matched."""

    route: Route
    layer: Layer


class Routing:
    """The routes of a plane. ``start`` reads them, and every ``refresh`` what has changed."""

    def __init__(
        self, store: RouteStore, *, clock: Clock, timeout_s: float, staleness_s_max: float = STALENESS_S_MAX
    ) -> None:
        self._store = store
        self._clock = clock
        self._timeout_s = timeout_s
        self._staleness_s_max = staleness_s_max
        self._snapshot: RegistrySnapshot | None = None
        self._routes: Mapping[RouteKey, Route] = {}
        self._seen_at = float("-inf")
        self._looks = 0
        self._is_distrusted = False
        self._lock = asyncio.Lock()
        self._listeners: list[Changed] = []

    @property
    def store(self) -> RouteStore:
        """The registry itself."""
        return self._store

    @property
    def routes(self) -> Sequence[Route]:
        """The routes of the snapshot in use, without tombstones."""
        return tuple(self._routes.values())

    @property
    def all_routes(self) -> Sequence[Route]:
        """As ``routes``, tombstones included."""
        return () if self._snapshot is None else self._snapshot.routes

    @property
    def version(self) -> int:
        """The registry's version of the snapshot in use; 0 if no route was ever written."""
        return 0 if self._snapshot is None else self._snapshot.version

    @property
    def quarantined(self) -> Sequence[Quarantined]:
        """Records of the registry that could not be read."""
        return () if self._snapshot is None else self._snapshot.quarantined

    @property
    def age_s(self) -> float:
        """Seconds since the snapshot in use was known to be the newest."""
        return self._clock.monotonic() - self._seen_at

    @property
    def looks(self) -> int:
        """How often the registry was looked at: for ``refresh``."""
        return self._looks

    def distrust(self) -> None:
        """Write nothing by the snapshot in use before it was refreshed: it may lack a change made here."""
        self._is_distrusted = True

    def on_change(self, listener: Changed) -> None:
        """Call ``listener`` with all routes whenever another snapshot comes into use."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Read the registry. Raises ``Unavailable`` (``routes.unreadable``): one that cannot be read is not empty."""
        try:
            await self.refresh()
        except Unavailable as exc:
            raise type(exc)(
                f"the routing registry cannot be read, so nothing can be routed: {exc.message}",
                code="routes.unreadable",
                **exc.detail,
            ) from exc

    async def refresh(self, *, unless_looks: int | None = None) -> bool:
        """Read what changed since the last time; True if something did. Raises ``Unavailable``, keeping what it has.

        With ``unless_looks`` nothing is read if somebody else looked since there were so many ``looks``.
        """
        async with self._lock:
            if unless_looks is not None and self._looks > unless_looks:
                return False
            began = self._clock.monotonic()
            if self._snapshot is not None:
                version = await self._store.version(timeout_s=self._timeout_s)
                if version == self._snapshot.version:
                    self._saw(began)
                    return False
            snapshot = await self._store.load(timeout_s=self._timeout_s)
            self._snapshot = snapshot
            self._routes = {route.key: route for route in snapshot.routes if not route.deleted}
            # As of before the reading: what changed while it went on is for the next time.
            self._saw(began)
        for problem in snapshot.quarantined:
            _log.error("a route cannot be read and serves nobody: %s: %s", problem.where, problem.problem)
        for listener in self._listeners:
            await listener(self.routes)
        return True

    def _saw(self, began: float) -> None:
        self._seen_at = began
        self._looks += 1
        self._is_distrusted = False

    def find(self, key: RouteKey) -> Route | None:
        """The route with exactly this key."""
        return self._routes.get(key)

    def find_any(self, key: RouteKey) -> Route | None:
        """As ``find``, tombstones included."""
        return next((route for route in self.all_routes if route.key == key), None)

    def resolve(self, kind: Kind, space: Space) -> Resolved:
        """The most specific route of a space. Raises ``NoRoute`` (``{kind}.missing_route``)."""
        for layer, key in _candidates(kind, space):
            route = self._routes.get(key)
            if route is not None and (layer is not Layer.SYSTEM or route.default):
                return Resolved(route=route, layer=layer)
        raise NoRoute(
            f"No route configured for kind '{kind}', tenant '{space.tenant}', env '{space.env}' (mode {space.mode}, "
            f"project '{space.project}'); add one with: perdure routes set {kind} {space.tenant} --backend NAME",
            code=f"{kind}.missing_route",
            kind=kind.value,
            tenant=space.tenant,
            mode=space.mode,
            env=space.env,
            project=space.project,
        )

    async def resolve_for_write(self, kind: Kind, space: Space, *, timeout_s: float | None = None) -> Resolved:
        """As ``resolve``, from a snapshot that is fresh enough to write by.

        A switched route is seen by every process within ``STALENESS_S_MAX`` seconds, or that process stops writing.
        Raises ``Unavailable`` (``routes.stale``) while the registry cannot be read for longer, or not in ``timeout_s``.
        """
        if self._is_distrusted or self.age_s > self._staleness_s_max:
            try:
                # Once for everybody who waits here.
                async with asyncio.timeout(timeout_s):
                    await self.refresh(unless_looks=self._looks)
            except TimeoutError as exc:
                raise self._stale("it did not answer in time") from exc
            except Unavailable as exc:
                raise self._stale(exc.message) from exc
        return self.resolve(kind, space)

    def _stale(self, reason: str) -> Unavailable:
        return Unavailable(
            f"the routing registry could not be read for {self.age_s:.0f} s, so nothing is written by its routes: "
            f"{reason}",
            code="routes.stale",
            age_s=self.age_s,
        )


def _candidates(kind: Kind, space: Space) -> Sequence[tuple[Layer, RouteKey]]:
    def key(tenant: str, project: str | None = None, surface: str | None = None) -> RouteKey:
        return RouteKey(kind=kind, tenant=tenant, mode=space.mode, env=space.env, project=project, surface=surface)

    found = [
        (Layer.PROJECT, key(space.tenant, space.project)),
        (Layer.TENANT, key(space.tenant)),
        (Layer.SYSTEM, key(SYSTEM_TENANT)),
    ]
    if space.surface is not None:
        found.insert(0, (Layer.SURFACE, key(space.tenant, space.project, space.surface)))
    return found
