"""Routes in the words and the shape of older registries: what files of routes are made of, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from perdure.domain.kinds import KINDS, kind_of_resource
from perdure.domain.route import ConfigValue, Route, Target, make_route_key
from perdure.domain.route_changes import RouteSettings, WantedRoute
from perdure.errors import Invalid, PerdureError

_NEEDED: Final = ("resource_kind", "tenant_id", "env", "backend_type")
_SET: Final = (
    *_NEEDED,
    "mode",
    "project_id",
    "surface_id",
    "config",
    "required",
    "tier",
    "cost_notes",
    "default",
    "audit",
)
# What a registry writes itself: read so that what was exported can be given back, and not set by anybody.
_TOLD: Final = (
    "id",
    "version",
    "created_at",
    "updated_at",
    "previous_backend_type",
    "switch_rationale",
    "last_switch_time",
    "health_status",
)

Value = TypeVar("Value")


def document_of(route: Route) -> dict[str, Any]:
    """A route as an older registry writes it; ``default`` and ``audit``, which those lack, only where they matter."""
    document: dict[str, Any] = {
        "resource_kind": KINDS[route.kind].resource_kind,
        "tenant_id": route.tenant,
        "mode": route.mode,
        "env": route.env,
        "project_id": route.project,
        "surface_id": route.surface,
        "backend_type": route.backend,
        "config": dict(route.config),
        "required": route.required,
        "tier": route.tier,
        "cost_notes": route.cost_notes,
        "previous_backend_type": route.previous_backend_type,
        "switch_rationale": route.switch_rationale,
        "last_switch_time": None if route.last_switch_time is None else route.last_switch_time.isoformat(),
        "created_at": route.created_at.isoformat(),
        "updated_at": route.updated_at.isoformat(),
        "version": route.version,
    }
    if route.default:
        document["default"] = True
    if route.audit != "log":
        document["audit"] = route.audit
    return document


def read_documents(data: bytes, *, mode: str, env: str) -> Sequence[WantedRoute]:
    """The routes in a JSON document: one object, or a list of them, for a plane of this ``mode`` and ``env``.

    Raises ``Invalid``, naming the route by its number: what is no JSON, unknown or missing fields, another environment
    or mode. No value of a config is ever quoted.
    """
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Invalid(f"these routes are not JSON: {exc}") from exc
    documents = found if isinstance(found, list) else [found]
    if not documents:
        raise Invalid("there is no route in these; expected an object, or a list of them")
    return [_numbered(document, number, mode=mode, env=env) for number, document in enumerate(documents, start=1)]


def _numbered(document: object, number: int, *, mode: str, env: str) -> WantedRoute:
    try:
        return _wanted(document, mode=mode, env=env)
    except PerdureError as exc:
        message = f"route {number}: {exc.message}; nothing was written"
        raise type(exc)(message, code=exc.code, **exc.detail) from exc


def _wanted(document: object, *, mode: str, env: str) -> WantedRoute:
    if not isinstance(document, dict):
        raise Invalid(f"it is no object with {', '.join(_NEEDED)}")
    unknown = sorted(name[:80] for name in document.keys() - {*_SET, *_TOLD})
    if unknown:
        raise Invalid(f"its fields {', '.join(map(ascii, unknown))} are not known; known are {', '.join(_SET)}")
    missing = [name for name in _NEEDED if document.get(name) is None]
    if missing:
        raise Invalid(f"it has no {', '.join(missing)}")
    here = {"env": env, "mode": mode}
    for name, ours in here.items():
        theirs = _field(document, name, str)
        if theirs is not None and theirs != ours:
            raise Invalid(f"it is for {name} {theirs[:80]!a}, and this plane is of {name} {ours!r}")
    return WantedRoute(
        key=make_route_key(
            kind_of_resource(_needed(document, "resource_kind")),
            _needed(document, "tenant_id"),
            mode=mode,
            env=env,
            project=_field(document, "project_id", str),
            surface=_field(document, "surface_id", str),
        ),
        target=Target(backend=_needed(document, "backend_type"), config=_config(document)),
        settings=RouteSettings(
            # What these may be is checked where every route's settings are.
            tier=_field(document, "tier", str),  # type: ignore[arg-type]
            cost_notes=_field(document, "cost_notes", str),
            required=_field(document, "required", bool),
            default=_field(document, "default", bool),
            audit=_field(document, "audit", str),  # type: ignore[arg-type]
        ),
    )


def _config(document: Mapping[str, object]) -> Mapping[str, ConfigValue]:
    config = _field(document, "config", dict) or {}
    wrong = sorted(ascii(name[:80]) for name, value in config.items() if not isinstance(value, str | int | bool))
    if wrong:
        raise Invalid(f"config fields {', '.join(wrong)} are no text, integer or flag")
    return config


def _field(document: Mapping[str, object], name: str, expected: type[Value]) -> Value | None:
    value = document.get(name)
    if value is not None and not isinstance(value, expected):
        raise Invalid(f"its {name} is a {type(value).__name__}, not a {expected.__name__}")
    return value


def _needed(document: Mapping[str, object], name: str) -> str:
    value = _field(document, name, str)
    assert value is not None, "a missing field was refused"
    return value
