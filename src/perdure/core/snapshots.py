"""Snapshots of directories: taken, looked into, and written back, at any turn.

::

    taken = await capture(acme.turns, "work", turn_id=ref.turn_id)
    await browse(acme.turns, ref.turn_id, "src")
    await restore(acme.turns, ref.turn_id, "work-then")
"""

from __future__ import annotations

from perdure.core.snapshot_browsing import Located, browse, locate, read_content
from perdure.core.snapshot_capturing import Captured, capture
from perdure.core.snapshot_ignoring import IGNORE_DEFAULT
from perdure.core.snapshot_limits import DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, SnapshotLimits, SnapshotProgress
from perdure.core.snapshot_restoring import Restored, restore

__all__ = [
    "DEPTH_MAX",
    "FILES_MAX",
    "FILE_BYTES_MAX",
    "IGNORE_DEFAULT",
    "Captured",
    "Located",
    "Restored",
    "SnapshotLimits",
    "SnapshotProgress",
    "browse",
    "capture",
    "locate",
    "read_content",
    "restore",
]
