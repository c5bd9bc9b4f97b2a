"""Tenants and their members, for those who run the plane."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from perdure.domain.change_values import refuse_above
from perdure.domain.ids import check_actor, check_tenant
from perdure.domain.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from perdure.errors import Invalid
from perdure.ports.tenants import TenantRecord, TenantRegistry

ACTOR_DEFAULT: Final = "system:perdure"
ROLE_DEFAULT: Final = "member"

_ROLE: Final = re.compile(r"[a-z][a-z0-9_-]{0,49}")


class Tenants:
    """Adding tenants and granting membership; needs the owner's DSN (the embedded plane has it)."""

    def __init__(self, registry: TenantRegistry) -> None:
        self._registry = registry

    async def add(self, slug: str, *, actor: str = ACTOR_DEFAULT) -> bool:
        """Make the tenant ``slug``; False when it exists already. In lab this happens at its first write by itself."""
        return await self._registry.add(check_tenant(slug), actor=check_actor(actor))

    async def list(self, *, after: str = "", limit: int = PAGE_SIZE_DEFAULT) -> tuple[TenantRecord, ...]:
        """Tenants by slug with their members; the next page is ``after`` the last slug of this one."""
        if limit < 1:
            raise Invalid(f"a page of {limit} tenants; at least 1 is expected")
        refuse_above("page_size_max", PAGE_SIZE_MAX, limit)
        return tuple(await self._registry.list(after=after, limit=limit))

    async def grant(self, user_id: UUID, slug: str, *, role: str = ROLE_DEFAULT, actor: str = ACTOR_DEFAULT) -> bool:
        """Make a user a member of a tenant, or change its role; False when that is so already. Raises ``NotFound``."""
        if _ROLE.fullmatch(role) is None:
            raise Invalid(f"{role[:80]!r} is not a role; a lower-case letter and up to 49 of a-z, 0-9, _ and -")
        return await self._registry.grant(user_id, slug=check_tenant(slug), role=role, actor=check_actor(actor))

    async def revoke(self, user_id: UUID, slug: str, *, actor: str = ACTOR_DEFAULT) -> bool:
        """End a user's membership of a tenant; False when there is none. Raises ``NotFound`` for an unknown tenant."""
        return await self._registry.revoke(user_id, slug=check_tenant(slug), actor=check_actor(actor))
