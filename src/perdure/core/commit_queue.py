"""Changes of one tenant that wait together are committed together.

While one transaction of a tenant is under way in this process, its next changes gather; when it ends, they go as one.
The tenant's counter is then taken once for all of them and the disk is waited for once. Nobody waits for company: a
change that finds its tenant idle goes alone, at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from perdure.domain.scope import Scope
from perdure.errors import PerdureError, Unavailable
from perdure.ports.ledger import Ledger

Result: TypeAlias = Mapping[str, Any]
_Waiting: TypeAlias = tuple[bytes, asyncio.Future[Result]]

COALESCED_CHANGES_MAX = 64
COALESCED_BYTES_MAX = 4 * 1_048_576


@dataclass(slots=True)
class _Lane:
    """The changes of one tenant and user: only those share a transaction."""

    scope: Scope
    waiting: deque[_Waiting] = field(default_factory=deque)
    draining: asyncio.Task[None] | None = None
    under_way: list[_Waiting] = field(default_factory=list)
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class CommitQueue:
    """Commits through a ledger, one transaction a tenant at a time.

    ``changes_max`` and ``bytes_max`` bound one transaction; with ``changes_max`` 1 nothing is coalesced and nothing
    waits.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        changes_max: int = COALESCED_CHANGES_MAX,
        bytes_max: int = COALESCED_BYTES_MAX,
    ) -> None:
        self._ledger = ledger
        self._changes_max = changes_max
        self._bytes_max = bytes_max
        self._lanes: dict[tuple[UUID, UUID | None], _Lane] = {}

    async def commit(self, scope: Scope, change: bytes) -> Result:
        """Commit one change and return its result; raises what a commit of it alone would raise."""
        if self._changes_max == 1:
            return (await self._ledger.commit(scope, [change]))[0]
        key = (scope.tenant_id, scope.user_id)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(scope)
            try:
                return (await self._ledger.commit(scope, [change]))[0]
            finally:
                self._go_on(key, lane)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        lane.waiting.append((change, future))
        result = await future
        if isinstance(error := result.get("error"), Exception):
            raise error
        return result

    async def close(self) -> None:
        """Wait until everything that was accepted is answered."""
        while self._lanes:
            await next(iter(self._lanes.values())).idle.wait()

    def _go_on(self, key: tuple[UUID, UUID | None], lane: _Lane) -> None:
        if lane.waiting:
            lane.draining = asyncio.get_running_loop().create_task(self._drain(lane))
            # A callback, because a task that is cancelled before its first step runs nothing of its own.
            lane.draining.add_done_callback(lambda task: self._drained(key, lane, task))
        else:
            del self._lanes[key]
            lane.idle.set()

    async def _drain(self, lane: _Lane) -> None:
        while batch := self._take(lane):
            lane.under_way = batch
            await self._commit_together(lane.scope, batch)

    def _drained(self, key: tuple[UUID, UUID | None], lane: _Lane, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:  # nobody is left waiting for an answer that never comes
            for _, future in (*lane.under_way, *lane.waiting):
                future.cancel()
            lane.waiting.clear()
        self._go_on(key, lane)

    async def _commit_together(self, scope: Scope, batch: list[_Waiting]) -> None:
        try:
            results = await self._ledger.commit(scope, [change for change, _ in batch])
        except Exception as exc:  # noqa: BLE001 - handed to every caller that waits for this transaction
            if len(batch) > 1 and isinstance(exc, PerdureError) and not isinstance(exc, Unavailable):
                # All of it was rolled back for something that one of them holds: alone, each is judged for itself.
                for waiting in batch:
                    if not waiting[1].done():
                        await self._commit_together(scope, [waiting])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _take(self, lane: _Lane) -> list[_Waiting]:
        """The next transaction: as many as the bounds allow, at least one; callers that gave up are passed over."""
        batch: list[_Waiting] = []
        size = 0
        while lane.waiting and len(batch) < self._changes_max:
            change, future = lane.waiting[0]
            if batch and size + len(change) > self._bytes_max:
                break
            lane.waiting.popleft()
            if not future.done():
                batch.append((change, future))
                size += len(change)
        return batch
