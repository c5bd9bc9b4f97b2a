"""What the plane needs to administer tenants and their members. It is done as the owner, outside any tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from perdure.domain.row import FromRow, Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(FromRow):
    """A user of a tenant, and as what."""

    user_id: UUID
    role: str
    created_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRecord(FromRow):
    """A tenant and its members."""

    tenant_id: UUID
    slug: str
    created_at: Instant
    members: tuple[Member, ...] = field(default=())


class TenantRegistry(Protocol):
    """Tenants and members. Each change is one transaction with its entry in the audit trail; repeats are harmless."""

    async def add(self, slug: str, *, actor: str) -> bool:
        """Make a tenant; False when it exists already. The trail says TENANT_ADDED."""
        ...

    async def list(self, *, after: str, limit: int) -> Sequence[TenantRecord]:
        """Tenants by slug, from the first above ``after``, with their members."""
        ...

    async def grant(self, user_id: UUID, *, slug: str, role: str, actor: str) -> bool:
        """Make a user a member, or change what as; False when that is so already. The trail says MEMBER_GRANTED.

        Raises ``NotFound`` for an unknown tenant.
        """
        ...

    async def revoke(self, user_id: UUID, *, slug: str, actor: str) -> bool:
        """End a membership; False when there is none. The trail says MEMBER_REVOKED. Raises ``NotFound``."""
        ...
