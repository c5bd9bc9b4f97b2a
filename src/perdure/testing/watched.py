"""A backend that is watched: every call is counted, and a test may hold it, break it, or lose its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from perdure.ports.backend import Backend
from perdure.ports.capabilities import Capabilities

if TYPE_CHECKING:
    from perdure.ports.logs import LogStore
    from perdure.ports.objects import ObjectStore
    from perdure.ports.routes import RouteStore
    from perdure.ports.rows import RowStore
    from perdure.ports.telemetry import TelemetryStore
    from perdure.ports.turns import TurnStore
    from perdure.ports.work import WorkStore

__all__ = ["Hook", "WatchedBackend", "failing"]

Hook = Callable[[str], Awaitable[None]]
"""Told the name of a call, as in ``logs.append``; it may raise, or wait."""


class WatchedBackend:
    """Another backend, with its calls in view.

    ``calls`` are the names of the calls so far, in order. ``before`` is asked before a call is made, ``after`` before
    its answer is handed on: what they raise is what the caller sees, so ``after`` loses the answer of a call that was
    made. Closing it closes nothing: who opened the backend does that.
    """

    def __init__(self, backend: Backend, *, before: Hook | None = None, after: Hook | None = None) -> None:
        self.calls: list[str] = []
        self.before = before
        self.after = after
        self.is_closed = False
        self._backend = backend

    @property
    def capabilities(self) -> Capabilities:
        """Those of the backend."""
        return self._backend.capabilities

    @property
    def logs(self) -> LogStore:
        """Its logs, watched."""
        return cast("LogStore", _WatchedStore(self, "logs", self._backend.logs))

    @property
    def rows(self) -> RowStore:
        """Its rows, watched."""
        return cast("RowStore", _WatchedStore(self, "rows", self._backend.rows))

    @property
    def routes(self) -> RouteStore:
        """Its registry, watched."""
        return cast("RouteStore", _WatchedStore(self, "routes", self._backend.routes))

    @property
    def objects(self) -> ObjectStore | None:
        """Its objects, watched."""
        objects = self._backend.objects
        return None if objects is None else cast("ObjectStore", _WatchedStore(self, "objects", objects))

    @property
    def turns(self) -> TurnStore | None:
        """Its turns, watched."""
        turns = self._backend.turns
        return None if turns is None else cast("TurnStore", _WatchedStore(self, "turns", turns))

    @property
    def work(self) -> WorkStore | None:
        """Its units of work, watched."""
        work = self._backend.work
        return None if work is None else cast("WorkStore", _WatchedStore(self, "work", work))

    @property
    def telemetry(self) -> TelemetryStore | None:
        """Its telemetry, watched."""
        telemetry = self._backend.telemetry
        return None if telemetry is None else cast("TelemetryStore", _WatchedStore(self, "telemetry", telemetry))

    async def probe(self, *, timeout_s: float) -> None:
        """Ask the backend."""
        await self.call("probe", self._backend.probe, timeout_s=timeout_s)

    async def close(self) -> None:
        """Remember that it was closed; the backend stays open."""
        self.is_closed = True

    async def call(self, name: str, method: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
        """Make one call of the backend, watched."""
        self.calls.append(name)
        if self.before is not None:
            await self.before(name)
        answer = await method(*arguments, **named)
        if self.after is not None:
            await self.after(name)
        return answer


class _WatchedStore:
    """A store whose every method is called through its backend's ``call``."""

    def __init__(self, watched: WatchedBackend, name: str, store: object) -> None:
        self._watched = watched
        self._name = name
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._watched.call(f"{self._name}.{name}", method, *arguments, **named)

        return call


def failing(error: BaseException, *, among: str = "", times: int | None = None) -> Hook:
    """A hook that raises ``error`` for calls whose names begin with ``among``, at most ``times`` times."""
    left = times

    async def hook(name: str) -> None:
        """Raise, while it is to."""
        nonlocal left
        if name.startswith(among) and left != 0:
            left = None if left is None else left - 1
            raise error

    return hook
