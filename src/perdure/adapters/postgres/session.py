"""Connections and the two ways they are used: one call that writes, and one snapshot that reads.

No session state: everything works through a pooler in transaction mode. The tenant is set in the transaction that
reads, or by the function that writes, and ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, TypeAlias
from uuid import UUID

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from perdure.adapters.postgres.dsns import pinned
from perdure.adapters.postgres.errors import RETRYABLE, translate, translated
from perdure.errors import BackendDown, Forbidden, Invalid

Row: TypeAlias = dict[str, Any]
Statement: TypeAlias = tuple[LiteralString, Mapping[str, Any]]
Connection: TypeAlias = psycopg.AsyncConnection[Row]

_ATTEMPTS_MAX = 5  # of a transaction that the database itself rolled back in favour of another
_ENTER: LiteralString = (
    "SELECT set_config('app.current_tenant_id', %(tenant_id)s, true), "
    "set_config('app.current_user_id', %(user_id)s, true), %(user_id)s = '' OR EXISTS ("
    "SELECT FROM perdure.user_tenants WHERE user_id = nullif(%(user_id)s, '')::uuid "
    "AND tenant_id = %(tenant_id)s::uuid) AS member"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Size and patience of a pool. ``timeout_s`` is how long a caller waits for a connection."""

    connections_min: int = 1
    connections_max: int = 10
    waiting_max: int = 10_000
    timeout_s: float = 30.0


class Session:
    """A pool of connections of one role to one database."""

    def __init__(self, dsn: str, *, settings: PoolSettings) -> None:
        self._settings = settings
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            pinned(dsn),
            connection_class=psycopg.AsyncConnection[Row],
            min_size=settings.connections_min,
            max_size=settings.connections_max,
            max_waiting=settings.waiting_max,
            timeout=settings.timeout_s,
            open=False,
            # Prepared statements belong to a server session, which a transaction pooler shares out.
            kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": dict_row},
        )

    async def open(self) -> None:
        """Open the first connection. Raises ``BackendDown`` when it cannot be made in time."""
        try:
            await self._pool.open(wait=True, timeout=self._settings.timeout_s)
        except psycopg.Error as exc:
            await self._pool.close()
            raise BackendDown("PostgreSQL does not answer; is it running, and is the DSN right?") from exc

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self, *, writing: bool, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """A connection in autocommit mode, for as long as the block lasts.

        ``timeout_s`` is how long one is waited for; that of the settings if it is None.
        """
        with _cancellable():
            with translated(writing=False):
                connection = await self._pool.getconn(timeout_s)
                while not _is_alive(connection):
                    # It died in the pool. Nothing was sent on it, so this is no outage yet, and no unknown outcome.
                    await self._pool.putconn(connection)
                    connection = await self._pool.getconn(timeout_s)
            try:
                with translated(writing=writing):
                    yield connection
            finally:
                if not _is_at_rest(connection):
                    # The pool would bring it to rest, and lose it for good if the caller is cancelled again meanwhile.
                    await connection.close()
                await self._pool.putconn(connection)

    async def call(self, statement: LiteralString, parameters: Mapping[str, Any]) -> Any:
        """Run one statement that writes, as one transaction, and return the only column of its only row.

        Tried again when the database rolled it back in favour of another. Raises ``OutcomeUnknown`` when the answer
        was lost.
        """
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            async with self.connection(writing=True) as connection:
                try:
                    cursor = await connection.execute(statement, parameters)
                    return _single(await cursor.fetchone())
                except psycopg.Error as exc:
                    if exc.sqlstate not in RETRYABLE or attempt == _ATTEMPTS_MAX:
                        raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def snapshot(
        self,
        tenant_id: UUID,
        user_id: UUID | None,
        statements: Sequence[Statement],
        *,
        binary: bool = False,
        timeout_s: float | None = None,
    ) -> list[list[Row]]:
        """Run reading statements of one tenant in one read-only snapshot, in one round trip.

        ``binary`` halves what is sent of bytes. Raises ``Forbidden`` when a user is named who is not a member.
        """
        context = {"tenant_id": str(tenant_id), "user_id": str(user_id) if user_id else ""}
        async with self.connection(writing=False, timeout_s=timeout_s) as connection:
            async with connection.pipeline():
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                entered = await connection.execute(_ENTER, context)
                cursors = [await connection.execute(sql, parameters, binary=binary) for sql, parameters in statements]
                await connection.execute("COMMIT")
            row = await entered.fetchone()
            if row is None or not row["member"]:
                raise Forbidden(f"user {user_id} is not a member of this tenant", code="not_a_member")
            return [await cursor.fetchall() for cursor in cursors]


async def call_joined(connection: Connection, statement: LiteralString, parameters: Mapping[str, Any]) -> Any:
    """As ``Session.call``, inside a savepoint of the transaction that is open on the caller's own connection.

    Raises ``Invalid`` for a connection on which no transaction can be open: what was written would be committed here.
    """
    if not isinstance(connection, psycopg.AsyncConnection):
        raise Invalid(f"connection= takes a psycopg AsyncConnection, not {type(connection).__name__}")
    status = connection.info.transaction_status
    if status == TransactionStatus.IDLE and connection.autocommit:
        raise Invalid("no transaction is open on this connection; begin one: async with connection.transaction():")
    if status == TransactionStatus.INERROR:
        raise Invalid("the transaction on this connection has failed and takes nothing more; roll it back first")
    try:
        # Two things at once. A caller's SET CONSTRAINTS ALL IMMEDIATE would have rows judged before the events that
        # announce them are written. And out of autocommit mode the first statement begins the transaction, which has
        # to be begun before the savepoint: psycopg would commit a block that finds none.
        await connection.execute("SET CONSTRAINTS perdure.no_silent_mutation DEFERRED")
        async with connection.transaction():
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(statement, parameters)
            return _single(await cursor.fetchone())
    except psycopg.Error as exc:
        raise translate(exc, writing=False) from exc


@contextmanager
def _cancellable() -> Iterator[None]:
    """Let no cancellation get lost that came during the block.

    The driver may answer one with an error of its own, or with a result that arrived at the same moment; whoever was
    cancelled, or whose time was over, would go on as if nothing had happened.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        yield
    except Exception as exc:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError from exc
        raise
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


def _is_at_rest(connection: Connection) -> bool:
    """Whether a connection can serve somebody else as it is."""
    pgconn = connection.pgconn
    return pgconn.transaction_status == TransactionStatus.IDLE and pgconn.pipeline_status == PipelineStatus.OFF


def _is_alive(connection: Connection) -> bool:
    """Whether an idle connection has not been closed by the other side, as far as this side was told: no round trip."""
    try:
        connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return not connection.closed


def _single(row: Row | None) -> Any:
    if row is None:
        raise AssertionError("a function call always returns a row")
    return next(iter(row.values()))
