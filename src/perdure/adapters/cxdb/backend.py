"""A CXDB server as a backend: it keeps turns, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from perdure.adapters.cxdb.endpoint import Endpoint
from perdure.adapters.cxdb.failures import Redact
from perdure.adapters.cxdb.http import CxdbHttp, HttpAddress
from perdure.adapters.cxdb.pool import Pool, PoolSettings
from perdure.adapters.cxdb.remote import Remote
from perdure.adapters.cxdb.turns import CxdbTurns, TurnSettings
from perdure.domain.container import Space
from perdure.domain.turn import NO_TURN, TURN_PAYLOAD_BYTES_MAX
from perdure.errors import NotFound, Unsupported
from perdure.ports.capabilities import Capabilities
from perdure.ports.environment import Clock
from perdure.ports.logs import LogStore
from perdure.ports.objects import ObjectStore
from perdure.ports.routes import RouteStore
from perdure.ports.rows import RowStore
from perdure.ports.secrets import Secret

# What is said of documents has no meaning here: a turn is the only one, and it is a commit of its own.
CAPABILITIES: Final = Capabilities(
    consistency="strong",
    durable=True,
    shared=True,
    ttl=False,
    change_feed=False,
    node_local=False,
    document_bytes_max=TURN_PAYLOAD_BYTES_MAX,
    sort_bytes_max=8,
    partition_name_bytes_max=8,
    batch_writes_max=1,
    batch_bytes_max=TURN_PAYLOAD_BYTES_MAX,
    partition_bytes_max=None,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CxdbAddress:
    """Where a server is: ``binary`` for turns and blobs, ``http`` for older pages, bundles and lists of contexts.

    ``token`` goes with every HTTP request.
    """

    binary: Endpoint
    http: HttpAddress | None = None
    token: Secret | None = None


class CxdbBackend:
    """One server for one space. It connects when it is asked something."""

    def __init__(
        self,
        address: CxdbAddress,
        *,
        space: Space,
        clock: Clock,
        redact: Redact,
        pool: PoolSettings | None = None,
        turns: TurnSettings | None = None,
    ) -> None:
        http = None if address.http is None else CxdbHttp(address.http, redact=redact, token=address.token)
        self._remote = Remote(Pool(address.binary, clock=clock, redact=redact, settings=pool), http, clock=clock)
        self._turns = CxdbTurns(self._remote, space=space, settings=turns)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return CAPABILITIES

    @property
    def logs(self) -> LogStore:
        """Raises ``Unsupported``."""
        raise _unsupported("streams, sessions or ledgers")

    @property
    def rows(self) -> RowStore:
        """Raises ``Unsupported``."""
        raise _unsupported("tables or blackboards")

    @property
    def routes(self) -> RouteStore:
        """Raises ``Unsupported``."""
        raise _unsupported("routes")

    @property
    def objects(self) -> ObjectStore | None:
        """None: its blobs belong to turns, and are never deleted."""
        return None

    @property
    def turns(self) -> CxdbTurns:
        """Where turns are kept."""
        return self._turns

    @property
    def work(self) -> None:
        """None."""
        return

    @property
    def telemetry(self) -> None:
        """None."""
        return

    async def probe(self, *, timeout_s: float) -> None:
        """Ask for a context that nobody has: an answer from the data, and on the HTTP side for a sign of life."""
        deadline = self._remote.deadline(timeout_s)
        with suppress(NotFound):  # that is the answer
            await self._remote.head(int(NO_TURN), deadline=deadline)
        if self._remote.http is not None:
            await self._remote.http.health(timeout_s=deadline.left_s)

    async def close(self) -> None:
        """Let go of all connections. Safe to call twice."""
        await self._remote.close()


def _unsupported(what: str) -> Unsupported:
    return Unsupported(f"a CXDB server keeps turns, not {what}; route these to another backend")
