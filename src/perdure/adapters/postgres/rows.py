"""Tables and blackboards on PostgreSQL: each write is one call of one function, each read one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from perdure.adapters.postgres.audits import audit_json, read_audits
from perdure.adapters.postgres.containers import OfPlane, Place, read_mark
from perdure.adapters.postgres.patience import Calls
from perdure.adapters.postgres.session import Session
from perdure.adapters.postgres.statements import statement
from perdure.domain.container import Container
from perdure.domain.ids import tenant_uuid
from perdure.domain.kinds import Kind
from perdure.domain.store_audit import StoreAudit
from perdure.domain.versioned import ROWS_PAGE_BYTES_MAX, PutRow, RowPage, RowWrite, VersionedRow, prefix_end
from perdure.errors import StaleVersion
from perdure.ports import row_rules
from perdure.ports.environment import Environment
from perdure.ports.patience import Sleep

REMOVALS_MAX: Final = 5_000  # rows removed by one transaction, which keeps writers of new rows waiting meanwhile


class PostgresRows:
    """A ``RowStore`` over a session of the app role."""

    def __init__(
        self,
        session: Session,
        *,
        mode: str,
        env: str,
        environment: Environment,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._calls = Calls(session, environment=environment, sleep=sleep)
        self._plane = OfPlane(mode=mode, env=env)

    async def get(self, rows: Container, keys: Sequence[str], *, timeout_s: float) -> Mapping[str, VersionedRow]:
        """As the port promises."""
        place = self._plane.place(rows)
        wanted = _keys(place) | {"keys": list(row_rules.check_rows_get(keys))}
        if not keys:
            return {}
        ((*found,),) = await self._calls.read(
            place.tenant_id, [(statement("rows/get"), wanted)], deadline=self._calls.deadline(timeout_s)
        )
        return {row["key"]: msgspec.convert(row, VersionedRow) for row in found}

    async def write(
        self,
        rows: Container,
        writes: Sequence[RowWrite],
        *,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Sequence[VersionedRow | None]:
        """As the port promises."""
        place = self._plane.place(rows)
        row_rules.check_row_writes(writes)
        # In one order for all writers, so that none waits for another that waits for it.
        ordered = sorted(writes, key=lambda write: write.key)
        expected = [write.expected for write in ordered]
        result = await self._calls.write(
            statement("rows/write"),
            {
                **_named(place),
                "keys": [write.key for write in ordered],
                "values": [write.value if isinstance(write, PutRow) else None for write in ordered],
                "expires": [write.expires_at if isinstance(write, PutRow) else None for write in ordered],
                "versions": [None if state is None else state.version for state in expected],
                "incarnations": [None if state is None else state.incarnation for state in expected],
                "audit": audit_json(audit),
            },
            deadline=self._calls.deadline(timeout_s),
        )
        if "stale" in result:
            raise _stale(result["stale"], result["version"])
        return [_written(write, result["rows"]) for write in writes]

    async def query(
        self,
        rows: Container,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int,
        reverse: bool = False,
        timeout_s: float,
    ) -> RowPage:
        """As the port promises."""
        place = self._plane.place(rows)
        row_rules.check_rows_query(prefix, after, limit)
        wanted = _keys(place) | {
            "start": prefix,
            "end": prefix_end(prefix),
            "after": after,
            "limit": limit,
            "bytes_max": ROWS_PAGE_BYTES_MAX,
        }
        query = statement("rows/query_reverse" if reverse else "rows/query")
        ((*found,),) = await self._calls.read(
            place.tenant_id, [(query, wanted)], deadline=self._calls.deadline(timeout_s)
        )
        more = bool(found) and found[0]["available"] > len(found)
        return RowPage(rows=[msgspec.convert(row, VersionedRow) for row in found], more=more)

    async def erase(self, rows: Container, *, timeout_s: float) -> int:
        """As the port promises."""
        place = self._plane.place(rows)
        deadline = self._calls.deadline(timeout_s)
        erased, more = 0, True
        while more:
            result = await self._calls.write(
                statement("rows/erase"), _keys(place) | {"limit": REMOVALS_MAX}, deadline=deadline
            )
            erased += result["erased"]
            more = result["more"]
        return erased

    async def containers(
        self,
        kind: Kind,
        tenant: str,
        *,
        user: str | None = None,
        after: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> tuple[Sequence[Container], str | None]:
        """As the port promises."""
        row_rules.check_containers_page(limit)
        tenant_id = tenant_uuid(tenant)
        wanted = {"tenant_id": tenant_id, "kind": kind, "user": user, "after": read_mark(after), "limit": limit + 1}
        ((*found,),) = await self._calls.read(
            tenant_id, [(statement("rows/containers"), wanted)], deadline=self._calls.deadline(timeout_s)
        )
        return self._plane.listed(tenant, found, limit=limit)

    async def restore(self, rows: Container, values: Sequence[VersionedRow], *, timeout_s: float) -> None:
        """As the port promises."""
        place = self._plane.place(rows)
        if not values:
            return
        row_rules.check_rows_restore(values)
        ordered = sorted(values, key=lambda row: row.key)
        await self._calls.write(
            statement("rows/restore"),
            {
                **_named(place),
                "keys": [row.key for row in ordered],
                "values": [row.value for row in ordered],
                "versions": [row.version for row in ordered],
                "incarnations": [row.incarnation for row in ordered],
                "expires": [row.expires_at for row in ordered],
                "created": [row.created_at for row in ordered],
                "updated": [row.updated_at for row in ordered],
            },
            deadline=self._calls.deadline(timeout_s),
        )

    async def sweep(self, *, limit: int, timeout_s: float) -> int:
        """As the port promises."""
        deadline = self._calls.deadline(timeout_s)
        return int(await self._calls.write(statement("rows/sweep"), {"limit": limit}, deadline=deadline))

    async def audits(
        self, rows: Container, *, after: UUID | None = None, limit: int, timeout_s: float
    ) -> Sequence[StoreAudit]:
        """As the port promises."""
        place = self._plane.place(rows)
        return await read_audits(self._calls, place, after=after, limit=limit, deadline=self._calls.deadline(timeout_s))


def _keys(place: Place) -> dict[str, Any]:
    return {"tenant_id": place.tenant_id, "container_id": place.container_id}


def _named(place: Place) -> dict[str, Any]:
    return {"tenant_id": place.tenant_id, "tenant": place.tenant, "rows": place.name}


def _stale(key: str, found: int) -> StaleVersion:
    there = f"is at version {found}" if found else "is not there"
    return StaleVersion(
        f"row {ascii(key)[:80]} {there}, which is not what was expected; nothing was written. Read it again and decide",
        key=key,
        found=found,
    )


def _written(write: RowWrite, rows: Mapping[str, Mapping[str, Any]]) -> VersionedRow | None:
    if not isinstance(write, PutRow):
        return None
    row = rows[write.key]
    return VersionedRow(
        key=write.key,
        value=write.value,
        version=row["version"],
        incarnation=row["incarnation"],
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
        expires_at=write.expires_at,
    )
