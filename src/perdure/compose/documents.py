"""What the modules of document backends share: from a driver to a running backend."""

from __future__ import annotations

import importlib
from types import ModuleType

from perdure.adapters.documents.backend import DocumentBackend
from perdure.errors import Unsupported
from perdure.ports.backend import BackendRequest
from perdure.ports.documents import DocumentDriver
from perdure.ports.objects import ObjectStore
from perdure.ports.secrets import Secret


def driver_module(backend: str, *, extra: str) -> ModuleType:
    """The driver's module, whose vendor client an extra installs. Raises ``Unsupported``, naming the extra."""
    try:
        return importlib.import_module(f"perdure.adapters.{backend}.driver")
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.partition(".")[0] == "perdure":
            raise
        raise extra_is_missing(backend, extra, exc) from exc


def extra_is_missing(backend: str, extra: str, error: ModuleNotFoundError) -> Unsupported:
    """The error for a backend whose client is not installed."""
    return Unsupported(
        f"backend {backend} needs a client that is not installed ({error.name}); install it with: "
        f"pip install 'perdure[{extra}]'",
        extra=extra,
    )


async def opened(
    driver: DocumentDriver, request: BackendRequest, *, objects: ObjectStore | None = None
) -> DocumentBackend:
    """The backend over a driver, open. What fails to open is closed again."""
    backend = DocumentBackend(
        driver, mode=request.mode, env=request.env, environment=request.environment, objects=objects
    )
    try:
        await backend.open()
    except BaseException:
        await backend.close()
        raise
    return backend


def text(request: BackendRequest, name: str) -> str | None:
    """A text of the configuration, None if it is left out."""
    value = request.config.get(name)
    return None if value is None else str(value)


def required_text(request: BackendRequest, name: str) -> str:
    """A text of the configuration that has to be there."""
    return str(request.config[name])


async def secret(request: BackendRequest, name: str) -> Secret | None:
    """The secret behind a reference of the configuration, None if it is left out."""
    reference = text(request, name)
    return None if reference is None else await request.secrets.resolve(reference)
