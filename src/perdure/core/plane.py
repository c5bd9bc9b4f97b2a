"""The plane and one tenant's view of it: what users hold.

Everything below a ``Tenant`` belongs to that tenant; there is no other way to name one. The synchronous facade is
generated from this module and the facades it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from perdure.core.changes import ChangeBlock, Committer
from perdure.core.commit_queue import CommitQueue
from perdure.core.effect_hints import EffectHints
from perdure.core.fanout import Fanout
from perdure.core.memory import Memory
from perdure.core.objects import Objects
from perdure.core.reading import Events, Reading
from perdure.core.relay import Relay, RelaySettings
from perdure.core.routes import Routes
from perdure.core.runs import Runs
from perdure.core.signals import Signals
from perdure.core.stores import Stores
from perdure.core.streams import Sampler, Streams
from perdure.core.tables import Tables
from perdure.core.tasklists import TaskLists
from perdure.core.telemetry import PlaneTelemetry, Telemetry
from perdure.core.tenant_outbox import TenantOutbox
from perdure.core.tenants import Tenants
from perdure.core.turn_backends import TurnBackends
from perdure.core.turns import Turns
from perdure.core.work import WorkUnits
from perdure.core.work_saving import WorkParts
from perdure.domain.change import Change
from perdure.domain.container import PROJECT_DEFAULT, Space
from perdure.domain.handles import Run
from perdure.domain.ids import Mode
from perdure.domain.scope import SOURCE_DEFAULT, Scope, make_scope
from perdure.ports.environment import Environment
from perdure.ports.ledger import JoinedConnection, Ledger
from perdure.ports.ledger_reads import LedgerReader
from perdure.ports.relay import DeadLetterHook, Deliverer


class OpenRelay(Protocol):
    """How a plane makes a relay on its own database."""

    def __call__(
        self,
        deliverers: Mapping[str, Deliverer],
        *,
        webhooks: bool,
        settings: RelaySettings | None,
        on_dead_letter: DeadLetterHook | None,
    ) -> AbstractAsyncContextManager[Relay]:
        """A relay that is running for as long as the block lasts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """What the routed stores of one plane share."""

    stores: Stores
    fanout: Fanout
    sampler: Sampler
    turn_backends: TurnBackends
    work_parts: WorkParts
    telemetry: PlaneTelemetry


class Plane:
    """A running persistence plane; ``perdure.open`` makes and closes it."""

    def __init__(
        self,
        *,
        mode: Mode,
        env: str,
        ledger: Ledger,
        reader: LedgerReader,
        tenants: Tenants,
        environment: Environment,
        queue: CommitQueue,
        hints: EffectHints,
        open_relay: OpenRelay,
        worker: str,
        stores: Stores,
        fanout: Fanout,
        tasklists: Callable[[Space], TaskLists],
        work_parts: WorkParts,
        telemetry: PlaneTelemetry,
    ) -> None:
        self.mode = mode
        self.env = env
        self.tenants = tenants
        self.telemetry = telemetry
        self._ledger = ledger
        self._reader = reader
        self._environment = environment
        self._queue = queue
        self._hints = hints
        self._open_relay = open_relay
        self._worker = worker
        self._tasklists = tasklists
        self._routed = Routed(
            stores=stores,
            fanout=fanout,
            sampler=Sampler(),
            turn_backends=TurnBackends(stores),
            work_parts=work_parts,
            telemetry=telemetry,
        )

    def scope(
        self,
        tenant: str,
        *,
        actor: str,
        user: UUID | str | None = None,
        source: str = SOURCE_DEFAULT,
        project: str = PROJECT_DEFAULT,
        surface: str | None = None,
        app: str | None = None,
        session: str | None = None,
        request_id: str | None = None,
        trace_id: str | None = None,
    ) -> Tenant:
        """One tenant's view, with who acts in it; nothing is sent.

        ``tenant`` is a slug (``t_acme``). In lab a tenant is made when it first writes, elsewhere an unknown one is
        ``Refused`` then. ``actor`` is who does it (``agent:planner``), ``source`` where it comes from
        (``webhook:stripe``). With ``user`` each call checks that the user is a member. What routed stores keep is kept
        apart by ``project``, ``surface`` and ``app`` as by tenant; ``session``, ``request_id`` and ``trace_id`` are
        written into events and audit records. Raises ``Invalid``.
        """
        return Tenant(
            make_scope(
                tenant,
                actor=actor,
                mode=self.mode,
                env=self.env,
                user=user,
                source=source,
                project=project,
                surface=surface,
                app=app,
                session=session,
                request_id=request_id,
                trace_id=trace_id,
            ),
            ledger=self._ledger,
            reader=self._reader,
            environment=self._environment,
            queue=self._queue,
            hints=self._hints,
            worker=self._worker,
            routed=self._routed,
            tasklists=self._tasklists,
        )

    def relay(
        self,
        deliverers: Mapping[str, Deliverer] | None = None,
        *,
        webhooks: bool = False,
        settings: RelaySettings | None = None,
        on_dead_letter: DeadLetterHook | None = None,
    ) -> AbstractAsyncContextManager[Relay]:
        """Begin a relay in this process: ``async with plane.relay({"SEND_EMAIL": send_email}) as relay``.

        ``deliverers`` maps effect types to async functions of yours, ``"*"`` to the one for all others; ``webhooks``
        delivers WEBHOOK_CALL and API_CALL over HTTP. In the block, ``await relay.drain()`` delivers what is due and
        ``await relay.run()`` goes on until it is cancelled. ``on_dead_letter`` is told of every dead letter. Needs the
        DSN of the role ``perdure_relay`` (the embedded plane has it). Raises ``Refused``.
        """
        return self._open_relay(deliverers or {}, webhooks=webhooks, settings=settings, on_dead_letter=on_dead_letter)


