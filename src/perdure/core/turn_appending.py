"""Appending turns to a context: one commit that expects the head it was prepared for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakValueDictionary

from perdure.core.turn_chain import Head, TurnChain, encode_attributes
from perdure.core.turn_contexts import TurnContexts
from perdure.core.turn_entries import Place, entry_id_of, to_entry
from perdure.domain.container import Space
from perdure.domain.log import Appended, LogSettings
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import (
    INLINE_BYTES_MAX,
    TURNS_MAX,
    NewTurn,
    TurnRef,
    content_hash,
    context_container,
    make_turn_id,
    parse_id,
)
from perdure.errors import Invalid, KeyReused, LimitExceeded, NotFound, StaleVersion, TimedOut
from perdure.ports.environment import IdSource
from perdure.ports.logs import LogStore
from perdure.ports.patience import Patience

HEADS_MAX: Final = 10_000  # contexts that this process appends to and need not look at before


@dataclass(frozen=True, slots=True, kw_only=True)
class Appending:
    """An append as it was asked for."""

    turn: NewTurn
    rebase: bool
    audit: StoreAudit | None


class TurnAppender:
    """Appends to the contexts of one backend, one turn of a context at a time.

    Keeps the heads of what this process appends to: a first guess, which every commit verifies.
    """

    def __init__(self, logs: LogStore, chain: TurnChain, contexts: TurnContexts, *, ids: IdSource) -> None:
        self._logs = logs
        self._chain = chain
        self._contexts = contexts
        self._ids = ids
        self._heads: OrderedDict[tuple[Space, int], Head] = OrderedDict()
        self._locks: WeakValueDictionary[tuple[Space, int], asyncio.Lock] = WeakValueDictionary()

    def remember(self, space: Space, head: Head) -> None:
        """Note a head, for the next append."""
        self._heads[space, head.number] = head
        self._heads.move_to_end((space, head.number))
        while len(self._heads) > HEADS_MAX:
            self._heads.popitem(last=False)

    async def append(self, space: Space, number: int, asked: Appending, *, patience: Patience) -> TurnRef:
        """Append a turn. Raises ``NotFound``, ``KeyReused``, ``Invalid`` for a parent that is not on the chain."""
        lock = self._locks.setdefault((space, number), asyncio.Lock())
        async with lock:
            guess = self._heads.get((space, number))
            head = guess or await self._look(space, number, patience=patience)
            entry_id = entry_id_of(asked.turn.idempotency_key, unique=str(self._ids.new()))
            while True:
                try:
                    place = await self._place(space, head, asked, patience=patience)
                except (Invalid, LimitExceeded, NotFound):
                    if head is guess:
                        # Another process may have appended since: its turns are parents as well.
                        head = await self._look(space, number, patience=patience)
                        continue
                    if not await self._is_known(space, number, asked, entry_id=entry_id, patience=patience):
                        raise
                    place = _after_head(head)  # nothing is written there: the key is found, with this content or other
                try:
                    appended = await self._commit(space, head, place, asked, entry_id=entry_id, patience=patience)
                except StaleVersion as exc:
                    if not await patience.pause():
                        raise _outrun(number) from exc
                    # Another process appended. What it appended is the head now, and may be the parent.
                    head = await self._look(space, number, patience=patience)
                    continue
                except KeyReused as exc:
                    raise _key_reused(number) from exc
                except BaseException:
                    self._heads.pop((space, number), None)  # it may have been committed
                    raise
                return await self._done(space, head, place, asked, appended, patience=patience)

    async def _look(self, space: Space, number: int, *, patience: Patience) -> Head:
        head = await self._chain.head(space, number, patience=patience)
        self.remember(space, head)
        return head

    async def _is_known(
        self, space: Space, number: int, asked: Appending, *, entry_id: str, patience: Patience
    ) -> bool:
        if asked.turn.idempotency_key is None:
            return False
        container = context_container(space, number)
        return await self._logs.locate(container, entry_id, timeout_s=patience.left_s) is not None

    async def _commit(
        self, space: Space, head: Head, place: Place, asked: Appending, *, entry_id: str, patience: Patience
    ) -> Appended:
        inline = len(asked.turn.payload) <= INLINE_BYTES_MAX
        entry = to_entry(asked.turn, place, entry_id=entry_id, inline=inline)
        # Those that the context was made with, should it be removed in this moment: it must not come back as another.
        attributes = encode_attributes(base=head.base, base_depth=head.base_depth, labels=head.labels)
        (appended,) = await self._logs.append(
            context_container(space, head.number),
            [entry],
            expected=head.sequence,
            settings=LogSettings(attributes=attributes),
            audit=asked.audit,
            timeout_s=patience.left_s,
        )
        return appended

    async def _done(
        self, space: Space, head: Head, place: Place, asked: Appending, appended: Appended, *, patience: Patience
    ) -> TurnRef:
        if appended.duplicate:
            await self._look(space, head.number, patience=patience)  # it may be removed, with what is there
            turn_id = make_turn_id(head.number, appended.sequence)
            place = (await self._chain.turn(space, turn_id, patience=patience)).place
        else:
            self.remember(space, replace(head, last=place))
        return TurnRef(
            context_id=str(head.number),
            turn_id=str(place.turn_id),
            depth=place.depth,
            content_hash=content_hash(asked.turn.payload),
            replayed=appended.duplicate,
        )

    async def _place(self, space: Space, head: Head, asked: Appending, *, patience: Patience) -> Place:
        position = head.sequence + 1
        if position > TURNS_MAX:
            raise LimitExceeded(
                f"context {head.number} has {TURNS_MAX} turns, and no more (turns_max); fork it and go on there",
                limit="turns_max",
                allowed=TURNS_MAX,
                actual=position,
            )
        named = asked.turn.parent_turn_id
        parent = head.turn_id if named is None else parse_id(named, what="a turn's id")
        # As in CXDB: the parent 0 means the head.
        if parent in {0, head.turn_id}:
            return _after_head(head)
        stored = await self._chain.turn(space, parent, patience=patience)
        if not asked.rebase:
            await self._chain.parent_on_chain(space, head, parent, patience=patience)
        elif stored.place.number != head.number:
            # Who goes on from another context needs it, as a fork does.
            await self._contexts.name_fork(space, parent, head.number, patience=patience)
        return Place(
            number=head.number, position=position, anchor=position, entered=parent, depth=stored.place.depth + 1
        )


def _outrun(number: int) -> TimedOut:
    return TimedOut(f"others appended to context {number} all the time; nothing was appended, try again")


def _key_reused(number: int) -> KeyReused:
    return KeyReused(
        f"context {number} has this idempotency key already, with another type, version, payload or parent; "
        "another turn needs another key",
        context_id=str(number),
    )


def _after_head(head: Head) -> Place:
    if head.last is not None:
        return head.last.following()
    return Place(number=head.number, position=1, anchor=1, entered=head.base, depth=head.base_depth + 1)
