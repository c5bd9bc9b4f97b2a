"""A list kept in agreement with its peers: greetings now and then, deltas in answer, over any transport."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from perdure.core.tasklist_replica import TaskListReplica
from perdure.domain.tasklists.resync import Delta, Greeting, Schedule, decode_message, encode_message
from perdure.errors import Corrupt, PerdureError, Refused, Unavailable
from perdure.ports.environment import Environment
from perdure.ports.patience import Sleep
from perdure.ports.transports import Transport

RETRY_S: Final = 1.0  # after a transport failed: long enough to be no storm, short beside the schedule

_logger: Final = logging.getLogger("perdure.tasklists")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncHealth:
    """How agreement stands. ``matched`` once a peer's digest was this node's own and nothing has changed since.

    ``refused`` counts messages that were none, or damaged; they change nothing. ``identity_conflicts`` above 0 says
    that another writer with this node's id was met: both converge, and a store must have been copied to two nodes.
    """

    resync_state: Literal["waiting", "syncing", "matched"]
    last_digest_match_at: datetime | None
    greetings_sent: int
    deltas_sent: int
    deltas_merged: int
    refused: int
    identity_conflicts: int


class TaskListSync:
    """The protocol for one list on one node: messages in, messages out, no I/O. ``sender`` names the node's life."""

    def __init__(self, replica: TaskListReplica, *, list_id: str, sender: str, environment: Environment) -> None:
        self._replica = replica
        self._list_id = list_id
        self._sender = sender
        self._environment = environment
        self._schedule = Schedule(started_at=environment.clock.monotonic())
        self._matched_at: datetime | None = None
        self._matched_digest: str | None = None
        self._deltas_sent = self._deltas_merged = self._refused = 0
        self._heard = False

    def health(self) -> ResyncHealth:
        """How agreement stands now."""
        agrees = self._matched_digest is not None and self._matched_digest == self._replica.view().view_digest
        return ResyncHealth(
            resync_state="matched" if agrees else "syncing" if self._heard else "waiting",
            last_digest_match_at=self._matched_at,
            greetings_sent=self._schedule.greetings,
            deltas_sent=self._deltas_sent,
            deltas_merged=self._deltas_merged,
            refused=self._refused,
            identity_conflicts=self._replica.identity_conflicts,
        )

    def greeting(self) -> bytes:
        """A greeting as of now; the schedule counts it as sent."""
        self._schedule.greeted(self._environment.clock.monotonic())
        return encode_message(
            Greeting(
                list_id=self._list_id,
                sender=self._sender,
                vector=self._replica.vector(),
                view_digest=self._replica.view().view_digest,
            )
        )

    def receive(self, source: bytes) -> list[bytes]:
        """Take in a message; what to send in answer. What is no message of this list is counted and changes nothing."""
        try:
            message = decode_message(source)
            if message.sender == self._sender or message.list_id != self._list_id:
                return []
            self._heard = True
            if isinstance(message, Greeting):
                return self._answer(message)
            if not self._replica.merge(message.update):
                return []
        except (Refused, Corrupt):
            self._refused += 1
            _logger.warning("a message of the resync of list %s was refused", self._list_id)
            return []
        self._deltas_merged += 1
        # What came may be news to others too, and whoever sent it wants to hear that this node agrees now.
        return [self.greeting()]

    def due_in_s(self, chance: float) -> float:
        """Seconds until the next greeting; ``chance`` in [0, 1) spreads it."""
        return max(0.0, self._schedule.due_at(chance) - self._environment.clock.monotonic())

    def _answer(self, greeting: Greeting) -> list[bytes]:
        digest = self._replica.view().view_digest
        same_vector = self._replica.has_vector(greeting.vector)
        if same_vector and greeting.view_digest == digest:
            self._matched_at = self._environment.clock.now()
            self._matched_digest = digest
            self._schedule.matched(self._environment.clock.monotonic())
            return []
        update = self._replica.delta_since(greeting.vector)
        self._deltas_sent += 1
        answer = [encode_message(Delta(list_id=self._list_id, sender=self._sender, update=update))]
        # Vectors do not tell of removals, so that equal vectors say nothing: the delta carries those.
        return answer if same_vector else [*answer, self.greeting()]


async def keep_in_sync(
    sync: TaskListSync, transport: Transport, *, environment: Environment, sleep: Sleep = asyncio.sleep
) -> None:
    """Greet when it is due and answer whatever comes, until cancelled. A transport that fails is tried again."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_greet(sync, transport, environment=environment, sleep=sleep))
        tasks.create_task(_listen(sync, transport, sleep=sleep))


async def _greet(sync: TaskListSync, transport: Transport, *, environment: Environment, sleep: Sleep) -> None:
    while True:
        await sleep(sync.due_in_s(environment.randomness.random()))
        await _send(transport, [sync.greeting()])


async def _listen(sync: TaskListSync, transport: Transport, *, sleep: Sleep) -> None:
    while True:
        try:
            async with contextlib.aclosing(_messages(transport)) as messages:
                async for message in messages:
                    await _send(transport, sync.receive(message))
        except Unavailable:
            _logger.warning("the transport of a task list's resync failed; listening again", exc_info=True)
        await sleep(RETRY_S)


async def _messages(transport: Transport) -> AsyncGenerator[bytes, None]:
    async for message in transport.receive():
        yield message


async def _send(transport: Transport, messages: list[bytes]) -> None:
    for message in messages:
        try:
            await transport.send(message)
        except PerdureError:
            # Lost on the way or before it is the same to the protocol: the next greeting repairs it.
            _logger.warning("a message of a task list's resync was not sent", exc_info=True)
