"""Turns under the numbers of the strict profile: what its clients see, as a store of turns for whoever is beside it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from perdure.adapters.cxdb.server.numbering import declared_of
from perdure.adapters.cxdb.server.writer import NumberedTurn, NumberedWriter
from perdure.domain.container import Space
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import (
    CONTEXTS_PAGE_MAX,
    NO_TURN,
    Context,
    NewTurn,
    Turn,
    TurnRef,
    check_labels,
    check_page,
    check_turn,
    make_turn_id,
    parse_id,
    split_turn_id,
)
from perdure.errors import ChainBroken, Invalid, NotFound, Unsupported
from perdure.ports.turns import TurnStore

LOOKS_AT_ONCE: Final = 8  # contexts of a page that are read at the same time
TURNS_KNOWN_MAX: Final = 10_000  # turns whose number need not be read again: heads and bases of contexts


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTurn(Turn):
    """A turn with what was declared of it and a store of turns does not keep: in which encoding its payload is."""

    encoding: int


class NumberedTurns:
    """``perdure.ports.turns.TurnStore`` in which every id is a number of the strict profile.

    Changes go through the profile's own writer, in one order with those of its clients. As there, keys mean nothing,
    so to give one is ``Unsupported``; labels are looked up by a cursor of the store's own. It serves one space; every
    other one has nothing in it.
    """

    def __init__(self, store: TurnStore, space: Space, *, writer: NumberedWriter) -> None:
        self._store = store
        self._space = space
        self._writer = writer
        self._numbering = writer.numbering
        self._numbers: OrderedDict[str, str] = OrderedDict()

    async def create(
        self,
        space: Space,
        *,
        base_turn_id: str | None = None,
        labels: tuple[str, ...] = (),
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Context:
        """Make a context."""
        self._check(space)
        base = parse_id(NO_TURN if base_turn_id is None else base_turn_id, what="a turn's id")
        labels = check_labels(labels)
        made = await self._writer.create(base, labels=labels, audit=audit, timeout_s=timeout_s, wait_s=timeout_s)
        number = str(base)
        return replace(made.context, context_id=str(made.number), head_turn_id=number, base_turn_id=number)

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
        """Append a turn, which gets the next number."""
        self._check(space)
        number = parse_id(context_id, what="a context's id")
        check_turn(turn)
        if turn.idempotency_key is not None:
            raise Unsupported("the strict profile knows no keys; append without one, or serve the improved profile")
        if audit is not None:
            # An append that the next process finishes would be without it.
            raise Unsupported("the strict profile keeps no audit with a turn; append without one")
        parent = parse_id(turn.parent_turn_id or NO_TURN, what="a turn's id")
        await self._numbering.context_id(number)  # before anything is written for it
        await self._turn_id(parent, timeout_s=timeout_s)
        wanted = NumberedTurn(
            context=number,
            type_id=turn.type_id,
            type_version=turn.type_version,
            payload=turn.payload,
            parent=parent,
            rebase=rebase,
        )
        try:
            head, digest = await self._writer.append(wanted, timeout_s=timeout_s, wait_s=timeout_s)
        except Invalid as exc:
            if "turn_id" not in exc.detail:
                raise
            raise _not_on_chain(parent, number) from exc
        return TurnRef(
            context_id=str(number),
            turn_id=str(head.number),
            depth=head.depth + 1,
            content_hash=digest,
            replayed=False,
        )

    async def head(self, space: Space, context_id: str, *, timeout_s: float) -> Context:
        """The context as it is now."""
        self._check(space)
        number = parse_id(context_id, what="a context's id")
        return await self._context(number, await self._numbering.context_id(number), timeout_s=timeout_s)

    async def get(self, space: Space, turn_id: str, *, timeout_s: float) -> Turn:
        """One turn."""
        self._check(space)
        number = parse_id(turn_id, what="a turn's id")
        turn = await self._store.get(space, await self._turn_id(number, timeout_s=timeout_s), timeout_s=timeout_s)
        return await self._turn(turn)

    async def first_turn(self, space: Space, turn_id: str, *, timeout_s: float) -> Turn | None:
        """The first turn of the context to which a turn was appended; two reads, however long that is.

        None if the ids of the store beneath do not say where it keeps turns.
        """
        self._check(space)
        number = parse_id(turn_id, what="a turn's id")
        kept, _ = split_turn_id(int(await self._turn_id(number, timeout_s=timeout_s)))
        try:
            turn = await self._store.get(space, str(make_turn_id(kept, 1)), timeout_s=timeout_s)
        except NotFound:
            return None
        return await self._turn(turn) if turn.context_id == str(kept) else None

    async def list(
        self, space: Space, context_id: str, *, before_turn_id: str | None = None, limit: int, timeout_s: float
    ) -> Sequence[Turn]:
        """A page of the chain, oldest first."""
        self._check(space)
        number = parse_id(context_id, what="a context's id")
        before = None if before_turn_id is None else parse_id(before_turn_id, what="a turn's id")
        kept_id = await self._numbering.context_id(number)
        try:
            kept_before = None if before is None else await self._turn_id(before, timeout_s=timeout_s)
        except NotFound as exc:
            raise _not_on_chain(before, number) from exc
        try:
            turns = await self._store.list(space, kept_id, before_turn_id=kept_before, limit=limit, timeout_s=timeout_s)
        except Invalid as exc:
            if "turn_id" not in exc.detail:
                raise
            raise _not_on_chain(before, number) from exc
        return tuple([await self._turn(turn) for turn in turns])

    async def contexts(
        self, space: Space, *, label: str | None = None, cursor: str | None = None, limit: int, timeout_s: float
    ) -> Page[Context]:
        """Contexts in the order of their numbers; those of a label in the order in which they were made."""
        self._check(space)
        check_page(limit, name="contexts_page_max", allowed=CONTEXTS_PAGE_MAX, of="contexts")
        if label is not None:
            page = await self._store.contexts(space, label=label, cursor=cursor, limit=limit, timeout_s=timeout_s)
            named = {one.context_id: await self._numbering.context_number(one.context_id) for one in page.items}
            found = {number: context_id for context_id, number in named.items() if number is not None}
            following = page.next_cursor
        else:
            after = 0 if cursor is None else parse_id(cursor, what="a cursor of contexts")
            if limit == 0:
                return Page(items=(), next_cursor=cursor)
            found, last = await self._numbering.contexts(after=after, limit=limit)
            following = None if last is None else str(last)
        gate = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(number: int, context_id: str) -> Context:
            """The context as it is now."""
            async with gate:
                return await self._context(number, context_id, timeout_s=timeout_s)

        items = await asyncio.gather(*(look(number, context_id) for number, context_id in found.items()))
        return Page(items=tuple(items), next_cursor=following)

    async def publish_bundle(
        self, space: Space, bundle_id: str, bundle: bytes, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> bool:
        """Keep a registry bundle, which has no number."""
        self._check(space)
        return await self._store.publish_bundle(space, bundle_id, bundle, audit=audit, timeout_s=timeout_s)

    async def find_bundle(self, space: Space, bundle_id: str, *, timeout_s: float) -> bytes | None:
        """A bundle as it was published, or None."""
        self._check(space)
        return await self._store.find_bundle(space, bundle_id, timeout_s=timeout_s)

    async def bundles(self, space: Space, *, after: str | None = None, limit: int, timeout_s: float) -> Page[str]:
        """The ids of bundles."""
        self._check(space)
        return await self._store.bundles(space, after=after, limit=limit, timeout_s=timeout_s)

    async def put_blob(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes by their address."""
        self._check(space)
        async with self._writer.alone(wait_s=timeout_s):
            return await self._store.put_blob(space, payload, timeout_s=timeout_s)

    async def find_blob(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes of an address, or None."""
        self._check(space)
        return await self._store.find_blob(space, digest, timeout_s=timeout_s)

    async def attach(
        self, space: Space, turn_id: str, root: str, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> None:
        """Say which tree there was at a turn."""
        self._check(space)
        number = parse_id(turn_id, what="a turn's id")
        await self._writer.attach(number, root, audit=audit, timeout_s=timeout_s, wait_s=timeout_s)

    async def snapshot(self, space: Space, turn_id: str, *, timeout_s: float) -> str | None:
        """The root attached nearest to a turn."""
        self._check(space)
        number = parse_id(turn_id, what="a turn's id")
        return await self._store.snapshot(space, await self._turn_id(number, timeout_s=timeout_s), timeout_s=timeout_s)

    async def _context(self, number: int, kept_id: str, *, timeout_s: float) -> Context:
        context = await self._store.head(self._space, kept_id, timeout_s=timeout_s)
        return replace(
            context,
            context_id=str(number),
            head_turn_id=await self._turn_number(context.head_turn_id, timeout_s=timeout_s),
            base_turn_id=await self._turn_number(context.base_turn_id, timeout_s=timeout_s),
        )

    async def _turn(self, turn: Turn) -> Turn:
        declared = declared_of(turn)
        context = await self._numbering.context_number(turn.context_id)
        if context is None:
            raise ChainBroken(
                f"turn {declared.number} is in a context without a number; only the strict profile may write here",
                turn_id=str(declared.number),
            )
        self._remember(turn.turn_id, str(declared.number))
        return DeclaredTurn(
            context_id=str(context),
            turn_id=str(declared.number),
            parent_turn_id=str(declared.parent),
            depth=turn.depth,
            type_id=declared.type_id,
            type_version=turn.type_version,
            payload=turn.payload,
            content_hash=turn.content_hash,
            recorded_at=turn.recorded_at,
            encoding=declared.encoding,
        )

    async def _turn_id(self, number: int, *, timeout_s: float) -> str:
        unsettled = self._numbering.unsettled
        if unsettled is not None and unsettled.number == number:
            await self._writer.settled(wait_s=timeout_s)  # a list may show it already
        return await self._numbering.turn_id(number)

    async def _turn_number(self, turn_id: str, *, timeout_s: float) -> str:
        if turn_id == NO_TURN:
            return NO_TURN
        known = self._numbers.get(turn_id)
        if known is None:
            turn = await self._store.get(self._space, turn_id, timeout_s=timeout_s)
            known = str(declared_of(turn).number)
        self._remember(turn_id, known)
        return known

    def _remember(self, turn_id: str, number: str) -> None:
        self._numbers[turn_id] = number
        self._numbers.move_to_end(turn_id)
        while len(self._numbers) > TURNS_KNOWN_MAX:
            self._numbers.popitem(last=False)

    def _check(self, space: Space) -> None:
        if space != self._space:
            raise NotFound("resource not found: space; this server serves one", resource="space", id=space.tenant)


def _not_on_chain(turn: int | None, context: int) -> Invalid:
    return Invalid(f"turn {turn} is not in the chain of context {context}", turn_id=str(turn))
