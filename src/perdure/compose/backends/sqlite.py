"""SQLite: one file, for the processes of one machine."""

from __future__ import annotations

from perdure.adapters.sqlite.driver import SqliteDriver
from perdure.compose.backends import Lent
from perdure.compose.documents import opened, required_text
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField


def spec(lent: Lent) -> BackendSpec:
    """The backend ``sqlite``."""
    del lent
    return BackendSpec(
        name="sqlite",
        lab_only=True,
        config=(ConfigField(name="path", required=True, about="the file; relative to the plane's data_dir"),),
        open=_start,
        cost_notes="free; one machine",
    )


async def _start(request: BackendRequest) -> Backend:
    path = request.data_dir / required_text(request, "path")
    return await opened(SqliteDriver(path), request)
