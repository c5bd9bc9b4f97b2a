"""The routed stores of a plane without a ledger: everything real but the admission.

::

    async with routed_plane([given("main", backend)], backend.routes, environment=fake_environment()) as plane:
        acme = plane.tenant("t_acme")
        await acme.routes.set("tables", "main")
        await acme.tables.put("items", "a", 1)

Two planes on the same backend see each other's routes as two processes do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from perdure.core.backends import Backends
from perdure.core.fanout import Fanout
from perdure.core.memory import Memory
from perdure.core.objects import Objects
from perdure.core.route_upkeep import RouteUpkeep
from perdure.core.routes import Routes
from perdure.core.routing import STALENESS_S_MAX, Routing, Sleep
from perdure.core.secrets import SystemSecrets
from perdure.core.stores import Stores
from perdure.core.streams import Sampler, Streams
from perdure.core.tables import Tables
from perdure.core.telemetry import PlaneTelemetry, Telemetry
from perdure.core.telemetry_settings import TelemetrySettings
from perdure.core.turn_backends import TurnBackends
from perdure.core.turns import Turns
from perdure.core.work import WorkUnits
from perdure.core.work_recording import telemetry_recorders
from perdure.core.work_saving import WorkParts
from perdure.domain.container import PROJECT_DEFAULT
from perdure.domain.ids import check_mode
from perdure.domain.kinds import KINDS, Kind
from perdure.domain.scope import Scope, make_scope
from perdure.ports.backend import STORED, Backend, BackendRequest, BackendSpec, ConfigField
from perdure.ports.capabilities import Capabilities
from perdure.ports.environment import Environment
from perdure.ports.logs import LogStore
from perdure.ports.objects import ObjectStore
from perdure.ports.routes import RouteStore
from perdure.ports.rows import RowStore
from perdure.ports.secrets import Secrets
from perdure.ports.telemetry import TelemetryStore
from perdure.ports.turns import TurnStore
from perdure.ports.work import WorkStore

__all__ = ["Everybody", "RoutedPlane", "RoutedTenant", "given", "routed_plane"]

ACTOR_DEFAULT = "agent:tester"


class Everybody:
    """An admission that admits everybody, and remembers whom."""

    def __init__(self) -> None:
        self.admitted: list[Scope] = []

    async def admit(self, scope: Scope) -> None:
        """Admit."""
        self.admitted.append(scope)


class _Lent:
    """A backend that its user does not close: the test that opened it does."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def capabilities(self) -> Capabilities:
        return self._backend.capabilities

    @property
    def logs(self) -> LogStore:
        return self._backend.logs

    @property
    def rows(self) -> RowStore:
        return self._backend.rows

    @property
    def routes(self) -> RouteStore:
        return self._backend.routes

    @property
    def objects(self) -> ObjectStore | None:
        return self._backend.objects

    @property
    def turns(self) -> TurnStore | None:
        return self._backend.turns

    @property
    def work(self) -> WorkStore | None:
        return self._backend.work

    @property
    def telemetry(self) -> TelemetryStore | None:
        return self._backend.telemetry

    async def probe(self, *, timeout_s: float) -> None:
        await self._backend.probe(timeout_s=timeout_s)

    async def close(self) -> None:
        """Nothing: see above."""


def given(name: str, backend: Backend, *, lab_only: bool = False) -> BackendSpec:
    """The specification under which routes may name a backend that is open already, and stays open.

    Its config may have ``place`` (text), ``key`` (a reference to a secret, resolved when it is first used), ``size``
    (an integer) and ``quiet`` (a flag), none of which changes where it leads.
    """

    async def lend(request: BackendRequest) -> Backend:
        """The backend, which the borrower does not close."""
        if "key" in request.config:
            await request.secrets.resolve(str(request.config["key"]))
        return _Lent(backend)

    return BackendSpec(
        name=name,
        lab_only=lab_only,
        config=(
            ConfigField(name="place"),
            ConfigField(name="key", type="secret"),
            ConfigField(name="size", type="integer"),
            ConfigField(name="quiet", type="flag"),
        ),
        open=lend,
        kinds=frozenset(kind for kind in Kind if KINDS[kind].routed) if backend.objects is not None else STORED,
    )


