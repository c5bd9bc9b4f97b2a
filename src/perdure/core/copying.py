"""Copying what a route keeps to another backend, and switching the route there without losing anything.

1. *Backfill*: the route serves as before, and everything is copied and compared.
2. *Settle*: writes wait. Every process has seen that after ``STALENESS_S_MAX`` seconds, because one that has not may no
   longer write, and a write that had begun has ended ``WRITE_S_MAX`` later. Then the rest is copied, and everything is
   compared by count and hash.
3. *Finish*: one commit leads the route to the new backend. Cursors and versions are valid there as they were.

The state is in the route, each step is a compare-and-swap, and each can be done again: a copy that was killed goes on
where it was, or is abandoned, and until the one commit of step 3 the old backend serves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from perdure.core.copy_moving import COPIED_KINDS, Hold, Mover
from perdure.core.copy_sync import Tally
from perdure.core.registry import Registry
from perdure.core.routing import STALENESS_S_MAX, Layer
from perdure.core.stores import SETTLE_POLL_S, WRITE_S_MAX, Stores
from perdure.domain.container import make_space
from perdure.domain.kinds import Kind
from perdure.domain.route import SYSTEM_TENANT, CopyPhase, Route, RouteKey, Target
from perdure.domain.route_changes import (
    RouteSettings,
    abandon_copy,
    begin_copy,
    finish_copy,
    make_route,
    resume_copy,
    revive_route,
    settle_copy,
    unsettle_copy,
)
from perdure.errors import IllegalTransition, Invalid, NotFound, PerdureError, Unsupported

ROLLBACK_S_DEFAULT: Final = 7 * 86_400.0  # a week: long enough to notice what went wrong
ROLLBACK_S_MAX: Final = 366 * 86_400.0  # who goes back later than that means another copy
SETTLE_S_MAX: Final = 600.0  # writes wait no longer than this for a copy that nobody finishes
_log = logging.getLogger(__name__)
Progress = Callable[["CopyReport"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """How far a copy has come. ``digest`` is SHA-256 over everything compared, in order, and found the same."""

    phase: str
    backend: str
    containers: int
    entries: int
    rows: int
    objects: int
    removed: int
    verified: int
    digest: str


class Copying:
    """Copies of routes, for one tenant's scope (or for any tenant, for that of ``t_system``)."""

    def __init__(self, registry: Registry, *, stores: Stores) -> None:
        self._registry = registry
        self._stores = stores

    async def run(
        self,
        key: RouteKey,
        target: Target,
        *,
        rationale: str,
        rollback_s: float,
        settle_s: float | None,
        progress: Progress | None,
    ) -> CopyReport:
        """Copy to ``target`` and switch, or go on with a copy there that was interrupted. See ``routes.copy``."""
        _check_times(rollback_s, settle_s)
        self._check_copied(target, key.kind)
        tally = Tally()

        def report(phase: str) -> CopyReport:
            """How far it is."""
            current = CopyReport(
                phase=phase,
                backend=target.backend,
                containers=tally.containers,
                entries=tally.entries,
                rows=tally.rows,
                objects=tally.objects,
                removed=tally.removed,
                verified=tally.verified,
                digest=tally.digest,
            )
            if progress is not None:
                progress(current)
            return current

        async with AsyncExitStack() as stack:
            backends = self._stores.backends
            # First: nothing is begun towards a place that cannot be reached.
            other = await stack.enter_async_context(backends.use(target, kind=key.kind))
            hold = Hold(self._stores, await self._begun(key, target, rationale=rationale))
            source = await stack.enter_async_context(backends.use(hold.route.target, kind=key.kind))
            mover = Mover(self._stores, hold, source, other, tally=tally)
            try:
                if hold.phase is CopyPhase.BACKFILL:
                    await mover.move(lambda: report("backfill"), still=False)
                    hold.route = await self._registry.commit(settle_copy(hold.route, by=self._registry.by()))
                report("settle")
                await self._wait_for_writers(hold, settle_s)
                await mover.settle(lambda: report("settle"))
                finish = finish_copy(hold.route, rollback_s=rollback_s, by=self._registry.by())
                await self._registry.commit(finish)
            except BaseException:
                await self._let_writes_go_on(hold)
                raise
        return report("done")

    async def _wait_for_writers(self, hold: Hold, settle_s: float | None) -> None:
        """Return when nobody can write any more by the route as it was."""
        await self._stores.sleep(STALENESS_S_MAX + WRITE_S_MAX if settle_s is None else settle_s)
        while self._stores.writes_before(hold.route):
            await self._stores.sleep(SETTLE_POLL_S)

    async def _let_writes_go_on(self, hold: Hold) -> None:
        """A copy that ends with an error while writes wait goes back to filling, as far as that can be done now."""
        try:
            route = await self._registry.newest(hold.route.key)
            # The version after ours is ours as well, if the answer to the settling was lost.
            if route is None or route.version - hold.route.version not in {0, 1}:
                return
            if route.copy is not None and route.copy.phase is CopyPhase.SETTLE:
                await self._registry.commit(unsettle_copy(route, by=self._registry.by()))
        except PerdureError as exc:
            _log.warning("a copy failed, and writes wait until it is abandoned in a while (%s)", exc.code)

    async def abandon(self, key: RouteKey) -> Route:
        """Go on with the old backend; what was copied stays in the other one and is used by a later copy."""
        return await self._registry.commit(abandon_copy(await self._existing(key), by=self._registry.by()))

    async def way_back(self, key: RouteKey) -> Target:
        """The old backend of a copy that is done. Raises ``IllegalTransition`` when the time for going back is over."""
        route = await self._existing(key)
        copy = route.copy
        if copy is not None and copy.phase is not CopyPhase.DONE and copy.rollback_until is not None:
            return copy.other  # it was begun in time
        if copy is None or copy.phase is not CopyPhase.DONE or copy.rollback_until is None:
            raise IllegalTransition("there is no finished copy on this route to go back from")
        if self._stores.environment.clock.now() > copy.rollback_until:
            raise IllegalTransition(f"going back was possible until {copy.rollback_until.isoformat()}; copy it instead")
        return copy.other

    async def _begun(self, key: RouteKey, target: Target, *, rationale: str) -> Route:
        route = await self._registry.newest(key)
        if route is None or route.deleted:
            route = await self._own_route(key, deleted=route)
        if route.default:
            raise Invalid(
                f"a default of {SYSTEM_TENANT} keeps what many tenants have; copy each tenant, which gives it a route "
                "of its own, and then switch the default"
            )
        if route.copy is not None and route.copy.phase is not CopyPhase.DONE:
            if route.copy.other == target:
                # Who had it before may be alive, and must not write any more what somebody has taken over.
                return await self._registry.commit(resume_copy(route, by=self._registry.by()))
            raise IllegalTransition(
                f"a copy to {route.copy.other.backend} with a config of its own is under way; go on with exactly that, "
                "or abandon it (perdure routes copy --abandon)"
            )
        self._check_copied(route.target, key.kind)
        if route.target == target:
            raise Invalid(f"the route leads there already: {target.backend} with this config")
        return await self._registry.commit(begin_copy(route, target, rationale=rationale, by=self._registry.by()))

    def _check_copied(self, target: Target, kind: Kind) -> None:
        spec = self._stores.backends.check(target, kind=kind)
        if kind not in COPIED_KINDS:
            raise Unsupported(
                f"what {kind} keeps is not copied by this release; let what is open come to its end, switch the route "
                "(perdure routes switch --data-stays), and keep the old backend to read the past from",
                code=f"{kind}.not_copied",
                backend=spec.name,
            )
        if not spec.copies:
            raise Unsupported(
                f"what {spec.name} keeps has names of its own and cannot be copied as it is; export and import it "
                "(perdure turns export), or switch the route and let the past stay",
                code=f"{kind}.not_copied",
                backend=spec.name,
            )

    async def _own_route(self, key: RouteKey, *, deleted: Route | None) -> Route:
        """A route of the tenant's own to where the default leads, so that it can be led elsewhere alone."""
        space = make_space(tenant=key.tenant, mode=key.mode, env=key.env, project=key.project or "default")
        found = self._stores.routing.resolve(key.kind, space)
        if found.layer is not Layer.SYSTEM or key.project is not None:
            raise NotFound(f"there is no route of {key.kind} with exactly that key; see: perdure routes list")
        settings = RouteSettings(tier=found.route.tier, audit=found.route.audit)
        by = self._registry.by()
        if deleted is not None:
            return await self._registry.commit(revive_route(deleted, found.route.target, settings, by=by))
        new_id = self._stores.environment.ids.new()
        return await self._registry.commit(make_route(key, found.route.target, settings, route_id=new_id, by=by))

    async def _existing(self, key: RouteKey) -> Route:
        route = await self._registry.newest(key)
        if route is None or route.deleted:
            raise NotFound(f"there is no route of {key.kind} for {key.tenant} with that project and surface")
        return route


def _check_times(rollback_s: float, settle_s: float | None) -> None:
    if not 0 <= rollback_s <= ROLLBACK_S_MAX:
        raise Invalid(f"rollback_s is {rollback_s}; expected 0 to {ROLLBACK_S_MAX:.0f} (rollback_s_max)")
    if settle_s is not None and not 0 <= settle_s <= SETTLE_S_MAX:
        raise Invalid(f"settle_s is {settle_s}; expected 0 to {SETTLE_S_MAX:.0f} (settle_s_max), or None")
