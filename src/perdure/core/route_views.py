"""What is shown about routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perdure.core.backends import Health
from perdure.core.routing import Layer
from perdure.domain.kinds import Kind
from perdure.domain.route import Route, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteView:
    """A route and what is known about it now. ``config`` in it holds references to secrets, never secrets.

    ``layer`` is where it was found for the question asked, ``health`` what the last probe of its backend said, and
    ``snapshot_age_s`` how old the answer may be.
    """

    route: Route
    layer: Layer
    health: Health
    snapshot_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Whether a tenant has a route of a kind: ``available`` through a layer, or ``missing`` with the error's code."""

    kind: Kind
    status: str
    backend: str | None = None
    layer: Layer | None = None
    tier: Tier | None = None
    health: Health | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of many wanted routes: those that were written, and those that were so already."""

    changed: Sequence[Route]
    unchanged: Sequence[Route]
