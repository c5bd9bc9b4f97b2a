"""Reading turns from any generation of servers: a page before a turn, one turn, or where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from perdure.adapters.cxdb.chain import Chains, TurnFacts, check_links, facts_of
from perdure.adapters.cxdb.codec.turn_lists import TurnItem
from perdure.adapters.cxdb.failures import Lost, missing, was_lost
from perdure.adapters.cxdb.keys import key_of
from perdure.adapters.cxdb.remote import Deadline, Remote
from perdure.domain.object import check_same_digest
from perdure.domain.turn import Turn, content_hash
from perdure.errors import BackendDown, ChainBroken, Invalid, LimitExceeded, NotFound, Unsupported

PAGE_PAYLOAD_BYTES_MAX: Final = 256 * 1_048_576  # payloads of one page, all in memory at once
FETCHES_AT_ONCE: Final = 4  # payloads of a page that are fetched at the same time: half of the connections

# What our own server says of a page that no frame holds.
_TOO_LARGE: Final = ("(payload_bytes_max)", "(answer_turns_max)")


class TurnReader:
    """Turns of one server. ``forks_to_look``: a turn that no list showed is found by forking it.

    Servers other than ours have no message for one turn; a fork costs a context, which is a few bytes and a line in
    lists of contexts, and stays.
    """

    def __init__(self, remote: Remote, chains: Chains, *, forks_to_look: bool) -> None:
        self._remote = remote
        self._chains = chains
        self._forks_to_look = forks_to_look

    async def page(self, context_id: int, *, before: int | None, limit: int, deadline: Deadline) -> Sequence[TurnItem]:
        """The newest turns, or those before a turn of the chain, oldest first, with their payloads verified.

        Raises ``NotFound``, ``Invalid`` for a cursor that is not on the chain, ``LimitExceeded``.
        """
        if before == 0 or limit == 0:
            await self._remote.head(context_id, deadline=deadline)
            return ()
        try:
            items = await self._ask(context_id, before=before, limit=limit, deadline=deadline)
        except (Invalid, BackendDown) as exc:
            if not _is_too_large(exc):
                raise
            return await self._halves(exc, context_id, before=before, limit=limit, deadline=deadline)
        check_links(items)
        for item in items:
            _check_payload(item)
        self._chains.see(items, context_id=context_id)
        return items

    async def turn(self, turn_id: int, *, deadline: Deadline) -> Turn:
        """One turn. Raises ``NotFound``, and ``Unsupported`` where it could only be found by forking it."""
        if turn_id == 0:
            raise missing("turn", turn_id)
        if await self._remote.is_improved(deadline=deadline):
            item = await self._remote.turn(turn_id, deadline=deadline)
        else:
            facts = await self._chains.look_up(turn_id, deadline=deadline)
            if facts is not None:
                return _turn(facts, await self._payload(facts, deadline=deadline))
            item = await self._forked(turn_id, deadline=deadline)
        _check_payload(item)
        (facts,) = self._chains.see((item,), context_id=0)
        return _turn(facts, item.payload or b"")

    async def exists(self, turn_id: int, *, context_id: int, deadline: Deadline) -> bool:
        """Whether there is a turn, wherever it is. ``context_id`` is any context that exists."""
        if self._chains.find(turn_id) is not None or self._chains.is_ours(turn_id):
            return True
        http = self._remote.http
        if http is not None:
            try:
                await http.turns_before(context_id, before_turn_id=turn_id, limit=1, timeout_s=deadline.left_s)
            except (NotFound, Invalid) as exc:
                if "before turn" in exc.message:
                    return False
                # A later server, or ours, that looks in this context only: it cannot tell.
            else:
                return True
        try:
            await self._forked(turn_id, deadline=deadline)
        except NotFound:
            return False
        return True

    def as_turn(self, item: TurnItem, *, context_id: int) -> Turn:
        """A turn of a list, as callers know it. ``context_id`` is where it came from, if nothing else is known."""
        facts = self._chains.find(item.turn_id) or facts_of(item, context_id=context_id)
        assert item.payload is not None, "asked for with payloads"
        return _turn(facts, item.payload)

    async def _ask(self, context_id: int, *, before: int | None, limit: int, deadline: Deadline) -> Sequence[TurnItem]:
        if before is None:
            return await self._remote.last(context_id, limit=limit, deadline=deadline)
        if await self._remote.is_improved(deadline=deadline):
            return await self._remote.before(context_id, before_turn_id=before, limit=limit, deadline=deadline)
        if not await self._chains.has(context_id, before, deadline=deadline):
            raise Invalid(f"turn {before} is not on the chain of context {context_id}", turn_id=str(before))
        facts = self._chains.find(before)
        if facts is not None and facts.parent_turn_id == 0:
            return ()
        if self._remote.http is None:
            return await self._before_by_links(context_id, before, limit=limit, deadline=deadline)
        items = await self._remote.http.turns_before(
            context_id, before_turn_id=before, limit=limit, timeout_s=deadline.left_s
        )
        if facts is not None and (not items or items[-1].turn_id != facts.parent_turn_id):
            raise ChainBroken(
                f"the page before turn {before} does not end with its parent, turn {facts.parent_turn_id}; is the HTTP "
                "side that of the same server?",
                turn_id=str(before),
            )
        return items

    async def _before_by_links(
        self, context_id: int, before: int, *, limit: int, deadline: Deadline
    ) -> Sequence[TurnItem]:
        window = limit + 1
        while True:
            items = await self._chains.links(context_id, limit=window, deadline=deadline)
            at = next((index for index, item in enumerate(items) if item.turn_id == before), None)
            if at is not None and (at >= limit or len(items) < window):
                return await self._filled(items[max(0, at - limit) : at], deadline=deadline)
            if at is None and len(items) < window:
                raise Invalid(f"turn {before} is not on the chain of context {context_id}", turn_id=str(before))
            window = window + limit - at if at is not None else window * 8

    async def _filled(self, items: Sequence[TurnItem], *, deadline: Deadline) -> Sequence[TurnItem]:
        _refuse_large(sum(item.uncompressed_len for item in items))
        gate = asyncio.Semaphore(FETCHES_AT_ONCE)

        async def fill(item: TurnItem) -> TurnItem:
            async with gate:
                return replace(item, payload=await self._payload(facts_of(item, context_id=0), deadline=deadline))

        return await asyncio.gather(*(fill(item) for item in items))

    async def _payload(self, facts: TurnFacts, *, deadline: Deadline) -> bytes:
        payload = await self._remote.blob(facts.content_hash, deadline=deadline)
        if payload is None:
            raise ChainBroken(
                f"the payload of turn {facts.turn_id} is not among the server's blobs ({facts.content_hash}); restore "
                "its data from a backup",
                turn_id=str(facts.turn_id),
            )
        return payload

    async def _halves(
        self, exc: Exception, context_id: int, *, before: int | None, limit: int, deadline: Deadline
    ) -> Sequence[TurnItem]:
        if limit == 1 or not await self._remote.is_improved(deadline=deadline):
            raise _too_large(PAGE_PAYLOAD_BYTES_MAX + 1) from exc
        newer = await self.page(context_id, before=before, limit=limit // 2, deadline=deadline)
        if not newer or newer[0].parent_turn_id == 0:
            return newer
        rest = limit - len(newer)
        older = await self.page(context_id, before=newer[0].turn_id, limit=rest, deadline=deadline)
        items = (*older, *newer)
        _refuse_large(sum(item.uncompressed_len for item in items))
        return items

    async def _forked(self, turn_id: int, *, deadline: Deadline) -> TurnItem:
        if not self._forks_to_look:
            raise Unsupported(
                f"this server has no message for one turn, and no list showed turn {turn_id} yet; list its context "
                "first, or allow forks_to_look, each of which costs a context"
            )
        head = await self._remote.create(turn_id, deadline=deadline)
        (item,) = await self._remote.last(head.context_id, limit=1, deadline=deadline)
        self._chains.see((item,), context_id=0)
        return item


def _turn(facts: TurnFacts, payload: bytes) -> Turn:
    return Turn(
        context_id=str(facts.context_id),
        turn_id=str(facts.turn_id),
        parent_turn_id=str(facts.parent_turn_id),
        depth=facts.depth + 1,
        type_id=facts.type_id,
        type_version=facts.type_version,
        payload=payload,
        content_hash=facts.content_hash,
        idempotency_key=key_of(payload),
    )


def _check_payload(item: TurnItem) -> None:
    assert item.payload is not None, "asked for with payloads"
    what = f"the payload of turn {item.turn_id}, as it was read,"
    check_same_digest(item.content_hash.hex(), content_hash(item.payload), what=what)


def _is_too_large(exc: Invalid | BackendDown) -> bool:
    return was_lost(exc, Lost.OVERSIZE) or any(said in exc.message for said in _TOO_LARGE)


def _refuse_large(size: int) -> None:
    if size > PAGE_PAYLOAD_BYTES_MAX:
        raise _too_large(size)


def _too_large(size: int) -> LimitExceeded:
    return LimitExceeded(
        f"{size} bytes of payload or more in one page, at most {PAGE_PAYLOAD_BYTES_MAX} (page_payload_bytes_max); "
        "ask for fewer turns",
        limit="page_payload_bytes_max",
        allowed=PAGE_PAYLOAD_BYTES_MAX,
        actual=size,
    )
