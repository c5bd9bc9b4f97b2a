"""What lies where in the data directory, and how it is made: private to its owner."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perdure.adapters.embedded.failures import from_os_error
from perdure.errors import Invalid

LOG_BYTES_MAX: Final = 4 * 1024 * 1024
"""The log is cut to its last half of this when it has grown beyond it; looked at on each join and leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The paths in one data directory."""

    root: Path

    @property
    def cluster(self) -> Path:
        """The database cluster, complete: it gets this name when initdb has finished."""
        return self.root / "pg"

    @property
    def unfinished(self) -> Path:
        """A cluster that initdb has not finished; nobody's but the maker's."""
        return self.root / "pg.new"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.root / "pg.log"

    @property
    def passwords(self) -> Path:
        """The roles' passwords in libpq's passfile format, mode 0600."""
        return self.root / "pgpass"

    @property
    def lock(self) -> Path:
        """Held by the process that changes the cluster's state."""
        return self.root / "lock"

    @property
    def server_lock(self) -> Path:
        """Held by the server's processes as long as one of them lives; says which pid and port it was given."""
        return self.root / "server.lock"

    @property
    def users(self) -> Path:
        """One locked file for each user of the server."""
        return self.root / "users"

    @property
    def held(self) -> Path:
        """Present while the server was started by hand: it then needs no users."""
        return self.root / "held"

    @property
    def prepared(self) -> Path:
        """Names the roles and the database that were made in the cluster."""
        return self.root / "prepared.json"

    def create(self) -> None:
        """Make the data directory, mode 0700, unless it is there.

        Raises ``Invalid`` when the path is not a directory, ``Forbidden`` when it may not be written, and
        ``PersistenceError`` when the disk is full.
        """
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)
            self.users.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise from_os_error(exc, doing="create the data directory", path=self.root) from exc
        self.give_to_owner(self.users)
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            # It stands in somebody's repository more often than not, and holds passwords.
            self.write(ignore, b"*\n")

    def give_to_owner(self, path: Path) -> None:
        """Let the data directory's owner have a file that root made in it, so that they can go on without root."""
        if os.geteuid() == 0 and (owner := self.root.stat()).st_uid != 0:
            os.chown(path, owner.st_uid, owner.st_gid)

    def write(self, path: Path, content: bytes) -> None:
        """Write a small file of the data directory at once or not at all: mode 0600, flushed to the disk."""
        try:
            replace_durably(path, content)
            self.give_to_owner(path)
        except OSError as exc:
            raise from_os_error(exc, doing="write", path=path) from exc

    def bound_log(self) -> None:
        """Cut the log to its newest half when it has outgrown ``LOG_BYTES_MAX``.

        The server appends, so a log can be cut under it; a line written in that instant may be lost.
        """
        try:
            with self.log.open("r+b") as log:
                if log.seek(0, os.SEEK_END) <= LOG_BYTES_MAX:
                    return
                log.seek(-LOG_BYTES_MAX // 2, os.SEEK_END)
                newest = log.read().partition(b"\n")[2]
                log.seek(0)
                log.write(newest)
                log.truncate()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise from_os_error(exc, doing="shorten the log", path=self.log) from exc


def layout_of(data_dir: Path) -> Layout:
    """The layout of a data directory, by its real path: the same through every link to it."""
    if "\n" in str(data_dir) or "\0" in str(data_dir):
        raise Invalid(f"the data directory {str(data_dir)!r} has a line break in its name; choose another")
    return Layout(root=Path(os.path.realpath(data_dir)))


def replace_durably(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, flush it and rename it into place."""
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Flush a directory, so that a rename in it outlives a power failure."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
