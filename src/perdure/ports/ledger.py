"""What the plane needs of a ledger to write. Reading is in ``ledger_reads``, delivering in ``relay``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from perdure.domain.records import OutboxEntry
from perdure.domain.scope import Scope


class JoinedConnection(Protocol):
    """A psycopg AsyncConnection of the caller's own, on which a transaction of the caller's own is open."""

    async def commit(self) -> None:
        """Commit; Perdure never calls it."""
        ...

    async def rollback(self) -> None:
        """Roll back; Perdure never calls it."""
        ...


class Ledger(Protocol):
    """Writes: a change is one transaction, all of it or nothing, numbered densely per tenant."""

    async def commit(
        self, scope: Scope, changes: Sequence[bytes], *, connection: JoinedConnection | None = None
    ) -> list[Mapping[str, Any]]:
        """Commit changes of one tenant together, each given as the JSON of its rendered form.

        Returns one result a change, in order.

        A result is ``{"ok": {...}}`` (committed), ``{"recorded": {...}}`` (what the change names exists already and
        nothing was written), or ``{"error": PerdureError}``. One change alone raises its error. With ``connection``
        the rows are written in the caller's transaction, inside a savepoint, and nothing is committed.

        Raises ``OutcomeUnknown`` when the answer was lost after the changes were sent.
        """
        ...

    async def are_recorded(self, scope: Scope, event_ids: Sequence[UUID]) -> bool:
        """Whether all of these events were committed: how a change whose answer was lost is looked up."""
        ...

    async def claim_runs(
        self, scope: Scope, *, worker: str, limit: int, lease_s: float, name: str | None
    ) -> list[Mapping[str, Any]]:
        """Lease RUNNING runs that nobody holds, oldest first: ``{"run": row, "steps": [rows]}`` each."""
        ...

    async def renew_run_lease(self, scope: Scope, run_id: UUID, *, token: UUID, lease_s: float) -> bool:
        """Prolong a lease (``lease_s`` > 0) or give it up (0); False when it is no longer held."""
        ...

    async def hint_effects(self) -> None:
        """Wake relays that listen, of every tenant; nothing depends on it."""
        ...

    async def requeue(self, scope: Scope, entry_id: UUID, *, reason: str) -> OutboxEntry:
        """Revive a dead letter. Raises ``NotFound`` and ``IllegalTransition``."""
        ...
