"""A process that serves CXDB's protocol over what it finds: python -m tests.faults.cxdb_server TASK.

It prints its port and serves until its input ends, or until it is killed. Objects are files, each written before it has
its name.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from perdure.adapters.cxdb.server import Profile, ServerSettings, serving
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.compose.backends import Lent
from perdure.core.environment import system_environment
from perdure.core.secrets import SystemSecrets
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import Space, make_space
from perdure.domain.turn import content_hash
from perdure.ports.backend import BackendRequest

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
OPEN_TIMEOUT_S = 60.0


class BlobsInFiles:
    """Objects of one space, each a file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    async def put(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes."""
        del space, timeout_s
        digest = content_hash(payload)
        self._count += 1
        unfinished = self._directory / f"{os.getpid()}-{self._count}"
        unfinished.write_bytes(payload)
        unfinished.rename(self._directory / digest)
        return digest

    async def find(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes, or None."""
        del space, timeout_s
        path = self._directory / digest
        return path.read_bytes() if path.exists() else None


async def main(task: dict[str, Any]) -> None:
    """Serve what is kept in the place of the task."""
    environment = system_environment()
    session = Session(task["dsn"], settings=PoolSettings(connections_max=8))
    if task["registry"]["backend"] == "postgres":
        await session.open()
    request = BackendRequest(
        config=task["registry"]["config"],
        mode="lab",
        env="dev",
        data_dir=Path(task["path"]),
        secrets=SystemSecrets(os.environ),
        environment=environment,
        timeout_s=OPEN_TIMEOUT_S,
    )
    # Its module alone: the clients of the others would be most of the time that a start takes.
    module = importlib.import_module(f"perdure.compose.backends.{task['registry']['backend']}")
    backend = await module.spec(Lent(session=session)).open(request)
    parts = TurnParts(backend.logs, backend.rows, environment=environment, sleep=asyncio.sleep)
    turns = StoredTurns(parts, BlobsInFiles(Path(task["path"])))
    settings = ServerSettings(port=0, profile=Profile(task["profile"]))
    async with serving(turns, SPACE, settings=settings, rows=backend.rows) as server:
        sys.stdout.write(json.dumps(server.port) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
    await backend.close()
    await session.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
