"""Writing rows: read what has to be known, plan, commit, and all of it again if somebody was faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from perdure.adapters.documents import keys
from perdure.adapters.documents.anchors import Anchors
from perdure.adapters.documents.audits import audit_put
from perdure.adapters.documents.pointers import Pointers
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.row_documents import Due, KeptRow, kept_row
from perdure.adapters.documents.row_plans import check_expected, due_before, make_plan, must_be_read, restoring_put
from perdure.adapters.documents.together import together
from perdure.domain.container import Container
from perdure.domain.store_audit import StoreAudit
from perdure.domain.versioned import PutRow, RowWrite, VersionedRow
from perdure.errors import TimedOut
from perdure.ports.documents import ExpectationFailed, Require, Write


class RowWriting:
    """Writes and copies of rows."""

    def __init__(self, driver: ResilientDriver, anchors: Anchors, pointers: Pointers) -> None:
        self._driver = driver
        self._anchors = anchors
        self._pointers = pointers

    async def write(
        self, rows: Container, writes: Sequence[RowWrite], *, audit: StoreAudit | None, timeout_s: float
    ) -> Sequence[VersionedRow | None]:
        """As the port's ``write``, for writes that were checked."""
        attempts = _Write(self._driver, self._anchors, self._pointers, rows, writes, audit, timeout_s)
        patience = self._driver.patience(timeout_s)
        left_s = timeout_s
        has_failed = False
        while True:
            try:
                return await attempts.attempt(left_s)
            except ExpectationFailed as exc:
                # The first time it is as likely that the expectation is stale, and that is told at once.
                if has_failed and not await patience.pause():
                    raise TimedOut(
                        f"others wrote the same rows all the time for {timeout_s} s, and nothing of this was written; "
                        "try again, and have fewer writers of one row",
                        timeout_s=timeout_s,
                    ) from exc
            has_failed = True
            left_s = patience.left_s

    async def restore(self, rows: Container, values: Sequence[VersionedRow], *, timeout_s: float) -> None:
        """As the port's ``restore``, for rows that were checked."""
        patience = self._driver.patience(timeout_s)
        partition = keys.rows_partition(rows)
        announced = await announce_ends(
            self._pointers, rows, {row.key: row.expires_at for row in values if row.expires_at}, timeout_s=timeout_s
        )
        now = self._driver.environment.clock.now()
        puts = [
            restoring_put(row, due=announced.get(row.key), write_id=self._driver.new_commit_id(), now=now)
            for row in values
        ]
        while True:
            anchor = await self._anchors.ensure(rows, partition, timeout_s=patience.left_s)
            try:
                await self._driver.commit(partition, [Require(sort=anchor), *puts], timeout_s=patience.left_s)
            except ExpectationFailed as exc:
                # Nothing but the anchor is expected: the rows were erased meanwhile.
                self._anchors.forget(partition)
                if not await patience.pause():
                    raise TimedOut(
                        f"these rows were erased again and again for {timeout_s} s, and nothing was copied; try again",
                        timeout_s=timeout_s,
                    ) from exc
            else:
                return


class _Write:
    """One write and what its attempts have in common."""

    def __init__(
        self,
        driver: ResilientDriver,
        anchors: Anchors,
        pointers: Pointers,
        rows: Container,
        writes: Sequence[RowWrite],
        audit: StoreAudit | None,
        timeout_s: float,
    ) -> None:
        self._driver = driver
        self._anchors = anchors
        self._pointers = pointers
        self._rows = rows
        self._partition = keys.rows_partition(rows)
        self._writes = writes
        self._audit = [] if audit is None else [audit_put(audit)]
        self._timeout_s = timeout_s
        self._incarnations = {
            write.key: str(driver.environment.ids.new()) for write in writes if isinstance(write, PutRow)
        }
        self._announced: dict[str, Due] = {}
        # At first only what must be known; once that went wrong, everything that may have been in the way.
        self._read = [write.key for write in writes if must_be_read(write)]

    async def attempt(self, timeout_s: float) -> Sequence[VersionedRow | None]:
        """Read, plan and commit. Raises ``ExpectationFailed`` if somebody wrote in between."""
        patience = self._driver.patience(timeout_s)
        found = await self._find(patience.left_s)
        now = self._driver.environment.clock.now()
        check_expected(self._writes, found=found, now=now)
        dues = await self._dues(found, now)
        plan = make_plan(self._writes, found=found, dues=dues, incarnations=self._incarnations, now=now)
        commit: list[Write] = [*plan.writes, *self._audit]
        if plan.adds or self._audit:
            anchor = await self._anchors.ensure(self._rows, self._partition, timeout_s=patience.left_s)
            commit.append(Require(sort=anchor))
        try:
            await self._driver.commit(self._partition, commit, timeout_s=patience.left_s)
        except ExpectationFailed:
            self._read = [
                write.key for write in self._writes if isinstance(write, PutRow) or write.expected is not None
            ]
            if not self._read:
                self._anchors.forget(self._partition)
            raise
        return plan.rows

    async def _find(self, timeout_s: float) -> Mapping[str, KeptRow]:
        if not self._read:
            return {}
        anchor = self._anchors.known(self._partition)
        sorts = [keys.row_sort(key) for key in self._read]
        found = dict(
            await self._driver.get(self._partition, sorts if anchor is None else [*sorts, anchor], timeout_s=timeout_s)
        )
        if anchor is not None and found.pop(anchor, None) is None:
            self._anchors.forget(self._partition)
        kept = (kept_row(document) for document in found.values())
        return {one.row.key: one for one in kept}

    async def _dues(self, found: Mapping[str, KeptRow], now: datetime) -> Mapping[str, Due]:
        ends = {
            write.key: write.expires_at
            for write in self._writes
            if isinstance(write, PutRow) and write.expires_at is not None
        }
        dues = dict(self._announced)
        for key, expires_at in ends.items():
            if key not in dues and (due := due_before(found.get(key), expires_at, now)) is not None:
                dues[key] = due
        missing = {key: expires_at for key, expires_at in ends.items() if key not in dues}
        # The pointer covers every attempt of this write, so it gets the patience of all of them.
        self._announced |= await announce_ends(self._pointers, self._rows, missing, timeout_s=self._timeout_s)
        return dues | self._announced


async def announce_ends(
    pointers: Pointers, rows: Container, ends: Mapping[str, datetime], *, timeout_s: float
) -> Mapping[str, Due]:
    """Write pointers to the ends of rows, before the rows are written."""

    async def announce(key: str, expires_at: datetime) -> tuple[str, Due]:
        """One pointer."""
        pointer = await pointers.announce(rows, due_at=expires_at, detail=key, timeout_s=timeout_s)
        return key, Due(at=expires_at, version=pointer.version)

    return dict(await together([partial(announce, key, expires_at) for key, expires_at in ends.items()]))
