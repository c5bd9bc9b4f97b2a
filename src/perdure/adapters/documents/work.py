"""Units of work on a document database: the port, made of the parts beside this file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.work_announcing import WorkAnnouncing
from perdure.adapters.documents.work_documents import check_value
from perdure.adapters.documents.work_finishing import WorkFinishing
from perdure.adapters.documents.work_listing import WorkListing
from perdure.adapters.documents.work_parents import WorkParents
from perdure.adapters.documents.work_reading import WorkReading
from perdure.adapters.documents.work_saving import WorkSaving
from perdure.domain.container import Space, check_place
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.work import (
    AttributeVersion,
    HistoryEntry,
    StoredWork,
    WorkCommitted,
    WorkStatus,
    WorkUnit,
    WorkWrite,
    unit_container,
)
from perdure.errors import Invalid, Unsupported
from perdure.ports import work_rules
from perdure.ports.patience import Patience


class DocumentWork:
    """The units of work of one (mode, env), as ``perdure.ports.work.WorkStore``.

    A load is one get. A save is a get, the listings that changed (at the same time, and only they are in other
    partitions), one commit, and, if the status changed, taking away where it was listed before.
    """

    def __init__(self, driver: ResilientDriver, *, mode: str, env: str) -> None:
        self._driver = driver
        self._mode = mode
        self._env = env
        self._reading = WorkReading(driver)
        announcing = WorkAnnouncing(driver, mode=mode, env=env)
        parents = WorkParents(driver, self._reading)
        self._finishing = WorkFinishing(driver, self._reading, announcing, parents)
        self._saving = WorkSaving(driver, self._reading, announcing, parents, self._finishing)
        self._listing = WorkListing(driver, self._reading, announcing)

    async def load(
        self, space: Space, unit_id: UUID, *, connection: object | None = None, timeout_s: float
    ) -> StoredWork | None:
        """One get."""
        _refuse_connection(connection)
        return await self._reading.load(space, unit_id, patience=self._patience(space, unit_id, timeout_s))

    async def commit(
        self,
        space: Space,
        write: WorkWrite,
        *,
        audit: StoreAudit | None = None,
        connection: object | None = None,
        timeout_s: float,
    ) -> WorkCommitted:
        """One commit, announced before it."""
        _refuse_connection(connection)
        _check_write(write)
        patience = self._patience(space, write.unit.unit_id, timeout_s)
        return await self._saving.commit(space, write, audit=audit, patience=patience)

    async def heartbeat(self, space: Space, unit_id: UUID, *, owner: str, now: datetime, timeout_s: float) -> WorkUnit:
        """One get and one commit; both again when somebody else changed the unit in between."""
        patience = self._patience(space, unit_id, timeout_s)
        return await self._saving.heartbeat(space, unit_id, owner=owner, now=now, patience=patience)

    async def history(
        self, space: Space, unit_id: UUID, *, after: int = 0, limit: int, reverse: bool = False, timeout_s: float
    ) -> Sequence[HistoryEntry]:
        """One scan, and more where the engine cuts its pages."""
        work_rules.check_history_page(limit)
        patience = self._patience(space, unit_id, timeout_s)
        return await self._reading.history(space, unit_id, after=after, limit=limit, reverse=reverse, patience=patience)

    async def find_history(
        self,
        space: Space,
        *,
        instance_id: str | None = None,
        actor_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> Page[HistoryEntry]:
        """A scan of listings, and a get for each unit whose entries they list."""
        work_rules.check_history_page(limit)
        return await self._listing.find_history(
            space,
            instance_id=instance_id,
            actor_id=actor_id,
            since=since,
            until=until,
            cursor=cursor,
            limit=limit,
            patience=self._patience(space, _ANY, timeout_s),
        )

    async def attribute_versions(
        self, space: Space, unit_id: UUID, *, after: tuple[str, int] | None = None, limit: int, timeout_s: float
    ) -> Sequence[AttributeVersion]:
        """One get, for the unit's life, and one scan."""
        work_rules.check_history_page(limit)
        patience = self._patience(space, unit_id, timeout_s)
        return await self._reading.attribute_versions(space, unit_id, after=after, limit=limit, patience=patience)

    async def units(
        self,
        space: Space,
        *,
        status: WorkStatus | None = None,
        instance_id: str | None = None,
        parent_id: UUID | None = None,
        cursor: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> Page[WorkUnit]:
        """A scan of listings, and a get for each unit; several at the same time."""
        work_rules.check_units_page(limit)
        return await self._listing.units(
            space,
            status=status,
            instance_id=instance_id,
            parent_id=parent_id,
            cursor=cursor,
            limit=limit,
            patience=self._patience(space, _ANY, timeout_s),
        )

    async def stale(self, space: Space, *, before: datetime, limit: int, timeout_s: float) -> Sequence[WorkUnit]:
        """Leases by the time at which they were announced; what commits of this space left to do is done first."""
        work_rules.check_units_page(limit)
        patience = self._patience(space, _ANY, timeout_s)
        await self._finishing.sweep(space, patience=patience)
        return await self._listing.stale(space, before=before, limit=limit, patience=patience)

    async def delete(
        self, space: Space, unit_id: UUID, *, last: WorkWrite, audit: StoreAudit | None = None, timeout_s: float
    ) -> None:
        """One commit, after which the unit is gone; then the versions of its attributes, and its listings."""
        if last.unit.unit_id != unit_id:
            raise Invalid("the last entry is of another unit of work")
        _check_write(last)
        patience = self._patience(space, unit_id, timeout_s)
        await self._saving.commit(space, last, audit=audit, deletes=True, patience=patience)

    def _patience(self, space: Space, unit_id: UUID, timeout_s: float) -> Patience:
        check_place(unit_container(space, unit_id), mode=self._mode, env=self._env)
        return self._driver.patience(timeout_s)


_ANY = UUID(int=0)  # of a space, all units


def _check_write(write: WorkWrite) -> None:
    work_rules.check_work_write(write)
    for version in write.attributes:
        check_value(version)


def _refuse_connection(connection: object | None) -> None:
    if connection is not None:
        raise Unsupported(
            "this backend has no transactions of yours to join; leave connection= out, or keep work on PostgreSQL",
            code="work.unsupported_connection",
        )
