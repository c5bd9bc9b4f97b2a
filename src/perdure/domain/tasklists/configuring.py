"""Settings of task lists as people write them, in a file or as arguments; and where a space's lists are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

import blake3

from perdure.domain.container import PROJECT_DEFAULT, Space
from perdure.domain.tasklists.failures import InvalidPersistenceMode
from perdure.domain.tasklists.frequency import HostPolicyEnvelope
from perdure.domain.tasklists.settings import PersistenceConfig
from perdure.errors import Invalid

OFF: Final = "off"

_MODES: Final = {"degraded": "degraded", "best_effort": "degraded", "strict": "strict", "required": "strict", OFF: OFF}
_OWN: Final = frozenset({"root", "mode", "initialize_if_missing"})
_CONFIG: Final = frozenset(field.name for field in fields(PersistenceConfig)) - {
    "enabled",
    "mode",
    "strict_initialize_if_missing",
    "host_policy",
}
_ENVELOPE: Final = frozenset(field.name for field in fields(HostPolicyEnvelope))
_SHORT_HASH: Final = 16


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ``Invalid`` for a setting that is not known; what the values may be is checked when they are used."""
    _refuse_unknown(settings, _OWN | _CONFIG | {"host_policy"}, "the settings of task lists have")
    for name in ("root", "mode"):
        if settings.get(name) is not None and not isinstance(settings[name], str):
            raise Invalid(f"{name} of task lists is a text")
    if not isinstance(settings.get("initialize_if_missing", False), bool):
        raise Invalid("initialize_if_missing of task lists is true or false")
    envelope = settings.get("host_policy", {})
    if not isinstance(envelope, Mapping):
        raise Invalid("host_policy of task lists is a table of bounds")
    _refuse_unknown(envelope, _ENVELOPE, "host_policy of task lists has")


def persistence_config(
    settings: Mapping[str, Any],
    *,
    root: str | None = None,
    mode: str | None = None,
    initialize_if_missing: bool = False,
) -> PersistenceConfig:
    """The configuration that settings give, where arguments go before them.

    Snapshots are off unless there is a root, and then degraded unless a mode says otherwise: ``off``; ``degraded``,
    also called ``best_effort``; ``strict``, also called ``required``. Raises ``Invalid``, ``InvalidPersistenceMode``.
    """
    check_settings(settings)
    place = root if root is not None else settings.get("root")
    wanted = mode if mode is not None else settings.get("mode")
    wanted = _mode(wanted) if wanted is not None else OFF if place is None else "degraded"
    if wanted != OFF and place is None:
        raise Invalid(f"task lists are to be kept ({wanted}), and no root says where; name a directory")
    return PersistenceConfig(
        enabled=wanted != OFF,
        mode="degraded" if wanted == OFF else wanted,
        strict_initialize_if_missing=initialize_if_missing or bool(settings.get("initialize_if_missing")),
        host_policy=HostPolicyEnvelope(**settings.get("host_policy", {})),
        **{name: value for name, value in settings.items() if name in _CONFIG},
    )


def space_name(space: Space) -> str:
    """The directory, below the configured root, of a space's lists: the tenant's name, and of a part of it a hash."""
    if (space.project, space.surface, space.app) == (PROJECT_DEFAULT, None, None):
        return space.tenant
    parts = "\x1f".join("" if part is None else f"={part}" for part in (space.project, space.surface, space.app))
    return f"{space.tenant}+{blake3.blake3(parts.encode()).hexdigest()[:_SHORT_HASH]}"


def space_store_id(space: Space) -> str:
    """The id of a space's store: a root that another plane or tenant made is refused by it."""
    return f"{space.mode}/{space.env}/{space_name(space)}"


def _mode(text: str) -> str:
    known = _MODES.get(text.strip().lower())
    if known is None:
        raise InvalidPersistenceMode(
            f"{ascii(text)[:80]} is not a mode of task lists; expected one of: {', '.join(_MODES)}"
        )
    return known


def _refuse_unknown(settings: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    unknown = sorted(str(name)[:80] for name in settings.keys() - known)
    if unknown:
        raise Invalid(f"{what} no {', '.join(unknown)}; expected some of: {', '.join(sorted(known))}")
