"""The outbox of all tenants, as the relay's role sees it: reads across tenants, writes through functions of one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, LiteralString
from uuid import UUID

from perdure.adapters.postgres.relay_hints import listen
from perdure.adapters.postgres.session import Row, Session
from perdure.adapters.postgres.statements import statement
from perdure.domain.canonical import json_bytes
from perdure.domain.records import OutboxEntry
from perdure.domain.run import OutboxStatus
from perdure.ports.relay import (
    Answer,
    DueTenant,
    EntryFilter,
    EntryPosition,
    LeasedEntry,
    ListedEntry,
    OutboxCount,
    OutboxStats,
    Outcome,
)

_BEFORE_ALL: Final = UUID(int=0)


class PostgresOutbox:
    """An ``OutboxStore`` over connections of the relay's role.

    ``listen_dsn`` is a DSN of the server itself, never of a pooler; without it there are no hints. ``actor`` and
    ``source`` stand on the events that deliveries write.
    """

    def __init__(self, session: Session, *, actor: str, source: str, listen_dsn: str | None = None) -> None:
        self._session = session
        self._actor = actor
        self._source = source
        self._listen_dsn = listen_dsn

    async def due_tenants(
        self, *, limit: int, effect_types: Sequence[str], after: UUID | None = None
    ) -> Sequence[DueTenant]:
        """See ``OutboxStore``."""
        rows = await self._read(
            statement("outbox/due_tenants"),
            {"limit": limit, "effect_types": [*effect_types], "after": after or _BEFORE_ALL},
        )
        return [DueTenant(**row) for row in rows]

    async def claim(
        self, tenant: DueTenant, *, worker: str, limit: int, lease_s: float, effect_types: Sequence[str]
    ) -> Sequence[LeasedEntry]:
        """See ``OutboxStore``."""
        claimed = await self._call(
            statement("outbox/claim"),
            tenant.tenant_id,
            worker=worker,
            limit=limit,
            lease_s=lease_s,
            effect_types=[*effect_types],
        )
        return [_leased(row, tenant.tenant) for row in claimed["entries"]]

    async def extend(self, tenant_id: UUID, leases: Mapping[UUID, UUID], *, lease_s: float) -> set[UUID]:
        """See ``OutboxStore``."""
        held = await self._call(
            statement("outbox/extend"),
            tenant_id,
            lease_s=lease_s,
            leases=[{"id": entry_id, "lock_token": token} for entry_id, token in leases.items()],
        )
        return {UUID(entry_id) for entry_id in held}

    async def finish(self, tenant_id: UUID, outcomes: Sequence[Outcome]) -> Sequence[Answer]:
        """See ``OutboxStore``."""
        answers = await self._call(
            statement("outbox/finish"), tenant_id, outcomes=[_outcome(outcome) for outcome in outcomes]
        )
        return [Answer(entry_id=UUID(answer["id"]), outcome=answer["outcome"]) for answer in answers]

    async def expired(self, *, limit: int) -> Sequence[LeasedEntry]:
        """See ``OutboxStore``."""
        rows = await self._read(statement("outbox/expired"), {"limit": limit})
        return [_leased(row, row["tenant"]) for row in rows]

    async def overdue_wait_tenants(self, *, limit: int) -> Sequence[DueTenant]:
        """See ``OutboxStore``."""
        rows = await self._read(statement("outbox/overdue_wait_tenants"), {"limit": limit})
        return [DueTenant(**row) for row in rows]

    async def end_overdue_waits(self, tenant_id: UUID, *, limit: int) -> int:
        """See ``OutboxStore``."""
        answer = await self._call(statement("outbox/end_overdue_waits"), tenant_id, limit=limit)
        return int(answer["ended"])

    async def find(self, entry_id: UUID, *, tenant_id: UUID | None = None) -> ListedEntry | None:
        """See ``OutboxStore``."""
        rows = await self._read(statement("outbox/find"), {"entry_id": entry_id, "tenant_id": tenant_id})
        return _listed(rows[0]) if rows else None

    async def list(self, which: EntryFilter, *, limit: int, after: EntryPosition | None) -> Sequence[ListedEntry]:
        """See ``OutboxStore``."""
        created_at, after_tenant_id, after_id = after or (None, None, None)
        rows = await self._read(
            statement("outbox/list"),
            {
                "tenant_id": which.tenant_id,
                "status": which.status,
                "effect_type": which.effect_type,
                "run_id": which.run_id,
                "created_at": created_at,
                "after_tenant_id": after_tenant_id,
                "after_id": after_id,
                "limit": limit,
            },
        )
        return [_listed(row) for row in rows]

    async def requeue(self, tenant_id: UUID, entry_id: UUID, *, actor: str, source: str, reason: str) -> OutboxEntry:
        """See ``OutboxStore``."""
        row = await self._call(
            statement("outbox/requeue"), tenant_id, id=entry_id, actor=actor, source=source, reason=reason
        )
        return OutboxEntry.from_row(row)

    async def prune(self, tenant_id: UUID, *, older_than_s: float, limit: int) -> int:
        """See ``OutboxStore``."""
        return int(await self._call(statement("outbox/prune"), tenant_id, older_than_s=older_than_s, limit=limit))

    async def stats(self, *, tenant_id: UUID | None = None) -> OutboxStats:
        """See ``OutboxStore``."""
        rows = await self._read(statement("outbox/stats"), {"tenant_id": tenant_id})
        ages = [row["oldest_due_s"] for row in rows if row["oldest_due_s"] is not None]
        return OutboxStats(
            at=rows[0]["at"],
            counts=tuple(
                OutboxCount(effect_type=row["event_type"], status=OutboxStatus(row["status"]), entries=row["entries"])
                for row in rows
                if row["status"] is not None
            ),
            due=sum(row["due"] for row in rows),
            oldest_due_s=max(ages, default=None),
        )

    async def tenants(self, *, after: UUID | None = None, limit: int) -> Sequence[DueTenant]:
        """See ``OutboxStore``."""
        rows = await self._read(statement("outbox/tenants"), {"after": after or _BEFORE_ALL, "limit": limit})
        return [DueTenant(**row) for row in rows]

    async def hints(self) -> AsyncGenerator[None, None]:
        """See ``OutboxStore``."""
        if self._listen_dsn is not None:
            async for hint in listen(self._listen_dsn):
                yield hint

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _call(self, verb: LiteralString, tenant_id: UUID, **arguments: object) -> Any:
        request = {"tenant_id": tenant_id, "actor": self._actor, "source": self._source} | arguments
        return await self._session.call(verb, {"request": json_bytes(request).decode()})

    async def _read(self, query: LiteralString, parameters: Mapping[str, Any]) -> Sequence[Row]:
        # One round trip. Plans must be right on tables never analysed, which look small enough to be scanned.
        async with self._session.connection(writing=False) as connection:
            async with connection.pipeline():
                await connection.execute("BEGIN READ ONLY")
                await connection.execute("SET LOCAL enable_seqscan = off")
                cursor = await connection.execute(query, parameters)
                await connection.execute("COMMIT")
            return await cursor.fetchall()


def _leased(row: Mapping[str, Any], tenant: str) -> LeasedEntry:
    token = row["lock_token"]
    return LeasedEntry(
        entry=OutboxEntry.from_row(row),
        lock_token=token if isinstance(token, UUID) else UUID(token),
        tenant=tenant,
    )


def _listed(row: Mapping[str, Any]) -> ListedEntry:
    return ListedEntry(tenant=row["tenant"], entry=OutboxEntry.from_row(row))


def _outcome(outcome: Outcome) -> dict[str, Any]:
    said: dict[str, Any] = {"id": outcome.entry_id, "lock_token": outcome.lock_token, "outcome": outcome.outcome}
    for name in ("result", "error", "retry_in_s", "duration_ms"):
        if (value := getattr(outcome, name)) is not None:
            said[name] = value
    return said | {"expired": True} if outcome.expired else said
