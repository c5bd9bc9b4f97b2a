"""Reading a log page by page: a header, the entries asked for, and sometimes the last entry; never more than that.

What was read is checked: the entries must be those numbers, all of them. If one is missing, the log was cleared or
trimmed while it was read, and reading begins again; if the header says that it was not, the log is broken.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.adapters.documents import keys
from perdure.adapters.documents.log_documents import Life, LogState, read_entry
from perdure.adapters.documents.log_looking import LogLooking, wait
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Container
from perdure.domain.log import Entry, LogPage, Position
from perdure.errors import ChainBroken
from perdure.ports.documents import SCAN_DOCUMENTS_MAX
from perdure.ports.logs import PositionLost
from perdure.ports.patience import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a caller asked for."""

    after: Position | None
    limit: int
    bytes_max: int


@dataclass(slots=True, kw_only=True)
class _Scanned:
    """Entries as they came, and whether the range goes on."""

    entries: list[Entry] = field(default_factory=list)
    more: bool = False


class _Moved(Exception):
    """What was read does not fit together."""


class LogReading:
    """Reads pages."""

    def __init__(self, driver: ResilientDriver, looking: LogLooking) -> None:
        self._driver = driver
        self._looking = looking

    async def read(self, log: Container, asked: Asked, *, reverse: bool, patience: Patience) -> LogPage | None:
        """A page, or None if there is no log. Raises ``PositionLost``, ``Corrupt``."""
        while True:
            life = await self._looking.life(log, patience=patience)
            if life is None or life.header.stage != "ready":
                return None
            try:
                if reverse:
                    state, page = await self._backward(log, life, asked, patience=patience)
                else:
                    state, page = await self._forward(log, life, asked, patience=patience)
            except (_Moved, PositionLost) as exc:
                again = await self._looking.life(log, patience=patience)
                if again is not None and again.version == life.version:
                    await self._judge(log, life, exc, patience=patience)
                await wait(patience)
                continue
            if state.is_expired(self._driver.environment.clock.now()):
                return None
            return LogPage(head=state.head, entries=page.entries, more=page.more)

    async def _judge(self, log: Container, life: Life, problem: Exception, *, patience: Patience) -> None:
        """Raise what is wrong with a log that nobody changed, unless it is that the log is past its lifetime."""
        state = await self._looking.tail(log, life, patience=patience)
        if state is None or state.is_expired(self._driver.environment.clock.now()):
            return
        if isinstance(problem, PositionLost):
            raise problem
        raise ChainBroken(
            f"an entry of the log {'/'.join(log.name)!a} is missing, and nothing says that it was trimmed; restore the "
            "log from a copy, or clear it",
            log="/".join(log.name),
            kind=log.kind.value,
        ) from problem

    async def _forward(
        self, log: Container, life: Life, asked: Asked, *, patience: Patience
    ) -> tuple[LogState, _Scanned]:
        header = life.header
        position = header.floor if asked.after is None else _number(life, asked.after)
        if position < header.floor:
            raise _expired(life)
        # The entry at the position comes too: it is there, or the position is beyond the head.
        skipped = 1 if position > header.floor else 0
        first = position + 1 - skipped
        end = keys.entry_range(header.epoch, first=first)[1]
        scanned = await self._scan(log, life, first, end, asked, skipped, patience)
        state: LogState | None = None
        if not scanned.entries:
            if skipped:
                raise _unknown(life)
            state = await self._looking.tail(log, life, patience=patience)
            if state is not None and state.sequence > position:  # appended between the two reads
                scanned = await self._scan(log, life, first, end, asked, skipped, patience)
                if not scanned.entries:
                    raise _Moved
        if [entry.sequence for entry in scanned.entries] != list(range(first, first + len(scanned.entries))):
            raise _Moved
        if scanned.more:
            state = await self._looking.tail(log, life, patience=patience)
        elif scanned.entries:
            last = scanned.entries[-1]
            state = LogState(life=life, sequence=last.sequence, touched_at=last.recorded_at)
        if state is None:
            raise _Moved
        return state, _cut(_Scanned(entries=scanned.entries[skipped:], more=scanned.more), asked)

    async def _backward(
        self, log: Container, life: Life, asked: Asked, *, patience: Patience
    ) -> tuple[LogState, _Scanned]:
        epoch, floor = life.header.epoch, life.header.floor
        if asked.after is None:
            # The newest entry of this page is the last one of the log: nobody has to look for that before.
            end = keys.entry_range(epoch, first=floor + 1)[1]
            scanned = await self._scan(log, life, floor + 1, end, asked, 0, patience, reverse=True)
            if not scanned.entries:
                return _there(await self._looking.without_entries(log, life, patience=patience)), scanned
            newest = scanned.entries[0]
            state = LogState(life=life, sequence=newest.sequence, touched_at=newest.recorded_at)
            before = newest.sequence + 1
        else:
            state = _there(await self._looking.tail(log, life, patience=patience))
            before = _number(life, asked.after)
            if before > state.sequence:
                raise _unknown(life)
            if before <= floor and floor:
                raise _expired(life)
            if before <= floor + 1:
                return state, _Scanned()
            end = keys.entry_sort(epoch, before)
            scanned = await self._scan(log, life, floor + 1, end, asked, 0, patience, reverse=True)
        expected = range(before - 1, before - 1 - len(scanned.entries), -1)
        if not scanned.entries or [entry.sequence for entry in scanned.entries] != list(expected):
            raise _Moved
        if not scanned.more and scanned.entries[-1].sequence != floor + 1:
            raise _Moved
        return state, _cut(scanned, asked)

    async def _scan(
        self,
        log: Container,
        life: Life,
        first: int,
        end: str,
        asked: Asked,
        skipped: int,
        patience: Patience,
        *,
        reverse: bool = False,
    ) -> _Scanned:
        """Entries from ``first`` to ``end``, as many as were asked for: one page of an engine that does not cut it."""
        entries: list[Entry] = []
        more, size, count_max = True, 0, asked.limit + skipped
        partition = keys.log_partition(log)
        start = keys.entry_sort(life.header.epoch, first)
        while more and len(entries) < count_max and size <= asked.bytes_max:
            wanted = min(count_max - len(entries), SCAN_DOCUMENTS_MAX)
            page = await self._driver.scan(
                partition, start=start, end=end, limit=wanted, reverse=reverse, timeout_s=patience.left_s
            )
            for document in page.documents:
                entry = read_entry(log, document)
                if entry is None:
                    raise _Moved  # a fence: this life is over
                entries.append(entry)
                size += len(entry.body) if len(entries) > skipped else 0
            more = page.more
            if page.more and reverse:
                end = page.documents[-1].sort
            elif page.more:
                start = keys.after(page.documents[-1].sort)
        return _Scanned(entries=entries, more=more)


def _cut(scanned: _Scanned, asked: Asked) -> _Scanned:
    """As many as were asked for, in entries and in bytes, and at least one."""
    size = 0
    for count, entry in enumerate(scanned.entries):
        size += len(entry.body)
        if count == asked.limit or (count and size > asked.bytes_max):
            return _Scanned(entries=scanned.entries[:count], more=True)
    return scanned


def _there(state: LogState | None) -> LogState:
    if state is None:
        raise _Moved
    return state


def _number(life: Life, position: Position) -> int:
    if position.epoch != life.header.epoch:
        raise _unknown(life)
    return position.sequence


def _unknown(life: Life) -> PositionLost:
    return PositionLost(
        "this is no position of the log as it is now: it was cleared since, or never got that far; read from the "
        "beginning, or from the head",
        reason="unknown",
        epoch=life.header.epoch,
        earliest=life.header.floor + 1,
    )


def _expired(life: Life) -> PositionLost:
    return PositionLost(
        f"what followed this position was trimmed; the earliest entry left is number {life.header.floor + 1}",
        reason="expired",
        epoch=life.header.epoch,
        earliest=life.header.floor + 1,
    )
