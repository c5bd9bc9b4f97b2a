"""Which path leads where, and how large a body it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from perdure.adapters.cxdb.http_server.answers import NO_METHOD, NOT_FOUND, Answer, HttpError, HttpRequest
from perdure.adapters.cxdb.http_server.context_routes import ContextRoutes
from perdure.adapters.cxdb.http_server.directory import ContextDirectory
from perdure.adapters.cxdb.http_server.file_routes import FileRoutes
from perdure.adapters.cxdb.http_server.limits import (
    APPEND_BODY_BYTES_MAX,
    BUNDLE_BODY_BYTES_MAX,
    CREATE_BODY_BYTES_MAX,
)
from perdure.adapters.cxdb.http_server.metrics import Metrics
from perdure.adapters.cxdb.http_server.registry_routes import RegistryRoutes
from perdure.adapters.cxdb.http_server.registry_state import RegistryState
from perdure.adapters.cxdb.http_server.serving_state import Served
from perdure.adapters.cxdb.http_server.turn_routes import TurnRoutes
from perdure.adapters.cxdb.http_server.write_routes import WriteRoutes

Handler: TypeAlias = Callable[[HttpRequest], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method and a path. A part in braces is any segment that is not empty, a last ``**`` one or more of them."""

    method: str
    parts: tuple[str, ...]
    handler: Handler
    body_limit: str = "create_body_bytes_max"
    body_bytes_max: int = 0
    is_open: bool = False

    def fits(self, parts: Sequence[str]) -> bool:
        """Whether a path is one of these."""
        if self.parts[-1] == "**":
            wanted = self.parts[:-1]
            if len(parts) <= len(wanted):
                return False
        else:
            wanted = self.parts
            if len(parts) != len(wanted):
                return False
        return all((part and want[0] == "{") or want == part for want, part in zip(wanted, parts, strict=False))


class Routes:
    """The routes of one server, and what they count."""

    def __init__(self, served: Served) -> None:
        state = RegistryState(served)
        self._served = served
        self.metrics = Metrics(served, state)
        self._routes = _routes(served, state, self.metrics)

    def find(self, method: str, parts: Sequence[str]) -> Route:
        """The route of a request. Raises ``HttpError``."""
        fitting = [route for route in self._routes if route.fits(parts)]
        for route in fitting:
            if route.method == method:
                return route
        if not fitting or self._served.is_strict:
            raise HttpError(NOT_FOUND, "route" if self._served.is_strict else "there is no such route")
        allowed = ", ".join(sorted({route.method for route in fitting}))
        raise HttpError(NO_METHOD, f"this route takes {allowed}", headers=((b"allow", allowed.encode()),))


async def _healthz(request: HttpRequest) -> Answer:
    del request
    return Answer(body=b"ok", headers=((b"content-type", b"text/plain"),))


def _routes(served: Served, state: RegistryState, metrics: Metrics) -> tuple[Route, ...]:
    contexts = ContextRoutes(served, ContextDirectory(served))
    turns = TurnRoutes(served, state)
    writes = WriteRoutes(served, state)
    registry = RegistryRoutes(served, state)
    files = FileRoutes(served)

    def get(path: str, handler: Handler) -> Route:
        return Route(method="GET", parts=tuple(path.split("/")), handler=handler)

    def post(path: str, handler: Handler) -> Route:
        is_append = handler == writes.append
        return Route(
            method="POST",
            parts=tuple(path.split("/")),
            handler=handler,
            body_limit="append_body_bytes_max" if is_append else "create_body_bytes_max",
            body_bytes_max=APPEND_BODY_BYTES_MAX if is_append else CREATE_BODY_BYTES_MAX,
        )

    return (
        Route(method="GET", parts=("healthz",), handler=_healthz, is_open=True),
        post("v1/contexts", writes.create),
        post("v1/contexts/create", writes.create),
        post("v1/contexts/fork", writes.fork),
        post("v1/contexts/{id}/append", writes.append),
        post("v1/contexts/{id}/turns", writes.append),
        get("v1/contexts", contexts.list),
        get("v1/contexts/search", contexts.search),
        get("v1/contexts/{id}", contexts.get),
        get("v1/contexts/{id}/children", contexts.children),
        get("v1/contexts/{id}/provenance", contexts.provenance),
        get("v1/contexts/{id}/turns", turns.list),
        Route(
            method="PUT",
            parts=("v1", "registry", "bundles", "{id}"),
            handler=registry.put_bundle,
            body_limit="bundle_body_bytes_max",
            body_bytes_max=BUNDLE_BODY_BYTES_MAX,
        ),
        get("v1/registry/bundles/{id}", registry.get_bundle),
        get("v1/registry/types/{type}/versions/{version}", registry.get_version),
        get("v1/registry/renderers", registry.get_renderers),
        get("v1/turns/{id}/fs", files.list),
        get("v1/turns/{id}/fs/**", files.read),
        get("v1/metrics", metrics.get),
    )
