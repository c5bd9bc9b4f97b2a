"""A route: which backend keeps a kind for a tenant. The only way a backend is ever selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, TypeAlias
from uuid import UUID

from perdure.domain.container import check_part
from perdure.domain.ids import Mode, check_env, check_mode, check_tenant
from perdure.domain.kinds import Kind, check_routed_kind
from perdure.domain.row import FromRow, Instant

SYSTEM_TENANT: Final = "t_system"  # the control plane: holds the defaults, may administer every tenant's routes
RATIONALE_CHARS_MAX: Final = 2_000  # a paragraph that says why, not a report
COST_NOTES_CHARS_MAX: Final = 2_000  # as a rationale
CONFIG_ENTRIES_MAX: Final = 20  # more than any backend has fields
CONFIG_VALUE_CHARS_MAX: Final = 1_024  # an address, a path or a reference, not a document

Tier: TypeAlias = Literal["free", "pro", "enterprise"]
TIERS: Final[tuple[Tier, ...]] = ("free", "pro", "enterprise")
AuditPolicy: TypeAlias = Literal["log", "writes"]
ConfigValue: TypeAlias = str | int | bool


class RouteEventType(StrEnum):
    """What is announced about a route."""

    CHANGED = "ROUTE_CHANGED"
    BACKEND_SWITCHED = "ROUTE_BACKEND_SWITCHED"


class CopyPhase(StrEnum):
    """How far a copy to another backend has come."""

    BACKFILL = "backfill"  # reads and writes are at the old backend; what is there is being copied
    SETTLE = "settle"  # writes wait; the rest is copied and everything is compared
    DONE = "done"  # the new backend serves; the old one can still be gone back to


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteKey:
    """What a route is for. ``project`` and ``surface`` None mean all of them; a surface needs its project."""

    kind: Kind
    tenant: str
    mode: Mode
    env: str
    project: str | None = None
    surface: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A backend and how to reach it. ``config`` holds references to secrets, never secrets."""

    backend: str
    config: Mapping[str, ConfigValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCopy:
    """A copy under way, or done and still reversible. ``other`` is the new backend, and once done the old one."""

    phase: CopyPhase
    other: Target
    started_at: Instant
    settled_at: Instant | None = None
    rollback_until: Instant | None = None
    rationale: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(FromRow):
    """A route, in the words of the registries that it comes from.

    ``version`` counts its changes from 1. ``previous_backend_type``, ``switch_rationale`` and ``last_switch_time`` tell
    of the last change of backend, and nothing else changes them. ``audit`` is where records of writes go: the log
    only, or also into the commit they describe (``writes``). ``default`` on a route of ``t_system`` lets it serve
    tenants that have none of this kind. ``deleted`` marks the tombstone of a route, which has a history but serves
    nobody.
    """

    route_id: UUID
    kind: Kind
    tenant: str
    mode: Mode
    env: str
    project: str | None = None
    surface: str | None = None
    backend: str
    config: Mapping[str, ConfigValue] = field(default_factory=dict)
    required: bool = True
    default: bool = False
    audit: AuditPolicy = "log"
    tier: Tier = "free"
    cost_notes: str | None = None
    version: int
    created_at: Instant
    updated_at: Instant
    updated_by: str
    previous_backend_type: str | None = None
    switch_rationale: str | None = None
    last_switch_time: Instant | None = None
    copy: RouteCopy | None = None
    deleted: bool = False

    @property
    def key(self) -> RouteKey:
        """What the route is for."""
        return RouteKey(
            kind=self.kind,
            tenant=self.tenant,
            mode=self.mode,
            env=self.env,
            project=self.project,
            surface=self.surface,
        )

    @property
    def target(self) -> Target:
        """Where the route leads."""
        return Target(backend=self.backend, config=self.config)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteHistory(FromRow):
    """One change of a route: who, when, why, from what and to what. Append-only, one entry a version."""

    route_id: UUID
    version: int
    action: str
    actor: str
    occurred_at: Instant
    rationale: str | None
    from_backend: str | None
    to_backend: str | None
    config_digest: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEvent(FromRow):
    """What is announced about a change of a route: kept with it, and relayed to the tenant's own stream afterwards.

    ``event_id`` follows from the route's id and version, so that relaying it twice announces it once.
    """

    event_id: str
    type: RouteEventType
    tenant: str
    route_id: UUID
    version: int
    kind: Kind
    action: str
    actor: str
    occurred_at: Instant
    backend_type: str
    previous_backend_type: str | None = None
    switch_rationale: str | None = None
    last_switch_time: Instant | None = None
    project: str | None = None
    surface: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChange:
    """Everything that one change of a route writes, in one commit. ``expected_version`` 0: there is no such route."""

    route: Route
    expected_version: int
    history: RouteHistory
    event: RouteEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A record of the registry that cannot be read. ``where`` finds it; what it said is not shown."""

    where: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySnapshot:
    """All routes of a (mode, env), tombstones included, as of one version of the registry."""

    version: int
    routes: Sequence[Route]
    quarantined: Sequence[Quarantined] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """History of a route, oldest first."""

    entries: Sequence[RouteHistory]
    more: bool


def make_route_key(
    kind: str,
    tenant: str,
    *,
    mode: str,
    env: str,
    project: str | None = None,
    surface: str | None = None,
) -> RouteKey:
    """A key whose every part was checked. Raises ``Invalid``, ``LimitExceeded``."""
    return RouteKey(
        kind=check_routed_kind(kind),
        tenant=check_tenant(tenant),
        mode=check_mode(mode),
        env=check_env(env),
        project=None if project is None else check_part(project, what="a project"),
        surface=None if surface is None else check_part(surface, what="a surface"),
    )
