"""From the state of a route to a change of it: the new state, its history entry and its event, as one value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from perdure.domain.canonical import content_digest
from perdure.domain.ids import check_actor, check_text
from perdure.domain.route import (
    COST_NOTES_CHARS_MAX,
    RATIONALE_CHARS_MAX,
    SYSTEM_TENANT,
    TIERS,
    AuditPolicy,
    CopyPhase,
    Route,
    RouteChange,
    RouteCopy,
    RouteEvent,
    RouteEventType,
    RouteHistory,
    RouteKey,
    Target,
    Tier,
)
from perdure.errors import IllegalTransition, Invalid

# One microsecond: what every store keeps of a time.
_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """What a person decides about a route besides its target; None keeps what is there, or the default."""

    tier: Tier | None = None
    cost_notes: str | None = None
    required: bool | None = None
    default: bool | None = None
    audit: AuditPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRoute:
    """A route as somebody wants it to be."""

    key: RouteKey
    target: Target
    settings: RouteSettings

    def is_met_by(self, route: Route) -> bool:
        """Whether a route is like that already."""
        settings = {name: getattr(self.settings, name) for name in RouteSettings.__slots__}
        return (
            not route.deleted
            and route.key == self.key
            and route.backend == self.target.backend
            and dict(route.config) == dict(self.target.config)
            and all(value is None or getattr(route, name) == value for name, value in settings.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who changes a route, when, and in which request."""

    actor: str
    at: datetime
    request_id: str | None = None


def set_route(old: Route | None, wanted: WantedRoute, *, data_stays: bool, route_id: UUID, by: By) -> RouteChange:
    """The change that makes a route, makes it again, or gives it other settings or another config.

    ``route_id`` is for a new one. Raises ``Invalid`` for another backend, and for another config unless ``data_stays``
    says that nothing is moved there.
    """
    key, target, settings = wanted.key, wanted.target, wanted.settings
    if old is None:
        return make_route(key, target, settings, route_id=route_id, by=by)
    if old.deleted:
        return revive_route(old, target, settings, by=by)
    if old.backend == target.backend and dict(old.config) != dict(target.config) and not data_stays:
        raise Invalid(
            f"another config may lead {key.kind} of {key.tenant} to another place, and what is kept stays where it is; "
            "say that this is meant with data_stays (--data-stays), or use: perdure routes copy"
        )
    return edit_route(old, target, settings, by=by)


def make_route(key: RouteKey, target: Target, settings: RouteSettings, *, route_id: UUID, by: By) -> RouteChange:
    """The first version of a route. Raises ``Invalid``, ``LimitExceeded``."""
    _check_place(key, default=bool(settings.default))
    route = Route(
        route_id=route_id,
        kind=key.kind,
        tenant=key.tenant,
        mode=key.mode,
        env=key.env,
        project=key.project,
        surface=key.surface,
        backend=target.backend,
        config=dict(target.config),
        version=1,
        created_at=by.at,
        updated_at=by.at,
        updated_by=by.actor,
    )
    return _change(None, _settled(route, settings), "set", by, rationale=None)


def revive_route(old: Route, target: Target, settings: RouteSettings, *, by: By) -> RouteChange:
    """A deleted route, made again under its old id, with its old history."""
    _check_place(old.key, default=bool(settings.default))
    fresh = replace(
        old,
        backend=target.backend,
        config=dict(target.config),
        deleted=False,
        copy=None,
        tier="free",
        cost_notes=None,
        required=True,
        default=False,
        audit="log",
    )
    return _change(old, _settled(fresh, settings), "set", by, rationale=None)


def edit_route(old: Route, target: Target, settings: RouteSettings, *, by: By) -> RouteChange:
    """Other settings, or another config of the same backend. Raises ``Invalid`` for another backend."""
    if target.backend != old.backend:
        raise Invalid(
            f"this route leads to {old.backend}; another backend is a switch, or a copy that moves what is kept: "
            "perdure routes switch, or copy",
            backend=old.backend,
        )
    _check_place(old.key, default=old.default if settings.default is None else settings.default)
    _refuse_copying(old)
    return _change(old, _settled(replace(old, config=dict(target.config)), settings), "set", by, rationale=None)


