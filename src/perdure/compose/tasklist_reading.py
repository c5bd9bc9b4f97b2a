"""Task lists read from the disk of this node, for the command line: nothing is held, moved or written. Blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.adapters.nodefiles.snapshot_store import NodeFiles
from perdure.compose.tasklists import decoded
from perdure.core.tasklist_events import EventName
from perdure.core.tasklist_keeping import CODEC
from perdure.core.tasklist_recovery import Recovering, Recovery
from perdure.core.tasklist_replica import TaskListReplica
from perdure.domain.tasklists.configuring import persistence_config
from perdure.domain.tasklists.entity_ids import check_entity_id
from perdure.domain.tasklists.failures import PersistenceNotInitialized
from perdure.domain.tasklists.retention import SnapshotFile
from perdure.domain.tasklists.settings import PersistencePolicy, resolve_config
from perdure.errors import Invalid, NotFound, PerdureError
from perdure.ports.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOnDisk:
    """A list that has a directory: how many snapshots, how large together, and when the newest is from."""

    name: str
    snapshots: int
    size: int
    newest_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A snapshot, and what is wrong with it; None if it loads."""

    file: SnapshotFile
    error: PerdureError | None


class TaskListReader:
    """The lists below one root, read as the mode says. Raises ``PersistenceNotInitialized`` as a start in strict."""

    def __init__(self, root: Path, *, mode: str | None, settings: Mapping[str, Any], environment: Environment) -> None:
        policy = resolve_config(persistence_config(settings, root=str(root), mode=mode))
        if policy is None:
            raise Invalid("mode off keeps nothing on the disk, so there is nothing to read; choose another")
        self._policy: PersistencePolicy = policy
        self._root = root
        self._environment = environment
        self._store = NodeFiles(root, ids=environment.ids)
        manifest = self._store.read_manifest() if root.is_dir() and policy.is_strict else None
        if policy.is_strict and manifest is None:
            raise PersistenceNotInitialized(
                f"PersistenceNotInitialized: {root} has no manifest, so strict does not read it; name the right root"
            )
        self._written = frozenset() if manifest is None else frozenset(manifest.lists)

    def lists(self) -> Sequence[ListOnDisk]:
        """Every list that has a directory, by its name."""
        return [self._described(name) for name in (self._store.lists() if self._root.is_dir() else ())]

    def read(self, name: str) -> Recovery[TaskListReplica]:
        """What a start would load. Raises as a start in strict does, and ``NotFound`` for a list that never was."""
        recovering = self._recovering(name)
        if not self._files(name) and name not in self._written:
            raise NotFound(f"there is no list {name!a} below {self._root}; see: perdure tasklists list")
        return recovering.recover()

    def examine(self, name: str) -> Sequence[Examined]:
        """Each snapshot, newest first, and what is wrong with it."""
        recovering = self._recovering(name)
        if not self._files(name):
            return ()
        return [Examined(file=file, error=error) for file, error in recovering.examine()]

    def _recovering(self, name: str) -> Recovering[TaskListReplica]:
        return Recovering(
            store=self._store,
            mode=self._policy.mode,
            entity_id=check_entity_id(name),
            codec=CODEC,
            decode=lambda payload: decoded(payload, self._environment),
            emit=_quiet,
            was_written=name in self._written,
        )

    def _described(self, name: str) -> ListOnDisk:
        files = self._files(name)
        return ListOnDisk(
            name=name,
            snapshots=len(files),
            size=sum(file.size for file in files),
            newest_ms=files[0].timestamp_ms if files else None,
        )

    def _files(self, name: str) -> Sequence[SnapshotFile]:
        return self._store.snapshots(name) if self._root.is_dir() else ()


def _quiet(_name: EventName, _fields: Mapping[str, object]) -> None:
    """What is found is printed, and nothing is done about it."""
