"""Looking at units of work: themselves, their history, and whether both are what was written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from perdure.core.list_marks import decode_mark, encode_mark
from perdure.core.work_asking import UnitRef, check_host_id, check_status, unit_id_of
from perdure.core.work_recording import subject_found, verification_violation
from perdure.core.work_saving import Manner, WorkParts, WorkSaving, not_found, work_of
from perdure.core.work_verifying import WorkVerifier, anchor_of
from perdure.domain.change_values import refuse_above
from perdure.domain.records import Page
from perdure.domain.scope import Scope
from perdure.domain.work import HISTORY_PAGE_MAX, UNITS_PAGE_MAX, HistoryEntry, WorkStatus, WorkUnit
from perdure.domain.work_anchor import WorkAnchor, parse_anchor
from perdure.domain.work_results import Work, WorkVerification
from perdure.errors import Invalid, NotFound
from perdure.ports.ledger import JoinedConnection

PAGE_UNITS_DEFAULT: Final = 50
PAGE_ENTRIES_DEFAULT: Final = 100


class WorkReads:
    """What is read of units of work."""

    def __init__(self, scope: Scope, *, parts: WorkParts) -> None:
        self._scope = scope
        self._parts = parts
        self._saving = WorkSaving(scope, parts)

    async def find(self, unit: UnitRef, *, timeout_s: float | None = None) -> Work | None:
        """A unit as it is now, or None."""
        try:
            return await self.get(unit, timeout_s=timeout_s)
        except NotFound:
            return None

    async def get(
        self, unit: UnitRef, *, connection: JoinedConnection | None = None, timeout_s: float | None = None
    ) -> Work:
        """A unit as it is now, as it is stored: ``verify`` says whether that is what was written.

        With ``connection`` it is read in that transaction of yours.

        Raises ``NotFound``, and ``HashDrift`` for an attribute that cannot be read.
        """
        manner = Manner(connection=connection, timeout_s=timeout_s)
        return work_of(await self._saving.load(unit_id_of(unit), manner=manner))

    async def get_history(
        self,
        unit: UnitRef,
        limit: int | None = None,
        *,
        after: int = 0,
        newest: bool = False,
        timeout_s: float | None = None,
    ) -> Sequence[HistoryEntry]:
        """Entries of a unit above number ``after``, in order: all of them, or at most ``limit``.

        The first ones, or with ``newest`` the last ones, in order all the same. A ``limit`` of 0 gives none; below it
        is ``Invalid``. A unit that was deleted has its history still; one that never was has none.
        """
        unit_id = unit_id_of(unit)
        if (limit is not None and limit < 0) or after < 0:
            raise Invalid("limit and after are 0 or more; without a limit all entries are given")
        found: list[HistoryEntry] = []
        edge = 0 if newest else after
        async with self._saving.reading(timeout_s) as (call, store):
            while limit is None or len(found) < limit:
                size = HISTORY_PAGE_MAX if limit is None else min(HISTORY_PAGE_MAX, limit - len(found))
                page = await store.history(
                    self._scope.space, unit_id, after=edge, limit=size, reverse=newest, timeout_s=call.timeout_s
                )
                found.extend(entry for entry in page if entry.sequence > after)
                if len(page) < size or (newest and page[-1].sequence <= after + 1):
                    break
                edge = page[-1].sequence
        return tuple(sorted(found, key=lambda entry: entry.sequence)) if newest else tuple(found)

    async def history(
        self,
        *,
        instance: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_ENTRIES_DEFAULT,
        timeout_s: float | None = None,
    ) -> Page[HistoryEntry]:
        """Entries of all units by time, oldest first: of an instance, an actor, both, or all; at most 1,000 a page.

        ``since`` is part of it, ``until`` is not.
        """
        _check_page(limit, HISTORY_PAGE_MAX, "history_page_max")
        for moment in (since, until):
            if moment is not None and moment.tzinfo is None:
                raise Invalid("since and until need a zone, as in datetime.now(UTC)")
        async with self._saving.reading(timeout_s) as (call, store):
            page = await store.find_history(
                self._scope.space,
                instance_id=check_host_id(instance, what="an instance"),
                actor_id=check_host_id(actor, what="an actor"),
                since=since,
                until=until,
                cursor=decode_mark(call, cursor),
                limit=limit,
                timeout_s=call.timeout_s,
            )
            return Page(items=page.items, next_cursor=encode_mark(call, page.next_cursor))

    async def list(
        self,
        *,
        status: WorkStatus | str | None = None,
        instance: str | None = None,
        parent: UnitRef | None = None,
        cursor: str | None = None,
        limit: int = PAGE_UNITS_DEFAULT,
        timeout_s: float | None = None,
    ) -> Page[WorkUnit]:
        """Units in the order in which they were made, without their attributes; at most 1,000 a page."""
        _check_page(limit, UNITS_PAGE_MAX, "units_page_max")
        async with self._saving.reading(timeout_s) as (call, store):
            page = await store.units(
                self._scope.space,
                status=None if status is None else check_status(status),
                instance_id=check_host_id(instance, what="an instance"),
                parent_id=None if parent is None else unit_id_of(parent),
                cursor=decode_mark(call, cursor),
                limit=limit,
                timeout_s=call.timeout_s,
            )
            return Page(items=page.items, next_cursor=encode_mark(call, page.next_cursor))

    async def find_by_status(
        self,
        status: WorkStatus | str,
        *,
        cursor: str | None = None,
        limit: int = PAGE_UNITS_DEFAULT,
        timeout_s: float | None = None,
    ) -> Page[WorkUnit]:
        """Units that have a status now, as ``list``."""
        return await self.list(status=status, cursor=cursor, limit=limit, timeout_s=timeout_s)

    async def children(
        self,
        unit: UnitRef,
        *,
        cursor: str | None = None,
        limit: int = PAGE_UNITS_DEFAULT,
        timeout_s: float | None = None,
    ) -> Page[WorkUnit]:
        """Units that were made with this one as their parent, as ``list``."""
        return await self.list(parent=unit, cursor=cursor, limit=limit, timeout_s=timeout_s)

    async def verify(
        self,
        unit: UnitRef,
        *,
        anchor: WorkAnchor | str | None = None,
        report: bool = False,
        timeout_s: float | None = None,
    ) -> WorkVerification:
        """Compare a unit with its history, and every entry of it with the one before.

        The ``check`` is OK, DRIFT (with the attributes and fields that differ), UNVERIFIED, or CHAIN_BROKEN with
        ``first_bad``. With an ``anchor`` that was kept elsewhere, nothing that was there when it was taken is missing.
        With ``report`` what is wrong is recorded as a violation too. Verifies deleted units as well. Raises
        ``NotFound`` where there is neither a unit nor a history, and ``Invalid`` for an anchor that is none.
        """
        kept = parse_anchor(anchor) if isinstance(anchor, str) else anchor
        key = await self._parts.key()
        async with self._saving.reading(timeout_s) as (call, store):
            verifier = WorkVerifier(store, self._scope.space, key=key, timeout_s=call.timeout_s)
            found = await verifier.verify(unit_id_of(unit), anchor=kept)
        if report and not found.ok:
            violation = verification_violation(found, now=self._parts.stores.environment.clock.now())
            self._saving.violated(subject_found(found, actor_id=self._scope.actor), violation)
        return found

    async def anchor(self, unit: UnitRef, *, timeout_s: float | None = None) -> WorkAnchor:
        """Where a unit's history stands: keep ``str(anchor)`` elsewhere, and ``verify`` proves nothing was cut off.

        The newest entry is taken as it is stored; an anchor of what ``verify`` found OK is in its result. Raises
        ``NotFound``.
        """
        entries = await self.get_history(unit, 1, newest=True, timeout_s=timeout_s)
        if not entries:
            raise not_found(unit_id_of(unit))
        return anchor_of(entries[-1])


def _check_page(limit: int, most: int, name: str) -> None:
    if limit < 1:
        raise Invalid(f"a page of {limit}; ask for at least 1")
    refuse_above(name, most, limit)
