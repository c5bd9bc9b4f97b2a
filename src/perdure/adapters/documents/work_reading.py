"""Reading a unit of work: it and its attributes in one get, its history and the versions of its attributes by scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from perdure.adapters.documents import keys, work_keys
from perdure.adapters.documents.decoding import decoded
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.work_documents import (
    REQUEST,
    Request,
    Unit,
    read_attributes,
    read_entry,
    read_unit,
    read_version,
)
from perdure.domain.container import Space
from perdure.domain.work import AttributeVersion, HistoryEntry, StoredWork, WorkUnit
from perdure.errors import TimedOut
from perdure.ports.documents import SCAN_DOCUMENTS_MAX, Document
from perdure.ports.patience import Patience

Kept = TypeVar("Kept")


def _nothing(life: int) -> Sequence[str]:
    del life
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A unit as it was read: its document, what that says, and what else was asked for."""

    document: Document | None = None
    body: Unit = field(default_factory=lambda: Unit(unit=None, life=0))
    attributes: Mapping[str, AttributeVersion] = field(default_factory=dict)
    others: Mapping[str, Document] = field(default_factory=dict)

    @property
    def unit(self) -> WorkUnit | None:
        """The unit, unless there is none."""
        return self.body.unit

    @property
    def life(self) -> int:
        """The life of the unit that is there, or of one that is made now."""
        return self.body.life + (self.body.unit is None)

    def request(self, request_id: str) -> Request | None:
        """What is known of a request, if it was asked for."""
        document = self.others.get(work_keys.request_sort(self.life, request_id))
        return None if document is None else decoded(REQUEST, document, what="a request of a unit of work")


class WorkReading:
    """Reads of one unit."""

    def __init__(self, driver: ResilientDriver) -> None:
        self._driver = driver

    async def look(
        self,
        space: Space,
        unit_id: UUID,
        *,
        attributes: bool = True,
        others: Callable[[int], Sequence[str]] = _nothing,
        patience: Patience,
    ) -> Look:
        """A unit, with its attributes, and with other documents of the life that it is in.

        One get, unless the unit was deleted before, so that the life is another than the first.
        """
        partition = work_keys.unit_partition(space, unit_id)
        life = 1
        while True:
            sorts = [work_keys.UNIT, *([work_keys.ATTRIBUTES] if attributes else []), *others(life)]
            found = dict(await self._driver.get(partition, sorts, timeout_s=patience.left_s))
            document, newest = found.pop(work_keys.UNIT, None), found.pop(work_keys.ATTRIBUTES, None)
            if document is None:
                return Look(others=found)
            body = read_unit(document)
            at, versions = (0, {}) if newest is None or body.unit is None else read_attributes(newest)
            look = Look(document=document, body=body, attributes=versions, others=found)
            # Two documents of one get may be from before and after a commit, on engines that read them one by one.
            is_torn = attributes and at != body.attributes_at
            if is_torn and not await patience.pause():
                raise TimedOut("a unit of work was saved again and again while it was read; try again")
            if not is_torn and (look.life == life or not others(life)):
                return look
            life = look.life

    async def peek(self, space: Space, unit_id: UUID, *, patience: Patience) -> Look:
        """A unit without its attributes."""
        return await self.look(space, unit_id, attributes=False, patience=patience)

    async def load(self, space: Space, unit_id: UUID, *, patience: Patience) -> StoredWork | None:
        """As the port's ``load``."""
        look = await self.look(space, unit_id, patience=patience)
        return None if look.unit is None else StoredWork(unit=look.unit, attributes=look.attributes)

    async def history(
        self, space: Space, unit_id: UUID, *, after: int, limit: int, reverse: bool, patience: Patience
    ) -> Sequence[HistoryEntry]:
        """As the port's ``history``."""
        if reverse:
            bounds = work_keys.entry_range(above=0, below=after if after > 0 else None)
        else:
            bounds = work_keys.entry_range(above=after)

        def entry(document: Document) -> HistoryEntry:
            """The entry in a document."""
            return read_entry(document)[1]

        partition = work_keys.unit_partition(space, unit_id)
        return await self._scan(partition, bounds, entry, limit=limit, reverse=reverse, patience=patience)

    async def attribute_versions(
        self, space: Space, unit_id: UUID, *, after: tuple[str, int] | None, limit: int, patience: Patience
    ) -> Sequence[AttributeVersion]:
        """As the port's ``attribute_versions``."""
        look = await self.peek(space, unit_id, patience=patience)
        if look.unit is None:
            return []  # some may be there still, until whoever deleted the unit is done
        start, end = work_keys.version_range(look.life)
        if after is not None:
            start = keys.after(work_keys.version_sort(look.life, *after))
        partition = work_keys.unit_partition(space, unit_id)
        return await self._scan(partition, (start, end), read_version, limit=limit, reverse=False, patience=patience)

    async def _scan(
        self,
        partition: str,
        bounds: keys.Range,
        read: Callable[[Document], Kept],
        *,
        limit: int,
        reverse: bool,
        patience: Patience,
    ) -> Sequence[Kept]:
        start, end = bounds
        found: list[Kept] = []
        more = start < end
        while more and len(found) < limit:
            page = await self._driver.scan(
                partition,
                start=start,
                end=end,
                limit=min(limit - len(found), SCAN_DOCUMENTS_MAX),
                reverse=reverse,
                timeout_s=patience.left_s,
            )
            found += [read(document) for document in page.documents]
            more = page.more
            if more:
                last = page.documents[-1].sort
                start, end = (start, last) if reverse else (keys.after(last), end)
        return found
