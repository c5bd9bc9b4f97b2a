"""Making contexts and finding them: numbers, labels, and the names of forks.

What names a context is written before the context: a name without a context is passed over, a context without its
names is impossible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from perdure.core.turn_chain import Head, TurnChain, encode_attributes, head_of, is_barred, unknown
from perdure.core.turn_retention import TurnRetention
from perdure.domain.container import Space
from perdure.domain.kinds import Kind
from perdure.domain.log import LogSettings
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import (
    CONTEXT_NUMBER_MAX,
    Context,
    context_container,
    forks_container,
    labels_container,
    numbers_container,
    snapshots_container,
    split_turn_id,
)
from perdure.domain.versioned import NO_ROW, ROWS_PAGE_MAX, DeleteRow, PutRow, RowVersion
from perdure.errors import Invalid, LimitExceeded, NotFound, OutcomeUnknown, StaleVersion, TimedOut
from perdure.ports.logs import LogStore
from perdure.ports.patience import Patience
from perdure.ports.rows import RowStore

NUMBERS_BLOCK: Final = 64  # numbers that a process takes at once; those that it does not use are never given again
LOOKS_AT_ONCE: Final = 8  # contexts of a page that are read at the same time
_NUMBER_DIGITS: Final = len(str(CONTEXT_NUMBER_MAX))
_NEXT: Final = "next"


@dataclass(slots=True)
class _Block:
    """Numbers that this process may give."""

    following: int
    end: int


class TurnContexts:
    """The contexts of one backend."""

    def __init__(self, logs: LogStore, rows: RowStore, chain: TurnChain, retention: TurnRetention) -> None:
        self._logs = logs
        self._rows = rows
        self._chain = chain
        self._retention = retention
        self._blocks: dict[Space, _Block] = {}
        self._taking = asyncio.Lock()

    async def create(
        self, space: Space, *, base: int, labels: tuple[str, ...], audit: StoreAudit | None, patience: Patience
    ) -> Head:
        """Make a context at a turn, or at the empty root. Raises ``NotFound`` for a turn that is not there."""
        base_depth = 0
        if base:
            base_depth = (await self._chain.turn(space, base, patience=patience)).place.depth
        number = await self._take_number(space, patience=patience)
        if base:
            await self.name_fork(space, base, number, patience=patience)
        if labels:
            names = [PutRow(key=_label_key(label, number), value=b"{}") for label in labels]
            await self._rows.write(labels_container(space), names, timeout_s=patience.left_s)
        settings = LogSettings(attributes=encode_attributes(base=base, base_depth=base_depth, labels=labels))
        container = context_container(space, number)
        try:
            log = await self._logs.configure(container, settings, if_version=0, audit=audit, timeout_s=patience.left_s)
        except StaleVersion as exc:
            made = await self._logs.head(container, timeout_s=patience.left_s)
            if base and made is not None and is_barred(made):
                raise unknown("turn", base) from exc  # a purge came between the name and this
            raise
        self._chain.remember(space, number, log.epoch)
        return head_of(number, log, None)

    async def labelled(
        self, space: Space, label: str, *, cursor: str | None, limit: int, patience: Patience
    ) -> Page[Context]:
        """Contexts of a label, in the order of their numbers."""
        prefix = _label_key(label, None)
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) == _NUMBER_DIGITS):
            raise Invalid("the cursor is not one that this list gave; begin again without a cursor")
        page = await self._rows.query(
            labels_container(space),
            prefix=prefix,
            after=None if cursor is None else prefix + cursor,
            limit=limit,
            timeout_s=patience.left_s,
        )
        texts = [row.key.removeprefix(prefix) for row in page.rows]
        found = await self._look(space, [int(text) for text in texts], patience=patience)
        return Page(items=found, next_cursor=texts[-1] if page.more else None)

    async def all(self, space: Space, *, cursor: str | None, limit: int, patience: Patience) -> Page[Context]:
        """Contexts of a space, in an order of the backend's own."""
        numbers: Sequence[int] = ()
        more = True
        while more and not numbers:
            numbers, cursor = await self.page(space, cursor=cursor, limit=limit, patience=patience)
            more = cursor is not None
        return Page(items=await self._look(space, numbers, patience=patience), next_cursor=cursor)

    async def forks(self, space: Space, number: int, *, limit: int, patience: Patience) -> Sequence[int]:
        """The contexts that go on from turns of a context, or are about to, or did; ``limit`` of them and one more."""
        found: list[int] = []
        more = True
        while more and len(found) <= limit:
            page = await self._rows.query(
                forks_container(space, number),
                after=_fork_key(found[-1]) if found else None,
                limit=min(ROWS_PAGE_MAX, limit + 1 - len(found)),
                timeout_s=patience.left_s,
            )
            found += [int(row.key) for row in page.rows]
            more = page.more
        return found

    async def page(
        self, space: Space, *, cursor: str | None, limit: int, patience: Patience
    ) -> tuple[Sequence[int], str | None]:
        """Numbers of contexts of a space that have a log, in an order of the backend's own; perhaps none, with more."""
        found, cursor = await self._logs.containers(
            Kind.TURNS, space.tenant, after=cursor, limit=limit, timeout_s=patience.left_s
        )
        return [int(one.name[1]) for one in found if one.space == space and one.name[0] == "context"], cursor

    async def forget(
        self, space: Space, number: int, *, base: int, labels: tuple[str, ...], patience: Patience
    ) -> None:
        """Remove the names of a context that is gone, and what was named under it."""
        if labels:
            names = [DeleteRow(key=_label_key(label, number)) for label in labels]
            await self._rows.write(labels_container(space), names, timeout_s=patience.left_s)
        if base:
            base_number, _ = split_turn_id(base)
            name = DeleteRow(key=_fork_key(number))
            await self._rows.write(forks_container(space, base_number), [name], timeout_s=patience.left_s)
        await self._rows.erase(forks_container(space, number), timeout_s=patience.left_s)
        await self._rows.erase(snapshots_container(space, number), timeout_s=patience.left_s)

    async def _look(self, space: Space, numbers: Sequence[int], *, patience: Patience) -> tuple[Context, ...]:
        gate = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(number: int) -> Context | None:
            """The context, None if it was named and never made, or is gone."""
            async with gate:
                try:
                    return (await self._chain.head(space, number, patience=patience)).as_context()
                except NotFound:
                    return None

        found = await asyncio.gather(*(look(number) for number in numbers))
        return tuple(context for context in found if context is not None)

    async def name_fork(self, space: Space, base: int, number: int, *, patience: Patience) -> None:
        """Say that a context is about to go on from a turn of another one. Raises ``NotFound`` if that is removed."""
        base_number, _ = split_turn_id(base)
        name = PutRow(key=_fork_key(number), value=b"{}")
        await self._rows.write(forks_container(space, base_number), [name], timeout_s=patience.left_s)
        # Whoever removes a context looks for forks after it has said so: one of the two sees the other.
        try:
            await self._retention.settled(space, base_number, patience=patience)
        except NotFound as exc:
            raise unknown("turn", base) from exc

    async def _take_number(self, space: Space, *, patience: Patience) -> int:
        async with self._taking:
            block = self._blocks.get(space)
            if block is None or block.following == block.end:
                block = self._blocks[space] = await self._lease(space, patience=patience)
            number = block.following
            block.following += 1
            return number

    async def _lease(self, space: Space, *, patience: Patience) -> _Block:
        container = numbers_container(space)
        while True:
            row = (await self._rows.get(container, [_NEXT], timeout_s=patience.left_s)).get(_NEXT)
            first = 1 if row is None else int(msgspec.json.decode(row.value))
            end = first + NUMBERS_BLOCK
            if end > CONTEXT_NUMBER_MAX:
                raise LimitExceeded(
                    f"there are {CONTEXT_NUMBER_MAX} contexts in this space, and no more (context_number_max)",
                    limit="context_number_max",
                    allowed=CONTEXT_NUMBER_MAX,
                    actual=end,
                )
            expected = NO_ROW if row is None else RowVersion(version=row.version, incarnation=row.incarnation)
            write = PutRow(key=_NEXT, value=msgspec.json.encode(end), expected=expected)
            try:
                await self._rows.write(container, [write], timeout_s=patience.left_s)
            except StaleVersion:
                if not await patience.pause():
                    raise TimedOut("no number for a new context within the time; nothing was made, try again") from None
            except OutcomeUnknown:
                if not await patience.pause():
                    raise  # whether or not it was taken, it is given to nobody
            else:
                return _Block(first, end)


def _fork_key(number: int) -> str:
    return f"{number:0{_NUMBER_DIGITS}}"


def _label_key(label: str, number: int | None) -> str:
    # With its length before it no label is the beginning of another one's key.
    return f"{len(label)}:{label}:" + ("" if number is None else f"{number:0{_NUMBER_DIGITS}}")
