"""Memory: gone with the process. For tests, and for trying things out."""

from __future__ import annotations

from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.compose.backends import Lent
from perdure.compose.documents import opened
from perdure.ports.backend import Backend, BackendRequest, BackendSpec


def spec(lent: Lent) -> BackendSpec:
    """The backend ``memory``. What a plane keeps in it lasts as long as the plane."""
    del lent
    store = MemoryStore()

    async def start(request: BackendRequest) -> Backend:
        """Another client of the same documents."""
        return await opened(MemoryDriver(store), request)

    return BackendSpec(name="memory", lab_only=True, config=(), open=start, cost_notes="free; nothing is kept")
