"""What the embedded server is asked to be, and what it is right now, looked up without changing anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from perdure.adapters.embedded import cluster, membership
from perdure.adapters.embedded.layout import layout_of
from perdure.adapters.embedded.locks import is_held
from perdure.adapters.embedded.privilege import Privilege
from perdure.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

ROLES_MAX = 16
"""How many login roles one embedded database has at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedConfig:
    """Which server is meant and how it is started.

    ``roles`` are the login roles; the first owns ``database``. ``bin_dir`` holds PostgreSQL's programs (the wheel's
    when None). ``settings`` are further server settings (``-c name=value``), used when this process is the one that
    starts the server. ``privilege`` fixes how root steps down. Raises ``Invalid`` for roles that cannot be.
    """

    data_dir: Path
    roles: tuple[str, ...]
    database: str = "perdure"
    bin_dir: Path | None = None
    start_timeout_s: float = 60.0
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    privilege: Privilege = "auto"

    def __post_init__(self) -> None:
        if not 1 <= len(self.roles) <= ROLES_MAX or len(set(self.roles)) != len(self.roles):
            raise Invalid(f"an embedded database needs 1 to {ROLES_MAX} different roles, got {self.roles!r}")
        for name in (*self.roles, self.database):
            # Not quoted in the passfile and read by people: identifiers, nothing else.
            if not (name.isascii() and name.isidentifier()) or name in {"postgres", "template0", "template1"}:
                raise Invalid(f"{name!r} cannot name a role or database of an embedded server; use letters, digits, _")


class ClusterState(StrEnum):
    """What the server of a data directory is doing."""

    NOT_CREATED = "not created"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """The server of a data directory at one moment.

    ``pid`` and ``port`` are known while it runs; ``users`` are the process ids that joined it, with a process named as
    often as it joined; ``held`` says that it was started by hand; ``major`` is the cluster's release.
    """

    state: ClusterState
    data_dir: Path
    log: Path
    major: int | None = None
    pid: int | None = None
    port: int | None = None
    users: tuple[int, ...] = ()
    held: bool = False


def status(config: EmbeddedConfig) -> ClusterStatus:
    """What the server is doing. Changes nothing, starts nothing and needs no server programs.

    Raises ``Forbidden`` when the directory may not be read and ``Corrupt`` when it holds something else.
    """
    layout = layout_of(config.data_dir)
    major = cluster.cluster_major(layout)
    alive = is_held(layout.server_lock)
    found = cluster.read_pid_file(layout)
    if alive:
        state = ClusterState.RUNNING if found is not None and found.ready else ClusterState.STARTING
    elif major is None:
        state = ClusterState.NOT_CREATED
    else:
        state = ClusterState.STOPPED if found is None else ClusterState.CRASHED
    running = found if state is ClusterState.RUNNING else None
    return ClusterStatus(
        state=state,
        data_dir=layout.root,
        log=layout.log,
        major=major,
        pid=running.pid if running else None,
        port=running.port if running else None,
        users=membership.living_users(layout),
        held=layout.held.exists(),
    )
