"""Tenants and members in PostgreSQL, as the owner: rare, so that each call makes its own connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from perdure.adapters.postgres.dsns import pinned
from perdure.adapters.postgres.errors import translated
from perdure.adapters.postgres.statements import statement
from perdure.domain.ids import tenant_uuid
from perdure.errors import NotFound, Refused
from perdure.ports.tenants import TenantRecord

Connection: TypeAlias = psycopg.AsyncConnection[dict[str, Any]]


class PostgresTenants:
    """A ``TenantRegistry`` on the owner's DSN; without one each call raises ``Refused``."""

    def __init__(self, dsn: str | None) -> None:
        self._dsn = dsn

    async def add(self, slug: str, *, actor: str) -> bool:
        """Make a tenant; False when it exists already."""
        tenant_id = tenant_uuid(slug)
        given = {"tenant_id": tenant_id, "slug": slug}
        async with self._transaction() as connection:
            made = await _first(connection, "tenants/add", given)
            if made is None:
                return False
            await connection.execute(statement("tenants/add_sequence"), given)
            await _audit(connection, "TENANT_ADDED", tenant_id, actor, about=("TENANT", None), slug=slug)
            return True

    async def list(self, *, after: str, limit: int) -> Sequence[TenantRecord]:
        """Tenants by slug, from the first above ``after``, with their members."""
        async with self._transaction() as connection:
            cursor = await connection.execute(statement("tenants/list"), {"after": after, "limit": limit})
            return [TenantRecord.from_row(row) for row in await cursor.fetchall()]

    async def grant(self, user_id: UUID, *, slug: str, role: str, actor: str) -> bool:
        """Make a user a member, or change what as; False when that is so already. Raises ``NotFound``."""
        async with self._transaction() as connection:
            tenant_id = await _enter(connection, slug)
            given = {"user_id": user_id, "tenant_id": tenant_id, "role": role}
            if await _first(connection, "tenants/grant", given) is None:
                return False
            await _audit(connection, "MEMBER_GRANTED", tenant_id, actor, about=("USER", user_id), role=role)
            return True

    async def revoke(self, user_id: UUID, *, slug: str, actor: str) -> bool:
        """End a membership; False when there is none. Raises ``NotFound``."""
        async with self._transaction() as connection:
            tenant_id = await _enter(connection, slug)
            ended = await _first(connection, "tenants/revoke", {"user_id": user_id, "tenant_id": tenant_id})
            if ended is None:
                return False
            about = ("USER", user_id)
            await _audit(connection, "MEMBER_REVOKED", tenant_id, actor, about=about, role=ended["role"])
            return True

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        if self._dsn is None:
            raise Refused(
                "administering tenants needs the role perdure_owner and no DSN was given for it; pass owner_dsn= "
                "(on the command line: --owner-dsn)",
                code="missing_dsn",
            )
        # Not counted as writing: each change here is harmless to repeat, so a lost answer needs no other advice.
        with translated(writing=False):
            connection = await psycopg.AsyncConnection.connect(
                pinned(self._dsn), prepare_threshold=None, row_factory=dict_row
            )
            async with connection:
                yield connection


async def _enter(connection: Connection, slug: str) -> UUID:
    row = await _first(connection, "tenants/find", {"slug": slug})
    if row is None:
        raise NotFound(f"there is no tenant {slug}; add it with: perdure tenants add {slug}", tenant=slug)
    tenant_id: UUID = row["tenant_id"]
    return tenant_id


async def _first(connection: Connection, path: str, given: dict[str, Any]) -> dict[str, Any] | None:
    return await (await connection.execute(statement(path), given)).fetchone()


async def _audit(
    connection: Connection, action: str, tenant_id: UUID, actor: str, *, about: tuple[str, UUID | None], **context: str
) -> None:
    resource_type, resource_id = about
    await connection.execute(
        statement("tenants/audit"),
        {
            "tenant_id": tenant_id,
            "action": action,
            "resource_type": resource_type,
            "resource_id": resource_id if resource_id is not None else tenant_id,
            "actor": actor,
            "context": Jsonb(context),
        },
    )
