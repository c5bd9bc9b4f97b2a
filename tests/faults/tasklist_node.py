"""A node with snapshots on an event loop: ``python -m tests.faults.tasklist_node TASK``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from perdure.adapters.nodefiles.snapshot_store import NodeFiles
from perdure.core.environment import system_environment
from perdure.core.tasklist_root import SnapshotRoot, snapshot_root
from perdure.domain.tasklists.settings import PersistenceConfig
from tests.support.node_files import CODEC, LIST, FaultyFiles, decode_number, number, policy
from tests.support.node_files import snapshot_root as make_root


def say(value: object) -> None:
    """One line."""
    os.write(1, json.dumps(value).encode() + b"\n")


class Held(FaultyFiles):
    """Holds the first sync of a snapshot until there is a line on the standard input."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.is_armed = False

    def _wait(self, _number: int, name: str, _arguments: tuple[Any, ...]) -> None:
        if name == "sync" and self.is_armed:
            self.is_armed = False
            say("writing")
            sys.stdin.readline()


async def end_in_a_write(root_path: Path, mode: str) -> None:
    """Write, and end when it is told to, however often."""
    files = Held()
    root = make_root(root_path, policy(mode), files=files)
    await root.open()
    opened = await root.open_list(LIST, codec=CODEC, decode=decode_number, capture=lambda: lambda: number(40))
    told = asyncio.Event()

    def end() -> None:
        say("ending")
        told.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    files.is_armed = True
    opened.checkpoints.record_mutation(32)
    writing = asyncio.ensure_future(opened.checkpoints.tick())
    await told.wait()
    opened.checkpoints.record_mutation(8)  # what comes during the write is written by the last one
    outcomes = await root.close()
    await writing
    say(dict(outcomes))


async def work(root: SnapshotRoot | None) -> str:
    """A day's work on a list, with snapshots if there are any."""
    if root is None:
        return "off"
    await root.open()
    opened = await root.open_list(LIST, codec=CODEC, decode=decode_number, capture=lambda: lambda: number(1))
    await opened.checkpoints.mutated(64)
    await root.retain()
    await root.close()
    return "on"


def audited(path: Path, *, enabled: bool) -> None:
    """Work, and count what touches the root."""
    touched = 0

    def hook(_event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touched
        touched += any(str(path) in str(argument) for argument in arguments if isinstance(argument, str | bytes | Path))

    sys.addaudithook(hook)
    environment = system_environment()
    config = PersistenceConfig(enabled=enabled)
    root = snapshot_root(config, make_store=lambda: NodeFiles(path, ids=environment.ids), environment=environment)
    say([asyncio.run(work(root)), touched])


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    if task["mode"] in {"off", "audited"}:
        audited(Path(task["root"]), enabled=task["mode"] == "audited")
    else:
        asyncio.run(end_in_a_write(Path(task["root"]), task["mode"]))
