"""The ledger's writes on PostgreSQL: each is one call of one function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString, cast
from uuid import UUID

import msgspec

from perdure.adapters.postgres.errors import from_sqlstate
from perdure.adapters.postgres.session import Connection, Session, call_joined
from perdure.domain.records import OutboxEntry
from perdure.domain.scope import Scope
from perdure.ports.ledger import JoinedConnection, Ledger

_COMMIT_ONE: Final[LiteralString] = "SELECT perdure.commit_change(%(tenant_id)s, %(tenant)s, %(user_id)s, %(change)s)"
_COMMIT_MANY: Final[LiteralString] = (
    "SELECT perdure.commit_changes(%(tenant_id)s, %(tenant)s, %(user_id)s, %(changes)s)"
)
_CLAIM: Final[LiteralString] = "SELECT perdure.claim_runs(%(request)s)"
_RENEW: Final[LiteralString] = "SELECT perdure.renew_run_lease(%(request)s)"
_REQUEUE: Final[LiteralString] = "SELECT perdure.requeue_outbox(%(request)s)"
_HINT: Final[LiteralString] = "SELECT pg_catalog.pg_notify('perdure_outbox', '')"
_COUNT_EVENTS: Final[LiteralString] = (
    "SELECT count(*) AS count FROM perdure.orchestration_events"
    " WHERE tenant_id = %(tenant_id)s AND id = ANY(%(event_ids)s)"
)


class PostgresLedger(Ledger):
    """Writes through the app role, which may execute these functions and nothing else."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def commit(
        self, scope: Scope, changes: Sequence[bytes], *, connection: JoinedConnection | None = None
    ) -> list[Mapping[str, Any]]:
        """As the port promises."""
        # Whose tenant it is comes from the scope and from nowhere else.
        parameters = {"tenant_id": scope.tenant_id, "tenant": scope.tenant, "user_id": scope.user_id}
        if len(changes) == 1:
            return [await self._call(_COMMIT_ONE, parameters | {"change": changes[0].decode()}, connection)]
        array = b"[%s]" % b",".join(changes)
        results = await self._call(_COMMIT_MANY, parameters | {"changes": array.decode()}, connection)
        return [_result(result) for result in results]

    async def _call(
        self, statement: LiteralString, parameters: Mapping[str, Any], connection: JoinedConnection | None
    ) -> Any:
        if connection is None:
            return await self._session.call(statement, parameters)
        return await call_joined(cast("Connection", connection), statement, parameters)

    async def are_recorded(self, scope: Scope, event_ids: Sequence[UUID]) -> bool:
        """As the port promises."""
        parameters = {"tenant_id": scope.tenant_id, "event_ids": list(event_ids)}
        ((row,),) = await self._session.snapshot(scope.tenant_id, scope.user_id, [(_COUNT_EVENTS, parameters)])
        return bool(row["count"] == len(event_ids))

    async def claim_runs(
        self, scope: Scope, *, worker: str, limit: int, lease_s: float, name: str | None
    ) -> list[Mapping[str, Any]]:
        """As the port promises."""
        wanted = {} if name is None else {"name": name}
        request = _request(scope, worker=worker, limit=limit, lease_s=lease_s, **wanted)
        return cast("list[Mapping[str, Any]]", await self._session.call(_CLAIM, request))

    async def renew_run_lease(self, scope: Scope, run_id: UUID, *, token: UUID, lease_s: float) -> bool:
        """As the port promises."""
        request = _request(scope, run_id=run_id, lock_token=token, lease_s=lease_s)
        return bool(await self._session.call(_RENEW, request))

    async def hint_effects(self) -> None:
        """As the port promises."""
        async with self._session.connection(writing=False) as connection:
            await connection.execute(_HINT)

    async def requeue(self, scope: Scope, entry_id: UUID, *, reason: str) -> OutboxEntry:
        """As the port promises."""
        request = _request(scope, id=entry_id, reason=reason, actor=scope.actor, source=scope.source)
        return OutboxEntry.from_row(await self._session.call(_REQUEUE, request))


def _request(scope: Scope, **values: object) -> dict[str, str]:
    # Whose tenant it is comes from the scope and from nowhere else.
    envelope = {"tenant_id": scope.tenant_id, "user_id": scope.user_id, **values}
    return {"request": msgspec.json.encode(envelope).decode()}


def _result(result: Mapping[str, Any]) -> Mapping[str, Any]:
    error = result.get("error")
    if error is None:
        return result
    return {
        "error": from_sqlstate(
            error["sqlstate"], error["message"], hint=error["hint"] or None, constraint=error["constraint"] or None
        )
    }
