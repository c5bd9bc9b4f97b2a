"""Python processes that a test starts, talks to and ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

__all__ = ["Child", "child", "run_child"]

ROOT = Path(__file__).parents[2]
LINE_BYTES_MAX = 64 * 1_048_576  # a child may print all that it sees as one line


class Child:
    """A running process that prints one JSON value a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdout is not None, "asked for a pipe"
        self._lines = process.stdout

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def said(self, count: int | None = None) -> list[Any]:
        """The next ``count`` values, fewer if it ends before; all until it ends if None. A torn one is left out."""
        values: list[Any] = []
        while count is None or len(values) < count:
            line = await self._lines.readline()
            if not line.endswith(b"\n"):
                break
            values.append(json.loads(line))
        return values

    def kill(self) -> None:
        """SIGKILL, wherever it is; nothing if it has ended."""
        # Not through the process object, which would collect an ended child that asyncio is about to collect.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def tell(self, word: str) -> None:
        """Write a line to its input."""
        assert self._process.stdin is not None, "asked for a pipe"
        self._process.stdin.write(f"{word}\n".encode())
        await self._process.stdin.drain()

    async def ended(self) -> int:
        """Its exit code, once it has ended; what it still says is read and dropped."""
        await self.said()
        return await self._process.wait()


@asynccontextmanager
async def child(
    module: str, task: Mapping[str, Any], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> AsyncIterator[Child]:
    """``python -m module`` with a task in JSON as its argument; killed at the end if it is still there."""
    environment = dict(os.environ if env is None else env)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, json.dumps(task)),
        cwd=cwd,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
    )
    running = Child(process)
    try:
        yield running
    finally:
        running.kill()
        await process.communicate()


async def run_child(
    module: str, task: Mapping[str, Any], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Sequence[Any]:
    """Everything that a child says, which has to end well."""
    async with child(module, task, env=env, cwd=cwd) as running:
        said = await running.said()
        code = await running.ended()
    assert code == 0, f"{module} ended with {code}, after {said[-1:]}"
    return said
