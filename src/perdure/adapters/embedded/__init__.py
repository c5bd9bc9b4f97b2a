"""The PostgreSQL server that comes with the library: joined when it runs, started when it does not."""

from __future__ import annotations

from perdure.adapters.embedded.dumps import BackupReport, backup, restore
from perdure.adapters.embedded.server import EmbeddedServer, dsn, join, leave, rejoin, start, stop
from perdure.adapters.embedded.status import ClusterState, ClusterStatus, EmbeddedConfig, status

__all__ = [
    "BackupReport",
    "ClusterState",
    "ClusterStatus",
    "EmbeddedConfig",
    "EmbeddedServer",
    "backup",
    "dsn",
    "join",
    "leave",
    "rejoin",
    "restore",
    "start",
    "status",
    "stop",
]
