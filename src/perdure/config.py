"""What a plane is opened with, as one frozen value. There is no other source of settings, environment included."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from perdure.domain.ids import Mode, check_env, check_mode
from perdure.domain.route import Target
from perdure.errors import Invalid

DATA_DIR_DEFAULT: Final = Path(".perdure")
EMBEDDED_MODE: Final[Mode] = "lab"
EMBEDDED_ENV: Final = "dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where the ledger is and how it is used. Made by ``make_config``.

    ``dsn`` None means the embedded PostgreSQL under ``data_dir``. DSNs are never shown: they may hold a password.
    ``registry`` is where the routing registry is; None means the plane's own database.
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
    )


def read_settings(path: str | Path) -> Mapping[str, Any]:
    """The settings in a file such as ``perdure.toml``, as arguments of ``perdure.open``.

    It says where the routing registry is, and nothing else: ``[registry]`` with ``backend`` and a table ``config``.
    Raises ``Invalid`` for a file that cannot be read, is no TOML, or says something that is not known.
    """
    try:
        with Path(path).open("rb") as stream:
            found = tomllib.load(stream)
    except (OSError, ValueError) as exc:  # what is no TOML, or no UTF-8
        raise Invalid(f"the settings in {path} cannot be read: {exc}") from exc
    unknown = sorted(found.keys() - {"registry"})
    if unknown:
        raise Invalid(f"{path} has settings that are not known: {', '.join(unknown)}; it may have: registry")
    if "registry" in found:
        try:
            _target(found["registry"])
        except Invalid as exc:
            raise Invalid(f"{path}: {exc.message}") from exc
    return found


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
