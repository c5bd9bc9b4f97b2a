"""Tables of one tenant's scope: JSON values under keys, with versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from perdure.core.paging import Paging
from perdure.core.stores import Stores
from perdure.domain.canonical import JsonValue
from perdure.domain.change_values import refuse_above
from perdure.domain.kinds import Kind
from perdure.domain.log import TTL_S_MAX
from perdure.domain.scope import Scope
from perdure.domain.store_audit import AUDITS_PAGE_DEFAULT, StoreAudit
from perdure.domain.table import (
    IfVersion,
    Row,
    RowsPage,
    TableDelete,
    TablePut,
    as_mapping,
    row_of,
    row_write,
    table_container,
)
from perdure.domain.versioned import ROW_WRITES_MAX, ROWS_GET_MAX, ROWS_PAGE_MAX, check_row_key
from perdure.errors import Invalid, NotFound

PAGE_ROWS_DEFAULT: Final = 100


class Tables:
    """Tables: every write is atomic and versioned, every page in byte order, every value exactly what was put."""

    def __init__(self, scope: Scope, *, stores: Stores) -> None:
        self._scope = scope
        self._stores = stores

    async def put(
        self,
        table: str,
        key: str,
        value: JsonValue,
        *,
        if_version: IfVersion = None,
        ttl_s: float | None = None,
        expires_at: datetime | None = None,
        timeout_s: float | None = None,
    ) -> Row:
        """Write a row; the row as it is now.

        ``if_version`` is the version that must be there (0: none), or the row that was read, else ``StaleVersion``.
        ``ttl_s`` seconds from now, or at ``expires_at``, it is gone. A table needs no making. Raises ``Invalid``,
        ``LimitExceeded`` (key above 512 bytes, value above 256 KiB), ``StaleVersion``, ``NoRoute`` and ``Unavailable``.
        """
        until = expiry(self._stores.environment.clock.now(), ttl_s=ttl_s, expires_at=expires_at)
        write = TablePut(key=key, value=value, if_version=if_version, expires_at=until)
        (row,) = await self.write(table, [write], timeout_s=timeout_s)
        assert row is not None, "a put returns its row"
        return row

    async def find(self, table: str, key: str, *, timeout_s: float | None = None) -> Row | None:
        """The row under a key, or None."""
        return (await self.get_many(table, [key], timeout_s=timeout_s)).get(key)

    async def get(self, table: str, key: str, *, timeout_s: float | None = None) -> Row:
        """The row under a key. Raises ``NotFound``."""
        row = await self.find(table, key, timeout_s=timeout_s)
        if row is None:
            raise NotFound(f"table {table} has no row {key[:80]!r} in this scope", table=table)
        return row

    async def get_many(self, table: str, keys: Sequence[str], *, timeout_s: float | None = None) -> Mapping[str, Row]:
        """The rows under up to ``rows_get_max`` (100) keys, by key; what is not there is left out."""
        container = table_container(self._scope.space, table)
        refuse_above("rows_get_max", ROWS_GET_MAX, len(keys))
        wanted = [check_row_key(key) for key in dict.fromkeys(keys)]
        if not wanted:
            return {}
        async with self._stores.reading(self._scope, Kind.TABLES, timeout_s=timeout_s) as call:
            return as_mapping(await call.backend.rows.get(container, wanted, timeout_s=call.timeout_s), table=table)

    async def delete(
        self, table: str, key: str, *, if_version: IfVersion = None, timeout_s: float | None = None
    ) -> None:
        """Remove a row. Without ``if_version`` it is fine that there is none; with it, ``StaleVersion`` as for puts."""
        await self.write(table, [TableDelete(key=key, if_version=if_version)], timeout_s=timeout_s)

    async def write(
        self, table: str, writes: Sequence[TablePut | TableDelete], *, timeout_s: float | None = None
    ) -> Sequence[Row | None]:
        """Put and delete up to ``row_writes_max`` (50) rows of different keys, all or none; None for deletions."""
        container = table_container(self._scope.space, table)
        if not writes:
            raise Invalid("a write has at least one row")
        refuse_above("row_writes_max", ROW_WRITES_MAX, len(writes))
        prepared = [row_write(write) for write in writes]
        operation = "delete" if all(isinstance(write, TableDelete) for write in writes) else "put"
        async with self._stores.writing(self._scope, container, operation, timeout_s=timeout_s) as call:
            rows = await call.backend.rows.write(container, prepared, audit=call.audit, timeout_s=call.timeout_s)
        return [None if row is None else row_of(row, table=table) for row in rows]

    async def query(
        self,
        table: str,
        *,
        prefix: str = "",
        cursor: str | None = None,
        limit: int = PAGE_ROWS_DEFAULT,
        reverse: bool = False,
        timeout_s: float | None = None,
    ) -> RowsPage:
        """Rows whose keys begin with ``prefix``, in the order of the keys' UTF-8 bytes (or the other way round).

        At most ``limit`` (up to 500), fewer where their values are large; only ``next_cursor`` says whether there are
        more. Rows that nobody touches meanwhile come exactly once over all pages.
        """
        container = table_container(self._scope.space, table)
        refuse_above("rows_page_max", ROWS_PAGE_MAX, limit)
        paging = Paging(self._scope, "rows", container, prefix, reverse, cursor=cursor, limit=limit)
        async with self._stores.reading(self._scope, Kind.TABLES, timeout_s=timeout_s) as call:
            page = await call.backend.rows.query(
                container,
                prefix=prefix,
                after=paging.text(),
                limit=limit,
                reverse=reverse,
                timeout_s=call.timeout_s,
            )
        rows = tuple(row_of(row, table=table) for row in page.rows)
        following = paging.cursor_after((rows[-1].key,)) if page.more and rows else None
        return RowsPage(items=rows, next_cursor=following)

    async def audits(
        self, table: str, *, after: UUID | None = None, limit: int = AUDITS_PAGE_DEFAULT
    ) -> Sequence[StoreAudit]:
        """Records of writes to a table whose route keeps them (``audit="writes"``), oldest first."""
        container = table_container(self._scope.space, table)
        async with self._stores.reading(self._scope, Kind.TABLES) as call:
            return await call.backend.rows.audits(container, after=after, limit=limit, timeout_s=call.timeout_s)


def expiry(now: datetime, *, ttl_s: float | None, expires_at: datetime | None) -> datetime | None:
    """When something expires that is given a lifetime, an end, or neither. Raises ``Invalid``."""
    if ttl_s is None:
        if expires_at is not None and expires_at.tzinfo is None:
            raise Invalid("expires_at needs a zone, as in datetime.now(UTC)")
        return expires_at
    if expires_at is not None:
        raise Invalid("a lifetime and an end were given; give ttl_s or expires_at")
    if not 0 < ttl_s <= TTL_S_MAX:
        raise Invalid(f"ttl_s is {ttl_s}; expected more than 0 and at most {TTL_S_MAX} (ttl_s_max)")
    return now + timedelta(seconds=ttl_s)
