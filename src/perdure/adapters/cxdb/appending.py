"""Appending each turn once, at servers that keep no keys and close the connection instead of refusing.

A lost answer is looked for before anything is sent again. A server that hung up has finished with the request, so what
is not there then will not come; after a timeout it may, and nothing is sent again without being asked to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from perdure.adapters.cxdb.chain import Chains
from perdure.adapters.cxdb.codec.requests import AppendTurn
from perdure.adapters.cxdb.codec.responses import TurnAppended
from perdure.adapters.cxdb.codec.turn_lists import TurnItem
from perdure.adapters.cxdb.failures import Lost, missing, was_lost
from perdure.adapters.cxdb.keys import ContextMemory, Fingerprint, KeptTurn, Memories, Pending, key_of
from perdure.adapters.cxdb.reading import TurnReader
from perdure.adapters.cxdb.remote import Deadline, Remote
from perdure.domain.object import check_same_digest
from perdure.domain.turn import TURNS_PAGE_MAX, NewTurn, TurnRef, content_hash
from perdure.errors import (
    Invalid,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    TimedOut,
    Unavailable,
    Unsupported,
)

SENDS_MAX: Final = 2  # of one append whose connection was closed; a server that does it twice does not want it

_READ_BACK_FIRST: Final = 16  # turns that are looked through first for a lost one
_READ_BACK_GROWTH: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Appending:
    """An append: the turn, where it goes, and what it says in short."""

    context_id: int
    turn: NewTurn
    rebase: bool
    asked: Fingerprint

    def request(self) -> AppendTurn:
        """The message that asks for it."""
        turn = self.turn
        return AppendTurn(
            context_id=self.context_id,
            parent_turn_id=self.asked.parent_turn_id,
            declared_type_id=turn.type_id,
            declared_type_version=turn.type_version,
            uncompressed_len=len(turn.payload),
            content_hash=bytes.fromhex(self.asked.content_hash),
            payload=turn.payload,
            idempotency_key=(turn.idempotency_key or "").encode(),
            rebase=self.rebase,
        )


class TurnAppender:
    """Appends to the contexts of one server. ``keys_in_memory`` takes keys that only this client will know."""

    def __init__(
        self, remote: Remote, chains: Chains, reader: TurnReader, *, dedupe_turns_max: int, keys_in_memory: bool
    ) -> None:
        self._remote = remote
        self._chains = chains
        self._reader = reader
        self._memories = Memories()
        self._dedupe_turns_max = dedupe_turns_max
        self._keys_in_memory = keys_in_memory

    def remember_new(self, context_id: int, *, base: int) -> None:
        """A context was made just now at a turn, 0 for none: it has no keys yet."""
        self._memories.put(context_id, ContextMemory(base=base, head=base, loaded=True))

    async def append(self, context_id: int, turn: NewTurn, *, rebase: bool, deadline: Deadline) -> TurnRef:
        """Append a turn that was checked."""
        asked = Fingerprint(
            type_id=turn.type_id,
            type_version=turn.type_version,
            content_hash=content_hash(turn.payload),
            parent_turn_id=int(turn.parent_turn_id or 0),
        )
        appending = Appending(context_id=context_id, turn=turn, rebase=rebase, asked=asked)
        if await self._remote.is_improved(deadline=deadline):
            answer = await self._append_once(appending, deadline=deadline)
            return self._ref(appending, self._see(appending, answer), replayed=answer.replayed)
        memory = self._memories.of(context_id)
        await _enter(memory.lock, deadline)
        try:
            return await self._append_here(appending, memory, deadline=deadline)
        except NotFound as exc:
            if exc.detail.get("resource") == "context":
                self._memories.forget(context_id)  # the oldest servers begin anew when they start
            raise
        finally:
            memory.lock.release()

    async def _append_once(self, appending: Appending, *, deadline: Deadline) -> TurnAppended:
        """Append at a server that keeps keys; with one, the same again is safe."""
        request = appending.request()
        for send in range(SENDS_MAX):
            try:
                return self._checked(appending, await self._remote.pool.ask(request, timeout_s=deadline.left_s))
            except OutcomeUnknown:
                if not request.idempotency_key or send == SENDS_MAX - 1 or not deadline.left_s:
                    raise
            except NotFound as exc:
                if exc.detail.get("about") == "parent turn":
                    raise missing("turn", request.parent_turn_id) from exc
                raise missing("context", request.context_id) from exc
            except Invalid as exc:
                if request.parent_turn_id:
                    exc.detail.setdefault("turn_id", str(request.parent_turn_id))
                raise
        raise AssertionError("the last attempt returns or raises")

    async def _append_here(self, appending: Appending, memory: ContextMemory, *, deadline: Deadline) -> TurnRef:
        context_id, key = appending.context_id, appending.turn.idempotency_key
        if key is not None:
            self._check_key(appending, key)
        if memory.head is None:
            memory.head = (await self._remote.head(context_id, deadline=deadline)).head_turn_id
        if key is not None:
            kept = await self._find(appending, key, memory, deadline=deadline)
            if kept is not None:
                return self._ref(appending, kept, replayed=True)
        await self._check_parent(appending, memory, deadline=deadline)
        pending = Pending(asked=appending.asked, after=memory.head)
        try:
            kept = await self._send(appending, pending, deadline=deadline)
        except BaseException as exc:
            # Cancelled or not: who says the key again looks first whether this was done.
            if key is not None and (isinstance(exc, OutcomeUnknown) or not isinstance(exc, PerdureError)):
                memory.doubt(key, pending)
            raise
        memory.head = max(memory.head, kept.turn_id)
        if key is not None:
            memory.keep(key, kept, keys_max=self._dedupe_turns_max)
        return self._ref(appending, kept, replayed=False)

    def _check_key(self, appending: Appending, key: str) -> None:
        if not self._keys_in_memory and key_of(appending.turn.payload) != key:
            raise Unsupported(
                "this server keeps no idempotency keys, and the payload does not carry this one, so that after a "
                "restart nobody would know it. Append a record, leave the key out, or let keys be in memory only"
            )

    async def _find(
        self, appending: Appending, key: str, memory: ContextMemory, *, deadline: Deadline
    ) -> KeptTurn | None:
        if not memory.loaded:
            await self._load(appending.context_id, memory, deadline=deadline)
        kept = memory.replay(key, appending.asked, context_id=appending.context_id)
        pending = memory.pending.get(key)
        if kept is not None or pending is None:
            return kept
        found = await self._read_back(appending, pending, deadline=deadline)
        if found is None:
            del memory.pending[key]
            return None
        memory.keep(key, found, keys_max=self._dedupe_turns_max)
        return memory.replay(key, appending.asked, context_id=appending.context_id)

    async def _load(self, context_id: int, memory: ContextMemory, *, deadline: Deadline) -> None:
        """Know the keys of the newest turns, as many as are kept, from their payloads."""
        found: list[tuple[str, KeptTurn]] = []
        before: int | None = None
        left = self._dedupe_turns_max
        while left > 0:
            page = await self._reader.page(
                context_id, before=before, limit=min(left, TURNS_PAGE_MAX), deadline=deadline
            )
            own = [item for item in page if item.turn_id > memory.base]
            found += [
                (key, _kept(item))
                for item in reversed(own)
                if item.payload and (key := key_of(item.payload)) is not None
            ]
            left -= len(page)
            if not own or len(own) < len(page) or own[0].parent_turn_id == 0:
                break
            before = own[0].turn_id
        for key, kept in reversed(found):  # the oldest first: of two with one key it is the turn
            memory.keep(key, kept, keys_max=self._dedupe_turns_max)
        memory.loaded = True

    async def _check_parent(self, appending: Appending, memory: ContextMemory, *, deadline: Deadline) -> None:
        context_id, parent = appending.context_id, appending.asked.parent_turn_id
        if not parent:
            return
        if appending.rebase:
            if not await self._reader.exists(parent, context_id=context_id, deadline=deadline):
                raise missing("turn", parent)
            await self._remote.head(context_id, deadline=deadline)  # with a parent, servers make the context up
            return
        if await self._chains.has(context_id, parent, deadline=deadline):
            return
        if not await self._reader.exists(parent, context_id=context_id, deadline=deadline):
            raise missing("turn", parent)
        raise Invalid(
            f"turn {parent} is not on the chain of context {context_id}, whose newest known turn is {memory.head}; "
            "fork it, or rebase",
            turn_id=str(parent),
        )

    async def _send(self, appending: Appending, pending: Pending, *, deadline: Deadline) -> KeptTurn:
        request = appending.request()
        for _ in range(SENDS_MAX):
            try:
                answer = self._checked(appending, await self._remote.pool.ask(request, timeout_s=deadline.left_s))
            except OutcomeUnknown as exc:
                found = await self._look(exc, appending, pending, deadline=deadline)
                if found is not None:
                    return found
                if not was_lost(exc, Lost.CLOSED):
                    raise
            else:
                return self._see(appending, answer)
        raise PersistenceError(
            f"the server closed the connection {SENDS_MAX} times instead of appending to context "
            f"{appending.context_id}, and the turn is not there: it refuses something that was sent, or cannot write; "
            "its own log says more"
        )

    async def _look(
        self, exc: OutcomeUnknown, appending: Appending, pending: Pending, *, deadline: Deadline
    ) -> KeptTurn | None:
        try:
            return await self._read_back(appending, pending, deadline=deadline)
        except Unavailable as failed:
            raise OutcomeUnknown(f"{exc.message}; nor could it be looked for") from failed

    async def _read_back(self, appending: Appending, pending: Pending, *, deadline: Deadline) -> KeptTurn | None:
        """The turn that an append left behind, among those that came after the head it was sent for."""
        window = _READ_BACK_FIRST
        while True:
            items = await self._chains.links(appending.context_id, limit=window, deadline=deadline)
            newer = [item for item in items if item.turn_id > pending.after]
            if len(newer) < len(items) or len(items) < window:
                break
            window *= _READ_BACK_GROWTH
        found = self._lost_turn(newer, pending, has_key=appending.turn.idempotency_key is not None)
        if found is None:
            return None
        self._chains.appended(found.turn_id, context_id=appending.context_id)
        return _kept(found)

    def _checked(self, appending: Appending, answer: TurnAppended) -> TurnAppended:
        what = f"turn {answer.turn_id}, as the server took it,"
        check_same_digest(appending.asked.content_hash, answer.content_hash.hex(), what=what)
        if answer.context_id != appending.context_id:
            raise PersistenceError(
                f"an append to context {appending.context_id} was done in context {answer.context_id}; is the server "
                "sound?"
            )
        return answer

    def _see(self, appending: Appending, answer: TurnAppended) -> KeptTurn:
        asked = appending.asked
        self._chains.appended(answer.turn_id, context_id=appending.context_id)
        return KeptTurn(
            turn_id=answer.turn_id,
            # One that was not named is the head at the commit, which is not told: others may have appended.
            parent_turn_id=asked.parent_turn_id or None,
            depth=answer.depth,
            type_id=asked.type_id,
            type_version=asked.type_version,
            content_hash=asked.content_hash,
        )

    def _ref(self, appending: Appending, kept: KeptTurn, *, replayed: bool) -> TurnRef:
        return TurnRef(
            context_id=str(appending.context_id),
            turn_id=str(kept.turn_id),
            depth=kept.depth + 1,
            content_hash=kept.content_hash,
            replayed=replayed,
        )

    def _lost_turn(self, newer: Sequence[TurnItem], pending: Pending, *, has_key: bool) -> TurnItem | None:
        asked = pending.asked
        for item in newer:
            said = (item.type_id, item.type_version, item.content_hash.hex())
            if said != (asked.type_id, asked.type_version, asked.content_hash):
                continue
            # Without a key somebody else may have said the same: only a turn in the expected place is this one.
            expected = asked.parent_turn_id or (None if has_key else pending.after)
            if expected in {None, item.parent_turn_id} and not self._chains.is_ours(item.turn_id):
                return item
        return None


async def _enter(lock: asyncio.Lock, deadline: Deadline) -> None:
    try:
        async with asyncio.timeout(deadline.left_s):
            await lock.acquire()
    except TimeoutError as exc:
        raise TimedOut("other appends to this context took too long; nothing was sent, try again") from exc


def _kept(item: TurnItem) -> KeptTurn:
    return KeptTurn(
        turn_id=item.turn_id,
        parent_turn_id=item.parent_turn_id,
        depth=item.depth,
        type_id=item.type_id,
        type_version=item.type_version,
        content_hash=item.content_hash.hex(),
    )
