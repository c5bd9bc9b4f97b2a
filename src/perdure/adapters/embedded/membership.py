"""Who uses the server: one locked file a user, so that a killed user is gone the moment the kernel says so."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from perdure.adapters.embedded.failures import from_os_error
from perdure.adapters.embedded.locks import is_held, open_lock, release, try_lock

if TYPE_CHECKING:
    from pathlib import Path

    from perdure.adapters.embedded.layout import Layout


class Registration:
    """This process's use of the server, until ``end`` is called or the process is gone."""

    __slots__ = ("_fd", "_path", "_pid")

    def __init__(self, layout: Layout) -> None:
        self._pid = os.getpid()
        self._path = layout.users / f"{self._pid}-{secrets.token_hex(4)}"
        self._fd: int | None = open_lock(self._path)
        layout.give_to_owner(self._path)
        while not try_lock(self._fd):
            pass  # somebody looks at the file right now; looking takes no time
        os.write(self._fd, f"{self._pid}\n".encode("ascii"))

    @property
    def ended(self) -> bool:
        """Whether this registration counts no longer."""
        return self._fd is None

    def end(self) -> None:
        """Stop counting as a user; calling it again does nothing."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        if os.getpid() != self._pid:
            os.close(fd)  # a forked child shares the lock; unlocking here would sign its parent off
            return
        self._path.unlink(missing_ok=True)
        release(fd)


def living_users(layout: Layout) -> tuple[int, ...]:
    """The process ids of the server's living users, in order; changes nothing."""
    return tuple(sorted(_pid(path) for path in _files(layout) if is_held(path)))


def forget_dead_users(layout: Layout) -> None:
    """Remove the files of users who are gone; call it with the door held, when nobody can be registering."""
    for path in _files(layout):
        if not is_held(path):
            path.unlink(missing_ok=True)


def _files(layout: Layout) -> list[Path]:
    try:
        return list(layout.users.iterdir())
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise from_os_error(exc, doing="list", path=layout.users) from exc


def _pid(path: Path) -> int:
    return int(path.name.partition("-")[0])
