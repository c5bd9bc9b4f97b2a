"""Making one container of a backend the same on another, and proving that it is.

Entries of a log never change, so a log is followed: what was compared once stays compared, and only what came since is
read again. Rows change, so they are compared whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from perdure.domain.container import Container
from perdure.domain.log import APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, READ_BYTES_MAX, Entry, LogHead, Position
from perdure.domain.versioned import (
    ROW_WRITES_BYTES_MAX,
    ROW_WRITES_MAX,
    ROWS_PAGE_MAX,
    DeleteRow,
    VersionedRow,
)
from perdure.errors import DigestMismatch
from perdure.ports.logs import LogStore, PositionLost
from perdure.ports.rows import RowStore

RESTARTS_MAX: Final = 20  # of a log that is trimmed, or of rows that expire, again and again while they are copied
DIFFERENCES_MAX: Final = 2  # a log that was made from nothing and differs the second time is not copied, but changed

Guard: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a copy has done. ``verified`` counts what was read from both sides and found the same, byte for byte."""

    containers: int = 0
    entries: int = 0
    rows: int = 0
    objects: int = 0
    removed: int = 0
    verified: int = 0
    digest: str = ""
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def absorb(self, data: bytes) -> None:
        """Add something verified to the digest of the whole copy."""
        self.verified += 1
        self._hash.update(len(data).to_bytes(8, "big") + data)
        self.digest = self._hash.hexdigest()


class LogCopier:
    """Copies and compares logs from one store to another; it remembers how far each was compared.

    ``guard`` raises when the target must not be written to any more; it is asked before each write.
    """

    def __init__(self, source: LogStore, target: LogStore, *, tally: Tally, guard: Guard, timeout_s: float) -> None:
        self._source = source
        self._target = target
        self._tally = tally
        self._guard = guard
        self._timeout_s = timeout_s
        self._verified: dict[Container, Position] = {}

    async def sync(self, log: Container, *, still: bool) -> None:
        """Make the target's log what the source's is at this moment, and compare every entry.

        ``still`` says that nobody writes: then the heads are the same as well. What the target has beyond that, or
        otherwise, goes. Raises ``Unavailable``, and ``DigestMismatch`` when they cannot be made the same.
        """
        differences = 0
        for _ in range(RESTARTS_MAX):
            head = await self._source.head(log, timeout_s=self._timeout_s)
            if head is None:
                await self._erase(log, count=True)
                return
            try:
                reached = await self._follow(log, head, await self._start(log, head))
                is_same = await self._compare(log, head, reached)
            except PositionLost:
                continue  # trimmed or cleared under way: look again
            if not is_same:
                differences += 1
                if differences > DIFFERENCES_MAX:
                    break
                # Somebody wrote there on another occasion.
                await self._erase(log)
            elif not still or await self._are_heads_same(log):
                return
        raise DigestMismatch(f"log {log.name[0][:80]!r} of {log.kind} cannot be made the same on both backends")

    async def _compare(self, log: Container, head: LogHead, until: Position) -> bool:
        """Whether both sides have the same entries, from where they were last compared."""
        known = self._verified.get(log)
        after = Position(epoch=head.epoch, sequence=head.earliest - 1)
        if known is not None and known.epoch == head.epoch:
            after = max(after, known, key=lambda position: position.sequence)
        while after.sequence < until.sequence:
            ours = await self._page(self._source, log, after, until)
            theirs = await self._page(self._target, log, after, until)
            count = min(len(ours), len(theirs))
            if not count or ours[:count] != theirs[:count]:
                return False
            for entry in ours[:count]:
                self._tally.absorb(msgspec.json.encode(entry))
            after = Position(epoch=head.epoch, sequence=ours[count - 1].sequence)
        self._verified[log] = after
        return True

    async def _are_heads_same(self, log: Container) -> bool:
        head = await self._source.head(log, timeout_s=self._timeout_s)
        other = await self._target.head(log, timeout_s=self._timeout_s)
        return head is not None and other is not None and _shape(head) == _shape(other)

    async def _start(self, log: Container, head: LogHead) -> Position:
        there = await self._target.head(log, timeout_s=self._timeout_s)
        begin = Position(epoch=head.epoch, sequence=head.earliest - 1)
        if there is None:
            return begin
        if there.epoch != head.epoch or there.sequence > head.sequence or there.earliest > head.earliest:
            await self._erase(log)
            return begin
        if there.earliest < head.earliest and there.sequence >= head.earliest - 1:
            await self._guard()
            await self._target.trim(log, before=head.earliest, timeout_s=self._timeout_s)
        elif there.earliest < head.earliest:
            await self._erase(log)
            return begin
        return Position(epoch=head.epoch, sequence=there.sequence)

    async def _follow(self, log: Container, head: LogHead, after: Position) -> Position:
        """Copy what comes after a position, at least up to the head, and say how far that was."""
        while True:
            page = await self._source.read(
                log, after=after, limit=APPEND_ENTRIES_MAX, bytes_max=APPEND_BYTES_MAX, timeout_s=self._timeout_s
            )
            if page is None:
                raise PositionLost("the log is gone", reason="unknown")
            await self._guard()
            await self._target.restore(log, page.head, page.entries, timeout_s=self._timeout_s)
            self._tally.entries += len(page.entries)
            if page.entries:
                after = Position(epoch=head.epoch, sequence=page.entries[-1].sequence)
            # Not up to the end, which others may move as fast as this follows.
            if not page.more or after.sequence >= head.sequence:
                return after

    async def _erase(self, log: Container, *, count: bool = False) -> None:
        await self._guard()
        erased = await self._target.erase(log, timeout_s=self._timeout_s)
        self._verified.pop(log, None)
        if count:
            self._tally.removed += erased

    async def _page(self, store: LogStore, log: Container, after: Position, until: Position) -> Sequence[Entry]:
        page = await store.read(
            log, after=after, limit=APPEND_ENTRIES_MAX, bytes_max=READ_BYTES_MAX, timeout_s=self._timeout_s
        )
        return () if page is None else [entry for entry in page.entries if entry.sequence <= until.sequence]


