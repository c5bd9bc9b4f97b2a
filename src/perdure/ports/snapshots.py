"""What task lists need of whoever keeps their snapshots on this node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perdure.domain.tasklists.manifest import Manifest
from perdure.domain.tasklists.retention import SnapshotFile, Usage


class SnapshotStore(Protocol):
    """Snapshots of lists below one root of this node. Every method blocks: one worker thread at a time calls them.

    An id that cannot name a directory is ``InvalidEntityId`` everywhere. What the system refuses is a
    ``PersistenceError``, or ``SnapshotUnreadable`` where bytes are read. Nothing is written, moved or removed by who
    does not hold the root: that is ``StoreLocked``, also in a process that was forked from the holder.
    """

    @property
    def root(self) -> str:
        """Where it is, for people."""
        ...

    def open(self, *, create: bool) -> None:
        """Hold the root for this process until ``close`` or its end, however that comes, and sweep what writers left.

        With ``create`` a root that is missing is made, readable by its owner only; else that is
        ``PersistenceNotInitialized``. Raises ``StoreLocked`` if somebody holds it, in this process too.
        """
        ...

    def close(self) -> None:
        """Let go of the root. Closing twice is fine."""
        ...

    def read_manifest(self) -> Manifest | None:
        """The manifest, None without one or without the root. Needs no hold. Raises as ``decode_manifest``."""
        ...

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest; once it returns the new one is on the disk, before that the old one is."""
        ...

    def lists(self) -> Sequence[str]:
        """The ids of lists that have a directory, in order; what cannot be an id is left out."""
        ...

    def snapshots(self, entity_id: str) -> Sequence[SnapshotFile]:
        """What has a canonical name, newest first, whatever it holds; none of a list that was never seen."""
        ...

    def read(self, entity_id: str, timestamp_ms: int) -> bytes:
        """The bytes of a regular file of at most ``SNAPSHOT_BYTES_MAX``. Needs no hold, follows no link, never waits.

        Raises ``SnapshotUnreadable``, and ``InvalidEncoding`` for a longer one.
        """
        ...

    def publish(self, entity_id: str, timestamp_ms: int, pieces: Sequence[bytes]) -> None:
        """Write a snapshot; once it returns it is on the disk, and nobody ever sees a part of it.

        A name that is taken is ``SnapshotExists``, and the file there is not touched. After any other failure the file
        may be there, whole, and may be gone after a loss of power: write again, under the next name.
        """
        ...

    def remove(self, entity_id: str, timestamp_ms: int) -> None:
        """Remove a snapshot; one that is gone is fine."""
        ...

    def quarantine(self, entity_id: str, timestamp_ms: int) -> str:
        """Put a damaged file aside and return its new name; the oldest go where a list has more than three of them."""
        ...

    def discard(self, entity_id: str) -> None:
        """Remove all snapshots of a list and what was put aside of them; other files stay, and then the directory."""
        ...

    def usage(self) -> Usage:
        """The bytes of all regular files below the root; what is in quarantine apart."""
        ...
