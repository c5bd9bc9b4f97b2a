"""Writers of snapshots that end in the middle: ``python -m tests.faults.tasklist_writer TASK``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from perdure.adapters.nodefiles.file_operations import FileOps
from perdure.domain.tasklists.failures import StoreLocked
from perdure.errors import PerdureError
from perdure.ports.environment import Environment
from tests.support.node_files import FaultyFiles, Opened, killing_at, policy


def say(value: dict[str, Any]) -> None:
    """One line, at once: what was said before a kill was said."""
    os.write(1, json.dumps(value).encode() + b"\n")


def forked(run: Callable[[Callable[[dict[str, Any]], None]], None], *, kill_after: int | None = None) -> Any:
    """What a child said, and whether it was killed; by us once it said ``kill_after`` lines."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        run(lambda value: ignored(os.write(theirs, json.dumps(value).encode() + b"\n")))
        os._exit(0)
    os.close(theirs)
    said: list[Any] = []
    with os.fdopen(ours) as lines:
        for line in lines:
            if line.endswith("\n"):
                said.append(json.loads(line))
            if kill_after is not None and len(said) == kill_after:
                os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return said, os.WIFSIGNALED(status)


def ignored(_value: object) -> None:
    """Nothing."""


def write(root: Path, mode: str, values: list[int], files: FileOps | None, tell: Callable[..., None]) -> None:
    """Write numbers, saying which one is tried and which one is acknowledged."""
    try:
        opened = Opened(root, policy(mode), files=files)
    except PerdureError as exc:
        tell({"refused": exc.code})
        return
    tell({"found": opened.recovery.value or 0})
    for value in values:
        tell({"tried": value})
        opened.write(value)
        tell({"acknowledged": value})
    opened.close()


def told(said: list[dict[str, Any]], what: str) -> list[Any]:
    """All that was said of one thing."""
    return [value[what] for value in said if what in value]


def sweep(base: Path, mode: str) -> None:
    """Kill a writer at each of its operations."""
    at, is_killed = 0, True
    while is_killed:
        root = base / f"killed-{at}"
        shutil.copytree(base / "template", root)
        files = FaultyFiles(killing_at(at))
        said, is_killed = forked(lambda tell, root=root, files=files: write(root, mode, [5, 6], files, tell))  # type: ignore[misc]
        tried, acknowledged = told(said, "tried"), told(said, "acknowledged")
        say({"root": str(root), "is_killed": is_killed, "tried": tried, "acknowledged": acknowledged})
        at += 1


def load(base: Path, mode: str, kills: int) -> None:
    """Kill a writer that writes without end after a random number of words, again and again on one root."""
    chance, newest = Random(7), 0  # noqa: S311 - repeatable on purpose
    for _ in range(kills):
        values = list(range(newest + 1, newest + 1_000))
        said, _ = forked(
            lambda tell, values=values: write(base / "root", mode, values, None, tell),  # type: ignore[misc]
            kill_after=chance.randrange(1, 12),
        )
        newest = max([newest, *told(said, "tried")])
        say({"found": told(said, "found")[0], "acknowledged": told(said, "acknowledged")})


def fight(root: Path, mode: str, seconds: float, clock: Callable[[], float]) -> None:
    """Open, write one more than what is there, close; and so on, for some time."""
    ends = clock() + seconds
    locked = 0
    while clock() < ends:
        try:
            opened = Opened(root, policy(mode))
        except StoreLocked:
            locked += 1
            continue
        value = opened.recovery.value or 0
        if isinstance(opened.recovery.failure, StoreLocked):
            locked += 1
        else:
            for _ in range(3):
                value += 1
                opened.write(value)
                say({"acknowledged": value})
        opened.close()
    say({"locked": locked})


def hold(root: Path) -> None:
    """Hold a root until somebody ends this process."""
    opened = Opened(root, policy("strict"))
    opened.write(1)
    say({"acknowledged": 1})
    sys.stdin.readline()


def main(task: dict[str, Any], environment: Environment) -> None:
    """Do what is asked."""
    base = Path(task["base"])
    match task["do"]:
        case "sweep":
            sweep(base, task["mode"])
        case "load":
            load(base, task["mode"], task["kills"])
        case "fight":
            fight(base, task["mode"], task["seconds"], environment.clock.monotonic)
        case "hold":
            hold(base)
        case _:
            write(base, task["mode"], task["values"], None, say)


if __name__ == "__main__":
    from perdure.core.environment import system_environment

    main(json.loads(sys.argv[1]), system_environment())
