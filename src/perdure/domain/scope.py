"""For whom and by whom something is done. Everything below a scope is of one tenant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from perdure.domain.ids import Mode, check_actor, check_env, check_mode, check_source, check_tenant, tenant_uuid
from perdure.errors import Invalid

SOURCE_DEFAULT: Final = "api:perdure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A tenant, who acts in it, and where the request came from; made by ``make_scope`` only.

    ``mode`` and ``env`` are the plane's own and never come from a request.
    """

    tenant: str
    tenant_id: UUID
    actor: str
    user_id: UUID | None
    source: str
    mode: Mode
    env: str


def make_scope(
    tenant: str,
    *,
    actor: str,
    mode: str,
    env: str,
    user: UUID | str | None = None,
    source: str = SOURCE_DEFAULT,
) -> Scope:
    """A scope whose every part was checked. ``user`` is a UUID or its text. Raises ``Invalid``, ``LimitExceeded``."""
    return Scope(
        tenant=check_tenant(tenant),
        tenant_id=tenant_uuid(tenant),
        actor=check_actor(actor),
        user_id=_user_id(user),
        source=check_source(source),
        mode=check_mode(mode),
        env=check_env(env),
    )


def _user_id(user: UUID | str | None) -> UUID | None:
    if user is None or isinstance(user, UUID):
        return user
    try:
        parsed = UUID(user)
    except (ValueError, AttributeError, TypeError) as exc:
        raise Invalid("a user is a UUID, as in 0190f3c4-8a6e-7c1b-9d55-3f2e1a0b4c6d, or None") from exc
    if str(parsed) != user.lower():
        raise Invalid("a user is a UUID in its usual form with four hyphens, without braces or a prefix")
    return parsed
