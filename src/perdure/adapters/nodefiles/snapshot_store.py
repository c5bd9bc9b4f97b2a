"""Snapshots in files, one directory a list. ``docs/reference/tasklist-snapshots.md`` is the layout."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from perdure.adapters.nodefiles.failures import reported, translated, translated_reading
from perdure.adapters.nodefiles.file_operations import (
    FileOps,
    is_directory,
    make_private_directory,
    read_regular,
    sync_directory,
    write_new,
)
from perdure.adapters.nodefiles.manifest import read_manifest, write_manifest
from perdure.adapters.nodefiles.quarantine import put_aside, quarantined
from perdure.adapters.nodefiles.root_lock import RootLock
from perdure.domain.tasklists.entity_ids import check_entity_id
from perdure.domain.tasklists.failures import (
    InvalidEncoding,
    InvalidEntityId,
    PersistenceNotInitialized,
    SnapshotExists,
)
from perdure.domain.tasklists.manifest import Manifest
from perdure.domain.tasklists.retention import SnapshotFile, Usage
from perdure.domain.tasklists.snapshot_format import SNAPSHOT_BYTES_MAX
from perdure.domain.tasklists.snapshot_names import (
    QUARANTINE_NAME,
    is_manifest_temporary,
    is_temporary,
    snapshot_name,
    snapshot_timestamp,
    temporary_name,
)
from perdure.errors import Unsupported
from perdure.ports.environment import IdSource

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})

_logger = logging.getLogger("perdure.tasklists")

DEPTH_MAX: Final = 32  # of what is counted below a root; ours is three deep, and a loop of mounts has no end


class NodeFiles:
    """The ``SnapshotStore`` of a directory. All of its files go through ``files``."""

    def __init__(self, root: Path, *, ids: IdSource, files: FileOps | None = None) -> None:
        self._root = root.absolute()
        self._files = files or FileOps()
        self._ids = ids
        self._lock = RootLock(self._files, self._root)
        self._synced: set[str] = set()

    @property
    def root(self) -> str:
        """The directory."""
        return str(self._root)

    def open(self, *, create: bool) -> None:
        """Lock the directory and sweep it."""
        with translated("open", self._root):
            self._prepare(create=create)
            self._lock.acquire()
        self._sweep()

    def close(self) -> None:
        """Unlock the directory."""
        with reported("close the lock of", self._root):
            self._lock.release()
        self._synced.clear()

    def read_manifest(self) -> Manifest | None:
        """Read it as it is now."""
        return read_manifest(self._files, self._root)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write it beside, then over the old one."""
        self._lock.check()
        write_manifest(self._files, self._root, manifest, token=self._token())

    def lists(self) -> Sequence[str]:
        """Directories whose name can be an id."""
        with translated("list", self._root):
            return [name for name in self._files.names(self._root) if self._is_list(name)]

    def snapshots(self, entity_id: str) -> Sequence[SnapshotFile]:
        """Files with canonical names; a link or a directory with such a name is one that cannot be read."""
        directory = self._directory(entity_id)
        with translated_reading(directory):
            if not is_directory(self._files, directory):
                return []
            found: list[SnapshotFile] = []
            for name in self._files.names(directory):
                timestamp_ms = snapshot_timestamp(name)
                size = None if timestamp_ms is None else self._size(directory / name)
                if timestamp_ms is not None and size is not None:
                    found.append(SnapshotFile(timestamp_ms=timestamp_ms, size=size))
        return sorted(found, key=lambda file: file.timestamp_ms, reverse=True)

    def read(self, entity_id: str, timestamp_ms: int) -> bytes:
        """Read one file, if its directory is one."""
        directory = self._directory(entity_id)
        path = directory / snapshot_name(timestamp_ms)
        with translated_reading(path):
            if not is_directory(self._files, directory):
                raise FileNotFoundError(f"{directory} is not there")
            data = read_regular(self._files, path, bytes_max=SNAPSHOT_BYTES_MAX)
        if data is None:
            raise InvalidEncoding(
                f"{path} has more than {SNAPSHOT_BYTES_MAX} bytes (snapshot_bytes_max), so it is no snapshot",
                reason="snapshot_bytes_max",
            )
        return data

    def publish(self, entity_id: str, timestamp_ms: int, pieces: Sequence[bytes]) -> None:
        """Write and sync a file beside, give it its name, and sync the directory."""
        directory, name = self._directory(entity_id), snapshot_name(timestamp_ms)
        self._lock.check()
        token = self._token()
        temporary = directory / temporary_name(timestamp_ms, pid=self._files.process_id(), token=token)
        with translated("write", directory / name):
            self._make_list(directory)
            try:
                write_new(self._files, temporary, pieces)
                self._name(temporary, directory / name)
                sync_directory(self._files, directory)
            finally:
                self._remove_temporary(temporary)

    def remove(self, entity_id: str, timestamp_ms: int) -> None:
        """Remove one file; a loss of power may bring it back, which does no harm."""
        path = self._directory(entity_id) / snapshot_name(timestamp_ms)
        self._lock.check()
        with translated("remove", path):
            try:
                self._files.unlink(path)
            except FileNotFoundError:
                return

    def quarantine(self, entity_id: str, timestamp_ms: int) -> str:
        """Move one file into the list's quarantine."""
        directory, name = self._directory(entity_id), snapshot_name(timestamp_ms)
        self._lock.check()
        with translated("put aside", directory / name):
            return put_aside(self._files, directory, name)

    def discard(self, entity_id: str) -> None:
        """Remove what is ours in the list's directory, then the directories that are empty."""
        directory = self._directory(entity_id)
        self._lock.check()
        with translated("remove", directory):
            if not is_directory(self._files, directory):
                return
            for name in quarantined(self._files, directory):
                self._files.unlink(directory / QUARANTINE_NAME / name)
            names = self._files.names(directory)
            for name in names:
                if snapshot_timestamp(name) is not None or is_temporary(name):
                    self._files.unlink(directory / name)
            for emptied in (directory / QUARANTINE_NAME, directory):
                if is_directory(self._files, emptied) and not self._files.names(emptied):
                    self._files.remove_directory(emptied)
            self._synced.discard(entity_id)
            # What was removed must not come back as a list that nobody knows.
            sync_directory(self._files, directory if is_directory(self._files, directory) else self._root)

    def usage(self) -> Usage:
        """Count what is there now."""
        used = aside = 0
        with translated("measure", self._root):
            found: list[tuple[Path, int, bool]] = [(self._root, 0, False)]
            while found:
                directory, depth, is_aside = found.pop()
                for name in self._names_or_none(directory):
                    path = directory / name
                    entry = self._stat_if_there(path)
                    if entry is None:
                        continue
                    if stat.S_ISDIR(entry.st_mode) and depth < DEPTH_MAX:
                        found.append((path, depth + 1, is_aside or (depth == 1 and name == QUARANTINE_NAME)))
                    elif stat.S_ISREG(entry.st_mode) and is_aside:
                        aside += entry.st_size
                    elif stat.S_ISREG(entry.st_mode):
                        used += entry.st_size
        return Usage(used_bytes=used, quarantine_bytes=aside)

    # --- the directory itself -------------------------------------------------------------------------------------

    def _prepare(self, *, create: bool) -> None:
        missing: list[Path] = []
        path = self._root
        while not _is_place(self._files, path):
            missing.append(path)
            path = path.parent
        if missing and not create:
            raise PersistenceNotInitialized(
                f"PersistenceNotInitialized: {self._root} is not there; initialise it once (initialize_if_missing), or "
                "name the right root",
                path=str(self._root),
            )
        for new in reversed(missing):
            try:
                make_private_directory(self._files, new)
            except FileExistsError:
                continue  # another process makes the same directory; the lock decides which of the two may use it
            try:
                sync_directory(self._files, new.parent)
            except OSError:
                # Found there next time it would be taken for one that is on the disk.
                with reported("remove", new):
                    self._files.remove_directory(new)
                raise

    def _sweep(self) -> None:
        # Whoever left these is gone: they held the lock that this process holds now.
        with reported("sweep", self._root):
            for name in self._files.names(self._root):
                if is_manifest_temporary(name):
                    self._unlink_swept(self._root / name)
                elif self._is_list(name):
                    self._sweep_list(self._root / name)

    def _sweep_list(self, directory: Path) -> None:
        with reported("sweep", directory):
            for name in self._files.names(directory):
                if is_temporary(name):
                    self._unlink_swept(directory / name)

    def _unlink_swept(self, path: Path) -> None:
        with reported("sweep", path):
            self._files.unlink(path)

    def _make_list(self, directory: Path) -> None:
        if not is_directory(self._files, directory):
            make_private_directory(self._files, directory)
            self._synced.discard(directory.name)
        # Also one that was there: who made it may have failed before its name was on the disk.
        if directory.name not in self._synced:
            sync_directory(self._files, self._root)
            self._synced.add(directory.name)

    # --- one entry ------------------------------------------------------------------------------------------------

    def _directory(self, entity_id: str) -> Path:
        return self._root / check_entity_id(entity_id)

    def _token(self) -> str:
        return self._ids.new().hex

    def _is_list(self, name: str) -> bool:
        try:
            check_entity_id(name)
        except InvalidEntityId:
            return False
        entry = self._stat_if_there(self._root / name)
        return entry is not None and stat.S_ISDIR(entry.st_mode)

    def _name(self, temporary: Path, final: Path) -> None:
        try:
            self._files.link(temporary, final)
        except FileExistsError as exc:
            raise SnapshotExists(
                f"{final} is there already and was not touched; somebody else writes below this root: stop them",
                path=str(final),
            ) from exc
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            raise Unsupported(
                f"{self._root} is on a file system without hard links, by which a snapshot gets its name safely; "
                "choose a root on another one",
                code="hard_links_unsupported",
                path=str(self._root),
            ) from exc

    def _remove_temporary(self, temporary: Path) -> None:
        with reported("remove", temporary):
            try:
                self._files.unlink(temporary)
            except FileNotFoundError:
                return

    def _size(self, path: Path) -> int | None:
        entry = self._stat_if_there(path)
        if entry is None:
            return None
        return entry.st_size if stat.S_ISREG(entry.st_mode) else 0

    def _stat_if_there(self, path: Path) -> os.stat_result | None:
        try:
            return self._files.stat(path)
        except FileNotFoundError:
            return None

    def _names_or_none(self, directory: Path) -> Sequence[str]:
        # One directory that cannot be listed must not stop the others; only the root itself has to be readable.
        try:
            return self._files.names(directory)
        except OSError as exc:
            if directory == self._root:
                raise
            _logger.warning("cannot measure %s: %s; it is not counted", directory, exc.strerror or exc)
            return []


def _is_place(files: FileOps, path: Path) -> bool:
    try:
        mode = files.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(mode):
        # A root may be led elsewhere by whoever runs this machine; what is below it may not.
        return True
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(f"{path} is not a directory")
    return True
