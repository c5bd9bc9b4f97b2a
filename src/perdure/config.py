"""What a plane is opened with, as one frozen value. There is no other source of settings, environment included."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from perdure.domain.ids import Mode, check_env, check_mode
from perdure.domain.route import Target
from perdure.domain.tasklists.configuring import check_settings, persistence_config
from perdure.domain.tasklists.settings import resolve_config
from perdure.errors import Invalid

DATA_DIR_DEFAULT: Final = Path(".perdure")
EMBEDDED_MODE: Final[Mode] = "lab"
EMBEDDED_ENV: Final = "dev"

_SETTINGS: Final = frozenset({"registry", "tasklists", "work_key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where the ledger is and how it is used. Made by ``make_config``.

    ``dsn`` None means the embedded PostgreSQL under ``data_dir``. DSNs are never shown: they may hold a password.
    ``registry`` is where the routing registry is; None means the plane's own database. ``tasklists`` says how task
    lists are kept on this node. ``work_key`` refers to the secret with which hashes of units of work are keyed; None
    means that they are not.
    """

    dsn: str | None = field(repr=False)
    relay_dsn: str | None = field(repr=False)
    listen_dsn: str | None = field(repr=False)
    owner_dsn: str | None = field(repr=False)
    data_dir: Path
    mode: Mode
    env: str
    coalesce: bool
    connections_max: int
    timeout_s: float
    registry: Target | None = None
    tasklists: Mapping[str, Any] = field(default_factory=dict)
    work_key: str | None = None


def make_config(
    dsn: str | None = None,
    *,
    data_dir: str | Path = DATA_DIR_DEFAULT,
    mode: str | None = None,
    env: str | None = None,
    relay_dsn: str | None = None,
    listen_dsn: str | None = None,
    owner_dsn: str | None = None,
    coalesce: bool = True,
    connections_max: int = 10,
    timeout_s: float = 30.0,
    registry: Mapping[str, Any] | None = None,
    tasklists: Mapping[str, Any] | None = None,
    work_key: str | None = None,
) -> Config:
    """Check the settings of a plane. Only the embedded database has a default (mode, env): ``lab``, ``dev``.

    Raises ``Invalid``.
    """
    if dsn is not None and (mode is None or env is None):
        raise Invalid(
            "a plane on a database of your own is opened with its mode and env, as in "
            'perdure.open("postgresql://...", mode="saas", env="prod"); on the command line: --mode saas --env prod'
        )
    if connections_max < 1:
        raise Invalid(f"connections_max is {connections_max}; at least 1 is expected")
    if not timeout_s > 0:
        raise Invalid(f"timeout_s is {timeout_s}; more than 0 is expected")
    return Config(
        dsn=dsn,
        relay_dsn=relay_dsn,
        listen_dsn=listen_dsn,
        owner_dsn=owner_dsn,
        data_dir=Path(data_dir),
        mode=check_mode(mode if mode is not None else EMBEDDED_MODE),
        env=check_env(env if env is not None else EMBEDDED_ENV),
        coalesce=coalesce,
        connections_max=connections_max,
        timeout_s=timeout_s,
        registry=None if registry is None else _target(registry),
        tasklists=_tasklists({} if tasklists is None else tasklists),
        work_key=None if work_key is None else _reference(work_key),
    )


def read_settings(path: str | Path) -> Mapping[str, Any]:
    """The settings in a file such as ``perdure.toml``, as arguments of ``perdure.open``.

    It says where the routing registry is (``[registry]`` with ``backend`` and a table ``config``), how task lists are
    kept on this node (``[tasklists]``), and where the key of units of work is (``work_key``, a reference).
    Raises ``Invalid`` for a file that cannot be read, is no TOML, or says something that is not known.
    """
    try:
        with Path(path).open("rb") as stream:
            found = tomllib.load(stream)
    except (OSError, ValueError) as exc:  # what is no TOML, or no UTF-8
        raise Invalid(f"the settings in {path} cannot be read: {exc}") from exc
    unknown = sorted(found.keys() - _SETTINGS)
    if unknown:
        raise Invalid(
            f"{path} has settings that are not known: {', '.join(unknown)}; it may have: {', '.join(sorted(_SETTINGS))}"
        )
    try:
        if "registry" in found:
            _target(found["registry"])
        if "work_key" in found:
            _reference(found["work_key"])
        check_settings(_table(found.get("tasklists", {})))
    except Invalid as exc:
        raise Invalid(f"{path}: {exc.message}") from exc
    return found


def _tasklists(settings: object) -> Mapping[str, Any]:
    found = _table(settings)
    resolve_config(persistence_config(found))
    return dict(found)


def _table(settings: object) -> Mapping[str, Any]:
    if not isinstance(settings, Mapping):
        raise Invalid('how task lists are kept is not understood; expected a table, as in {"root": "state"}')
    return settings


def _reference(text: object) -> str:
    if not isinstance(text, str) or not text.startswith("secret://"):
        # What is quoted here may be the key itself.
        raise Invalid("work_key is no reference to a secret; expected one, as in secret://env/PERDURE_WORK_KEY")
    return text


def _target(registry: object) -> Target:
    expected = 'expected a backend and its config, as in {"backend": "postgres", "config": {}}'
    if not isinstance(registry, Mapping) or not isinstance(registry.get("backend"), str):
        raise Invalid(f"the registry's place is not understood; {expected}")
    config = registry.get("config", {})
    unknown = sorted(str(name) for name in registry.keys() - {"backend", "config"})
    if unknown:
        raise Invalid(f"the registry's place has settings that are not known: {', '.join(unknown)}; {expected}")
    if not isinstance(config, Mapping):
        raise Invalid(f"the config of the registry's place is not understood; {expected}")
    return Target(backend=registry["backend"], config=dict(config))
