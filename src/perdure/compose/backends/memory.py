"""Memory: gone with the process. For tests, and for trying things out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.compose.backends import Lent
from perdure.compose.documents import opened
from perdure.compose.object_stores import WITH_OBJECTS, kept_beside, object_memory
from perdure.ports.backend import Backend, BackendRequest, BackendSpec


def spec(lent: Lent) -> BackendSpec:
    """The backend ``memory``. What a plane keeps in it lasts as long as the plane."""
    del lent
    return BackendSpec(
        name="memory",
        lab_only=True,
        config=(),
        open=starter(),
        cost_notes="free; nothing is kept",
        kinds=WITH_OBJECTS,
    )


def starter() -> Callable[[BackendRequest], Awaitable[Backend]]:
    """Opens clients of one memory."""
    store = MemoryStore()
    shared = cache(object_memory)

    async def start(request: BackendRequest) -> Backend:
        """Another client of the same documents and objects."""
        objects = await kept_beside("memory", request, "memory", shared=shared())
        return await opened(MemoryDriver(store), request, objects=objects)

    return start
