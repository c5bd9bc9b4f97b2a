"""The backends in use: checked, opened when first needed, shared, probed, and closed when nobody uses them any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, TypeAlias

import msgspec

from perdure.core.backend_configs import check_config, parse_value
from perdure.domain.ids import Mode
from perdure.domain.kinds import Kind
from perdure.domain.route import ConfigValue, Target
from perdure.errors import (
    BackendDown,
    Forbidden,
    LimitExceeded,
    NotFound,
    PerdureError,
    Unavailable,
    Unsupported,
)
from perdure.ports.backend import Backend, BackendRequest, BackendSpec
from perdure.ports.environment import Clock

HealthStatus: TypeAlias = Literal["healthy", "degraded", "unhealthy", "unknown"]

BACKENDS_OPEN_MAX: Final = 200  # different (backend, config) in one process; more is a leak, not a need
CLOSE_WAIT_S: Final = 1.0  # a change of routes waits no longer for what it put out of use to be closed
PROBE_SLOW_S: Final = 1.0  # an answer that takes longer is healthy for nobody

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the last probe of a backend found, and when; ``problem`` is the code of its error, ``reason`` its text."""

    status: HealthStatus
    checked_at: datetime | None = None
    duration_s: float | None = None
    problem: str | None = None
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class _Open:
    """A backend that runs, or is about to, and how many calls are in it."""

    target: Target
    opening: asyncio.Task[Backend]
    users: int = 0
    retired: bool = False
    ending: asyncio.Task[None] | None = None


