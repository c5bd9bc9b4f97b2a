"""The turns of one scope as a store of turns: for servers that know spaces and no scopes."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.turns import Turns
from perdure.domain.container import Space
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import Context, NewTurn, Turn, TurnRef
from perdure.errors import NotFound


class ScopedTurns:
    """``perdure.ports.turns.TurnStore`` over the facade: routed, admitted and audited like every other call.

    It serves the scope's own space; every other one has nothing in it.
    """

    def __init__(self, turns: Turns, space: Space) -> None:
        self._turns = turns
        self._space = space

    async def create(
        self,
        space: Space,
        *,
        base_turn_id: str | None = None,
        labels: tuple[str, ...] = (),
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Context:
        """Make a context. The facade audits by itself."""
        del audit
        self._check(space)
        if base_turn_id is None:
            return await self._turns.create(labels=labels, timeout_s=timeout_s)
        return await self._turns.fork(base_turn_id, labels=labels, timeout_s=timeout_s)

    async def append(
        self,
        space: Space,
        context_id: str,
        turn: NewTurn,
        *,
        rebase: bool = False,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> TurnRef:
        """Append a turn. The facade audits by itself."""
        del audit
        self._check(space)
        return await self._turns.append(
            context_id,
            turn.payload,
            type_id=turn.type_id,
            type_version=turn.type_version,
            idempotency_key=turn.idempotency_key,
            parent_turn_id=turn.parent_turn_id,
            rebase=rebase,
            timeout_s=timeout_s,
        )

    async def head(self, space: Space, context_id: str, *, timeout_s: float) -> Context:
        """The context as it is now."""
        self._check(space)
        return await self._turns.head(context_id, timeout_s=timeout_s)

    async def get(self, space: Space, turn_id: str, *, timeout_s: float) -> Turn:
        """One turn."""
        self._check(space)
        return await self._turns.get(turn_id, timeout_s=timeout_s)

    async def list(
        self, space: Space, context_id: str, *, before_turn_id: str | None = None, limit: int, timeout_s: float
    ) -> Sequence[Turn]:
        """A page of the chain, oldest first."""
        self._check(space)
        return await self._turns.list(context_id, before=before_turn_id, limit=limit, timeout_s=timeout_s)

    async def contexts(
        self, space: Space, *, label: str | None = None, cursor: str | None = None, limit: int, timeout_s: float
    ) -> Page[Context]:
        """Contexts of the space, or of a label."""
        self._check(space)
        return await self._turns.contexts(label=label, cursor=cursor, limit=limit, timeout_s=timeout_s)

    async def publish_bundle(
        self, space: Space, bundle_id: str, bundle: bytes, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> bool:
        """Keep a bundle. The facade audits by itself."""
        del audit
        self._check(space)
        return await self._turns.publish_bundle(bundle_id, bundle, timeout_s=timeout_s)

    async def find_bundle(self, space: Space, bundle_id: str, *, timeout_s: float) -> bytes | None:
        """A bundle as it was published, or None."""
        self._check(space)
        return await self._turns.find_bundle(bundle_id, timeout_s=timeout_s)

    async def bundles(self, space: Space, *, after: str | None = None, limit: int, timeout_s: float) -> Page[str]:
        """Ids of bundles, in the order of their bytes."""
        self._check(space)
        return await self._turns.bundles(after=after, limit=limit, timeout_s=timeout_s)

    async def put_blob(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes by their address."""
        self._check(space)
        return await self._turns.put_blob(payload, timeout_s=timeout_s)

    async def find_blob(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes of an address, or None."""
        self._check(space)
        return await self._turns.find_blob(digest, timeout_s=timeout_s)

    async def attach(
        self, space: Space, turn_id: str, root: str, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> None:
        """Say which tree there was at a turn. The facade audits by itself."""
        del audit
        self._check(space)
        await self._turns.attach(turn_id, root, timeout_s=timeout_s)

    async def snapshot(self, space: Space, turn_id: str, *, timeout_s: float) -> str | None:
        """The root attached nearest to a turn."""
        self._check(space)
        return await self._turns.snapshot(turn_id, timeout_s=timeout_s)

    def _check(self, space: Space) -> None:
        if space != self._space:
            raise NotFound("resource not found: space; this server serves one", resource="space", id=space.tenant)
