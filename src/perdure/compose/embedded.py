"""The embedded server as the surfaces see it: a data directory and the four roles, nothing else to choose."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from perdure.adapters import embedded
from perdure.adapters.embedded import BackupReport, ClusterState, ClusterStatus, EmbeddedConfig, EmbeddedServer

__all__ = [
    "BackupReport",
    "ClusterState",
    "ClusterStatus",
    "EmbeddedRole",
    "EmbeddedServer",
    "embedded_backup",
    "embedded_config",
    "embedded_dsn",
    "embedded_restore",
    "embedded_start",
    "embedded_status",
    "embedded_stop",
]

EmbeddedRole = Literal["owner", "app", "relay", "maintenance"]

ROLES: Final[tuple[str, ...]] = ("perdure_owner", "perdure_app", "perdure_relay", "perdure_maintenance")
"""The login roles of the embedded database; the first owns it."""


def embedded_config(data_dir: Path) -> EmbeddedConfig:
    """The configuration of the server under ``data_dir``; ``PERDURE_PG_BIN`` names other programs than the wheel's."""
    elsewhere = os.environ.get("PERDURE_PG_BIN")
    return EmbeddedConfig(data_dir=data_dir, roles=ROLES, bin_dir=Path(elsewhere) if elsewhere else None)


async def embedded_start(data_dir: Path) -> ClusterStatus:
    """Start the server by hand; it runs until ``embedded_stop``, with or without users."""
    return await embedded.start(embedded_config(data_dir))


async def embedded_stop(data_dir: Path, *, force: bool = False) -> ClusterStatus:
    """Stop the server, or leave that to its last user when it has some; ``force`` stops it under them."""
    return await embedded.stop(embedded_config(data_dir), force=force)


def embedded_status(data_dir: Path) -> ClusterStatus:
    """What the server is doing; changes nothing."""
    return embedded.status(embedded_config(data_dir))


def embedded_dsn(data_dir: Path, *, role: EmbeddedRole) -> str:
    """The connection string of a role to the running server, for psql and for other programs; no password in it."""
    return embedded.dsn(embedded_config(data_dir), role=f"perdure_{role}", portable=True)


async def embedded_backup(data_dir: Path, target: Path, *, progress: Callable[[str], None]) -> BackupReport:
    """Write a checked dump of the database to a new file."""
    return await embedded.backup(embedded_config(data_dir), target, progress=progress)


async def embedded_restore(data_dir: Path, source: Path, *, progress: Callable[[str], None]) -> BackupReport:
    """Restore a dump into an empty database and check it."""
    return await embedded.restore(embedded_config(data_dir), source, progress=progress)