class RowCopier:
    """Copies and compares rows from one store to another. ``guard`` is as for logs."""

    def __init__(self, source: RowStore, target: RowStore, *, tally: Tally, guard: Guard, timeout_s: float) -> None:
        self._source = source
        self._target = target
        self._tally = tally
        self._guard = guard
        self._timeout_s = timeout_s

    async def sync(self, rows: Container, *, still: bool) -> None:
        """Make the target's rows what the source's are, and compare them if they stand still.

        Raises ``Unavailable``, and ``DigestMismatch`` when they cannot be made the same.
        """
        for _ in range(RESTARTS_MAX):
            await self._move(rows)
            # Nobody writes, but rows may still expire between a look at one side and a look at the other.
            if not still or await self._is_same(rows):
                return
        raise DigestMismatch(f"{rows.kind} {'/'.join(rows.name)[:80]!r} cannot be made the same on both backends")

    async def _move(self, rows: Container) -> None:
        changed: list[VersionedRow] = []
        surplus: list[str] = []
        async for ours, theirs in self._pairs(rows):
            if ours is None and theirs is not None:
                surplus.append(theirs.key)
            elif ours is not None and ours != theirs:
                changed.append(ours)
            if len(changed) >= ROW_WRITES_MAX:
                await self._restore(rows, changed)
                changed = []
        await self._restore(rows, changed)
        for start in range(0, len(surplus), ROW_WRITES_MAX):
            removals = [DeleteRow(key=key) for key in surplus[start : start + ROW_WRITES_MAX]]
            await self._guard()
            await self._target.write(rows, removals, timeout_s=self._timeout_s)
            self._tally.removed += len(removals)

    async def _is_same(self, rows: Container) -> bool:
        compared: list[bytes] = []
        async for ours, theirs in self._pairs(rows):
            if ours is None or ours != theirs:
                return False
            compared.append(hashlib.sha256(msgspec.json.encode(ours)).digest())
        for digest in compared:
            self._tally.absorb(digest)
        return True

    async def _restore(self, rows: Container, values: Sequence[VersionedRow]) -> None:
        part: list[VersionedRow] = []
        size = 0
        for row in values:
            if part and size + len(row.value) > ROW_WRITES_BYTES_MAX:
                await self._guard()
                await self._target.restore(rows, part, timeout_s=self._timeout_s)
                part, size = [], 0
            part.append(row)
            size += len(row.value)
        if part:
            await self._guard()
            await self._target.restore(rows, part, timeout_s=self._timeout_s)
        self._tally.rows += len(values)

    async def _pairs(self, rows: Container) -> AsyncIterator[tuple[VersionedRow | None, VersionedRow | None]]:
        """Rows of both sides by key: a merge of two ordered lists."""
        left, right = self._all(self._source, rows), self._all(self._target, rows)
        ours, theirs = await anext(left, None), await anext(right, None)
        while ours is not None or theirs is not None:
            # Text is compared by code points, which is the order of UTF-8 bytes.
            if theirs is None or (ours is not None and ours.key < theirs.key):
                yield ours, None
                ours = await anext(left, None)
            elif ours is None or theirs.key < ours.key:
                yield None, theirs
                theirs = await anext(right, None)
            else:
                yield ours, theirs
                ours, theirs = await anext(left, None), await anext(right, None)

    async def _all(self, store: RowStore, rows: Container) -> AsyncIterator[VersionedRow]:
        after: str | None = None
        more = True
        while more:
            page = await store.query(rows, after=after, limit=ROWS_PAGE_MAX, timeout_s=self._timeout_s)
            for row in page.rows:
                yield row
                after = row.key
            more = page.more


def _shape(head: LogHead) -> tuple[object, ...]:
    return (head.epoch, head.sequence, head.earliest, head.version, head.settings)
