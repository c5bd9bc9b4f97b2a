"""Removing contexts whose time is over, and nothing that anybody needs.

A context is judged with everything that goes on from it, and removed behind all of that. Removing one is written down
first, so that whoever holds or forks it at the same moment is seen, or sees it (``turn_retention``). It is decided by
the last entry of the context's own log, which expects the head that was judged: an append that was first keeps the
context, one that comes later finds none. From then on the context is not there; its log, its names and last the
removal itself are taken away, by this purge or by the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from perdure.core.stores import WRITE_S_MAX
from perdure.core.turn_chain import barred_attributes, head_of, is_barred
from perdure.core.turn_entries import closing_entry, from_entry, is_closed, place_of
from perdure.core.turn_retention import Obstacles, Removal
from perdure.core.turn_store import Blobs, TurnParts
from perdure.domain.container import Space
from perdure.domain.log import READ_BYTES_MAX, LogPage, LogSettings
from perdure.domain.retention import (
    FAMILY_MAX,
    NO_RETENTION,
    KeptFor,
    Outcome,
    PurgedContext,
    Retention,
    read_retention,
)
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import context_container
from perdure.domain.turn_records.catalog import find_record_type
from perdure.errors import StaleVersion
from perdure.ports.patience import Patience

BARRED_S: Final = 86_400.0  # a fork that began before its number was barred has ended by then: no call takes a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is to become of a context: removed, kept although it is due, or none of both."""

    number: int
    is_there: bool = True
    due: bool = False
    retention: Retention = NO_RETENTION
    reason: KeptFor | None = None
    because: str | None = None

    @property
    def removable(self) -> bool:
        """Whether it may go."""
        return self.due and self.reason is None

    def kept(self, reason: KeptFor, *, because: str | None = None) -> Judgement:
        """The same, kept for a reason."""
        return replace(self, reason=reason, because=because)

    def as_purged(self) -> PurgedContext:
        """What callers see."""
        return PurgedContext(
            context_id=str(self.number),
            outcome=Outcome.REMOVED if self.removable else Outcome.KEPT,
            reason=self.reason,
            because=self.because,
            retention_class=self.retention.retention_class,
            expires_at=self.retention.expires_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A context with all that goes on from it, judged; ``order`` are those that may go, each behind what needs it."""

    judged: Mapping[int, Judgement]
    order: Sequence[int]


class TurnPurger:
    """Removes contexts of one space from one backend. What ended at ``until`` or before it is due."""

    def __init__(self, parts: TurnParts, blobs: Blobs, space: Space, *, until: datetime) -> None:
        self._parts = parts
        self._blobs = blobs
        self._space = space
        self._until = until

    async def judge(self, number: int, *, patience: Patience) -> Family:
        """What may become of a context, and of all that goes on from it; reads only."""
        judged: dict[int, Judgement] = {}
        entered: dict[int, tuple[Judgement, Sequence[int]]] = {}
        order: list[int] = []
        stack = [number]
        while stack:
            top = stack[-1]
            if top in judged:
                stack.pop()
            elif top in entered:
                own, forks = entered[top]
                needs = next((fork for fork in forks if judged[fork].is_there and not judged[fork].removable), None)
                judged[top] = own if needs is None else own.kept(KeptFor.FORK, because=str(needs))
                if needs is None:
                    order.append(top)
            else:
                own = await self._look(top, patience=patience)
                if not own.removable:
                    judged[top] = own
                    continue
                room = max(0, FAMILY_MAX - len(judged) - len(stack))
                forks = await self._parts.contexts.forks(self._space, top, limit=room, patience=patience)
                # On the way to here: not judged before this one, which cannot be judged before it.
                above = next((fork for fork in forks if fork in entered and fork not in judged), None)
                if len(forks) > room:
                    judged[top] = own.kept(KeptFor.FAMILY)
                elif above is not None:
                    judged[top] = own.kept(KeptFor.CYCLE, because=str(above))
                else:
                    entered[top] = (own, forks)
                    stack += [fork for fork in forks if fork not in judged]
        return Family(judged=judged, order=order)

    async def remove(self, number: int, *, audit: StoreAudit | None, patience: Patience) -> Judgement:
        """Remove a context that may go, or say why it was kept.

        Interrupted, it has removed nothing that can be read, or all of it; ``leftovers`` has the rest.
        """
        own = await self._look(number, patience=patience)
        newest = await self._newest(number, patience=patience)
        if not own.removable or newest is None:
            return own
        over = (await self._obstacles(own, patience=patience)).removal
        made = head_of(number, newest.head, place_of(number, newest.entries[0]))
        try:
            removal = await self._parts.retention.write_down(
                self._space, number, base=made.base, labels=made.labels, over=over, patience=patience
            )
        except StaleVersion:
            return own.kept(KeptFor.BUSY)
        kept = await self._against(own, removal, patience=patience)
        if kept is None and not await self._close(number, newest.head.sequence, patience=patience):
            # Or somebody else has removed it.
            gone = await self._newest(number, patience=patience) is None
            kept = Judgement(number=number, is_there=False) if gone else own.kept(KeptFor.WRITTEN)
        if kept is not None:
            await self._parts.retention.take_back(self._space, removal, patience=patience)
            return kept
        await self.end(removal, audit=audit, patience=patience)
        return own

    async def leftovers(self, *, patience: Patience) -> Sequence[Removal]:
        """Removals that were decided, and whose end somebody did not see."""
        written = await self._parts.retention.removals(self._space, patience=patience)
        return [one for one in written if await self._newest(one.number, patience=patience) is None]

    async def end(self, removal: Removal, *, audit: StoreAudit | None, patience: Patience) -> None:
        """Take away what is left of a context whose removal is decided; again is fine."""
        await self._parts.logs.erase(context_container(self._space, removal.number), timeout_s=patience.left_s)
        await self._parts.contexts.forget(
            self._space, removal.number, base=removal.base, labels=removal.labels, patience=patience
        )
        await self._parts.retention.end(self._space, removal, audit=audit, patience=patience)

    async def _look(self, number: int, *, patience: Patience) -> Judgement:
        """A context by itself: whether its time is over, and nobody holds or removes it."""
        page = await self._parts.logs.read(
            context_container(self._space, number), limit=1, bytes_max=READ_BYTES_MAX, timeout_s=patience.left_s
        )
        if page is None or is_barred(page.head):
            return Judgement(number=number, is_there=False)
        retention = await self._retention(number, page, patience=patience)
        if retention.expires_at is None or retention.expires_at > self._until:
            return Judgement(number=number, retention=retention)
        own = Judgement(number=number, due=True, retention=retention)
        obstacles = await self._obstacles(own, patience=patience)
        if obstacles.removal is not None:
            if await self._newest(number, patience=patience) is None:
                return Judgement(number=number, is_there=False)
            if not self._parts.retention.is_abandoned(obstacles.removal):
                return own.kept(KeptFor.BUSY)
        if obstacles.hold is not None:
            return own.kept(KeptFor.HOLD, because=obstacles.hold.retention_class)
        return own

    async def _retention(self, number: int, page: LogPage, *, patience: Patience) -> Retention:
        if not page.entries or is_closed(page.entries[0]):
            return NO_RETENTION
        first = from_entry(number, page.entries[0])
        if find_record_type(first.type_id, version=first.type_version) is None:
            return NO_RETENTION
        payload = first.payload
        if payload is None:
            payload = await self._blobs.find(self._space, first.digest, timeout_s=patience.left_s)
        if payload is None:
            return NO_RETENTION
        return read_retention(first.type_id, version=first.type_version, payload=payload)

    async def _obstacles(self, own: Judgement, *, patience: Patience) -> Obstacles:
        return await self._parts.retention.obstacles(
            self._space, own.number, own.retention.retention_class, patience=patience
        )

    async def _newest(self, number: int, *, patience: Patience) -> LogPage | None:
        """The newest entry of a context; None if it is gone, or is being removed."""
        page = await self._parts.logs.read(
            context_container(self._space, number),
            limit=1,
            reverse=True,
            bytes_max=READ_BYTES_MAX,
            timeout_s=patience.left_s,
        )
        return None if page is None or not page.entries or is_closed(page.entries[0]) else page

    async def _against(self, own: Judgement, removal: Removal, *, patience: Patience) -> Judgement | None:
        """Why a context is kept after all: whoever was not seen now sees that it is being removed."""
        hold = (await self._obstacles(own, patience=patience)).hold
        if hold is not None:
            return own.kept(KeptFor.HOLD, because=hold.retention_class)
        forks = await self._parts.contexts.forks(self._space, own.number, limit=FAMILY_MAX, patience=patience)
        if len(forks) > FAMILY_MAX:
            return own.kept(KeptFor.FAMILY)
        for fork in forks:
            if not await self._bar(fork, patience=patience):
                return own.kept(KeptFor.FORK, because=str(fork))
        # Others rely on it that what was not decided for longer never will be.
        is_late = (self._parts.environment.clock.now() - removal.at).total_seconds() > WRITE_S_MAX
        return own.kept(KeptFor.BUSY) if is_late else None

    async def _bar(self, number: int, *, patience: Patience) -> bool:
        """Keep a fork that was named from being made; False if it is there."""
        container = context_container(self._space, number)
        log = await self._parts.logs.head(container, timeout_s=patience.left_s)
        if log is None:
            ends = self._parts.environment.clock.now() + timedelta(seconds=BARRED_S)
            settings = LogSettings(attributes=barred_attributes(), expires_at=ends)
            try:
                await self._parts.logs.configure(container, settings, if_version=0, timeout_s=patience.left_s)
            except StaleVersion:
                log = await self._parts.logs.head(container, timeout_s=patience.left_s)
            else:
                return True
        return log is not None and is_barred(log)

    async def _close(self, number: int, sequence: int, *, patience: Patience) -> bool:
        """Decide that a context is removed, unless somebody appended to it."""
        try:
            await self._parts.logs.append(
                context_container(self._space, number),
                [closing_entry()],
                expected=sequence,
                timeout_s=patience.left_s,
            )
        except StaleVersion:
            return False
        return True
