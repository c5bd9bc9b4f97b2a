"""The plane and one tenant's view of it: what users hold.

Everything below a ``Tenant`` belongs to that tenant; there is no other way to name one. The synchronous facade is
generated from this module and the facades it returns.
"""

from __future__ import annotations

from uuid import UUID

from perdure.core.changes import ChangeBlock, Committer
from perdure.core.commit_queue import CommitQueue
from perdure.core.reading import Events, Reading
from perdure.core.runs import Runs
from perdure.core.signals import Signals
from perdure.core.tenant_outbox import TenantOutbox
from perdure.core.tenants import Tenants
from perdure.domain.change import Change
from perdure.domain.handles import Run
from perdure.domain.ids import Mode
from perdure.domain.scope import SOURCE_DEFAULT, Scope, make_scope
from perdure.ports.environment import Environment
from perdure.ports.ledger import JoinedConnection, Ledger
from perdure.ports.ledger_reads import LedgerReader


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
        worker: str,
    ) -> None:
        self.mode = mode
        self.env = env
        self.tenants = tenants
        self._ledger = ledger
        self._reader = reader
        self._environment = environment
        self._queue = queue
        self._worker = worker

    def scope(self, tenant: str, *, actor: str, user: UUID | str | None = None, source: str = SOURCE_DEFAULT) -> Tenant:
        """One tenant's view, with who acts in it; nothing is sent.

        ``tenant`` is a slug (``t_acme``). In lab a tenant is made when it first writes, elsewhere an unknown one is
        ``Refused`` then. ``actor`` is who does it (``agent:planner``), ``source`` where it comes from
        (``webhook:stripe``). With ``user`` each call checks that the user is a member. Raises ``Invalid``.
        """
        return Tenant(
            make_scope(tenant, actor=actor, mode=self.mode, env=self.env, user=user, source=source),
            ledger=self._ledger,
            reader=self._reader,
            environment=self._environment,
            queue=self._queue,
            worker=self._worker,
        )


class Tenant(Reading):
    """Everything of one tenant: ``signals``, ``runs``, ``events``, ``outbox``, changes, and the ways to look back."""

    def __init__(
        self,
        scope: Scope,
        *,
        ledger: Ledger,
        reader: LedgerReader,
        environment: Environment,
        queue: CommitQueue,
        worker: str,
    ) -> None:
        super().__init__(reader, scope)
        self.scope = scope
        self._ids = environment.ids
        self._committer = Committer(scope, ledger=ledger, queue=queue)
        self.signals = Signals(scope, committer=self._committer, reader=reader, environment=environment)
        self.runs = Runs(
            scope,
            committer=self._committer,
            ledger=ledger,
            reader=reader,
            signals=self.signals,
            environment=environment,
            worker=worker,
        )
        self.events = Events(reader, scope)
        self.outbox = TenantOutbox(scope, ledger=ledger, reader=reader)

    def change(self, run: Run, *, connection: JoinedConnection | None = None) -> ChangeBlock:
        """Begin a change of ``run``: ``async with acme.change(run) as change``. Leaving the block commits it, once.

        With ``connection`` (a psycopg AsyncConnection of your own, inside your transaction) the change becomes part of
        that transaction: neither committed nor rolled back here, and seen by nobody before you commit.
        """
        return ChangeBlock(self._committer, self.scope, run, ids=self._ids, connection=connection)

    async def commit(self, change: Change, *, connection: JoinedConnection | None = None) -> None:
        """Commit a change again after ``OutcomeUnknown``; if it was committed then, nothing is written twice."""
        await self._committer.commit(change, connection=connection)
