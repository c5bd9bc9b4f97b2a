"""Looking back: what happened, what caused it, and what came of it. Nothing here writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Final, TypeAlias, cast
from uuid import UUID

from perdure.core.paging import Paging
from perdure.domain.change_values import refuse_above
from perdure.domain.event import Aggregate, Event
from perdure.domain.ids import check_actor, check_channel, check_entity, check_source_id
from perdure.domain.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, TRACE_EVENTS_MAX
from perdure.domain.reading import AuditFilter, Provenance, TimelineEntry, TimelineKind
from perdure.domain.records import AuditEntry, Page
from perdure.domain.scope import Scope
from perdure.domain.trace import CausalNode, Trace, causal_tree
from perdure.domain.trace import causes as chain_of
from perdure.errors import ChainBroken, Invalid, NotFound
from perdure.ports.ledger_reads import LedgerReader

Wait: TypeAlias = Callable[[float], Awaitable[object]]
"""Waits for so many seconds, or less when there may be something new."""

_FOLLOW_PAGE: Final = 500  # a second of a busy tenant; a page is one round trip


class Reading:
    """The ways to look back at one tenant."""

    def __init__(self, reader: LedgerReader, scope: Scope) -> None:
        self._reader = reader
        self._scope = scope

    async def find_correlation(self, identifier: UUID | str) -> UUID:
        """The correlation that ``identifier`` belongs to.

        That is the id of a correlation, or of a signal, run, step, tool call, effect, outbox entry, checkpoint or event
        in it, or ``CHANNEL/SOURCE-ID`` of its signal. Raises ``NotFound``, and ``Invalid`` for a text that two signals
        can be meant by.
        """
        row_id = _uuid(identifier)
        if row_id is not None:
            found = await self._reader.find_correlations(self._scope, row_id)
        else:
            found = await self._reader.find_correlations_by_source(self._scope, _readings(str(identifier)))
        if not found:
            raise NotFound(
                f"tenant {self._scope.tenant} has nothing with the id {identifier}; a trace is found by the id of a "
                "correlation, signal, run, step, tool call, effect, outbox entry, checkpoint or event, or by "
                "CHANNEL/SOURCE-ID",
                identifier=str(identifier),
            )
        if len(found) > 1:
            raise Invalid(
                f"{identifier} can mean several correlations: {', '.join(map(str, sorted(found)))}; give one of these",
                correlation_ids=[str(one) for one in sorted(found)],
            )
        return found[0]

    async def trace(self, identifier: UUID | str) -> Trace:
        """Everything of a correlation, from one snapshot: signal, runs, steps, tool calls, effects, outbox, events.

        ``identifier`` as for ``find_correlation``. Checkpoints come without their states. Raises ``NotFound``, and
        ``LimitExceeded`` for a correlation of more than ``TRACE_EVENTS_MAX`` events.
        """
        return await self._reader.trace(self._scope, await self.find_correlation(identifier))

    async def causes(self, event_id: UUID) -> tuple[Event, ...]:
        """The chain that led to an event, root first, the event itself last, across correlations.

        Raises ``NotFound``, and ``ChainBroken`` when an event is its own cause.
        """
        events = {event.id: event for event in await self._reader.causes(self._scope, event_id)}
        if event_id not in events:
            raise NotFound(f"tenant {self._scope.tenant} has no event {event_id}", event_id=str(event_id))
        return chain_of(events, event_id=event_id)

    async def consequences(self, correlation_id: UUID) -> tuple[CausalNode, ...]:
        """What caused what in a correlation: a tree for each event that nothing in it caused, in order.

        Raises ``NotFound``, and ``LimitExceeded`` for more than ``TRACE_EVENTS_MAX`` events.
        """
        events = await self._reader.events_of_correlation(
            self._scope, correlation_id, after=0, limit=TRACE_EVENTS_MAX + 1
        )
        if not events:
            raise NotFound(f"tenant {self._scope.tenant} has no correlation {correlation_id}")
        refuse_above("trace_events_max", TRACE_EVENTS_MAX, len(events))
        return causal_tree(events)

    async def history(
        self, entity_type: str, entity_id: str, *, cursor: str | None = None, limit: int = PAGE_SIZE_DEFAULT
    ) -> Page[Event]:
        """What happened in the runs and steps that concern an entity, oldest first.

        Of a run that names the entity, everything in that run; of a step, the step with its tool calls and effects.
        """
        check_entity(entity_type, entity_id=entity_id)
        paging = Paging(self._scope, "history", entity_type, entity_id, cursor=cursor, limit=limit)
        events = await self._reader.events_of_entity(
            self._scope, entity_type, entity_id=entity_id, after=paging.number() or 0, limit=paging.limit
        )
        return paging.page(events, keys=_number_of)

    async def activity(self, actor: str, *, cursor: str | None = None, limit: int = PAGE_SIZE_DEFAULT) -> Page[Event]:
        """What an actor did, newest first."""
        paging = Paging(self._scope, "activity", check_actor(actor), cursor=cursor, limit=limit)
        events = await self._reader.events_of_actor(self._scope, actor, before=paging.number(), limit=paging.limit)
        return paging.page(events, keys=_number_of)

    async def timeline(
        self, identifier: UUID | str, *, cursor: str | None = None, limit: int = PAGE_SIZE_DEFAULT
    ) -> Page[TimelineEntry]:
        """A correlation by time: signals received, runs, steps, tool calls and effects begun, and all events.

        ``identifier`` as for ``find_correlation``. Raises ``NotFound``.
        """
        correlation_id = await self.find_correlation(identifier)
        paging = Paging(self._scope, "timeline", str(correlation_id), cursor=cursor, limit=limit)
        entries = await self._reader.timeline(
            self._scope, correlation_id, after=_timeline_position(paging), limit=paging.limit
        )
        return paging.page(entries, keys=lambda entry: (entry.occurred_at, entry.place, entry.position, entry.id))

    async def provenance(self, channel: str, source_id: str) -> Provenance:
        """What came of an input: its signal and the first ``PAGE_SIZE_MAX`` runs for it. Raises ``NotFound``."""
        check_channel(channel)
        check_source_id(source_id)
        found = await self._reader.provenance(self._scope, channel, source_id=source_id, limit=PAGE_SIZE_MAX)
        if found is None:
            raise NotFound(f"tenant {self._scope.tenant} has no signal {channel}/{source_id}")
        return found

    async def audit(
        self,
        *,
        action: str | None = None,
        actor: str | None = None,
        resource_id: UUID | None = None,
        cursor: str | None = None,
        limit: int = PAGE_SIZE_DEFAULT,
    ) -> Page[AuditEntry]:
        """The audit trail, newest first: requeues, approvals, grants."""
        paging = Paging(self._scope, "audit", action, actor, resource_id, cursor=cursor, limit=limit)
        wanted = AuditFilter(action=action, actor=actor, resource_id=resource_id)
        entries = await self._reader.list_audit(self._scope, wanted, before=paging.row_id(), limit=paging.limit)
        return paging.page(entries, keys=lambda entry: (entry.id,))


class Events:
    """The event log of one tenant: dense numbers from 1, in the order in which the events became visible."""

    def __init__(self, reader: LedgerReader, scope: Scope, *, wait: Wait = asyncio.sleep) -> None:
        self._reader = reader
        self._scope = scope
        self._wait = wait

    async def get(self, event_id: UUID) -> Event:
        """The event with this id. Raises ``NotFound``."""
        event = await self._reader.find_event(self._scope, event_id)
        if event is None:
            raise NotFound(f"tenant {self._scope.tenant} has no event {event_id}", event_id=str(event_id))
        return event

    async def last_number(self) -> int:
        """The number of the last event; 0 before the first."""
        return await self._reader.tenant_sequence(self._scope)

    async def list(
        self,
        *,
        correlation_id: UUID | None = None,
        aggregate: tuple[Aggregate | str, UUID] | None = None,
        cursor: str | None = None,
        limit: int = PAGE_SIZE_DEFAULT,
    ) -> Page[Event]:
        """Events in order: all of the tenant, those of a correlation, or those of one row as ``("STEP", step.id)``."""
        if correlation_id is not None and aggregate is not None:
            raise Invalid("a list is of a correlation or of one row, not of both; the correlation has the row's events")
        paging = Paging(self._scope, "events", correlation_id, aggregate, cursor=cursor, limit=limit)
        after = paging.number() or 0
        if correlation_id is not None:
            events = await self._reader.events_of_correlation(
                self._scope, correlation_id, after=after, limit=paging.limit
            )
        elif aggregate is not None:
            kind, row_id = aggregate
            events = await self._reader.events_of_aggregate(
                self._scope, row_id, aggregate=Aggregate(kind), after=after, limit=paging.limit
            )
        else:
            events = await self._reader.events_after(self._scope, after, limit=paging.limit)
        return paging.page(events, keys=_number_of)

    async def after(self, number: int, *, limit: int = PAGE_SIZE_DEFAULT) -> tuple[Event, ...]:
        """The events after a number, for a reader that keeps its own place; empty when there are none yet."""
        if limit < 1:
            raise Invalid(f"{limit} events; at least 1 is expected")
        refuse_above("page_size_max", PAGE_SIZE_MAX, limit)
        return tuple(await self._reader.events_after(self._scope, number, limit=limit))

    async def follow(self, *, after: int = 0, poll_s: float = 1.0) -> AsyncIterator[Event]:
        """Every event after number ``after``, each once and in order, and then each new one; it never ends.

        Keep the ``sequence_number`` of the last event that was dealt with, and follow from there after a restart. A new
        event is seen at most ``poll_s`` seconds after its commit. Raises ``Invalid`` for an ``after`` that the tenant
        has not reached, and ``ChainBroken`` when a number is missing: nothing is ever passed over in silence.
        """
        if not poll_s > 0:
            raise Invalid(f"a poll every {poll_s} s; more than 0 is expected")
        last = await self.last_number()
        if not 0 <= after <= last:
            raise Invalid(
                f"tenant {self._scope.tenant} has events 1 to {last}, none after {after}; is that number from another "
                "tenant or database?",
                after=after,
                last=last,
            )
        while True:
            events = await self._reader.events_after(self._scope, after, limit=_FOLLOW_PAGE)
            for event in events:
                if event.sequence_number != after + 1:
                    raise ChainBroken(
                        f"tenant {self._scope.tenant}: event {after + 1} is missing, {event.sequence_number} follows "
                        f"{after}; the log was changed from outside or archived",
                        expected=after + 1,
                        found=event.sequence_number,
                    )
                after = event.sequence_number
                yield event
            if len(events) < _FOLLOW_PAGE:
                await self._wait(poll_s)


def _uuid(identifier: UUID | str) -> UUID | None:
    if isinstance(identifier, UUID):
        return identifier
    try:
        parsed = UUID(identifier)
    except (ValueError, AttributeError, TypeError):
        return None
    return parsed if str(parsed) == identifier.lower() else None


def _readings(text: str) -> tuple[tuple[str, str], ...]:
    """Every way to read ``CHANNEL/SOURCE-ID``; both parts may hold slashes."""
    cuts = [place for place, character in enumerate(text) if character == "/"]
    readings = tuple((text[:cut], text[cut + 1 :]) for cut in cuts if 0 < cut < len(text) - 1)
    if not readings:
        raise Invalid(f"{text[:80]!r} is neither an id nor CHANNEL/SOURCE-ID, as in git/4f2a91c")
    return readings


def _number_of(event: Event) -> tuple[int]:
    return (event.sequence_number,)


def _timeline_position(paging: Paging) -> TimelineEntry | None:
    if paging.after is None:
        return None
    at, place, position, row_id = cast("tuple[datetime, int, int, UUID]", paging.after)
    # Only its place in the order matters; the rest is not sent.
    return TimelineEntry(
        occurred_at=at, kind=TimelineKind.EVENT, id=row_id, title="", actor="", place=place, position=position
    )
