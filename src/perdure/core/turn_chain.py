"""Reading the graph of turns: heads, single turns, and the chain from a turn back to its root."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from perdure.core.turn_entries import Place, StoredTurn, from_entry, is_closed, place_of
from perdure.domain.container import Space
from perdure.domain.log import READ_BYTES_MAX, READ_ENTRIES_MAX, LogHead, LogPage, Position
from perdure.domain.turn import Context, context_container, split_turn_id
from perdure.errors import ChainBroken, Invalid, NotFound
from perdure.ports.logs import LogStore, PositionLost
from perdure.ports.patience import Patience

EPOCHS_MAX: Final = 10_000  # contexts whose log is known by its epoch, without asking again


class _Attributes(msgspec.Struct, omit_defaults=True, frozen=True):
    """What a context was made with."""

    base: int = 0
    base_depth: int = 0
    labels: tuple[str, ...] = ()
    barred: bool = False  # a fork that must not be made any more: its number is taken, for as long as it might be


_ATTRIBUTES: Final = msgspec.json.Decoder(_Attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A context as it is: its log, what it was made with, and its last turn (None while it has none of its own)."""

    number: int
    epoch: int
    base: int
    base_depth: int
    labels: tuple[str, ...]
    created_at: datetime
    last: Place | None

    @property
    def turn_id(self) -> int:
        """The id of the head, 0 for none."""
        return self.base if self.last is None else self.last.turn_id

    @property
    def depth(self) -> int:
        """How many turns there are from the root to the head."""
        return self.base_depth if self.last is None else self.last.depth

    @property
    def sequence(self) -> int:
        """How many turns were appended to this context."""
        return 0 if self.last is None else self.last.position

    def as_context(self) -> Context:
        """What callers see."""
        return Context(
            context_id=str(self.number),
            head_turn_id=str(self.turn_id),
            head_depth=self.depth,
            base_turn_id=str(self.base),
            labels=self.labels,
            created_at=self.created_at,
        )


def encode_attributes(*, base: int, base_depth: int, labels: tuple[str, ...]) -> bytes:
    """What a context is made with, as the attributes of its log."""
    return msgspec.json.encode(_Attributes(base=base, base_depth=base_depth, labels=labels))


def barred_attributes() -> bytes:
    """The attributes of a log that only keeps a context from being made."""
    return msgspec.json.encode(_Attributes(barred=True))


def is_barred(log: LogHead) -> bool:
    """Whether a log is no context, and keeps one from being made."""
    return _ATTRIBUTES.decode(log.settings.attributes).barred


def head_of(number: int, log: LogHead, last: Place | None) -> Head:
    """A context from its log and its last turn."""
    made = _ATTRIBUTES.decode(log.settings.attributes)
    return Head(
        number=number,
        epoch=log.epoch,
        base=made.base,
        base_depth=made.base_depth,
        labels=made.labels,
        created_at=log.created_at,
        last=last,
    )


def unknown(resource: str, number: int) -> NotFound:
    """The error for what is not there, or is another space's."""
    return NotFound(f"resource not found: {resource} ({number})", resource=resource, id=str(number))


def _is_context(newest: LogPage) -> bool:
    """Whether a log is a context that is not being removed, by its newest entries."""
    return not is_barred(newest.head) and not any(is_closed(entry) for entry in newest.entries[:1])


