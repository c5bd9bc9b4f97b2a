"""Purges and holds of one tenant's scope: each step is a call of its own, routed, admitted and audited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from perdure.core.list_marks import decode_mark, encode_mark
from perdure.core.stores import Call, Stores
from perdure.core.turn_backends import TurnBackends
from perdure.core.turn_purging import TurnPurger
from perdure.core.turn_store import Blobs, TurnParts
from perdure.domain.container import Container, Space
from perdure.domain.kinds import Kind
from perdure.domain.records import Page
from perdure.domain.retention import (
    Hold,
    Outcome,
    PurgedContext,
    check_class,
    check_reason,
    retention_container,
)
from perdure.domain.scope import Scope
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import CONTEXT_NUMBER_MAX, CONTEXTS_PAGE_MAX, context_container, parse_id
from perdure.errors import Invalid, NotFound, Unsupported
from perdure.ports.patience import Patience

PURGE: Final = "purge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call: the turns of the backend that it leads to, and how long it may take."""

    call: Call
    parts: TurnParts
    purger: TurnPurger
    patience: Patience
    audit: StoreAudit | None


class RetentionCalls:
    """Leads the steps of a purge, and holds, to where the turns of a scope are."""

    def __init__(self, scope: Scope, *, stores: Stores, backends: TurnBackends, blobs: Blobs) -> None:
        self._scope = scope
        self._stores = stores
        self._backends = backends
        self._blobs = blobs

    @property
    def space(self) -> Space:
        """Whose contexts they are."""
        return self._scope.space

    def hold_now(self, context_id: str | None, retention_class: str | None, reason: str) -> Hold:
        """A hold that is placed, or lifted, by this scope's actor at this moment. Raises ``Invalid``."""
        if (context_id is None) == (retention_class is None):
            raise Invalid("a hold is on a context or on a retention class; give one of them")
        if retention_class is not None:
            check_class(retention_class)
        return Hold(
            context_id=None if context_id is None else str(_number(context_id)),
            retention_class=retention_class,
            reason=check_reason(reason),
            placed_by=self._scope.actor,
            placed_at=self._stores.environment.clock.now(),
        )

    def until(self, before: datetime | None) -> datetime:
        """Up to when a context must have ended. Raises ``Invalid`` for a time to come, or one without a zone."""
        now = self._stores.environment.clock.now()
        if before is None:
            return now
        if before.tzinfo is None:
            raise Invalid("before has no zone; give one as in datetime.now(UTC)")
        if before > now:
            raise Invalid("before is still to come; nothing is purged before its time")
        return before

    @asynccontextmanager
    async def looking(self, until: datetime | None, timeout_s: float | None) -> AsyncIterator[Step]:
        """A step that reads."""
        async with self._stores.reading(self._scope, Kind.TURNS, timeout_s=timeout_s) as call:
            yield self._step(call, until)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Call]:
        """A call that reads, wherever turns are."""
        async with self._stores.reading(self._scope, Kind.TURNS) as call:
            yield call

    @asynccontextmanager
    async def changing(
        self, container: Container, operation: str, timeout_s: float | None, *, until: datetime | None = None
    ) -> AsyncIterator[Step]:
        """A step that writes, and is audited."""
        async with self._stores.writing(self._scope, container, operation, timeout_s=timeout_s) as call:
            yield self._step(call, until)

    def _step(self, call: Call, until: datetime | None) -> Step:
        if call.backend.turns is not None:
            backend = call.resolved.route.backend
            raise Unsupported(
                f"backend {backend} keeps turns by itself and cannot remove any, so nothing was removed or held. What "
                "is to stay is exported, the server begins with an empty directory, and it is imported there: "
                "docs/runbooks/cxdb.md says how, under 'Remove what is old'",
                code="turns.cannot_purge",
                backend=backend,
            )
        parts = self._backends.parts(call.backend)
        ends = self._stores.environment.clock.now() if until is None else until
        return Step(
            call=call,
            parts=parts,
            purger=TurnPurger(parts, self._blobs, self._scope.space, until=ends),
            patience=parts.patience(call.timeout_s),
            audit=call.audit,
        )


