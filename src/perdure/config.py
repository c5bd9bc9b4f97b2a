"""What a plane is opened with, as one frozen value. There is no other source of settings, environment included."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from perdure.domain.ids import Mode, check_env, check_mode
from perdure.errors import Invalid

DATA_DIR_DEFAULT: Final = Path(".perdure")
EMBEDDED_MODE: Final[Mode] = "lab"
EMBEDDED_ENV: Final = "dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where the ledger is and how it is used. Made by ``make_config``.

    ``dsn`` None means the embedded PostgreSQL under ``data_dir``. DSNs are never shown: they may hold a password.
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
    )
