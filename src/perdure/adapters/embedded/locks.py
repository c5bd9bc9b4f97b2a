"""Kernel file locks: the only memory of who is alive.

A ``flock`` belongs to an open file and ends with the last process that has it open, however that process ends. A pid
in a file can be reused, belong to a zombie or to another container; a lock cannot. Three kinds are used: the door
(``lock``, one process changes the cluster's state at a time), one per user of the server, and the server's own, which
the postmaster and all its children inherit.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from perdure.adapters.embedded.failures import from_os_error
from perdure.errors import TimedOut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

POLL_S = 0.01
"""How long to wait between two looks at something that cannot be waited for."""


def open_lock(path: Path) -> int:
    """Open a lock file, made with mode 0600 when missing; the descriptor is not inherited by children."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise from_os_error(exc, doing="open the lock file", path=path) from exc


def try_lock(fd: int) -> bool:
    """Take the lock for writing if nobody holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def release(fd: int) -> None:
    """Give the lock up, also in the name of children that inherited it, and close the file."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock; changes nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise from_os_error(exc, doing="read", path=path) from exc
    try:
        # Shared, so that two who only look do not take each other for a holder.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


async def lock_within(fd: int, *, timeout_s: float, path: Path) -> None:
    """Take the lock for writing, waiting at most ``timeout_s``; raises ``TimedOut`` naming the holder."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not try_lock(fd):
        if asyncio.get_running_loop().time() >= deadline:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise TimedOut(
                f"another process (pid {holder}) has been starting or stopping the embedded server for more than "
                f"{timeout_s:g} s and holds {path}; look at that process, end it if it hangs, and try again",
                path=str(path),
                holder=holder,
            )
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def door(path: Path, *, timeout_s: float) -> AsyncIterator[None]:
    """Hold the lock that every change of the cluster's state needs."""
    fd = open_lock(path)
    try:
        await lock_within(fd, timeout_s=timeout_s, path=path)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        release(fd)
