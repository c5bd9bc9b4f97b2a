"""One call to a routed store: admitted, routed, counted, audited. Every facade of a routed kind goes through here."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar
from uuid import UUID

from perdure.core.backends import Backends
from perdure.core.routing import Resolved, Routing
from perdure.domain.container import Container
from perdure.domain.kinds import Kind
from perdure.domain.route import CopyPhase, Route
from perdure.domain.scope import Scope
from perdure.domain.store_audit import StoreAudit
from perdure.errors import BackendDown, Invalid, PerdureError, Throttled, TimedOut, Unavailable
from perdure.ports.admission import Admission
from perdure.ports.backend import Backend
from perdure.ports.environment import Environment

ADMISSION_S: Final = 5.0  # how long an admitted (tenant, user) is not asked about again: how late a revocation is seen
ADMISSIONS_MAX: Final = 10_000  # remembered at a time
WRITE_S_MAX: Final = 30.0  # a write is over then, whatever patience it was given: copies of routes rely on that
SETTLE_POLL_S: Final = 0.25  # a write that waits for a copy to settle looks again this often

Result = TypeVar("Result")
Sleep = Callable[[float], Awaitable[None]]

# Its records are the audit of routed stores: send it to where audits belong.
audit_log = logging.getLogger("perdure.audit")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A backend and the route that led to it, for the length of one call. ``audit`` is to be kept in the commit.

    ``timeout_s`` is what is left of the caller's patience; for a write at most ``WRITE_S_MAX``.
    """

    backend: Backend
    resolved: Resolved
    timeout_s: float
    audit: StoreAudit | None = None


