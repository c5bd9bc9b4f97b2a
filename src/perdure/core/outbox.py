"""The outbox of all tenants in the hands of an operator: what is stuck, reviving it, and clearing what is done."""

from __future__ import annotations

import math
from typing import Final
from uuid import UUID

from perdure.domain import limits
from perdure.domain.cursor import decode_cursor, encode_cursor
from perdure.domain.ids import check_actor, check_effect_type, check_name, check_source, tenant_uuid
from perdure.domain.records import OutboxEntry, Page
from perdure.domain.run import OutboxStatus
from perdure.errors import Invalid, LimitExceeded, NotFound
from perdure.ports.relay import EntryFilter, EntryPosition, ListedEntry, OutboxStats, OutboxStore

PRUNE_AFTER_S: Final = 86_400.0
"""How long delivered entries are kept by default: a day, for whoever looks at what happened."""

PRUNE_BATCH_MAX: Final = 1_000  # rows of one transaction of one tenant
TENANTS_PAGE: Final = 500

_EVERYONE: Final = UUID(int=0)


class Outbox:
    """Lists, revives and prunes; made for the command line, across tenants. ``actor`` stands in the audit trail."""

    def __init__(self, store: OutboxStore, *, actor: str, source: str) -> None:
        self._store = store
        self._actor = check_actor(actor)
        self._source = check_source(source)

    async def list(
        self,
        *,
        tenant: str | None = None,
        status: OutboxStatus | str | None = None,
        effect_type: str | None = None,
        run_id: UUID | None = None,
        limit: int = limits.PAGE_SIZE_DEFAULT,
        cursor: str | None = None,
    ) -> Page[ListedEntry]:
        """Entries, newest first, at most ``limit`` of them; ``cursor`` goes on where a page ended.

        Raises ``Invalid`` for a cursor of another list and ``LimitExceeded`` for more than ``PAGE_SIZE_MAX``.
        """
        if not 1 <= limit <= limits.PAGE_SIZE_MAX:
            raise LimitExceeded(
                f"limit is {limit}; expected 1 to {limits.PAGE_SIZE_MAX} (page_size_max)",
                limit="page_size_max",
                allowed=limits.PAGE_SIZE_MAX,
                actual=limit,
            )
        which = EntryFilter(
            tenant_id=None if tenant is None else tenant_uuid(tenant),
            status=None if status is None else OutboxStatus(status),
            effect_type=None if effect_type is None else check_effect_type(effect_type),
            run_id=run_id,
        )
        query = f"outbox:{which.status}:{which.effect_type}:{which.run_id}"
        scope = which.tenant_id or _EVERYONE
        after = None if cursor is None else _position(decode_cursor(cursor, query=query, tenant_id=scope))
        found = list(await self._store.list(which, limit=limit + 1, after=after))
        shown, more = found[:limit], len(found) > limit
        last = shown[-1].entry if more else None
        keys = None if last is None else (last.created_at, last.tenant_id, last.id)
        return Page(
            items=tuple(shown),
            next_cursor=None if keys is None else encode_cursor(query, tenant_id=scope, keys=keys),
        )

    async def get(self, entry_id: UUID, *, tenant: str | None = None) -> ListedEntry:
        """One entry, of any tenant unless one is named. Raises ``NotFound``."""
        found = await self._store.find(entry_id, tenant_id=None if tenant is None else tenant_uuid(tenant))
        if found is None:
            raise NotFound(f"no outbox entry {entry_id}: it may be delivered and pruned; see: perdure outbox list")
        return found

    async def requeue(self, entry_id: UUID, *, reason: str, tenant: str | None = None) -> OutboxEntry:
        """Revive a dead letter: due at once, same idempotency key, fresh count of attempts; the audit trail says why.

        A run that it failed stays FAILED. Raises ``NotFound`` and ``IllegalTransition``.
        """
        found = await self.get(entry_id, tenant=tenant)
        return await self._store.requeue(
            found.entry.tenant_id, entry_id, actor=self._actor, source=self._source, reason=check_name(reason)
        )

    async def stats(self, *, tenant: str | None = None) -> OutboxStats:
        """How many entries there are, by type and status, how many are due, and since when."""
        return await self._store.stats(tenant_id=None if tenant is None else tenant_uuid(tenant))

    async def prune(self, *, older_than_s: float = PRUNE_AFTER_S, tenant: str | None = None) -> int:
        """Delete entries that were delivered ``older_than_s`` seconds ago or earlier; how many.

        Dead letters and failures stay. Repeats stay impossible: the idempotency key lives on in the effect.
        """
        if not (math.isfinite(older_than_s) and older_than_s >= 0):
            raise Invalid(f"older_than_s is {older_than_s}; expected seconds, 0 or more")
        if tenant is not None:
            return await self._prune(tenant_uuid(tenant), older_than_s)
        pruned, after = 0, None
        while page := await self._store.tenants(after=after, limit=TENANTS_PAGE):
            for each in page:
                pruned += await self._prune(each.tenant_id, older_than_s)
            after = page[-1].tenant_id
        return pruned

    async def _prune(self, tenant_id: UUID, older_than_s: float) -> int:
        pruned = 0
        while True:
            count = await self._store.prune(tenant_id, older_than_s=older_than_s, limit=PRUNE_BATCH_MAX)
            pruned += count
            if count < PRUNE_BATCH_MAX:
                return pruned


def _position(keys: tuple[object, ...]) -> EntryPosition:
    created_at, tenant_id, entry_id = keys
    # decode_cursor has checked that this is what we encoded.
    return created_at, tenant_id, entry_id  # type: ignore[return-value]
