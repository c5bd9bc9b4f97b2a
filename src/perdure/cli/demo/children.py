"""The demo's child processes as their parent sees them: started, listened to, killed, ended, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from perdure.cli.demo.tether import GRACE_S
from perdure.errors import Unavailable

_LAST_WORDS_BYTES: Final = 2_000
_LINE_BYTES_MAX: Final = 1_048_576


class Child:
    """One process, tied to this one. What it prints on stdout are JSON objects, one a line; stderr goes to a file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, *, log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log
        self._listening: asyncio.Task[None] | None = None
        self._ending = False

    def __repr__(self) -> str:
        return f"Child({self.name}, pid={self.pid})"

    @classmethod
    async def start(
        cls,
        name: str,
        module: str,
        *arguments: str,
        log: Path,
        heard: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Self:
        """Start ``python -m module arguments``; ``heard`` is called with each object that it prints.

        ``-P`` keeps the directory one stands in, where anybody may have put a ``json.py``, out of its imports; a
        session of its own keeps the terminal's Ctrl-C away from it, so that the parent ends it in order.
        """
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL if heard is None else asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                limit=_LINE_BYTES_MAX,
            )
        child = cls(name, process, log=log)
        if heard is not None:
            child._listening = asyncio.create_task(child._listen(heard), name=f"output of {name}")
        return child

    def check(self) -> None:
        """Raise ``Unavailable`` if it ended without being told to."""
        if self._process.returncode is not None and not self._ending:
            words = self._last_words()
            raise Unavailable(
                f"the {self.name} (process {self.pid}) ended by itself with status {self._process.returncode}; see "
                f"{self._log}{f', which ends: {words}' if words else ''}",
                code="child_ended",
            )
        if self._listening is not None and self._listening.done() and not self._listening.cancelled():
            self._listening.result()

    async def kill(self) -> int:
        """SIGKILL to this process and no other; returns its status when it is gone."""
        self._ending = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self._gone()

    async def end(self) -> None:
        """Let it finish what it has in hand, for ``GRACE_S`` seconds at most."""
        self._ending = True
        assert self._process.stdin is not None, "it was started with a pipe"
        self._process.stdin.close()
        try:
            async with asyncio.timeout(GRACE_S + 1.0):
                await self._gone()
        except TimeoutError:
            await self.kill()

    async def _gone(self) -> int:
        status = await self._process.wait()
        if self._listening is not None:
            await asyncio.wait({self._listening})
        return status

    async def _listen(self, heard: Callable[[Mapping[str, Any]], None]) -> None:
        assert self._process.stdout is not None, "it was started with a pipe"
        # A killed process may leave half a line.
        while (line := await self._process.stdout.readline()).endswith(b"\n"):
            heard(msgspec.json.decode(line, type=dict[str, Any]))

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return " ".join(self._log.read_bytes()[-_LAST_WORDS_BYTES:].decode(errors="replace").split())
        return ""


class Crew:
    """The children of one demo; leaving the context ends those that are still there, all at once."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(child.end() for child in self._children))

    def add(self, child: Child) -> Child:
        """Take charge of a child."""
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise ``Unavailable`` if one ended without being told to."""
        for child in self._children:
            child.check()