class Backends:
    """Opens and shares the backends of a plane; ``close`` ends them all."""

    def __init__(self, specs: Mapping[str, BackendSpec], *, request: BackendRequest, clock: Clock) -> None:
        self._specs = specs
        self._request = request
        self._clock = clock
        self._open: dict[bytes, _Open] = {}
        self._retired: dict[bytes, _Open] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._health: dict[bytes, Health] = {}
        self._is_closed = False

    @property
    def mode(self) -> Mode:
        """The plane's mode, by which backends are allowed."""
        return self._request.mode

    @property
    def env(self) -> str:
        """The plane's environment."""
        return self._request.env

    def check(self, target: Target, *, kind: Kind) -> BackendSpec:
        """The specification of a target's backend, if the target may be used for this kind, in this mode.

        Raises ``Unsupported`` (``{kind}.unsupported_backend``) for a backend that this release does not have or that
        keeps other kinds, ``Forbidden`` (``forbidden_backend_class``) for a lab backend outside lab, ``Invalid`` for a
        configuration with unknown or missing fields or with a secret in it.
        """
        spec = self._specs.get(target.backend)
        if spec is None:
            raise Unsupported(
                f"there is no backend {target.backend[:80]!r}; one of: {', '.join(sorted(self._specs))}",
                code=f"{kind}.unsupported_backend",
                kind=kind.value,
            )
        if kind not in spec.kinds:
            able = [one.name for one in self._specs.values() if kind in one.kinds and self.mode in one.modes]
            advice = f"one of: {', '.join(sorted(able))}" if able else f"no backend keeps them in mode {self.mode}"
            raise Unsupported(
                f"backend {spec.name} keeps {', '.join(sorted(spec.kinds))}, but no {kind}; {advice}",
                code=f"{kind}.unsupported_backend",
                kind=kind.value,
            )
        refuse_mode(spec, self.mode)
        check_config(spec, target.config)
        return spec

    def parse_config(self, backend: str, texts: Mapping[str, str]) -> Mapping[str, ConfigValue]:
        """Values given as texts, each as its field's type; what is no field stays text, for ``check`` to refuse.

        Raises ``Invalid`` for a text that is no integer or flag.
        """
        spec = self._specs.get(backend)
        types = {} if spec is None else {known.name: known.type for known in spec.config}
        return {name: parse_value(backend, name, text, types.get(name, "text")) for name, text in texts.items()}

    @asynccontextmanager
    async def use(self, target: Target, *, kind: Kind, timeout_s: float | None = None) -> AsyncIterator[Backend]:
        """The running backend of a target, kept open for as long as the block lasts.

        One that is being opened is waited for together, at most ``timeout_s`` seconds, and goes on being opened for
        whoever comes next. Raises what ``check`` raises, ``Unsupported`` naming the extra that is not installed, and
        ``BackendDown``.
        """
        spec = self.check(target, kind=kind)
        entry = self._entry(spec, target)
        entry.users += 1
        try:
            yield await self._opened(entry, kind, timeout_s)
        finally:
            entry.users -= 1
            if entry.retired and entry.users == 0:
                self._end(fingerprint(target), entry)

    async def retire(self, target: Target) -> None:
        """Close a backend that no route leads to any more, once the calls in it have ended."""
        await self._retire([fingerprint(target)])

    async def keep_only(self, targets: set[bytes]) -> None:
        """Retire every open backend whose fingerprint is not among these, and forget its health."""
        for key in [key for key in self._health if key not in targets]:
            del self._health[key]
        await self._retire([key for key in self._open if key not in targets])

    def in_use(self) -> Sequence[Target]:
        """Where the backends lead that are open now."""
        return [entry.target for entry in self._open.values() if entry.opening.done()]

    def health(self, target: Target) -> Health:
        """What the last probe found; ``unknown`` before the first."""
        return self._health.get(fingerprint(target), Health(status="unknown"))

    async def probe(self, target: Target, *, kind: Kind, timeout_s: float) -> Health:
        """Ask a backend for a sign of life and remember the answer; never raises for a backend that is down."""
        began = self._clock.monotonic()
        problem: str | None = None
        reason: str | None = None
        try:
            async with self.use(target, kind=kind) as backend:
                await backend.probe(timeout_s=timeout_s)
        except PerdureError as exc:
            problem, reason = exc.code, exc.message
        duration = self._clock.monotonic() - began
        status: HealthStatus = "unhealthy" if problem else "degraded" if duration > PROBE_SLOW_S else "healthy"
        health = Health(
            status=status, checked_at=self._clock.now(), duration_s=duration, problem=problem, reason=reason
        )
        self._health[fingerprint(target)] = health
        return health

    async def close(self) -> None:
        """Close every backend. What is still under way fails, and so does what comes afterwards."""
        self._is_closed = True
        for key, entry in [*self._open.items(), *self._retired.items()]:
            entry.retired = True
            self._end(key, entry)
        self._open.clear()
        while self._ending:
            await asyncio.wait(self._ending)

    def _entry(self, spec: BackendSpec, target: Target) -> _Open:
        key = fingerprint(target)
        entry = self._open.get(key)
        if entry is not None:
            return entry
        if self._is_closed:
            raise BackendDown("this plane is closed; open another one")
        before = self._retired.get(key)
        if before is not None and before.ending is None:
            # Calls are still in it: one place is never open twice.
            del self._retired[key]
            before.retired = False
            self._open[key] = before
            return before
        if len(self._open) >= BACKENDS_OPEN_MAX:
            raise LimitExceeded(
                f"{BACKENDS_OPEN_MAX} backends are open in this process (backends_open_max); let routes share them",
                limit="backends_open_max",
                allowed=BACKENDS_OPEN_MAX,
            )
        # A task of its own: whoever asked first may give up, and the others still want it.
        request = replace(self._request, config=target.config)
        opening = asyncio.get_running_loop().create_task(_start(spec, request, after=before))
        entry = self._open[key] = _Open(target=target, opening=opening)
        opening.add_done_callback(lambda task: self._forget_failed(key, entry, task))
        return entry

    def _forget_failed(self, key: bytes, entry: _Open, opening: asyncio.Task[Backend]) -> None:
        # The next call opens it anew; and an error that nobody waited for is not worth a complaint of the loop.
        if (opening.cancelled() or opening.exception() is not None) and self._open.get(key) is entry:
            del self._open[key]

    async def _opened(self, entry: _Open, kind: Kind, timeout_s: float | None) -> Backend:
        opening, name = entry.opening, entry.target.backend
        if not opening.done():
            await asyncio.wait([opening], timeout=timeout_s)
        if not opening.done() or opening.cancelled():
            reason = "the plane is being closed" if opening.done() else f"it was not open after {timeout_s:.1f} s"
            message = f"backend {name} of kind {kind} cannot be reached: {reason}"
            raise BackendDown(message, code=f"{kind}.backend_unavailable", backend=name)
        try:
            return opening.result()
        except Unsupported as exc:
            raise Unsupported(exc.message, code=f"{kind}.unsupported_backend", **exc.detail) from exc
        except (Unavailable, NotFound) as exc:
            # NotFound: of a secret that is not where its reference says. To whoever asked for a row it is an outage.
            message = f"backend {name} of kind {kind} cannot be reached: {exc.message}"
            raise BackendDown(message, code=f"{kind}.backend_unavailable", backend=name) from exc

    async def _retire(self, keys: Sequence[bytes]) -> None:
        ending: list[asyncio.Task[None]] = []
        for key in keys:
            entry = self._open.pop(key, None)
            if entry is not None:
                entry.retired = True
                self._retired[key] = entry
                if entry.users == 0:
                    ending.append(self._end(key, entry))
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_WAIT_S)

    def _end(self, key: bytes, entry: _Open) -> asyncio.Task[None]:
        """Close it behind everybody's back: no call waits for, or fails with, the end of what it does not use."""
        if entry.ending is None:
            entry.ending = asyncio.get_running_loop().create_task(_close(entry))
            self._ending.add(entry.ending)
            entry.ending.add_done_callback(lambda task: self._ended(key, entry, task))
        return entry.ending

    def _ended(self, key: bytes, entry: _Open, ending: asyncio.Task[None]) -> None:
        self._ending.discard(ending)
        if self._retired.get(key) is entry:
            del self._retired[key]


async def _start(spec: BackendSpec, request: BackendRequest, *, after: _Open | None) -> Backend:
    if after is not None and after.ending is not None:
        await asyncio.wait([after.ending])  # one place is never open twice
    return await spec.open(request)


async def _close(entry: _Open) -> None:
    opening = entry.opening
    if not opening.done():
        opening.cancel()
        await asyncio.wait([opening])
    if opening.cancelled() or opening.exception() is not None:
        return
    try:
        await opening.result().close()
    except Exception as exc:  # noqa: BLE001 - nobody uses it any more, and the others have to be closed as well
        # Without its text, which may be the engine's own words about the connection.
        _log.warning("backend %s could not be closed properly: %s", entry.target.backend, type(exc).__name__)


def refuse_mode(spec: BackendSpec, mode: Mode) -> None:
    """Raise ``Forbidden`` (``forbidden_backend_class``) unless the backend is allowed in this mode."""
    if mode not in spec.modes:
        raise Forbidden(
            f"backend {spec.name} is for {', '.join(sorted(spec.modes))} only and this plane is in mode {mode}; "
            "choose one that every instance reaches",
            code="forbidden_backend_class",
            backend=spec.name,
            mode=mode,
        )


def fingerprint(target: Target) -> bytes:
    """What makes two targets the same running backend."""
    return msgspec.json.encode([target.backend, sorted(target.config.items())])