class Stores:
    """Leads the calls of one plane to their backends."""

    def __init__(
        self,
        *,
        routing: Routing,
        backends: Backends,
        admission: Admission,
        environment: Environment,
        timeout_s: float,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.routing = routing
        self.backends = backends
        self.environment = environment
        self.timeout_s = timeout_s
        self._admission = admission
        self.sleep = sleep
        self._under_way: Counter[tuple[UUID, int]] = Counter()
        self._admitted: OrderedDict[tuple[str, UUID | None], float] = OrderedDict()

    @asynccontextmanager
    async def reading(self, scope: Scope, kind: Kind, *, timeout_s: float | None = None) -> AsyncIterator[Call]:
        """The backend that keeps a kind for a scope, to read from.

        Raises ``NoRoute``, ``Unsupported``, ``Forbidden`` and ``BackendDown``, each with the kind in its code.
        """
        patience = self._patience(timeout_s)
        began = self.environment.clock.monotonic()
        await self._admit(scope)
        resolved = self.routing.resolve(kind, scope.space)
        with _coded(kind, resolved.route.backend):
            async with self.backends.use(resolved.route.target, kind=kind, timeout_s=patience) as backend:
                yield Call(backend=backend, resolved=resolved, timeout_s=self._left_s(began + patience))

    @asynccontextmanager
    async def writing(
        self, scope: Scope, container: Container, operation: str, *, timeout_s: float | None = None
    ) -> AsyncIterator[Call]:
        """The backend that keeps a container, to write to; leaves one audit record, whatever becomes of it."""
        kind = container.kind
        patience = self._patience(timeout_s)
        began = self.environment.clock.monotonic()
        await self._admit(scope)
        resolved = await self._settled(kind, scope, patience)
        record = self._record(scope, container, operation, resolved)
        outcome = "cancelled"
        # From here on by this route, whatever becomes of it; so not for longer than a copy waits.
        ends = min(began + patience, self.environment.clock.monotonic() + WRITE_S_MAX)
        try:
            with self._counted(resolved.route), _coded(kind, resolved.route.backend):
                opening_s = self._left_s(ends)
                async with self.backends.use(resolved.route.target, kind=kind, timeout_s=opening_s) as backend:
                    yield Call(
                        backend=backend,
                        resolved=resolved,
                        timeout_s=self._left_s(ends),
                        audit=record if resolved.route.audit == "writes" else None,
                    )
            outcome = "ok"
        except Exception as exc:
            outcome = exc.code if isinstance(exc, PerdureError) else type(exc).__name__
            raise
        finally:
            duration_s = self.environment.clock.monotonic() - began
            _emit(replace(record, outcome=outcome, duration_s=duration_s))

    def writes_before(self, route: Route) -> int:
        """How many writes of this process are still under way by an earlier version of a route."""
        return sum(
            count
            for (route_id, version), count in self._under_way.items()
            if route_id == route.route_id and version < route.version
        )

    @contextmanager
    def _counted(self, route: Route) -> Iterator[None]:
        key = (route.route_id, route.version)
        self._under_way[key] += 1
        try:
            yield
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]

    def _left_s(self, ends: float) -> float:
        left_s = ends - self.environment.clock.monotonic()
        if left_s <= 0:
            raise TimedOut("getting to the backend took all the time there was; nothing was done, try again")
        return left_s

    def _patience(self, timeout_s: float | None) -> float:
        if timeout_s is None:
            return self.timeout_s
        if not timeout_s > 0:
            raise Invalid(f"timeout_s is {timeout_s}; more than 0 is expected")
        return timeout_s

    async def _admit(self, scope: Scope) -> None:
        asked = (scope.tenant, scope.user_id)
        now = self.environment.clock.monotonic()
        known = self._admitted.get(asked)
        if known is not None and now - known < ADMISSION_S:
            return
        await self._admission.admit(scope)
        self._admitted[asked] = now
        self._admitted.move_to_end(asked)
        while len(self._admitted) > ADMISSIONS_MAX:
            self._admitted.popitem(last=False)

    async def _settled(self, kind: Kind, scope: Scope, patience_s: float) -> Resolved:
        # While a copy settles nobody writes: what is compared must stand still. That takes seconds, so the write waits.
        ends = self.environment.clock.monotonic() + patience_s
        refusal: Unavailable | None = None
        while True:
            left_s = ends - self.environment.clock.monotonic()
            if refusal is not None and left_s <= 0:
                raise refusal
            resolved = await self.routing.resolve_for_write(kind, scope.space, timeout_s=left_s)
            copy = resolved.route.copy
            if copy is None or copy.phase is not CopyPhase.SETTLE:
                if refusal is not None and self.environment.clock.monotonic() + SETTLE_POLL_S > ends:
                    raise refusal  # it may be written now, but the time for it was spent on waiting
                return resolved
            refusal = Unavailable(
                f"{kind} of tenant {scope.tenant} is about to be switched to backend {copy.other.backend}; writes "
                "wait until then, try again",
                code=f"{kind}.settling",
                retry_after_s=SETTLE_POLL_S,
            )
            if self.environment.clock.monotonic() + SETTLE_POLL_S > ends:
                raise refusal
            looks = self.routing.looks
            await self.sleep(SETTLE_POLL_S)
            try:
                # Once for everybody who waits here.
                async with asyncio.timeout(ends - self.environment.clock.monotonic()):
                    await self.routing.refresh(unless_looks=looks)
            except (Unavailable, TimeoutError) as exc:
                _log.debug("a write that waits cannot look at its route now (%s), and looks again", type(exc).__name__)

    def _record(self, scope: Scope, container: Container, operation: str, resolved: Resolved) -> StoreAudit:
        return StoreAudit(
            audit_id=self.environment.ids.new(),
            kind=container.kind,
            backend=resolved.route.backend,
            operation=operation,
            container="/".join(container.name),
            tenant=scope.tenant,
            project=scope.project,
            actor=scope.actor,
            request_id=scope.request_id,
            trace_id=scope.trace_id,
            occurred_at=self.environment.clock.now(),
            outcome="committed",
        )


class _coded:  # noqa: N801 - used like contextlib's own
    """Puts the kind into the code of an error that says a backend is away, so that callers can tell which one."""

    def __init__(self, kind: Kind, backend: str) -> None:
        self._kind = kind
        self._backend = backend

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BackendDown | Throttled) and "." not in error.code:
            suffix = "backend_unavailable" if isinstance(error, BackendDown) else "throttled"
            detail = {**error.detail, "kind": self._kind.value, "backend": self._backend}
            raise type(error)(error.message, code=f"{self._kind}.{suffix}", **detail) from error


def _emit(record: StoreAudit) -> None:
    fields = {
        "kind": record.kind.value,
        "backend": record.backend,
        "operation": record.operation,
        "container": record.container,
        "tenant": record.tenant,
        "project": record.project,
        "actor": record.actor,
        "request_id": record.request_id,
        "trace_id": record.trace_id,
        "outcome": record.outcome,
        "duration_s": record.duration_s,
    }
    audit_log.info("store write %s %s: %s", record.kind, record.operation, record.outcome, extra={"audit": fields})
