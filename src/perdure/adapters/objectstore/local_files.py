"""Writing into a directory so that it stays: the client renames files into place, but never waits for the disk.

Everything here blocks; the store calls it in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from perdure.errors import BackendDown

_MARK: Final = "perdure-objects"
_INCOMING: Final = "incoming"
_NOT_TO_REMOVE: Final = frozenset({errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST})
_DIRECTORY_MODE: Final = 0o700
_ATTEMPTS_MAX: Final = 100  # each is lost only to a deletion of the same object that runs at the same moment
_SHARDS_KNOWN_MAX: Final = 65_536  # directories known to be on the disk; forgetting them costs a few syncs

# On macOS fsync leaves the bytes in the drive's own cache; this asks the drive too. Linux does that in fsync.
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


class LocalFiles:
    """The directory of a store. ``incoming`` is where files lie that are not yet objects."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / _INCOMING
        self._synced: set[Path] = set()

    def prepare(self) -> None:
        """Make what is missing, for its owner only, and have it on the disk."""
        self.root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        self.incoming.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
        (self.root / _MARK).touch()
        _sync_directory(self.root)
        _sync_directory(self.root.parent)

    def check(self) -> None:
        """Raise ``BackendDown`` unless the directory is the one that was prepared, and not an empty mount point."""
        if not (self.root / _MARK).exists():
            raise BackendDown(
                f"{self.root} is no longer the directory of this store; it was moved, removed or unmounted: "
                "bring it back"
            )

    def publish(self, key: str, *, content: bytes | None, path: Path | None) -> None:
        """Give a key to these bytes, or to the file at ``path`` in ``incoming``; both are on the disk then."""
        self.check()
        source = self._write(content) if content is not None else path
        if source is None:
            raise ValueError("either bytes or a file is published")
        with _removed_after_failure(source):
            _sync_file(source)
            self._rename(source, self.root / key)

    def prune(self, key: str) -> None:
        """Remove the directory that was an object's, if the object is gone."""
        try:
            (self.root / key).parent.rmdir()
        except OSError as exc:
            # Somebody else was faster, or it was put again.
            if exc.errno not in _NOT_TO_REMOVE:
                raise

    def leftovers(self, *, before_s: float, limit: int) -> int:
        """Remove files of ``incoming`` that nobody wrote to since that time of day; returns how many."""
        removed = 0
        with os.scandir(self.incoming) as entries:
            for entry in entries:
                if removed == limit:
                    break
                if _is_older(entry, before_s):
                    Path(entry.path).unlink(missing_ok=True)
                    removed += 1
        return removed

    def _write(self, content: bytes) -> Path:
        with tempfile.NamedTemporaryFile(dir=self.incoming, delete=False) as file:
            with _removed_after_failure(Path(file.name)):
                file.write(content)
                file.flush()
            return Path(file.name)

    def _rename(self, source: Path, target: Path) -> None:
        folder = target.parent
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                folder.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
                source.rename(target)
                break
            except (FileNotFoundError, FileExistsError):
                # Removed between the two, or between two looks of the first.
                if attempt == _ATTEMPTS_MAX or not source.exists():
                    raise
        with suppress(FileNotFoundError):  # put, and deleted at once by somebody else
            _sync_directory(folder)
        # Another process may have made a directory and not have synced it yet, so all are synced once by each.
        _sync_directory(folder.parent)
        if folder.parent not in self._synced:
            for parent in folder.parent.parents:
                _sync_directory(parent)
                if parent == self.root:
                    break
            if len(self._synced) >= _SHARDS_KNOWN_MAX:
                self._synced.clear()
            self._synced.add(folder.parent)


@contextmanager
def _removed_after_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _is_older(entry: os.DirEntry[str], before_s: float) -> bool:
    try:
        return entry.stat(follow_symlinks=False).st_mtime < before_s
    except FileNotFoundError:
        return False


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _sync(fd)
    finally:
        os.close(fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(fd)
    finally:
        os.close(fd)


def _sync(fd: int) -> None:
    if _FULL_SYNC is not None:
        fcntl.fcntl(fd, _FULL_SYNC)
    else:
        os.fsync(fd)
