"""What the modules of backends that keep objects share."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Final

from perdure.compose.documents import extra_is_missing, secret, text
from perdure.domain.kinds import Kind
from perdure.errors import Unsupported
from perdure.ports.backend import STORED, Backend, BackendRequest, ConfigField
from perdure.ports.objects import ObjectStore
from perdure.ports.secrets import Secret

EXTRA: Final = "objects"
WITH_OBJECTS: Final = STORED | {Kind.OBJECTS}
ONLY_OBJECTS: Final = frozenset({Kind.OBJECTS})

PREFIX: Final = ConfigField(name="prefix", about="below which keys begin, as in team/objects")


async def kept_beside(backend: str, request: BackendRequest, place: str, **arguments: Any) -> ObjectStore | None:
    """A store of objects beside documents, open; None without the extra.

    ``place`` names the function that makes it (``memory`` or ``local``). Documents need none of it: who asks for
    objects is told then what to install.
    """
    try:
        make = getattr(opening(backend), place)
    except Unsupported:
        return None
    store = make(**arguments, mode=request.mode, env=request.env, environment=request.environment)
    await store.open(timeout_s=request.timeout_s)
    kept: ObjectStore = store
    return kept


def object_memory() -> Any:
    """A memory for stores of objects to share; None without the extra."""
    try:
        return opening("memory").MemoryStore()
    except Unsupported:
        return None


async def kept_alone(backend: str, request: BackendRequest, **arguments: str | Secret | None) -> Backend:
    """A backend of a cloud's object store, open. Raises ``Unsupported``, naming the extra."""
    module = opening(backend)
    store = getattr(module, backend)(
        **arguments,
        prefix=text(request, "prefix"),
        mode=request.mode,
        env=request.env,
        environment=request.environment,
    )
    try:
        await store.open(timeout_s=request.timeout_s)
    except BaseException:
        await store.close()
        raise
    alone: Backend = importlib.import_module("perdure.adapters.objectstore.backend").ObjectBackend(store)
    return alone


async def credentials(request: BackendRequest, *names: str) -> dict[str, Secret | None]:
    """The secrets behind the references of a configuration, None for those left out."""
    return {name: await secret(request, name) for name in names}


def opening(backend: str) -> ModuleType:
    """The module that makes stores of objects, whose client an extra installs. Raises ``Unsupported``, naming it."""
    try:
        return importlib.import_module("perdure.adapters.objectstore.opening")
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.partition(".")[0] == "perdure":
            raise
        raise extra_is_missing(backend, EXTRA, exc) from exc