class RoutedTenant:
    """One tenant's routed stores."""

    def __init__(
        self,
        scope: Scope,
        *,
        stores: Stores,
        fanout: Fanout,
        sampler: Sampler,
        turn_backends: TurnBackends,
        work_parts: WorkParts,
        telemetry: PlaneTelemetry,
    ) -> None:
        self.scope = scope
        self.streams = Streams(scope, stores=stores, fanout=fanout, sampler=sampler)
        self.tables = Tables(scope, stores=stores)
        self.memory = Memory(scope, stores=stores)
        self.objects = Objects(scope, stores=stores)
        self.turns = Turns(scope, stores=stores, backends=turn_backends, objects=self.objects)
        self.work = WorkUnits(scope, parts=work_parts)
        self.telemetry = Telemetry(scope, stores=stores, plane=telemetry)
        self.routes = Routes(scope, stores=stores)


class RoutedPlane:
    """What a plane's routed stores share. ``upkeep.once()`` is what a plane does in the background.

    Telemetry is flushed when a test says so, ``telemetry.flush()``, or in the background after ``telemetry.start()``.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        fanout: Fanout,
        sampler: Sampler,
        sleep: Sleep,
        work_parts: WorkParts,
        telemetry: PlaneTelemetry,
    ) -> None:
        self.stores = stores
        self.telemetry = telemetry
        self.fanout = fanout
        self.upkeep = RouteUpkeep(stores, fanout=fanout, sleep=sleep)
        self._sampler = sampler
        self._turn_backends = TurnBackends(stores, sleep=sleep)
        self._work_parts = work_parts

    def tenant(
        self,
        tenant: str,
        *,
        actor: str = ACTOR_DEFAULT,
        user: UUID | str | None = None,
        project: str = PROJECT_DEFAULT,
        surface: str | None = None,
        app: str | None = None,
        session: str | None = None,
        request_id: str | None = None,
        trace_id: str | None = None,
    ) -> RoutedTenant:
        """One tenant's view, as ``plane.scope`` of a whole plane."""
        scope = make_scope(
            tenant,
            actor=actor,
            mode=self.stores.backends.mode,
            env=self.stores.backends.env,
            user=user,
            project=project,
            surface=surface,
            app=app,
            session=session,
            request_id=request_id,
            trace_id=trace_id,
        )
        return RoutedTenant(
            scope,
            stores=self.stores,
            fanout=self.fanout,
            sampler=self._sampler,
            turn_backends=self._turn_backends,
            work_parts=self._work_parts,
            telemetry=self.telemetry,
        )


@asynccontextmanager
async def routed_plane(
    specs: Sequence[BackendSpec],
    registry: RouteStore,
    *,
    environment: Environment,
    mode: str = "lab",
    env: str = "dev",
    timeout_s: float = 60.0,
    staleness_s_max: float = STALENESS_S_MAX,
    environ: Mapping[str, str] | None = None,
    secrets: Secrets | None = None,
    sleep: Sleep = asyncio.sleep,
    start: bool = True,
    work_key: str | None = None,
    telemetry: TelemetrySettings | None = None,
) -> AsyncIterator[RoutedPlane]:
    """A plane whose routes may name these backends and are kept in ``registry``; its routes are read at once.

    ``environ`` is where ``secret://env/NAME`` is looked up, ``sleep`` how a write waits for a copy that settles. With
    ``start=False`` the registry is not read before the first ``plane.stores.routing.start()``. ``work_key`` is the
    reference to the key of the hashes of units of work.
    """
    request = BackendRequest(
        config={},
        mode=check_mode(mode),
        env=env,
        data_dir=Path(),
        secrets=secrets if secrets is not None else SystemSecrets(environ or {}),
        environment=environment,
        timeout_s=timeout_s,
    )
    backends = Backends({spec.name: spec for spec in specs}, request=request, clock=environment.clock)
    routing = Routing(registry, clock=environment.clock, timeout_s=timeout_s, staleness_s_max=staleness_s_max)
    stores = Stores(
        routing=routing,
        backends=backends,
        admission=Everybody(),
        environment=environment,
        timeout_s=timeout_s,
        sleep=sleep,
    )
    flushing = PlaneTelemetry(stores, settings=telemetry)
    recorders = telemetry_recorders(stores, flushing)
    plane = RoutedPlane(
        stores,
        fanout=Fanout(),
        sampler=Sampler(),
        sleep=sleep,
        work_parts=WorkParts(stores, secrets=request.secrets, recorders=recorders, key_reference=work_key),
        telemetry=flushing,
    )
    try:
        if start:
            await routing.start()
        yield plane
    finally:
        await backends.close()
