"""OpenTelemetry: telemetry goes where the program's own logs go. Nothing is read back."""

from __future__ import annotations

import importlib

from perdure.compose.backends import Lent
from perdure.compose.documents import extra_is_missing
from perdure.domain.kinds import Kind
from perdure.ports.backend import Backend, BackendRequest, BackendSpec


def spec(lent: Lent) -> BackendSpec:
    """The backend ``otel``: the logger provider that the program has set."""
    del lent
    return BackendSpec(
        name="otel",
        lab_only=False,
        config=(),
        open=_start,
        extra="otel",
        kinds=frozenset({Kind.TELEMETRY}),
        copies=False,
        cost_notes="what the collector costs",
    )


async def _start(request: BackendRequest) -> Backend:
    del request
    try:
        module = importlib.import_module("perdure.adapters.otel.backend")
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.partition(".")[0] == "perdure":
            raise
        raise extra_is_missing("otel", "otel", exc) from exc
    backend: Backend = module.OtelBackend()
    return backend
