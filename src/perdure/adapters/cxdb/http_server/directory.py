"""The contexts of a store with what their first turns say about them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from perdure.adapters.cxdb.http_server.limits import (
    LOOKS_AT_ONCE,
    METADATA_KNOWN_MAX,
    SCAN_CONTEXTS_MAX,
    SCAN_WHOLE_CONTEXTS_MAX,
)
from perdure.adapters.cxdb.http_server.metadata import NOTHING, Metadata, metadata_of
from perdure.adapters.cxdb.http_server.serving_state import Deadline, Served
from perdure.domain.container import Space
from perdure.domain.turn import (
    CONTEXT_NUMBER_MAX,
    CONTEXTS_PAGE_MAX,
    NO_TURN,
    Context,
    Turn,
    make_turn_id,
    split_turn_id,
)
from perdure.errors import LimitExceeded, NotFound


@runtime_checkable
class FindsFirstTurns(Protocol):
    """A store whose ids do not say where its turns are, and that finds the first of a context by itself."""

    async def first_turn(self, space: Space, turn_id: str, *, timeout_s: float) -> Turn | None:
        """The first turn of the context to which a turn was appended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A context and its metadata."""

    context: Context
    metadata: Metadata

    @property
    def is_own(self) -> bool:
        """Whether it says this itself. A fork says what its source says until it says something."""
        return self.context.head_turn_id != self.context.base_turn_id

    @property
    def labels(self) -> tuple[str, ...]:
        """What it is found by: the labels that it was made with, and those of its own first turn."""
        return tuple(dict.fromkeys((*self.context.labels, *(self.metadata.labels if self.is_own else ()))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Contexts that were looked at, the last made first; ``next_cursor`` leads to those that were not."""

    contexts: tuple[Context, ...]
    next_cursor: str | None = None

    def told(self) -> dict[str, object]:
        """Whether there are more, and where to go on."""
        return {"truncated": self.next_cursor is not None, "next_cursor": self.next_cursor}


class ContextDirectory:
    """Reads contexts and their metadata. The metadata of a first turn never changes, so it is kept."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._known: OrderedDict[str, Metadata] = OrderedDict()

    async def scan(
        self, deadline: Deadline, *, label: str | None = None, cursor: str | None = None, whole: bool = False
    ) -> Scan:
        """Every context, or those that were made with a label, ``SCAN_CONTEXTS_MAX`` at a time as the store has them.

        A ``whole`` scan is one of all of them, or ``LimitExceeded``.
        """
        found: dict[str, Context] = {}
        most = SCAN_WHOLE_CONTEXTS_MAX if whole else SCAN_CONTEXTS_MAX
        while True:
            page = await self._served.store.contexts(
                self._served.space,
                label=label,
                cursor=cursor,
                limit=min(CONTEXTS_PAGE_MAX, most - len(found)),
                timeout_s=deadline.left_s,
            )
            found |= {context.context_id: context for context in page.items}
            cursor = page.next_cursor
            if cursor is None or len(found) >= most:
                break
        if whole and cursor is not None:
            raise LimitExceeded(
                f"there are more than {most} contexts (scan_whole_contexts_max), and this answer is about all or none; "
                "list or search them in the improved profile, which goes on from a cursor",
                limit="scan_whole_contexts_max",
                allowed=most,
            )
        newest_first = sorted(found.values(), key=lambda context: int(context.context_id), reverse=True)
        return Scan(contexts=tuple(newest_first), next_cursor=cursor)

    async def describe(self, contexts: Sequence[Context], deadline: Deadline) -> list[Described]:
        """Contexts with their metadata, in the same order."""
        gate = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(context: Context) -> Described:
            """The context with its metadata."""
            async with gate:
                return Described(context=context, metadata=await self._metadata(context, deadline))

        return list(await asyncio.gather(*(look(context) for context in contexts)))

    async def last_turns(self, contexts: Sequence[Context], deadline: Deadline) -> dict[str, Turn]:
        """The head of each context that has one."""
        gate = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(context: Context) -> Turn:
            """The head of the context."""
            async with gate:
                return await self._served.store.get(self._served.space, context.head_turn_id, timeout_s=deadline.left_s)

        asked = [context for context in contexts if context.head_turn_id != NO_TURN]
        turns = await asyncio.gather(*(look(context) for context in asked))
        return {context.context_id: turn for context, turn in zip(asked, turns, strict=True)}

    async def _metadata(self, context: Context, deadline: Deadline) -> Metadata:
        """Of its own first turn; before there is one, what it was forked from says it."""
        if context.head_turn_id == NO_TURN:
            return NOTHING
        # The head is a turn of the context itself, or of what it was forked from.
        is_own = context.head_turn_id != context.base_turn_id
        owner = f"context {context.context_id}" if is_own else f"base {context.base_turn_id}"
        known = self._known.get(owner)
        if known is not None:
            self._known.move_to_end(owner)
            return known
        first = await self._first_turn(context, deadline, is_own=is_own)
        if first is None:
            return NOTHING
        found = self._known[owner] = metadata_of(first.payload)
        while len(self._known) > METADATA_KNOWN_MAX:
            self._known.popitem(last=False)
        return found

    async def _first_turn(self, context: Context, deadline: Deadline, *, is_own: bool) -> Turn | None:
        store, space = self._served.store, self._served.space
        if isinstance(store, FindsFirstTurns):
            return await store.first_turn(space, context.head_turn_id, timeout_s=deadline.left_s)
        number = int(context.context_id)
        if not is_own:
            number, _ = split_turn_id(int(context.base_turn_id))
        if number > CONTEXT_NUMBER_MAX:
            return None  # the ids of this store do not say where its turns are
        try:
            turn = await store.get(space, str(make_turn_id(number, 1)), timeout_s=deadline.left_s)
        except NotFound:
            return None
        return turn if turn.context_id == str(number) else None
