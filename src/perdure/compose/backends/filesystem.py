"""Filesystem: an append-only log in a directory, for one process at a time."""

from __future__ import annotations

from typing import cast

from perdure.adapters.filesystem.driver import FilesystemDriver, Fsync
from perdure.compose.backends import Lent
from perdure.compose.documents import opened, required_text, text
from perdure.compose.object_stores import WITH_OBJECTS, kept_beside
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField


def spec(lent: Lent) -> BackendSpec:
    """The backend ``filesystem``."""
    del lent
    return BackendSpec(
        name="filesystem",
        lab_only=True,
        config=(
            ConfigField(name="directory", required=True, about="where; relative to the plane's data_dir"),
            ConfigField(
                name="fsync", about="always (default), interval or never", choices=("always", "interval", "never")
            ),
        ),
        open=start,
        cost_notes="free; one machine, one process",
        kinds=WITH_OBJECTS,
    )


async def start(request: BackendRequest) -> Backend:
    """Documents in the directory, and objects beside it."""
    directory = request.data_dir / required_text(request, "directory")
    # The driver refuses any other word.
    fsync = cast("Fsync", text(request, "fsync") or "always")
    # Beside the documents and not among them: their directory holds nothing else.
    beside = directory.with_name(f"{directory.name}.objects")
    objects = await kept_beside("filesystem", request, "local", directory=beside)
    return await opened(FilesystemDriver(directory, fsync=fsync), request, objects=objects)