async def purged(
    calls: RetentionCalls, *, before: datetime | None, dry_run: bool, timeout_s: float | None
) -> AsyncIterator[PurgedContext]:
    """Purge a scope; what became of each context whose time is over."""
    until = calls.until(before)
    async with calls.looking(until, timeout_s) as step:
        if not dry_run:
            _refuse_behind(step.call)
        leftovers = await step.purger.leftovers(patience=step.patience)
    for removal in leftovers:
        if not dry_run:
            container = context_container(calls.space, removal.number)
            async with calls.changing(container, PURGE, timeout_s, until=until) as step:
                await step.purger.end(removal, audit=step.audit, patience=step.patience)
        yield PurgedContext(context_id=str(removal.number), outcome=Outcome.REMOVED)
    cursor: str | None = None
    while True:
        async with calls.looking(until, timeout_s) as step:
            mark = decode_mark(step.call, cursor)
            numbers, mark = await step.parts.contexts.page(
                calls.space, cursor=mark, limit=CONTEXTS_PAGE_MAX, patience=step.patience
            )
            cursor = encode_mark(step.call, mark)
        for number in numbers:
            async for found in _one(calls, number, until=until, dry_run=dry_run, timeout_s=timeout_s):
                yield found
        if cursor is None:
            return


async def _one(
    calls: RetentionCalls, number: int, *, until: datetime, dry_run: bool, timeout_s: float | None
) -> AsyncIterator[PurgedContext]:
    async with calls.looking(until, timeout_s) as step:
        family = await step.purger.judge(number, patience=step.patience)
    judged = family.judged[number]
    if judged.due and (dry_run or not judged.removable):
        yield judged.as_purged()
    elif judged.removable:
        for member in family.order:
            container = context_container(calls.space, member)
            async with calls.changing(container, PURGE, timeout_s, until=until) as step:
                done = await step.purger.remove(member, audit=step.audit, patience=step.patience)
            # Another one that was kept is told when its turn comes.
            if done.removable or (done.due and member == number):
                yield done.as_purged()


async def hold(
    calls: RetentionCalls, context_id: str | None, *, retention_class: str | None, reason: str, timeout_s: float | None
) -> Hold:
    """Place a hold."""
    placed = calls.hold_now(context_id, retention_class, reason)
    async with calls.changing(retention_container(calls.space), "hold", timeout_s) as step:
        await step.parts.retention.place(calls.space, placed, audit=step.audit, patience=step.patience)
    return placed


async def release_hold(
    calls: RetentionCalls, context_id: str | None, *, retention_class: str | None, reason: str, timeout_s: float | None
) -> bool:
    """Lift a hold."""
    lifted = calls.hold_now(context_id, retention_class, reason)
    async with calls.changing(retention_container(calls.space), "release_hold", timeout_s) as step:
        return await step.parts.retention.lift(calls.space, lifted, audit=step.audit, patience=step.patience)


async def holds(calls: RetentionCalls, *, cursor: str | None, limit: int, timeout_s: float | None) -> Page[Hold]:
    """A page of holds."""
    async with calls.looking(None, timeout_s) as step:
        found, mark = await step.parts.retention.holds(calls.space, after=cursor, limit=limit, patience=step.patience)
        return Page(items=tuple(found), next_cursor=mark)


async def audits(
    calls: RetentionCalls, context_id: str | None, *, after: UUID | None, limit: int
) -> Sequence[StoreAudit]:
    """A page of records of a context, or of what was held and purged."""
    number = None if context_id is None else _number(context_id)
    async with calls.reading() as call:
        if call.backend.turns is not None:
            backend = call.resolved.route.backend
            raise Unsupported(
                f"backend {backend} keeps no records of writes to turns; look into the log", backend=backend
            )
        if number is None:
            container = retention_container(calls.space)
            return await call.backend.rows.audits(container, after=after, limit=limit, timeout_s=call.timeout_s)
        container = context_container(calls.space, number)
        return await call.backend.logs.audits(container, after=after, limit=limit, timeout_s=call.timeout_s)


def _refuse_behind(call: Call) -> None:
    if call.backend.capabilities.consistency == "strong":
        return
    backend = call.resolved.route.backend
    raise Unsupported(
        f"backend {backend} is read with {call.backend.capabilities.consistency} consistency: a fork or a hold of "
        "another process may not be seen; nothing was removed. Set the route with strong consistency, and purge then",
        code="turns.cannot_purge",
        backend=backend,
    )


def _number(context_id: str) -> int:
    number = parse_id(context_id, what="a context's id")
    if number > CONTEXT_NUMBER_MAX:
        raise NotFound(f"resource not found: context ({number})", resource="context", id=context_id)
    return number
