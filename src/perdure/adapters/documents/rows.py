"""Rows over a document driver: one partition for each container, one document for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from perdure.adapters.documents import keys as names
from perdure.adapters.documents.anchors import Anchors
from perdure.adapters.documents.audits import read_audits
from perdure.adapters.documents.directory import Directory
from perdure.adapters.documents.pointers import Pointers
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.row_documents import kept_row
from perdure.adapters.documents.row_erasing import RowErasing
from perdure.adapters.documents.row_pages import read_page
from perdure.adapters.documents.row_plans import live
from perdure.adapters.documents.row_sweeping import RowSweeping
from perdure.adapters.documents.row_writing import RowWriting
from perdure.domain.container import Container, check_place
from perdure.domain.kinds import Kind
from perdure.domain.store_audit import StoreAudit
from perdure.domain.versioned import RowPage, RowWrite, VersionedRow
from perdure.ports.row_rules import (
    check_audits_page,
    check_containers_page,
    check_row_writes,
    check_rows_get,
    check_rows_query,
    check_rows_restore,
)

QUEUE: Final = "rows"


class DocumentRows:
    """Tables and blackboards of one (mode, env).

    A partition of rows holds, beside the rows, an anchor (``perdure.adapters.documents.anchors``) and audit records.
    """

    def __init__(self, driver: ResilientDriver, *, mode: str, env: str) -> None:
        self._driver = driver
        self._mode = mode
        self._env = env
        self._directory = Directory(driver, holds="rows", mode=mode, env=env)
        pointers = Pointers(driver, queue=QUEUE, mode=mode, env=env)
        anchors = Anchors(driver, self._directory)
        self._writing = RowWriting(driver, anchors, pointers)
        self._erasing = RowErasing(driver, self._directory, anchors, pointers)
        self._sweeping = RowSweeping(driver, pointers)

    async def get(self, rows: Container, keys: Sequence[str], *, timeout_s: float) -> Mapping[str, VersionedRow]:
        """One get of the driver; none for no keys."""
        sorts = [names.row_sort(key) for key in check_rows_get(keys)]
        if not sorts:
            return {}
        found = await self._driver.get(self._partition(rows), sorts, timeout_s=timeout_s)
        now = self._driver.environment.clock.now()
        kept = (live(kept_row(document), now) for document in found.values())
        return {row.key: row for row in kept if row is not None}

    async def write(
        self,
        rows: Container,
        writes: Sequence[RowWrite],
        *,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Sequence[VersionedRow | None]:
        """One commit, after one get if it matters what is there; again if somebody was faster."""
        check_row_writes(writes)
        self._check(rows)
        return await self._writing.write(rows, writes, audit=audit, timeout_s=timeout_s)

    async def query(
        self,
        rows: Container,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int,
        reverse: bool = False,
        timeout_s: float,
    ) -> RowPage:
        """One scan of the driver, and more of them only past expired rows and where the engine cuts its pages."""
        check_rows_query(prefix, after, limit)
        return await read_page(
            self._driver,
            self._partition(rows),
            prefix=prefix,
            after=after,
            limit=limit,
            reverse=reverse,
            timeout_s=timeout_s,
        )

    async def erase(self, rows: Container, *, timeout_s: float) -> int:
        """Rows, audit records, pointers and name; interrupted, it is finished by erasing again."""
        self._check(rows)
        return await self._erasing.erase(rows, timeout_s=timeout_s)

    async def containers(
        self,
        kind: Kind,
        tenant: str,
        *,
        user: str | None = None,
        after: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> tuple[Sequence[Container], str | None]:
        """Names of the directory that hold a row, in the directory's order."""
        check_containers_page(limit)
        patience = self._driver.patience(timeout_s)

        async def is_there(rows: Container) -> bool:
            """Whether a name has a row."""
            return bool((await self.query(rows, limit=1, timeout_s=patience.left_s)).rows)

        return await self._directory.list(
            kind, tenant, user=user, after=after, limit=limit, is_there=is_there, timeout_s=timeout_s
        )

    async def restore(self, rows: Container, values: Sequence[VersionedRow], *, timeout_s: float) -> None:
        """One commit, which reads nothing. No rows are nothing to do."""
        if values:
            check_rows_restore(values)
            self._check(rows)
            await self._writing.restore(rows, values, timeout_s=timeout_s)

    async def sweep(self, *, limit: int, timeout_s: float) -> int:
        """Follow the pointers that are due; each row is removed in the state in which it was found to be over."""
        return await self._sweeping.sweep(limit=limit, timeout_s=timeout_s)

    async def audits(
        self, rows: Container, *, after: UUID | None = None, limit: int, timeout_s: float
    ) -> Sequence[StoreAudit]:
        """The audit records of the partition."""
        check_audits_page(limit)
        return await read_audits(self._driver, self._partition(rows), after=after, limit=limit, timeout_s=timeout_s)

    def _check(self, rows: Container) -> None:
        check_place(rows, mode=self._mode, env=self._env)

    def _partition(self, rows: Container) -> str:
        self._check(rows)
        return names.rows_partition(rows)