def switch_route(old: Route, target: Target, settings: RouteSettings, *, rationale: str, by: By) -> RouteChange:
    """Another backend, with nothing of the old config left. Raises ``Invalid`` for the same one, or without reason."""
    if target.backend == old.backend:
        raise Invalid(f"this route leads to {old.backend} already; change its config with: perdure routes set")
    _refuse_copying(old)
    why = check_rationale(rationale)
    switched = _switched(old, target, rationale=why, by=by)
    return _change(old, _settled(switched, settings), "switch", by, rationale=why)


def begin_copy(old: Route, target: Target, *, rationale: str, by: By) -> RouteChange:
    """The route as it is, with a copy to ``target`` under way.

    One that goes back keeps ``rollback_until``, by which it is known to be one, and abandoned leaves the way back open.
    """
    _refuse_copying(old)
    why = check_rationale(rationale)
    goes_back = old.copy is not None and old.copy.other == target
    copy = RouteCopy(
        phase=CopyPhase.BACKFILL,
        other=target,
        started_at=by.at,
        rollback_until=old.copy.rollback_until if goes_back and old.copy is not None else None,
        rationale=why,
    )
    return _change(old, replace(old, copy=copy), "copy-begin", by, rationale=why)


def resume_copy(old: Route, *, by: By) -> RouteChange:
    """The same copy in other hands: whoever had it before finds that the route moved on, and stops."""
    if old.copy is None or old.copy.phase is CopyPhase.DONE:
        raise IllegalTransition("no copy is under way on this route")
    return _change(old, old, "copy-resume", by)


def settle_copy(old: Route, *, by: By) -> RouteChange:
    """Writes wait from here on. Raises ``IllegalTransition`` unless a copy is being filled."""
    copy = _copying(old, CopyPhase.BACKFILL)
    return _change(old, replace(old, copy=replace(copy, phase=CopyPhase.SETTLE, settled_at=by.at)), "copy-settle", by)


def unsettle_copy(old: Route, *, by: By) -> RouteChange:
    """Writes go on, and so may the copy, from its filling. Raises ``IllegalTransition`` unless writes wait for one."""
    copy = _copying(old, CopyPhase.SETTLE)
    filling = replace(copy, phase=CopyPhase.BACKFILL, settled_at=None)
    return _change(old, replace(old, copy=filling), "copy-unsettle", by)


def finish_copy(old: Route, *, rollback_s: float, by: By) -> RouteChange:
    """The copied backend serves; the old one is kept as what can be gone back to for ``rollback_s`` seconds."""
    copy = _copying(old, CopyPhase.SETTLE)
    done = RouteCopy(
        phase=CopyPhase.DONE,
        other=old.target,
        started_at=copy.started_at,
        settled_at=copy.settled_at,
        rollback_until=by.at + timedelta(seconds=rollback_s),
        rationale=copy.rationale,
    )
    switched = replace(_switched(old, copy.other, rationale=copy.rationale, by=by), copy=done)
    return _change(old, switched, "copy-finish", by, rationale=copy.rationale)


def abandon_copy(old: Route, *, by: By) -> RouteChange:
    """The old backend goes on serving, and writes go on. Raises ``IllegalTransition`` unless a copy is under way."""
    if old.copy is None or old.copy.phase is CopyPhase.DONE:
        raise IllegalTransition("no copy is under way on this route")
    left = None
    if old.copy.rollback_until is not None:
        left = replace(old.copy, phase=CopyPhase.DONE, settled_at=None)
    return _change(old, replace(old, copy=left), "copy-abandon", by)


def delete_route(old: Route, *, rationale: str | None, by: By) -> RouteChange:
    """A tombstone: it serves nobody and keeps its history."""
    _refuse_copying(old)
    why = None if rationale is None else check_rationale(rationale)
    return _change(old, replace(old, deleted=True, copy=None), "delete", by, rationale=why)