class Tenant(Reading):
    """Everything of one tenant.

    The ledger: ``signals``, ``runs``, ``events``, ``outbox``, changes, and the ways to look back. The routed stores:
    ``streams``, ``tables``, ``memory``, ``turns``, ``objects``, ``work``, ``telemetry``, and the ``routes`` that choose
    their backends. On this node: ``tasklists``.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        ledger: Ledger,
        reader: LedgerReader,
        environment: Environment,
        queue: CommitQueue,
        hints: EffectHints,
        worker: str,
        routed: Routed,
        tasklists: Callable[[Space], TaskLists],
    ) -> None:
        super().__init__(reader, scope)
        self.scope = scope
        self._ids = environment.ids
        self._committer = Committer(scope, ledger=ledger, queue=queue, hints=hints)
        self.signals = Signals(scope, committer=self._committer, reader=reader, environment=environment)
        self.runs = Runs(
            scope,
            committer=self._committer,
            ledger=ledger,
            reader=reader,
            environment=environment,
            worker=worker,
        )
        self.events = Events(reader, scope)
        self.outbox = TenantOutbox(scope, ledger=ledger, reader=reader)
        self.streams = Streams(scope, stores=routed.stores, fanout=routed.fanout, sampler=routed.sampler)
        self.tables = Tables(scope, stores=routed.stores)
        self.memory = Memory(scope, stores=routed.stores)
        self.objects = Objects(scope, stores=routed.stores)
        self.turns = Turns(scope, stores=routed.stores, backends=routed.turn_backends, objects=self.objects)
        self.work = WorkUnits(scope, parts=routed.work_parts)
        self.telemetry = Telemetry(scope, stores=routed.stores, plane=routed.telemetry)
        self.routes = Routes(scope, stores=routed.stores)
        self.tasklists: TaskLists = tasklists(scope.space)

    def change(self, run: Run, *, connection: JoinedConnection | None = None) -> ChangeBlock:
        """Begin a change of ``run``: ``async with acme.change(run) as change``. Leaving the block commits it, once.

        With ``connection`` (a psycopg AsyncConnection of your own, inside your transaction) the change becomes part of
        that transaction: neither committed nor rolled back here, and seen by nobody before you commit.
        """
        return ChangeBlock(self._committer, self.scope, run, ids=self._ids, connection=connection)

    async def commit(self, change: Change, *, connection: JoinedConnection | None = None) -> None:
        """Commit a change again after ``OutcomeUnknown``; if it was committed then, nothing is written twice."""
        await self._committer.commit(change, connection=connection)
