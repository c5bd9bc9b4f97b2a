"""Changes of the strict profile: one at a time, each under its number, whatever ends a process in between."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from perdure.adapters.cxdb.server.numbering import Declared, Intent, Numbering, declared_key, declared_of
from perdure.domain.container import Space
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import NO_TURN, Context
from perdure.errors import Conflict, OutcomeUnknown, PerdureError, Refused, TimedOut
from perdure.ports.turns import TurnStore

HEADS_MAX: Final = 10_000  # contexts whose head is known without asking the store

_log: Final = logging.getLogger("perdure.cxdb")


class NumberedHead(NamedTuple):
    """A head by its number, with the depth that the protocol counts from 0."""

    number: int
    depth: int


class Appended(NamedTuple):
    """A turn that was appended."""

    head: NumberedHead
    content_hash: str


class Created(NamedTuple):
    """A context that was made; ``context`` is as the store shows it."""

    number: int
    head: NumberedHead
    context: Context


_EMPTY: Final = NumberedHead(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedTurn:
    """A turn before it is appended. Without ``rebase`` its parent must be on the chain; parent 0 means the head."""

    context: int
    type_id: str
    type_version: int
    payload: bytes = field(repr=False)
    parent: int = 0
    encoding: int = 1
    compression: int = 0
    rebase: bool = True


class NumberedWriter:
    """The only writer of a space. ``open`` it before anything is changed.

    ``timeout_s`` is the patience of each call to the store, and ``wait_s`` how long a change waits for those before it.
    """

    def __init__(self, store: TurnStore, space: Space, *, numbering: Numbering, timeout_s: float) -> None:
        self._store = store
        self._space = space
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._heads: OrderedDict[str, NumberedHead] = OrderedDict()
        self.numbering = numbering

    async def open(self) -> None:
        """Go on where the process before ended, whatever ended it."""
        await self.numbering.open()
        await self.settled()

    async def settled(self, *, wait_s: float | None = None) -> None:
        """Return once it is known what became of every append."""
        async with self.writing(wait_s=wait_s):
            pass

    async def create(
        self,
        base: int,
        *,
        labels: tuple[str, ...] = (),
        audit: StoreAudit | None = None,
        timeout_s: float,
        wait_s: float | None = None,
    ) -> Created:
        """Make a context, at a turn unless the base is 0."""
        async with self.writing(wait_s=wait_s):
            base_id = await self.numbering.turn_id(base)
            context = await self._store.create(
                self._space, base_turn_id=base_id, labels=labels, audit=audit, timeout_s=timeout_s
            )
            # Ended here, there is a context without a number, which nobody can ask for.
            number = await self.numbering.add_context(context.context_id)
            head = NumberedHead(base, context.head_depth - 1) if base else _EMPTY
            self._remember(context.context_id, head)
        return Created(number, head, context)

    async def append(
        self, turn: NumberedTurn, *, root: bytes | None = None, timeout_s: float, wait_s: float | None = None
    ) -> Appended:
        """Append a turn and attach a tree of files to it; if that is refused, the turn is there all the same."""
        async with self.writing(wait_s=wait_s):
            # First of all, and whatever becomes of the turn: so do the protocol's own servers, and it can be asked for.
            digest = await self._store.put_blob(self._space, turn.payload, timeout_s=timeout_s)
            context_id = await self.numbering.context_id(turn.context)
            parent = turn.parent or (await self._known_head(context_id, timeout_s=timeout_s)).number
            parent_id = await self.numbering.turn_id(turn.parent)
            number = self.numbering.next_turn
            key, type_id = declared_key(
                Declared(
                    number=number,
                    parent=parent,
                    encoding=turn.encoding,
                    compression=turn.compression,
                    type_id=turn.type_id,
                )
            )
            intent = Intent(
                number=number,
                context_id=context_id,
                key=key,
                type_id=type_id,
                type_version=turn.type_version,
                digest=digest,
                parent_turn_id=None if parent_id == NO_TURN else parent_id,
                rebase=turn.rebase,
            )
            await self.numbering.intend(intent)
            try:
                head = await self._carry_out(intent, turn.payload, timeout_s=timeout_s)
            except OutcomeUnknown:
                raise
            except PerdureError:  # nothing was done, so the number is the next one's
                self.numbering.drop()
                raise
            if root is not None:
                await self._attach(number, root.hex(), audit=None, timeout_s=timeout_s)
        return Appended(head, digest)

    async def attach(
        self,
        number: int,
        root: str,
        *,
        audit: StoreAudit | None = None,
        timeout_s: float,
        wait_s: float | None = None,
    ) -> None:
        """Attach a tree of files to a turn."""
        async with self.writing(wait_s=wait_s):
            await self._attach(number, root, audit=audit, timeout_s=timeout_s)

    async def head(self, context_id: str, *, timeout_s: float) -> NumberedHead:
        """The head of a context of the store."""
        head = self._heads.get(context_id)
        if head is None:
            # Not beside an append, whose head would be forgotten for an older one.
            async with self.writing():
                head = await self._known_head(context_id, timeout_s=timeout_s)
        return head

    @asynccontextmanager
    async def alone(self, *, wait_s: float | None = None) -> AsyncIterator[None]:
        """The right to change what has no number. Raises ``TimedOut``."""
        try:
            async with asyncio.timeout(wait_s):
                await self._lock.acquire()
        except TimeoutError as exc:
            raise TimedOut(f"the changes before this one took longer than {wait_s:g} seconds; ask again") from exc
        try:
            yield
        finally:
            self._lock.release()

    @asynccontextmanager
    async def writing(self, *, wait_s: float | None = None) -> AsyncIterator[None]:
        """The right to write, once it is known what became of the append before. Raises ``TimedOut``."""
        async with self.alone(wait_s=wait_s):
            if self.numbering.unsettled is not None:
                await self._settle(self.numbering.unsettled)
            yield

    async def _attach(self, number: int, root: str, *, audit: StoreAudit | None, timeout_s: float) -> None:
        turn_id = await self.numbering.turn_id(number)
        await self._store.attach(self._space, turn_id, root, audit=audit, timeout_s=timeout_s)

    async def _carry_out(self, intent: Intent, payload: bytes, *, timeout_s: float) -> NumberedHead:
        """Append what is intended, or was. If that fails it stays unsettled, until the next change or ``drop``."""
        self._heads.pop(intent.context_id, None)
        rebase = intent.rebase and intent.parent_turn_id is not None
        ref = await self._store.append(
            self._space, intent.context_id, intent.turn(payload), rebase=rebase, timeout_s=timeout_s
        )
        self.numbering.settle(ref.turn_id)
        head = NumberedHead(intent.number, ref.depth - 1)
        self._remember(intent.context_id, head)
        return head

    async def _known_head(self, context_id: str, *, timeout_s: float) -> NumberedHead:
        head = self._heads.get(context_id)
        if head is None:
            context = await self._store.head(self._space, context_id, timeout_s=timeout_s)
            head = _EMPTY
            if context.head_turn_id != NO_TURN:
                turn = await self._store.get(self._space, context.head_turn_id, timeout_s=timeout_s)
                head = NumberedHead(declared_of(turn).number, context.head_depth - 1)
            self._remember(context_id, head)
        return head

    def _remember(self, context_id: str, head: NumberedHead) -> None:
        self._heads[context_id] = head
        self._heads.move_to_end(context_id)
        while len(self._heads) > HEADS_MAX:
            self._heads.popitem(last=False)

    async def _settle(self, intent: Intent) -> None:
        newest = await self._store.list(self._space, intent.context_id, limit=1, timeout_s=self._timeout_s)
        if newest and newest[0].idempotency_key == intent.key:
            self.numbering.settle(newest[0].turn_id)
            self._heads.pop(intent.context_id, None)
            return
        payload = await self._store.find_blob(self._space, intent.digest, timeout_s=self._timeout_s)
        if payload is None:
            _log.warning("turn %d was not appended, and what it was to hold is gone: its number is free", intent.number)
            self.numbering.drop()
            return
        try:
            await self._carry_out(intent, payload, timeout_s=self._timeout_s)
        except (Refused, Conflict) as exc:
            self.numbering.drop()
            _log.warning("turn %d was not appended (%s): its number is free", intent.number, exc.code)
