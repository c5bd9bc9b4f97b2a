"""Streams of one tenant's scope: append, read from a cursor, follow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from perdure.core.fanout import Fanout
from perdure.core.list_marks import decode_mark, encode_mark
from perdure.core.stores import Call, Stores
from perdure.core.stream_cursors import CURSOR_NONE, decode_position, encode_position
from perdure.domain.change_values import refuse_above
from perdure.domain.container import Container, stream_container
from perdure.domain.kinds import Kind
from perdure.domain.log import APPEND_ENTRIES_MAX, READ_BYTES_MAX, READ_ENTRIES_MAX, NewEntry, Position
from perdure.domain.records import Page
from perdure.domain.scope import Scope
from perdure.domain.store_audit import AUDITS_PAGE_DEFAULT, StoreAudit
from perdure.domain.stream import (
    SAMPLE_EVERY_DEFAULT,
    AppendedEvent,
    StreamEvent,
    StreamHead,
    StreamPage,
    complete,
    event_of,
    fingerprint,
    refuse_incomplete,
    to_entry,
)
from perdure.errors import CursorInvalid, Invalid, LimitExceeded, NotFound
from perdure.ports.logs import PositionLost

PAGE_EVENTS_DEFAULT: Final = 100
SAMPLERS_MAX: Final = 10_000  # (stream, type) pairs whose samples are counted at a time


class Sampler:
    """Counts events marked ``sampled`` and keeps one in ``every``, the first of each type included."""

    def __init__(self, every: int = SAMPLE_EVERY_DEFAULT) -> None:
        self._every = every
        self._seen: OrderedDict[tuple[Container, str], int] = OrderedDict()

    def keeps(self, container: Container, event_type: str) -> bool:
        """Whether the next event of that type in that stream is kept."""
        key = (container, event_type)
        seen = self._seen.pop(key, 0)
        self._seen[key] = seen + 1
        while len(self._seen) > SAMPLERS_MAX:
            self._seen.popitem(last=False)
        return seen % self._every == 0


class Streams:
    """Event streams: numbered densely from 1, read from opaque cursors, each event kept once under its id."""

    def __init__(self, scope: Scope, *, stores: Stores, fanout: Fanout, sampler: Sampler) -> None:
        self._scope = scope
        self._stores = stores
        self._fanout = fanout
        self._sampler = sampler

    async def append(
        self,
        stream: str,
        *events: StreamEvent,
        expected_sequence: int | None = None,
        strict: bool = False,
        timeout_s: float | None = None,
    ) -> Sequence[AppendedEvent]:
        """Append 1 to ``append_entries_max`` (48) events, all or none, in this order.

        An event whose ``event_id`` is in the stream already is not written again and keeps its number; with other
        content it is ``KeyReused``. ``expected_sequence`` is the number of the stream's last event (0: none), else
        ``StaleVersion``. ``strict`` wants every field of the strict contract. Events with ``persist`` ``never``, and
        those of ``sampled`` that are not chosen, reach followers in this process only and have no number.

        Raises ``Invalid``, ``Forbidden`` (``identity_override``), ``LimitExceeded`` (an event above 256 KiB),
        ``NoRoute``, ``Unavailable``; after ``OutcomeUnknown`` the same call again is safe if the events have ids.
        """
        container = stream_container(self._scope.space, stream)
        if not events or not all(isinstance(event, StreamEvent) for event in events):
            raise Invalid('an append has at least one event, each a StreamEvent: append("s", StreamEvent(type="A"))')
        refuse_above("append_entries_max", APPEND_ENTRIES_MAX, len(events))
        prepared = [self._prepare(event, strict=strict) for event in events]
        kept = [self._keeps(container, event) for event, _ in prepared]
        outcome = [AppendedEvent(event_id=entry.entry_id, sequence=None, cursor=None) for _, entry in prepared]
        if any(kept):
            entries = [entry for (_, entry), keep in zip(prepared, kept, strict=True) if keep]
            async with self._stores.writing(self._scope, container, "append", timeout_s=timeout_s) as call:
                appended = await call.backend.logs.append(
                    container, entries, expected=expected_sequence, audit=call.audit, timeout_s=call.timeout_s
                )
            places = [index for index, keep in enumerate(kept) if keep]
            for index, entry in zip(places, appended, strict=True):
                position = Position(epoch=entry.epoch, sequence=entry.sequence)
                outcome[index] = AppendedEvent(
                    event_id=entry.entry_id,
                    sequence=entry.sequence,
                    cursor=encode_position(self._scope, container, position),
                    duplicate=entry.duplicate,
                )
        self._fanout.publish(container, [event for (event, _), keep in zip(prepared, kept, strict=True) if not keep])
        return outcome

    async def read(
        self,
        stream: str,
        *,
        after: str | None = None,
        limit: int = PAGE_EVENTS_DEFAULT,
        reverse: bool = False,
        timeout_s: float | None = None,
    ) -> StreamPage:
        """Up to ``limit`` (at most 500) events strictly after a cursor, or from the earliest that is kept.

        ``after`` is a cursor of this stream, or the bare id of an event in it. No event is ever left out or given
        twice. With ``reverse`` the newest come first, and ``after`` means before. A stream that nobody has appended to
        is empty.

        Raises ``CursorInvalid`` (``streams.cursor_invalid``; reason ``unknown`` or ``expired``).
        """
        if limit < 1:
            raise Invalid(f"a page of {limit} events; at least 1 is expected")
        refuse_above("read_entries_max", READ_ENTRIES_MAX, limit)
        container = stream_container(self._scope.space, stream)
        async with self._stores.reading(self._scope, Kind.STREAMS, timeout_s=timeout_s) as call:
            position = None if after is None else await self._position(call, container, after)
            return await self._read(call, container, position, limit=limit, reverse=reverse)

    async def head(self, stream: str, *, timeout_s: float | None = None) -> StreamHead:
        """Where the stream ends and begins; sequence 0 for one that nobody has appended to."""
        container = stream_container(self._scope.space, stream)
        async with self._stores.reading(self._scope, Kind.STREAMS, timeout_s=timeout_s) as call:
            head = await call.backend.logs.head(container, timeout_s=call.timeout_s)
        if head is None:
            return StreamHead(
                sequence=0, earliest=1, epoch=0, cursor=encode_position(self._scope, container, CURSOR_NONE)
            )
        position = Position(epoch=head.epoch, sequence=head.sequence)
        return StreamHead(
            sequence=head.sequence,
            earliest=head.earliest,
            epoch=head.epoch,
            cursor=encode_position(self._scope, container, position),
        )

    async def get(self, stream: str, event_id: str, *, timeout_s: float | None = None) -> StreamEvent:
        """The event with that id. Raises ``NotFound``."""
        container = stream_container(self._scope.space, stream)
        async with self._stores.reading(self._scope, Kind.STREAMS, timeout_s=timeout_s) as call:
            found = await call.backend.logs.locate(container, event_id, timeout_s=call.timeout_s)
            if found is not None:
                before = Position(epoch=found.epoch, sequence=found.sequence - 1)
                page = await self._read(call, container, before, limit=1, reverse=False)
                if page.events and page.events[0].event_id == event_id:
                    return page.events[0]
        raise NotFound(f"stream {stream[:80]!r} has no event {event_id[:80]!r}")

    async def trim(
        self,
        stream: str,
        *,
        before_sequence: int | None = None,
        before: datetime | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Remove the events numbered below ``before_sequence``, or kept before a moment; returns how many.

        Numbers go on where they were. A cursor into what was removed is ``CursorInvalid`` with reason ``expired``.
        """
        if (before_sequence is None) == (before is None):
            raise Invalid("a stream is trimmed before a sequence or before a moment; give one of the two")
        if before is not None and before.tzinfo is None:
            raise Invalid("the moment before which to trim needs a zone, as in datetime.now(UTC)")
        bound = before_sequence if before_sequence is not None else before
        assert bound is not None, "one of the two was given"
        container = stream_container(self._scope.space, stream)
        async with self._stores.writing(self._scope, container, "trim", timeout_s=timeout_s) as call:
            return await call.backend.logs.trim(container, before=bound, audit=call.audit, timeout_s=call.timeout_s)

    async def delete(self, stream: str, *, timeout_s: float | None = None) -> bool:
        """Remove every event and begin a new epoch; False if there was no such stream. Cursors into it are unknown."""
        container = stream_container(self._scope.space, stream)
        async with self._stores.writing(self._scope, container, "delete", timeout_s=timeout_s) as call:
            return await call.backend.logs.clear(container, audit=call.audit, timeout_s=call.timeout_s)

    async def list(
        self, *, cursor: str | None = None, limit: int = PAGE_EVENTS_DEFAULT, timeout_s: float | None = None
    ) -> Page[str]:
        """Names of the streams of this scope, in an order of the backend's own."""
        if limit < 1:
            raise Invalid(f"a page of {limit} streams; at least 1 is expected")
        refuse_above("read_entries_max", READ_ENTRIES_MAX, limit)
        async with self._stores.reading(self._scope, Kind.STREAMS, timeout_s=timeout_s) as call:
            names: tuple[str, ...] = ()
            mark = decode_mark(call, cursor)
            more = True
            while more and not names:
                found, mark = await call.backend.logs.containers(
                    Kind.STREAMS, self._scope.tenant, after=mark, limit=limit, timeout_s=call.timeout_s
                )
                names = tuple(container.name[0] for container in found if container.space == self._scope.space)
                more = mark is not None
            return Page(items=names, next_cursor=encode_mark(call, mark))

    async def audits(
        self, stream: str, *, after: UUID | None = None, limit: int = AUDITS_PAGE_DEFAULT
    ) -> Sequence[StoreAudit]:
        """Records of writes to a stream whose route keeps them (``audit="writes"``), oldest first."""
        container = stream_container(self._scope.space, stream)
        async with self._stores.reading(self._scope, Kind.STREAMS) as call:
            return await call.backend.logs.audits(container, after=after, limit=limit, timeout_s=call.timeout_s)

    async def follow(self, stream: str, *, after: str | None = None, poll_s: float = 1.0) -> AsyncIterator[StreamEvent]:
        """Every event after a cursor, each once and in order, and then each new one; it never ends.

        Events of other processes are seen at most ``poll_s`` seconds after they were kept, those of this process at
        once. Events that are not kept are given as they pass, without a number. Raises ``CursorInvalid``.
        """
        if not poll_s > 0:
            raise Invalid(f"a poll every {poll_s} s; more than 0 is expected")
        container = stream_container(self._scope.space, stream)
        with self._fanout.subscribe(container) as passing:
            while True:
                page = await self.read(stream, after=after, limit=READ_ENTRIES_MAX)
                for event in page.events:
                    yield event
                after = page.next_cursor
                if not page.has_more:
                    for event in await passing.wait(poll_s):
                        yield event

    def _keeps(self, container: Container, event: StreamEvent) -> bool:
        if event.persist == "sampled":
            return self._sampler.keeps(container, event.type)
        return event.persist == "always"

    def _prepare(self, event: StreamEvent, *, strict: bool) -> tuple[StreamEvent, NewEntry]:
        environment = self._stores.environment
        full = complete(event, self._scope, event_id=str(environment.ids.new()), now=environment.clock.now())
        if strict:
            refuse_incomplete(full)
        return full, to_entry(full, content=fingerprint(event))

    async def _position(self, call: Call, container: Container, after: str) -> Position:
        position = decode_position(self._scope, container, after)
        if position is None:
            try:
                position = await call.backend.logs.locate(container, after, timeout_s=call.timeout_s)
            except (Invalid, LimitExceeded) as exc:
                raise _unknown(container) from exc  # it is not even the id of an event
        if position is None:
            raise _unknown(container)
        return position

    async def _read(
        self, call: Call, container: Container, position: Position | None, *, limit: int, reverse: bool
    ) -> StreamPage:
        # Given for a stream that had no epoch yet: whatever came since comes after it.
        from_nothing = position == CURSOR_NONE
        if from_nothing:
            position = None
        try:
            page = await call.backend.logs.read(
                container,
                after=position,
                limit=limit,
                reverse=reverse,
                bytes_max=READ_BYTES_MAX,
                timeout_s=call.timeout_s,
            )
        except PositionLost as exc:
            raise self._lost(container, exc) from exc
        if page is None:
            if position is not None:
                raise _unknown(container)
            cursor = encode_position(self._scope, container, CURSOR_NONE)
            return StreamPage(events=(), next_cursor=cursor, head_sequence=0, has_more=False)
        if from_nothing and reverse:
            cursor = encode_position(self._scope, container, CURSOR_NONE)
            return StreamPage(events=(), next_cursor=cursor, head_sequence=page.head.sequence, has_more=False)
        if from_nothing and page.head.earliest > 1:
            head = page.head
            raise self._lost(
                container,
                PositionLost("the first entries are gone", reason="expired", epoch=head.epoch, earliest=head.earliest),
            )
        start = 0 if position is None else position.sequence
        if position is None and not page.entries:
            start = page.head.sequence
        last = page.entries[-1].sequence if page.entries else start
        cursor = encode_position(self._scope, container, Position(epoch=page.head.epoch, sequence=last))
        return StreamPage(
            events=tuple(event_of(entry) for entry in page.entries),
            next_cursor=cursor,
            head_sequence=page.head.sequence,
            has_more=page.more,
        )

    def _lost(self, container: Container, lost: PositionLost) -> CursorInvalid:
        if lost.reason != "expired" or lost.epoch is None or lost.earliest is None:
            return _unknown(container)
        position = Position(epoch=lost.epoch, sequence=lost.earliest - 1)
        return CursorInvalid(
            f"what followed the cursor in stream {container.name[0][:80]!r} was trimmed; go on from detail's "
            "earliest_cursor, or begin again without a cursor",
            code="streams.cursor_invalid",
            reason="expired",
            earliest_cursor=encode_position(self._scope, container, position),
        )


def _unknown(container: Container) -> CursorInvalid:
    return CursorInvalid(
        f"the cursor was not given for stream {container.name[0][:80]!r} of this scope as it is now; begin again "
        "without a cursor",
        code="streams.cursor_invalid",
        reason="unknown",
    )