class TurnChain:
    """Reads turns from the logs of one backend."""

    def __init__(self, logs: LogStore) -> None:
        self._logs = logs
        self._epochs: OrderedDict[tuple[Space, int], int] = OrderedDict()

    async def head(self, space: Space, number: int, *, patience: Patience) -> Head:
        """A context as it is now; one read. Raises ``NotFound``, also for one that is being removed."""
        page = await self._logs.read(
            context_container(space, number), limit=1, reverse=True, bytes_max=READ_BYTES_MAX, timeout_s=patience.left_s
        )
        if page is None or not _is_context(page):
            raise unknown("context", number)
        last = place_of(number, page.entries[0]) if page.entries else None
        head = head_of(number, page.head, last)
        self.remember(space, number, head.epoch)
        return head

    async def newest(self, space: Space, number: int, *, limit: int, patience: Patience) -> Sequence[StoredTurn]:
        """The last turns of a context as it is now, up to ``limit`` (1 or more), oldest first. Raises ``NotFound``.

        One read for the head and the turns, and one for each run before the last one.
        """
        page = await self._logs.read(
            context_container(space, number),
            limit=min(limit, READ_ENTRIES_MAX),
            reverse=True,
            bytes_max=READ_BYTES_MAX,
            timeout_s=patience.left_s,
        )
        if page is None or not _is_context(page):
            raise unknown("context", number)
        self.remember(space, number, page.head.epoch)
        if not page.entries:
            return await self.before(space, head_of(number, page.head, None).turn_id, limit=limit, patience=patience)
        anchor = place_of(number, page.entries[0]).anchor
        # What is below the anchor was left behind when the head was led back.
        found = [from_entry(number, entry) for entry in reversed(page.entries) if entry.sequence >= anchor]
        older = await self.before(space, found[0].place.parent_id, limit=limit - len(found), patience=patience)
        return [*older, *found]

    async def turn(self, space: Space, turn_id: int, *, patience: Patience) -> StoredTurn:
        """One turn. Raises ``NotFound``."""
        number, position = split_turn_id(turn_id)
        found = await self.segment(space, number, first=position, last=position, patience=patience) if position else ()
        if not found:
            raise unknown("turn", turn_id)
        return found[0]

    async def segment(
        self, space: Space, number: int, *, first: int, last: int, patience: Patience
    ) -> Sequence[StoredTurn]:
        """The turns of one context from one position to another, both included; none if there is no such context."""
        container = context_container(space, number)
        epoch = await self._epoch(space, number, patience=patience)
        if epoch is None:
            return ()
        found: list[StoredTurn] = []
        while first <= last:
            try:
                page = await self._logs.read(
                    container,
                    after=Position(epoch=epoch, sequence=first - 1),
                    limit=min(last - first + 1, READ_ENTRIES_MAX),
                    bytes_max=READ_BYTES_MAX,
                    timeout_s=patience.left_s,
                )
            except PositionLost:
                page = None  # beyond the head
            if page is None or not page.entries:
                break
            found.extend(from_entry(number, entry) for entry in page.entries if not is_closed(entry))
            first = page.entries[-1].sequence + 1
        return found

    async def runs(self, space: Space, start: int, *, patience: Patience) -> AsyncIterator[Place]:
        """The last turn of each run of the chain that ends with the turn ``start``, newest first; one read each."""
        while start:
            stored = await self.turn(space, start, patience=patience)
            yield stored.place
            start = stored.place.entered

    async def parent_on_chain(self, space: Space, head: Head, turn_id: int, *, patience: Patience) -> int:
        """The turn before one of the head's chain, 0 for none. Raises ``Invalid`` for a turn that is not on it."""
        number, position = split_turn_id(turn_id)
        last = head.last
        if last is not None:
            if last.covers(number, position):
                return last.entered if position == last.anchor else turn_id - 1
            following = last.entered
        else:
            following = head.base
        async for run in self.runs(space, following, patience=patience):
            if run.covers(number, position):
                return run.entered if position == run.anchor else turn_id - 1
        raise Invalid(f"turn {turn_id} is not in the chain of context {head.number}", turn_id=str(turn_id))

    async def before(self, space: Space, start: int, *, limit: int, patience: Patience) -> Sequence[StoredTurn]:
        """Up to ``limit`` turns of the chain that ends with ``start``, oldest first."""
        newest_first: list[StoredTurn] = []
        while start and len(newest_first) < limit:
            number, position = split_turn_id(start)
            first = max(1, position - (limit - len(newest_first)) + 1)
            found = await self.segment(space, number, first=first, last=position, patience=patience)
            if not found or found[-1].place.position != position:
                raise ChainBroken(
                    f"turn {start} is missing, though another one follows it; restore it from a backup",
                    turn_id=str(start),
                )
            end = found[-1].place
            newest_first.extend(stored for stored in reversed(found) if stored.place.position >= end.anchor)
            oldest = newest_first[-1].place
            start = oldest.parent_id
        newest_first.reverse()
        return newest_first

    def remember(self, space: Space, number: int, epoch: int) -> None:
        """Note which life of a context's log is the only one it has."""
        self._epochs[space, number] = epoch
        self._epochs.move_to_end((space, number))
        while len(self._epochs) > EPOCHS_MAX:
            self._epochs.popitem(last=False)

    async def _epoch(self, space: Space, number: int, *, patience: Patience) -> int | None:
        known = self._epochs.get((space, number))
        if known is not None:
            return known
        head = await self._logs.head(context_container(space, number), timeout_s=patience.left_s)
        if head is None:
            return None
        self.remember(space, number, head.epoch)
        return head.epoch
