"""What is known of turns without asking: they never change, so whatever was seen once holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from perdure.adapters.cxdb.codec.turn_lists import TurnItem
from perdure.adapters.cxdb.remote import Deadline, Remote
from perdure.errors import ChainBroken

TURNS_REMEMBERED_MAX: Final = 65_536  # some 300 bytes each

_WINDOW_FIRST: Final = 64  # turns that are asked for first, without their payloads, when looking for one
_WINDOW_GROWTH: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFacts:
    """What a turn is, without its payload. ``depth`` is the protocol's: the first turn has 0.

    ``context_id`` is where it was seen first, which is where it was appended if this client did that.
    """

    turn_id: int
    parent_turn_id: int
    depth: int
    type_id: str
    type_version: int
    content_hash: str
    payload_bytes: int
    context_id: int


class Chains:
    """The turns that were seen, at most ``TURNS_REMEMBERED_MAX`` of them, and how they hang together."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._known: OrderedDict[int, TurnFacts] = OrderedDict()
        self._origins: OrderedDict[int, int] = OrderedDict()  # turns that this client appended, and where

    def find(self, turn_id: int) -> TurnFacts | None:
        """What is known of a turn."""
        facts = self._known.get(turn_id)
        if facts is not None:
            self._known.move_to_end(turn_id)
        return facts

    def add(self, facts: TurnFacts) -> TurnFacts:
        """Remember a turn; where it was seen first is where it is said to be, unless that is known."""
        known = self._known.get(facts.turn_id)
        if known is None or known.context_id == 0:
            known = replace(facts, context_id=self._origins.get(facts.turn_id, facts.context_id))
        self._known[facts.turn_id] = known
        self._known.move_to_end(facts.turn_id)
        if len(self._known) > TURNS_REMEMBERED_MAX:
            self._known.popitem(last=False)
        return known

    def appended(self, turn_id: int, *, context_id: int) -> None:
        """Remember where this client appended a turn."""
        self._origins[turn_id] = context_id
        if len(self._origins) > TURNS_REMEMBERED_MAX:
            self._origins.popitem(last=False)

    def is_ours(self, turn_id: int) -> bool:
        """Whether this client appended a turn and knows it."""
        return turn_id in self._origins

    async def look_up(self, turn_id: int, *, deadline: Deadline) -> TurnFacts | None:
        """What is known of a turn, or can be seen among the newest ones of the context where it was appended."""
        facts = self.find(turn_id)
        if facts is None and turn_id in self._origins:
            await self.links(self._origins[turn_id], limit=_WINDOW_FIRST, deadline=deadline)
            facts = self.find(turn_id)
        return facts

    def see(self, items: Iterable[TurnItem], *, context_id: int) -> list[TurnFacts]:
        """Remember turns that came in a list of a context."""
        return [self.add(facts_of(item, context_id=context_id)) for item in items]

    async def links(self, context_id: int, *, limit: int, deadline: Deadline) -> Sequence[TurnItem]:
        """The newest turns of a context without their payloads, oldest first."""
        items = await self._remote.last(context_id, limit=limit, include_payload=False, deadline=deadline)
        check_links(items)
        self.see(items, context_id=context_id)
        return items

    async def has(self, context_id: int, turn_id: int, *, deadline: Deadline) -> bool:
        """Whether a turn is on the chain of a context as it is now. Raises ``NotFound`` for the context.

        One look at the head where what lies between is known; else the links down to the turn, or to the root.
        """
        head = await self._remote.head(context_id, deadline=deadline)
        known = self._has_known(head.head_turn_id, turn_id)
        if known is not None:
            return known
        facts = self.find(turn_id)
        window = _WINDOW_FIRST if facts is None else max(1, head.head_depth - facts.depth + 1)
        while True:
            items = await self.links(context_id, limit=window, deadline=deadline)
            if any(item.turn_id == turn_id for item in items):
                return True
            # Ids grow along a chain, so beyond a smaller one there is nothing to look for.
            if len(items) < window or items[0].turn_id < turn_id:
                return False
            window *= _WINDOW_GROWTH

    def _has_known(self, head_turn_id: int, turn_id: int) -> bool | None:
        at = head_turn_id
        while at > turn_id:
            facts = self._known.get(at)
            if facts is None:
                return None
            at = facts.parent_turn_id
        return at == turn_id


def facts_of(item: TurnItem, *, context_id: int) -> TurnFacts:
    """What a list says of a turn."""
    return TurnFacts(
        turn_id=item.turn_id,
        parent_turn_id=item.parent_turn_id,
        depth=item.depth,
        type_id=item.type_id,
        type_version=item.type_version,
        content_hash=item.content_hash.hex(),
        payload_bytes=item.uncompressed_len,
        context_id=context_id,
    )


def check_links(items: Sequence[TurnItem]) -> None:
    """Raise ``ChainBroken`` unless each turn is the parent of the next."""
    for older, newer in pairwise(items):
        if newer.parent_turn_id != older.turn_id or newer.depth != older.depth + 1:
            raise ChainBroken(
                f"turn {newer.turn_id} follows turn {older.turn_id} in the server's list and has the parent "
                f"{newer.parent_turn_id}; stop writing to that server and look at its data",
                turn_id=str(newer.turn_id),
            )
