"""Lists of units and of history entries: listings in order, each judged by what it lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from perdure.adapters.documents import keys, work_keys
from perdure.adapters.documents.decoding import decoded
from perdure.adapters.documents.removals import see_removed
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.together import together
from perdure.adapters.documents.work_announcing import WorkAnnouncing
from perdure.adapters.documents.work_documents import LEASE, read_entry
from perdure.adapters.documents.work_reading import Look, WorkReading
from perdure.domain.container import Space
from perdure.domain.records import Page
from perdure.domain.work import HistoryEntry, WorkStatus, WorkUnit
from perdure.errors import Corrupt
from perdure.ports.documents import GET_DOCUMENTS_MAX, SCAN_DOCUMENTS_MAX, Document, ExpectationFailed, Remove
from perdure.ports.patience import Patience
from perdure.ports.work_rules import read_place_mark

OVER_MANY: Final = 100  # listings of a further scan, once there turned out to be some that are over
LEASES_MANY: Final = 100  # leases looked at together

Listed = TypeVar("Listed", WorkUnit, HistoryEntry)


class WorkListing:
    """Lists of one space."""

    def __init__(self, driver: ResilientDriver, reading: WorkReading, announcing: WorkAnnouncing) -> None:
        self._driver = driver
        self._reading = reading
        self._announcing = announcing

    async def units(
        self,
        space: Space,
        *,
        status: WorkStatus | None,
        instance_id: str | None,
        parent_id: UUID | None,
        cursor: str | None,
        limit: int,
        patience: Patience,
    ) -> Page[WorkUnit]:
        """As the port's ``units``, from the narrowest list that there is."""
        stem = work_keys.units_stem(status)
        by_status = status is not None
        if parent_id is not None:
            name = work_keys.unit_partition(space, parent_id)
            stem, by_status = work_keys.children_stem(), False
        elif instance_id is not None:
            name = work_keys.instance_partition(space, instance_id)
        else:
            name = work_keys.space_partition(space)

        def fits(look: Look, token: str) -> bool:
            """Whether a unit is one of this list, and listed by the commit that this listing names."""
            unit = look.unit
            return (
                unit is not None
                and token == (look.body.listed if by_status else look.body.made)
                and status in {None, unit.status}
                and instance_id in {None, unit.instance_id}
                and parent_id in {None, unit.parent_id}
            )

        async def judge(listings: Sequence[Sequence[str]]) -> Sequence[WorkUnit | None]:
            """The units behind listings; None for a listing that is over."""
            ids = [_uuid(mark[-32:]) for mark, _ in _parts(listings, 2)]
            looks = await self._peek(space, ids, patience=patience)
            return [
                looks[unit_id].unit if fits(looks[unit_id], token) else None
                for unit_id, (_, token) in zip(ids, _parts(listings, 2), strict=True)
            ]

        read_place_mark(cursor)
        bounds = work_keys.listing_range(stem, since=None, until=None, mark=cursor)
        return await self._page(name, stem, bounds, judge, limit=limit, patience=patience)

    async def find_history(
        self,
        space: Space,
        *,
        instance_id: str | None,
        actor_id: str | None,
        since: datetime | None,
        until: datetime | None,
        cursor: str | None,
        limit: int,
        patience: Patience,
    ) -> Page[HistoryEntry]:
        """As the port's ``find_history``: each combination has a list of its own."""
        stem = work_keys.history_stem(None)
        if instance_id is not None:
            name = work_keys.instance_partition(space, instance_id)
            stem = work_keys.history_stem(actor_id)
        elif actor_id is not None:
            name = work_keys.actor_partition(space, actor_id)
        else:
            name = work_keys.space_partition(space)

        async def judge(listings: Sequence[Sequence[str]]) -> Sequence[HistoryEntry | None]:
            """The entries behind listings; None for a listing whose commit was not done."""
            wanted: dict[UUID, list[str]] = {}
            for _, unit, sequence, _ in _parts(listings, 4):
                sorts = wanted.setdefault(_uuid(unit), [])
                if (sort := work_keys.entry_sort(int(sequence))) not in sorts:
                    sorts.append(sort)
            found = await self._entries(space, wanted, patience=patience)
            entries: list[HistoryEntry | None] = []
            for _, unit, sequence, token in _parts(listings, 4):
                kept = found.get((_uuid(unit), work_keys.entry_sort(int(sequence))))
                entries.append(kept[1] if kept is not None and kept[0] == token else None)
            return entries

        read_place_mark(cursor)
        bounds = work_keys.listing_range(stem, since=since, until=until, mark=cursor)
        return await self._page(name, stem, bounds, judge, limit=limit, patience=patience)

    async def stale(self, space: Space, *, before: datetime, limit: int, patience: Patience) -> Sequence[WorkUnit]:
        """As the port's ``stale``.

        What announces a lease says that its heartbeat was then, and is never later than it is. One whose unit has
        beaten since is announced anew at its newest heartbeat, here and not at each.
        """
        name = work_keys.space_partition(space)
        start, end = work_keys.listing_range(work_keys.LEASES, since=None, until=before, mark=None)
        found: dict[UUID, tuple[datetime, WorkUnit]] = {}
        more = True
        while more:
            page = await self._driver.scan(name, start=start, end=end, limit=LEASES_MANY, timeout_s=patience.left_s)
            marks = [work_keys.listing_of(document.sort, work_keys.LEASES)[0] for document in page.documents]
            looks = await self._peek(space, [_uuid(mark[-32:]) for mark in marks], patience=patience)
            for document, mark in zip(page.documents, marks, strict=True):
                unit = looks[_uuid(mark[-32:])].unit
                beaten_at = _leased_at(unit)
                if unit is not None and beaten_at is not None and beaten_at < before:
                    found[unit.unit_id] = (beaten_at, unit)
                else:
                    await self._renew(name, document, unit, beaten_at, patience=patience)
            more = page.more and not _is_full(found, limit, marks[-1])
            if page.documents:
                start = keys.after(page.documents[-1].sort)
        return [unit for _, unit in _oldest(found)[:limit]]

    async def _renew(
        self, name: str, document: Document, unit: WorkUnit | None, beaten_at: datetime | None, *, patience: Patience
    ) -> None:
        """Move what announces a lease to where its heartbeat is now, or take it away if there is none any more."""
        now = self._driver.environment.clock.now()
        if now < decoded(LEASE, document, what="what announces a lease").settled_at:
            return  # the commit that it announces may be on its way
        if unit is not None and beaten_at is not None:
            put = self._announcing.lease_put(beaten_at, unit.unit_id, settled_at=now)
            await self._driver.commit(name, [put], timeout_s=patience.left_s)
        removal = Remove(sort=document.sort, expect=document.version, token=document.token)
        try:
            await see_removed(self._driver, name, [removal], timeout_s=patience.left_s)
        except ExpectationFailed:
            return  # announced again meanwhile, or moved by another sweep

    async def _page(
        self,
        name: str,
        stem: str,
        bounds: keys.Range,
        judge: Callable[[Sequence[Sequence[str]]], Awaitable[Sequence[Listed | None]]],
        *,
        limit: int,
        patience: Patience,
    ) -> Page[Listed]:
        """Up to ``limit`` of what is listed; one more is looked for, as only that says that there is another page."""
        start, end = bounds
        found: list[tuple[str, Listed]] = []
        wanted = limit + 1
        while start < end:
            page = await self._driver.scan(
                name, start=start, end=end, limit=min(wanted, SCAN_DOCUMENTS_MAX), timeout_s=patience.left_s
            )
            listings = [work_keys.listing_of(document.sort, stem) for document in page.documents]
            judged = await judge(listings)
            found += [(one[0], item) for one, item in zip(listings, judged, strict=True) if item is not None]
            if len(found) > limit:
                return Page(items=tuple(item for _, item in found[:limit]), next_cursor=found[limit - 1][0])
            if not page.more:
                break
            start = keys.after(page.documents[-1].sort)
            wanted = max(limit + 1 - len(found), OVER_MANY)
        return Page(items=tuple(item for _, item in found))

    async def _peek(self, space: Space, ids: Sequence[UUID], *, patience: Patience) -> Mapping[UUID, Look]:
        different = list(dict.fromkeys(ids))
        looks = await together(
            [partial(self._reading.peek, space, unit_id, patience=patience) for unit_id in different]
        )
        return dict(zip(different, looks, strict=True))

    async def _entries(
        self, space: Space, wanted: Mapping[UUID, Sequence[str]], *, patience: Patience
    ) -> Mapping[tuple[UUID, str], tuple[str, HistoryEntry]]:
        """Entries of several units, with who announced them: for each unit one get, or one for every hundred."""

        async def get(unit_id: UUID, sorts: Sequence[str]) -> Sequence[tuple[UUID, Document]]:
            """Some entries of one unit."""
            partition = work_keys.unit_partition(space, unit_id)
            documents = await self._driver.get(partition, sorts, timeout_s=patience.left_s)
            return [(unit_id, document) for document in documents.values()]

        calls = [
            partial(get, unit_id, sorts[first : first + GET_DOCUMENTS_MAX])
            for unit_id, sorts in wanted.items()
            for first in range(0, len(sorts), GET_DOCUMENTS_MAX)
        ]
        return {
            (unit_id, document.sort): read_entry(document)
            for some in await together(calls)
            for unit_id, document in some
        }


def _leased_at(unit: WorkUnit | None) -> datetime | None:
    return unit.heartbeat_at if unit is not None and unit.status is WorkStatus.ACTIVE else None


def _oldest(found: Mapping[UUID, tuple[datetime, WorkUnit]]) -> list[tuple[datetime, WorkUnit]]:
    return sorted(found.values(), key=lambda one: (one[0], one[1].unit_id))


def _is_full(found: Mapping[UUID, tuple[datetime, WorkUnit]], limit: int, mark: str) -> bool:
    """Whether nothing behind a mark can be older than what was found: no heartbeat is before its announcement."""
    if len(found) < limit:
        return False
    place = read_place_mark(mark)
    return place is not None and _oldest(found)[limit - 1][0] < place[0]


def _parts(listings: Sequence[Sequence[str]], count: int) -> Sequence[Sequence[str]]:
    for listing in listings:
        if len(listing) != count:
            raise Corrupt("a listing of units of work says nothing that this release knows; was it changed by hand?")
    return listings


def _uuid(text: str) -> UUID:
    try:
        return UUID(hex=text)
    except ValueError as exc:
        raise Corrupt("a listing of units of work names no unit; was it changed by hand?") from exc
