"""Routes as one tenant's scope may see and change them; ``t_system`` may everybody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from perdure.core.copying import ROLLBACK_S_DEFAULT, Copying, CopyReport, Progress
from perdure.core.paging import Paging
from perdure.core.registry import Registry
from perdure.core.route_views import Applied, Coverage, RouteView
from perdure.core.stores import Stores
from perdure.domain.container import make_space
from perdure.domain.ids import check_tenant
from perdure.domain.kinds import TENANT_KINDS, Kind
from perdure.domain.records import Page
from perdure.domain.route import (
    SYSTEM_TENANT,
    AuditPolicy,
    ConfigValue,
    Route,
    RouteChange,
    RouteHistory,
    RouteKey,
    Target,
    Tier,
    make_route_key,
)
from perdure.domain.route_changes import (
    RouteSettings,
    WantedRoute,
    delete_route,
    set_route,
    switch_route,
)
from perdure.domain.scope import Scope
from perdure.errors import Forbidden, Invalid, NoRoute, NotFound, PerdureError, StaleVersion

HISTORY_PAGE_DEFAULT: Final = 100


class Routes:
    """Routes of this plane's mode and environment.

    A scope sees and changes its own tenant's; that of ``t_system`` everybody's, through ``tenant=``, which is
    ``Forbidden`` to all others. A change is one commit: the route, its history, its event. ``if_version`` is the
    version that the route must have (0: there must be none), else ``StaleVersion``; without it, that of the moment
    before.
    """

    def __init__(self, scope: Scope, *, stores: Stores) -> None:
        self._scope = scope
        self._stores = stores
        self._registry = Registry(scope, stores=stores)
        self._copying = Copying(self._registry, stores=stores)

    async def set(
        self,
        kind: Kind | str,
        backend: str,
        *,
        config: Mapping[str, ConfigValue] | None = None,
        tenant: str | None = None,
        project: str | None = None,
        surface: str | None = None,
        tier: Tier | None = None,
        cost_notes: str | None = None,
        required: bool | None = None,
        default: bool | None = None,
        audit: AuditPolicy | None = None,
        data_stays: bool = False,
        if_version: int | None = None,
    ) -> Route:
        """Make a route, or change its settings or config; one that was deleted is made again with its history.

        Another config may lead to another place, and nothing is moved there: it takes ``data_stays=True`` to say that
        this is known. Another backend is ``switch``. ``default`` lets a route of ``t_system`` serve tenants without
        one. Raises ``Invalid``, ``Unsupported``, ``Forbidden`` (``forbidden_backend_class``), ``StaleVersion``.
        """
        key = _changeable(self._key(kind, tenant, project, surface))
        target = Target(backend=backend, config=dict(config or {}))
        self._stores.backends.check(target, kind=key.kind)
        settings = RouteSettings(tier=tier, cost_notes=cost_notes, required=required, default=default, audit=audit)
        old = await self._newest(key, if_version)
        new_id = self._stores.environment.ids.new()
        wanted = WantedRoute(key=key, target=target, settings=settings)
        change = set_route(old, wanted, data_stays=data_stays, route_id=new_id, by=self._registry.by())
        return await self._registry.commit(change)

    async def apply(self, wanted: Sequence[WantedRoute], *, data_stays: bool = False) -> Applied:
        """Make many routes what they are wanted to be; one that is so already is left alone.

        All are checked before the first is written. Each is a commit of its own, so ``StaleVersion`` and
        ``Unavailable`` leave what was written before. Raises what ``set`` raises, saying for which route.
        """
        await self._stores.routing.refresh()
        changes: list[RouteChange] = []
        unchanged: list[Route] = []
        seen: set[RouteKey] = set()
        for number, one in enumerate(wanted, start=1):
            try:
                self._may(one.key.tenant)
                if one.key in seen:
                    raise Invalid("it is there twice; say it once")
                seen.add(one.key)
                old = self._stores.routing.find_any(one.key)
                if old is not None and one.is_met_by(old):
                    unchanged.append(old)
                    continue
                self._stores.backends.check(one.target, kind=_changeable(one.key).kind)
                new_id = self._stores.environment.ids.new()
                changes.append(set_route(old, one, data_stays=data_stays, route_id=new_id, by=self._registry.by()))
            except PerdureError as exc:
                message = f"route {number} ({one.key.kind} of {one.key.tenant}): {exc.message}; nothing was written"
                raise type(exc)(message, code=exc.code, **exc.detail) from exc
        return Applied(changed=[await self._registry.commit(change) for change in changes], unchanged=tuple(unchanged))

    def parse_config(self, backend: str, texts: Mapping[str, str]) -> Mapping[str, ConfigValue]:
        """A config given as texts, such as options of a command: each value as its field's type.

        Fields and backends that do not exist are left to ``set`` to refuse. Raises ``Invalid``, never quoting a value.
        """
        return self._stores.backends.parse_config(backend, texts)

    async def switch(
        self,
        kind: Kind | str,
        backend: str,
        *,
        rationale: str,
        config: Mapping[str, ConfigValue] | None = None,
        tenant: str | None = None,
        project: str | None = None,
        surface: str | None = None,
        tier: Tier | None = None,
        cost_notes: str | None = None,
        data_stays: bool = False,
        if_version: int | None = None,
    ) -> Route:
        """Lead a route to another backend at once. Nothing is moved, which takes ``data_stays=True`` to say.

        Calls under way finish on the old backend, new ones go to the new; other processes follow within
        ``STALENESS_S_MAX`` seconds. Nothing of the old config is kept. Raises ``NotFound``, and what ``set`` raises.
        """
        key = _changeable(self._key(kind, tenant, project, surface))
        target = Target(backend=backend, config=dict(config or {}))
        self._stores.backends.check(target, kind=key.kind)
        if not data_stays:
            raise Invalid(
                f"a switch moves nothing: what {key.kind} of {key.tenant} keeps stays in the old backend and is not "
                "found any more; say that this is meant with data_stays (--data-stays), or use: perdure routes copy"
            )
        old = await self._existing(key, if_version)
        settings = RouteSettings(tier=tier, cost_notes=cost_notes)
        by = self._registry.by()
        return await self._registry.commit(switch_route(old, target, settings, rationale=rationale, by=by))

    async def delete(
        self,
        kind: Kind | str,
        *,
        tenant: str | None = None,
        project: str | None = None,
        surface: str | None = None,
        rationale: str | None = None,
        if_version: int | None = None,
    ) -> None:
        """Make a route serve nobody. Its history stays, and what was kept through it stays in its backend."""
        old = await self._existing(_changeable(self._key(kind, tenant, project, surface)), if_version)
        await self._registry.commit(delete_route(old, rationale=rationale, by=self._registry.by()))

    async def get(
        self,
        kind: Kind | str,
        *,
        tenant: str | None = None,
        project: str | None = None,
        surface: str | None = None,
    ) -> Route:
        """The route with exactly this key, as it is in the registry now. Raises ``NotFound``."""
        return await self._existing(self._key(kind, tenant, project, surface), None)

    async def show(
        self,
        kind: Kind | str,
        *,
        tenant: str | None = None,
        project: str | None = None,
        surface: str | None = None,
        probe: bool = False,
    ) -> RouteView:
        """The route that serves a kind here, the layer that matched, and its backend's health.

        ``probe`` asks the backend now. Raises ``NoRoute``.
        """
        key = self._key(kind, tenant, project, surface)
        space = make_space(
            tenant=key.tenant,
            mode=key.mode,
            env=key.env,
            project=key.project if key.project is not None else self._scope.project,
            surface=key.surface,
        )
        await self._stores.routing.refresh()
        resolved = self._stores.routing.resolve(key.kind, space)
        target = resolved.route.target
        backends = self._stores.backends
        if probe:
            health = await backends.probe(target, kind=key.kind, timeout_s=self._stores.timeout_s)
        else:
            health = backends.health(target)
        return RouteView(
            route=resolved.route, layer=resolved.layer, health=health, snapshot_age_s=self._stores.routing.age_s
        )

    async def list(self, *, tenant: str | None = None, kind: Kind | str | None = None) -> Sequence[Route]:
        """Routes of this tenant by kind, project and surface; for ``t_system`` of everybody, unless one is named."""
        if tenant is not None:
            self._may(check_tenant(tenant))
        await self._stores.routing.refresh()
        everybody = self._scope.tenant == SYSTEM_TENANT and tenant is None
        wanted = tenant if tenant is not None else self._scope.tenant
        chosen = [
            route
            for route in self._stores.routing.routes
            if (everybody or route.tenant == wanted) and (kind is None or route.kind == kind)
        ]
        return sorted(chosen, key=lambda route: (route.tenant, route.kind, route.project or "", route.surface or ""))

    async def history(
        self,
        kind: Kind | str,
        *,
        tenant: str | None = None,
        project: str | None = None,
        surface: str | None = None,
        cursor: str | None = None,
        limit: int = HISTORY_PAGE_DEFAULT,
    ) -> Page[RouteHistory]:
        """Every change of a route, oldest first; of a deleted one too."""
        key = self._key(kind, tenant, project, surface)
        paging = Paging(self._scope, "route-history", key, cursor=cursor, limit=limit)
        found = await self._stores.routing.store.history(
            key, after=paging.number() or 0, limit=paging.limit, timeout_s=self._stores.timeout_s
        )
        return paging.page(found.entries, keys=lambda entry: (entry.version,))

    async def coverage(self, *, tenant: str | None = None) -> Sequence[Coverage]:
        """For each routed kind, whether this tenant (or ``tenant``) has a route, in this environment."""
        space = make_space(
            tenant=self._may(tenant or self._scope.tenant),
            mode=self._scope.mode,
            env=self._scope.env,
            project=self._scope.project,
        )
        await self._stores.routing.refresh()
        rows: list[Coverage] = []
        for kind in TENANT_KINDS:
            try:
                found = self._stores.routing.resolve(kind, space)
            except NoRoute as exc:
                rows.append(Coverage(kind=kind, status="missing", error=exc.code))
                continue
            rows.append(
                Coverage(
                    kind=kind,
                    status="available",
                    backend=found.route.backend,
                    layer=found.layer,
                    tier=found.route.tier,
                    health=self._stores.backends.health(found.route.target),
                )
            )
        return rows

    async def copy(
        self,
        kind: Kind | str,
        backend: str,
        *,
        rationale: str,
        config: Mapping[str, ConfigValue] | None = None,
        tenant: str | None = None,
        project: str | None = None,
        surface: str | None = None,
        rollback_s: float = ROLLBACK_S_DEFAULT,
        settle_s: float | None = None,
        progress: Progress | None = None,
    ) -> CopyReport:
        """Move what a route keeps to another backend and lead the route there, without losing cursors or versions.

        Reads go on throughout; writes wait at the end while the rest is copied and everything compared by count and
        hash. Interrupted, the old backend serves; the same call goes on, ``abandon_copy`` gives up. For ``rollback_s``
        seconds ``copy_back`` can return. ``settle_s`` is how long to wait for other processes to have seen that writes
        wait (default: as long as one may take); ``progress`` is told now and then.

        Raises ``DigestMismatch`` when the two sides cannot be made the same, and what ``switch`` raises.
        """
        key = _changeable(self._key(kind, tenant, project, surface))
        target = Target(backend=backend, config=dict(config or {}))
        return await self._copying.run(
            key, target, rationale=rationale, rollback_s=rollback_s, settle_s=settle_s, progress=progress
        )

    async def copy_back(
        self,
        kind: Kind | str,
        *,
        rationale: str,
        tenant: str | None = None,
        project: str | None = None,
        surface: str | None = None,
        settle_s: float | None = None,
        progress: Progress | None = None,
    ) -> CopyReport:
        """Return to the backend that the last copy came from, with everything written since. Raises as ``copy``."""
        key = _changeable(self._key(kind, tenant, project, surface))
        target = await self._copying.way_back(key)
        return await self._copying.run(
            key, target, rationale=rationale, rollback_s=ROLLBACK_S_DEFAULT, settle_s=settle_s, progress=progress
        )

    async def abandon_copy(
        self,
        kind: Kind | str,
        *,
        tenant: str | None = None,
        project: str | None = None,
        surface: str | None = None,
    ) -> Route:
        """Give up a copy that is under way: the old backend goes on serving. Raises ``IllegalTransition``."""
        return await self._copying.abandon(_changeable(self._key(kind, tenant, project, surface)))

    def _key(self, kind: Kind | str, tenant: str | None, project: str | None, surface: str | None) -> RouteKey:
        key = make_route_key(
            str(kind),
            tenant if tenant is not None else self._scope.tenant,
            mode=self._scope.mode,
            env=self._scope.env,
            project=project,
            surface=surface,
        )
        self._may(key.tenant)
        return key

    def _may(self, tenant: str) -> str:
        if self._scope.tenant not in {tenant, SYSTEM_TENANT}:
            raise Forbidden(
                f"a scope of {self._scope.tenant} sees and changes its own routes only; {SYSTEM_TENANT} may others'",
                code="tenant_mismatch",
            )
        return tenant

    async def _newest(self, key: RouteKey, if_version: int | None) -> Route | None:
        old = await self._registry.newest(key)
        found = 0 if old is None or old.deleted else old.version
        if if_version is not None and found != if_version:
            raise StaleVersion(f"the route is at version {found}, not {if_version}; look at it again", found=found)
        return old

    async def _existing(self, key: RouteKey, if_version: int | None) -> Route:
        old = await self._newest(key, if_version)
        if old is None or old.deleted:
            where = f"{key.kind} of {key.tenant}"
            raise NotFound(f"there is no route for {where} with that project and surface; see: perdure routes list")
        return old


def _changeable(key: RouteKey) -> RouteKey:
    if key.kind is Kind.ROUTES:
        raise Invalid(
            "where the registry itself is kept is a setting of the plane (perdure.toml, or registry=), not a route; "
            f"its route of {SYSTEM_TENANT} only shows it"
        )
    return key
