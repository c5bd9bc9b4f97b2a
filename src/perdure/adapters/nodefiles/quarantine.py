"""Damaged snapshots, put aside as evidence: few, whole, and never in the way of writing."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from perdure.adapters.nodefiles.failures import reported
from perdure.adapters.nodefiles.file_operations import FileOps, is_directory, make_private_directory, sync_directory
from perdure.domain.tasklists.snapshot_names import QUARANTINE_NAME, quarantine_order, quarantined_name

QUARANTINED_FILES_MAX: Final = 3  # of one list: enough to see what happened, too few to fill a disk
_SUFFIXES_MAX: Final = 1_000  # of one name; it is never reached, because only three files stay


def put_aside(files: FileOps, entity_directory: Path, name: str) -> str:
    """Move a file into its list's quarantine under a name that is free, and return that name. Raises ``OSError``."""
    quarantine = entity_directory / QUARANTINE_NAME
    if not is_directory(files, quarantine):
        make_private_directory(files, quarantine)
    new_name = _take_name(files, entity_directory / name, quarantine, name)
    # The evidence is on the disk under its new name before it loses the old one, which may come back: no harm.
    sync_directory(files, quarantine)
    sync_directory(files, entity_directory)
    files.unlink(entity_directory / name)
    _trim(files, quarantine)
    return new_name


def quarantined(files: FileOps, entity_directory: Path) -> list[str]:
    """The names of what was put aside, oldest first. Raises ``OSError``."""
    quarantine = entity_directory / QUARANTINE_NAME
    if not is_directory(files, quarantine):
        return []
    ordered = [(order, name) for name in files.names(quarantine) if (order := quarantine_order(name)) is not None]
    return [name for _, name in sorted(ordered)]


def _take_name(files: FileOps, old: Path, quarantine: Path, name: str) -> str:
    for attempt in range(_SUFFIXES_MAX):
        new_name = quarantined_name(name, attempt=attempt)
        try:
            files.link(old, quarantine / new_name)
        except FileExistsError:
            continue
        return new_name
    raise FileExistsError(errno.EEXIST, "every name in quarantine is taken")


def _trim(files: FileOps, quarantine: Path) -> None:
    for name in quarantined(files, quarantine.parent)[:-QUARANTINED_FILES_MAX]:
        with reported("remove", quarantine / name):
            files.unlink(quarantine / name)
