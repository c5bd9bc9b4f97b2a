"""What the plane needs of the place where routes are kept. One store serves one (mode, env)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from perdure.domain.route import HistoryPage, RegistrySnapshot, RouteChange, RouteEvent, RouteKey

EVENTS_RELAYED_MAX: Final = 100  # events of one acknowledgement: one commit of the narrowest engine


class RouteStore(Protocol):
    """The routing registry of one (mode, env) on one backend; consistency, failures and patience as ``LogStore``."""

    async def load(self, *, timeout_s: float) -> RegistrySnapshot:
        """Every route, tombstones included, with the registry's version before the reading began.

        A record that cannot be read is quarantined: reported in the snapshot, and the others are served. A registry
        that cannot be read is an error, never an empty snapshot. Fields that a newer release wrote are passed over.
        """
        ...

    async def version(self, *, timeout_s: float) -> int:
        """The registry's version: it grows with every change of any route; 0 before the first. One small read."""
        ...

    async def commit(self, change: RouteChange, *, timeout_s: float) -> int:
        """Write a route, its history entry and its event, and raise the registry's version, all or nothing.

        Returns the registry's new version. Raises ``StaleVersion`` unless the stored route has
        ``change.expected_version`` (0: there is none), with the version ``found`` in the detail. The same change again
        (same route, version and time) is acknowledged and not written twice. A route of another (mode, env) is
        ``Invalid``.
        """
        ...

    async def history(self, key: RouteKey, *, after: int, limit: int, timeout_s: float) -> HistoryPage:
        """The route's history from the first version above ``after``; kept for tombstones too."""
        ...

    async def unrelayed(self, *, limit: int, timeout_s: float) -> Sequence[RouteEvent]:
        """Events that nobody has yet acknowledged to have relayed, oldest first."""
        ...

    async def relayed(self, event_ids: Sequence[str], *, timeout_s: float) -> None:
        """Acknowledge that these events are in their streams. Unknown ids are fine; at most ``EVENTS_RELAYED_MAX``."""
        ...