def check_rationale(value: str) -> str:
    """Why a backend is switched: text, not empty, at most ``RATIONALE_CHARS_MAX`` characters."""
    return check_text(value.strip(), what="a rationale", limit="rationale_chars_max", chars_max=RATIONALE_CHARS_MAX)


def _switched(old: Route, target: Target, *, rationale: str, by: By) -> Route:
    return replace(
        old,
        backend=target.backend,
        config=dict(target.config),
        previous_backend_type=old.backend,
        switch_rationale=rationale,
        last_switch_time=by.at,
        copy=None,
    )


def _settled(route: Route, settings: RouteSettings) -> Route:
    if settings.tier is not None and settings.tier not in TIERS:
        raise Invalid(f"{str(settings.tier)[:80]!r} is not a tier; one of: {', '.join(TIERS)}")
    if settings.audit is not None and settings.audit not in ("log", "writes"):
        raise Invalid(f"audit is log or writes, not {str(settings.audit)[:80]!r}")
    notes = settings.cost_notes
    if notes is not None:
        check_text(notes, what="cost notes", limit="cost_notes_chars_max", chars_max=COST_NOTES_CHARS_MAX)
    return replace(
        route,
        tier=route.tier if settings.tier is None else settings.tier,
        cost_notes=route.cost_notes if notes is None else notes,
        required=route.required if settings.required is None else settings.required,
        default=route.default if settings.default is None else settings.default,
        audit=route.audit if settings.audit is None else settings.audit,
    )


def _check_place(key: RouteKey, *, default: bool) -> None:
    if key.surface is not None and key.project is None:
        raise Invalid("a route for a surface names its project too")
    if default and (key.tenant != SYSTEM_TENANT or key.project is not None):
        raise Invalid(f"only a route of {SYSTEM_TENANT} without a project can be the default of a kind")


def _refuse_copying(route: Route) -> None:
    if route.copy is not None and route.copy.phase is not CopyPhase.DONE:
        raise IllegalTransition(
            f"this route is being copied to {route.copy.other.backend}; finish or abandon that first "
            "(the same perdure routes copy goes on with it; --abandon gives it up)",
            phase=route.copy.phase.value,
        )


def _copying(route: Route, phase: CopyPhase) -> RouteCopy:
    if route.copy is None or route.copy.phase is not phase:
        found = "none" if route.copy is None else route.copy.phase.value
        raise IllegalTransition(f"a copy in phase {phase} is expected on this route; found: {found}")
    return route.copy


def _change(old: Route | None, new: Route, action: str, by: By, *, rationale: str | None = None) -> RouteChange:
    version = 1 if old is None else old.version + 1
    # Times of one route grow, whatever the clocks of two writers say.
    at = by.at if old is None else max(by.at, old.updated_at + _TICK)
    route = replace(new, version=version, updated_at=at, updated_by=check_actor(by.actor))
    serving = old is not None and not old.deleted
    moved = serving and old is not None and old.backend != route.backend
    why = None if rationale is None else check_rationale(rationale)
    history = RouteHistory(
        route_id=route.route_id,
        version=version,
        action=action,
        actor=by.actor,
        occurred_at=at,
        rationale=why,
        from_backend=old.backend if old is not None and serving else None,
        to_backend=None if route.deleted else route.backend,
        config_digest=content_digest(dict(route.config)),
        request_id=by.request_id,
    )
    event = RouteEvent(
        event_id=f"{route.route_id}:v{version}",
        type=RouteEventType.BACKEND_SWITCHED if moved else RouteEventType.CHANGED,
        tenant=route.tenant,
        route_id=route.route_id,
        version=version,
        kind=route.kind,
        action=action,
        actor=by.actor,
        occurred_at=at,
        backend_type=route.backend,
        previous_backend_type=route.previous_backend_type if moved else None,
        switch_rationale=route.switch_rationale if moved else None,
        last_switch_time=route.last_switch_time if moved else None,
        project=route.project,
        surface=route.surface,
    )
    expected = 0 if old is None else old.version
    return RouteChange(route=route, expected_version=expected, history=history, event=event)
