"""The registry as something to change: one commit a change, with its audit record, and read again after it."""

from __future__ import annotations

import logging

from perdure.core.stores import Stores, audit_log
from perdure.domain.kinds import Kind
from perdure.domain.route import Route, RouteChange, RouteKey
from perdure.domain.route_changes import By
from perdure.domain.scope import Scope
from perdure.errors import PerdureError, Unavailable

_log = logging.getLogger(__name__)


class Registry:
    """Commits changes of routes for one scope's actor."""

    def __init__(self, scope: Scope, *, stores: Stores) -> None:
        self._scope = scope
        self._stores = stores

    async def commit(self, change: RouteChange) -> Route:
        """Commit a change made by ``domain.route_changes`` and read the registry again."""
        return await commit_change(self._stores, change)

    async def newest(self, key: RouteKey) -> Route | None:
        """The state of a route in the registry now, tombstones included; None if there never was one."""
        routing = self._stores.routing
        await routing.refresh()
        return routing.find_any(key)

    def by(self) -> By:
        """This scope's actor, now."""
        now = self._stores.environment.clock.now()
        return By(actor=self._scope.actor, at=now, request_id=self._scope.request_id)


async def commit_change(stores: Stores, change: RouteChange) -> Route:
    """Commit a change of a route, leave one audit record whatever becomes of it, and read the registry again.

    A change that was committed is a success even if the registry cannot be read then: this process writes nothing by
    what it knew before, and reads it again as soon as it can.
    """
    routing = stores.routing
    outcome = "cancelled"
    try:
        await routing.store.commit(change, timeout_s=stores.timeout_s)
        outcome = "ok"
    except Exception as exc:
        outcome = exc.code if isinstance(exc, PerdureError) else type(exc).__name__
        raise
    finally:
        # Until it is read again: whatever was answered, it may be there.
        routing.distrust()
        entry = change.history
        fields = {
            "kind": Kind.ROUTES.value,
            "operation": entry.action,
            "tenant": change.route.tenant,
            "route_kind": change.route.kind.value,
            "route_id": str(entry.route_id),
            "version": entry.version,
            "actor": entry.actor,
            "request_id": entry.request_id,
            "from_backend": entry.from_backend,
            "to_backend": entry.to_backend,
            "outcome": outcome,
        }
        audit_log.info("route %s: %s", entry.action, outcome, extra={"audit": fields})
    try:
        await routing.refresh()
    except Unavailable as exc:
        _log.warning("a route was changed, and the registry cannot be read just now (%s)", exc.code)
    return change.route
