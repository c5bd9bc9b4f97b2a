"""The routing registry over a document driver: one partition, so that a change of a route is one commit.

The partition holds the registry's version, the routes, their history and the events that wait to be relayed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from perdure.adapters.documents import keys
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.route_documents import (
    KeptHistory,
    change_puts,
    kept_event,
    kept_history,
    kept_route,
)
from perdure.domain.route import (
    HistoryPage,
    Quarantined,
    RegistrySnapshot,
    Route,
    RouteChange,
    RouteEvent,
    RouteHistory,
    RouteKey,
)
from perdure.errors import Corrupt, Invalid, LimitExceeded, StaleVersion, TimedOut
from perdure.ports.documents import SCAN_DOCUMENTS_MAX, Document, Expect, ExpectationFailed, Remove
from perdure.ports.routes import EVENTS_RELAYED_MAX


class DocumentRoutes:
    """The registry of one (mode, env)."""

    def __init__(self, driver: ResilientDriver, *, mode: str, env: str) -> None:
        self._driver = driver
        self._mode = mode
        self._env = env
        self._partition = keys.routes_partition(mode, env)

    async def load(self, *, timeout_s: float) -> RegistrySnapshot:
        """The version, and then every route: a change in between is seen again by who compares versions."""
        patience = self._driver.patience(timeout_s)
        version = await self.version(timeout_s=patience.left_s)
        routes: list[Route] = []
        quarantined: list[Quarantined] = []
        async for document in self._all(keys.routes_range(), timeout_s=patience.left_s):
            match kept_route(document):
                case Route() as route:
                    routes.append(route)
                case problem:
                    quarantined.append(problem)
        return RegistrySnapshot(version=version, routes=routes, quarantined=quarantined)

    async def version(self, *, timeout_s: float) -> int:
        """One get."""
        sort = keys.REGISTRY_VERSION
        found = await self._driver.get(self._partition, [sort], timeout_s=timeout_s)
        return found[sort].version if sort in found else 0

    async def commit(self, change: RouteChange, *, timeout_s: float) -> int:
        """One get and one commit; both again when another route was changed in between."""
        self._check(change)
        patience = self._driver.patience(timeout_s)
        while True:
            try:
                return await self._attempt(change, timeout_s=patience.left_s)
            except ExpectationFailed as exc:
                if not await patience.pause():
                    raise TimedOut(
                        f"other routes were changed all the time for {timeout_s} s, and this change was not written; "
                        "try again",
                        timeout_s=timeout_s,
                    ) from exc

    async def history(self, key: RouteKey, *, after: int, limit: int, timeout_s: float) -> HistoryPage:
        """A scan of the route's entries, one more than asked for."""
        _check_limit(limit)
        bounds = keys.history_range(key, after_version=max(after, 0))
        entries: list[RouteHistory] = []
        async with aclosing(self._all(bounds, first=limit + 1, timeout_s=timeout_s)) as documents:
            async for document in documents:
                if len(entries) == limit:
                    return HistoryPage(entries=entries, more=True)
                entries.append(kept_history(document).entry)
        return HistoryPage(entries=entries, more=False)

    async def unrelayed(self, *, limit: int, timeout_s: float) -> Sequence[RouteEvent]:
        """A scan of the events that wait."""
        _check_limit(limit)
        events: list[RouteEvent] = []
        async with aclosing(self._all(keys.outbox_range(), first=limit, timeout_s=timeout_s)) as documents:
            async for document in documents:
                events.append(kept_event(document))
                if len(events) == limit:
                    break
        return events

    async def relayed(self, event_ids: Sequence[str], *, timeout_s: float) -> None:
        """A scan from the oldest event until all are found, and one commit."""
        if len(event_ids) > EVENTS_RELAYED_MAX:
            raise LimitExceeded(
                f"{len(event_ids)} events acknowledged at once; at most {EVENTS_RELAYED_MAX} (events_relayed_max)",
                limit="events_relayed_max",
                allowed=EVENTS_RELAYED_MAX,
                actual=len(event_ids),
            )
        patience = self._driver.patience(timeout_s)
        wanted: set[str | None] = set(event_ids)
        removals: list[Remove] = []
        if not wanted:
            return
        waiting = self._all(keys.outbox_range(), first=len(wanted), timeout_s=patience.left_s)
        async with aclosing(waiting) as documents:
            async for document in documents:
                if (event_id := _event_id(document)) in wanted:
                    wanted.discard(event_id)
                    removals.append(Remove(sort=document.sort, expect=Expect.ANY))
                if not wanted:
                    break
        if removals:
            await self._driver.commit(self._partition, removals, timeout_s=patience.left_s)

    async def _attempt(self, change: RouteChange, *, timeout_s: float) -> int:
        patience = self._driver.patience(timeout_s)
        key = change.route.key
        sorts = keys.REGISTRY_VERSION, keys.route_sort(key), keys.history_sort(key, change.route.version)
        found = await self._driver.get(self._partition, sorts, timeout_s=patience.left_s)
        registry, route, history = (found.get(sort) for sort in sorts)
        if history is not None and _is_same(kept := kept_history(history), change):
            return kept.registry_version
        actual = 0 if route is None else route.version
        if actual != change.expected_version:
            raise StaleVersion(
                f"a change expected version {change.expected_version} of a route and found {actual} (0: none); nothing "
                "was written, read the route and decide again",
                route_id=str(change.route.route_id),
                expected=change.expected_version,
                found=actual,
            )
        puts = change_puts(change, route=route, registry=registry)
        await self._driver.commit(self._partition, puts, timeout_s=patience.left_s)
        return 1 + (0 if registry is None else registry.version)

    def _check(self, change: RouteChange) -> None:
        route = change.route
        if (route.mode, route.env) != (self._mode, self._env):
            raise Invalid(
                f"a route of ({route.mode}, {route.env}) in the registry of ({self._mode}, {self._env}); it has its own"
            )
        if route.version != change.expected_version + 1 or change.history.version != route.version:
            raise Invalid(
                f"a change of version {change.expected_version} makes the next one, not {route.version}; history tells "
                "of the version that was made"
            )

    async def _all(
        self, bounds: keys.Range, *, first: int = SCAN_DOCUMENTS_MAX, timeout_s: float
    ) -> AsyncGenerator[Document, None]:
        """Documents of a range, page after page, the first one of the size that will do in most cases."""
        patience = self._driver.patience(timeout_s)
        start, end = bounds
        limit = min(first, SCAN_DOCUMENTS_MAX)
        more = True
        while more:
            page = await self._driver.scan(
                self._partition, start=start, end=end, limit=limit, timeout_s=patience.left_s
            )
            for document in page.documents:
                yield document
                start = keys.after(document.sort)
            more = page.more


def _is_same(kept: KeptHistory, change: RouteChange) -> bool:
    # All of it: two rivals may have changed the same version in the same microsecond.
    return kept.entry == change.history


def _event_id(document: Document) -> str | None:
    try:
        return kept_event(document).event_id
    except Corrupt:
        return None  # nobody can have relayed what nobody can read; ``unrelayed`` reports it


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise Invalid(f"a page of {limit}; ask for at least 1")
