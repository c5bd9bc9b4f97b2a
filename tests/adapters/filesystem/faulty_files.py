"""File operations that fail when they are told to, and what a power failure would leave of the rest."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from perdure.adapters.filesystem.file_ops import FileOps

OPERATIONS: Final = frozenset(name for name in vars(FileOps) if not name.startswith("_"))

FoundNames = Literal["synced", "renamed", "now"]
When = Literal["before", "half", "after", "from then on"]


class Hold:
    """An operation that is under way for as long as a test likes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = asyncio.Event()
        self._released = threading.Event()

    def wait(self) -> None:
        """Say that an operation has begun, and wait to be let go; called in a thread."""
        self._loop.call_soon_threadsafe(self._begun.set)
        self._released.wait()

    async def begin(self) -> None:
        """Return when an operation is held."""
        await self._begun.wait()

    def let_go(self) -> None:
        """Let it and all that follow go on."""
        self._released.set()


class FaultyFiles(FileOps):
    """Counts every operation by name, and fails those it is told to. ``sync`` is only counted, which saves time.

    A close that fails has closed, as it has on Linux.
    """

    def __init__(self) -> None:
        self.operations: list[str] = []
        self.fault: Callable[[int, str], When | None] = lambda _number, _name: None
        self.errno = errno.EIO
        self._mutex = threading.Lock()

    def fail(self, number: int, when: When) -> None:
        """Fail the operation with this number, counted from 0, and with ``from then on`` all that follow."""
        self.fault = lambda at, _name: when if at == number or (when == "from then on" and at > number) else None

    def fail_always(self, **faults: When) -> None:
        """Fail every operation of these names, each in its way."""
        self.fault = lambda _number, name: faults.get(name)

    def fail_next(self, name: str, *, when: When = "before", thread: str = "perdure") -> None:
        """Fail the next operation of this name that a thread so named begins."""
        left = [when]

        def fault(_number: int, at: str) -> When | None:
            here = at == name and threading.current_thread().name.startswith(thread)
            return left.pop() if here and left else None

        self.fault = fault

    def hold(self, name: str, *, thread: str = "perdure") -> Hold:
        """Hold every operation of this name that a thread so named begins, until it is let go."""
        hold = Hold()

        def fault(_number: int, at: str) -> When | None:
            if at == name and threading.current_thread().name.startswith(thread):
                hold.wait()
            return None

        self.fault = fault
        return hold

    def sync(self, fd: int) -> None:
        """Nothing: what is not on the disk is still in the file."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in OPERATIONS:
            return found

        def call(*arguments: Any) -> Any:
            with self._mutex:
                number = len(self.operations)
                self.operations.append(name)
            when = self.fault(number, name)
            if when is None:
                return found(*arguments)
            if name == "close" or when == "after":
                found(*arguments)
            elif name == "write" and when == "half":
                fd, data, offset = arguments
                found(fd, data[: len(data) // 2], offset)
            raise OSError(self.errno, f"made to fail: {name}")

        return call


@dataclass(eq=False, slots=True)
class _File:
    synced: bytes = b""


@dataclass(slots=True)
class _Names:
    now: dict[str, _File] = field(default_factory=dict)
    synced: dict[str, _File] = field(default_factory=dict)


class FilesThatForget(FaultyFiles):
    """Remembers what was synced, of one directory, so that a power failure can be acted out."""

    def __init__(self) -> None:
        super().__init__()
        self._names = _Names()
        self._open: dict[int, tuple[Path, _File | None]] = {}  # None: the directory

    def open(self, path: Path, flags: int) -> int:
        """Open, and know which file the descriptor is."""
        fd = super().open(path, flags)
        self._open[fd] = path, self._names.now.setdefault(path.name, _File())
        return fd

    def open_directory(self, path: Path) -> int:
        """Open, and know that the descriptor is the directory."""
        fd = super().open_directory(path)
        self._open[fd] = path, None
        return fd

    def sync(self, fd: int) -> None:
        """What is there now will still be there."""
        path, file = self._open[fd]
        if file is None:
            self._names.synced = dict(self._names.now)
        else:
            file.synced = path.read_bytes()

    def rename(self, old: Path, new: Path) -> None:
        """Rename, for now."""
        super().rename(old, new)
        self._names.now[new.name] = self._names.now.pop(old.name)

    def remove(self, path: Path) -> None:
        """Remove, for now."""
        super().remove(path)
        del self._names.now[path.name]

    def lose_power(self, directory: Path, left: Path, *, names: FoundNames, tail: float) -> None:
        """Write to ``left`` what is found after a power failure.

        ``names`` says which names are found (``renamed``: as synced, but for the last rename, which was faster), and
        ``tail`` which share of what was appended and not synced.
        """
        shutil.rmtree(left, ignore_errors=True)
        left.mkdir(mode=0o700)
        contents = {file: (directory / name).read_bytes() for name, file in self._names.now.items()}
        found = dict(self._names.now if names == "now" else self._names.synced)
        if names == "renamed" and "manifest" in self._names.now:
            found["manifest"] = self._names.now["manifest"]
        for name, file in found.items():
            now = contents.get(file, file.synced)
            kept = len(file.synced) + round((len(now) - len(file.synced)) * tail) if now else 0
            (left / name).write_bytes(now[:kept] if now.startswith(file.synced) else file.synced)
