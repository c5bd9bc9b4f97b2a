"""For whom and by whom something is done. Everything below a scope is of one tenant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from perdure.domain.container import PROJECT_DEFAULT, Space, check_part
from perdure.domain.ids import Mode, check_actor, check_env, check_mode, check_source, check_tenant, tenant_uuid
from perdure.errors import Invalid

SOURCE_DEFAULT: Final = "api:perdure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A tenant, who acts in it, and where the request came from; made by ``make_scope`` only.

    ``mode`` and ``env`` are the plane's own and never come from a request. ``project``, ``surface`` and ``app`` isolate
    what is kept in routed stores; the ledger isolates tenants. ``session``, ``request_id`` and ``trace_id`` are written
    into events and audit records, so that they can be found again.
    """

    tenant: str
    tenant_id: UUID
    actor: str
    user_id: UUID | None
    source: str
    mode: Mode
    env: str
    project: str = PROJECT_DEFAULT
    surface: str | None = None
    app: str | None = None
    session: str | None = None
    request_id: str | None = None
    trace_id: str | None = None

    @property
    def space(self) -> Space:
        """What isolates everything of this scope in routed stores."""
        return Space(
            tenant=self.tenant,
            mode=self.mode,
            env=self.env,
            project=self.project,
            surface=self.surface,
            app=self.app,
        )


def make_scope(
    tenant: str,
    *,
    actor: str,
    mode: str,
    env: str,
    user: UUID | str | None = None,
    source: str = SOURCE_DEFAULT,
    project: str = PROJECT_DEFAULT,
    surface: str | None = None,
    app: str | None = None,
    session: str | None = None,
    request_id: str | None = None,
    trace_id: str | None = None,
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
        project=check_part(project, what="a project"),
        surface=_optional_part(surface, what="a surface"),
        app=_optional_part(app, what="an app"),
        session=_optional_part(session, what="a session"),
        request_id=_optional_part(request_id, what="a request id"),
        trace_id=_optional_part(trace_id, what="a trace id"),
    )


def _optional_part(value: str | None, *, what: str) -> str | None:
    return None if value is None else check_part(value, what=what)


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
