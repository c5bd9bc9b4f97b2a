"""The outbox of one tenant: what is on its way out, and what is not."""

from __future__ import annotations

from uuid import UUID

from perdure.domain.ids import check_name
from perdure.domain.records import OutboxEntry
from perdure.domain.scope import Scope
from perdure.ports.ledger import Ledger
from perdure.ports.ledger_reads import LedgerReader


class TenantOutbox:
    """Reading the outbox of a tenant, and reviving its dead letters."""

    def __init__(self, scope: Scope, *, ledger: Ledger, reader: LedgerReader) -> None:
        self._scope = scope
        self._ledger = ledger
        self._reader = reader

    async def requeue(self, entry_id: UUID, *, reason: str) -> OutboxEntry:
        """Revive a dead letter: it is delivered again, with the same idempotency key and a fresh count of attempts.

        The audit trail keeps who did it and why. Raises ``NotFound``, and ``IllegalTransition`` for an entry that is
        not a DEAD_LETTER.
        """
        return await self._ledger.requeue(self._scope, entry_id, reason=check_name(reason))
