"""Units of work that nobody keeps alive: taken from their owners, declared dead when they were tried often enough."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from perdure.core.work_parking import parked, question_of
from perdure.core.work_planning import is_used_up, plan_move
from perdure.core.work_saving import WorkSaving
from perdure.domain.canonical import JsonObject
from perdure.domain.container import Space
from perdure.domain.work import UNITS_PAGE_MAX, WorkStatus, WorkUnit
from perdure.domain.work_results import Swept
from perdure.errors import Invalid, NotFound, StaleVersion

OLDER_THAN_S_DEFAULT: Final = 300.0  # five minutes without a sign of life
APPROVAL_S_DEFAULT: Final = 300.0  # five minutes without an answer
RETRIES_MAX_DEFAULT: Final = 3  # what failed four times needs somebody to look at it
SWEEP_PAGE: Final = 100  # units that are read at a time

_ACTIVE: Final = WorkStatus.ACTIVE
_SOFT: Final = WorkStatus.ZOMBIED_SOFT
_DEAD: Final = WorkStatus.ZOMBIED_DEAD


@dataclass(slots=True, kw_only=True)
class _Done:
    zombied: list[UUID] = field(default_factory=list)
    dead: list[UUID] = field(default_factory=list)
    overdue: list[UUID] = field(default_factory=list)
    missed: set[UUID] = field(default_factory=set)


class WorkSweeper:
    """One sweep of one scope."""

    def __init__(
        self, saving: WorkSaving, space: Space, *, older_than_s: float, approval_s: float, retries_max: int
    ) -> None:
        for name, value in (("older_than_s", older_than_s), ("approval_s", approval_s)):
            if not value > 0:
                raise Invalid(f"{name} is {value}; more than 0 is expected")
        if retries_max < 0:
            raise Invalid(f"retries_max is {retries_max}; at least 0 is expected")
        self._saving = saving
        self._space = space
        self._older_than_s = older_than_s
        self._approval_s = approval_s
        self._retries_max = retries_max
        self._done = _Done()

    async def run(self, *, timeout_s: float | None) -> Swept:
        """Look at everything once, a page at a time."""
        await self._stale(timeout_s)
        await self._overdue(timeout_s)
        await self._exhausted(timeout_s)
        done = self._done
        return Swept(
            zombied=tuple(done.zombied), dead=tuple(done.dead), overdue=tuple(done.overdue), missed=len(done.missed)
        )

    async def _stale(self, timeout_s: float | None) -> None:
        pen = await self._saving.pen()
        before = pen.now - timedelta(seconds=self._older_than_s)
        limit = SWEEP_PAGE
        while True:
            async with self._saving.reading(timeout_s) as (call, store):
                page = await store.stale(self._space, before=before, limit=limit, timeout_s=call.timeout_s)
            fresh = [unit for unit in page if unit.unit_id not in self._done.missed]
            for unit in fresh:
                await self._zombify(unit, timeout_s)
            if len(page) < limit:
                return
            # Units that somebody else was about to move may still stand first; beyond a page of them, the next sweep.
            limit = min(UNITS_PAGE_MAX, limit if fresh else 2 * limit)
            if not fresh and len(page) >= UNITS_PAGE_MAX:
                return

    async def _zombify(self, unit: WorkUnit, timeout_s: float | None) -> None:
        beat = unit.heartbeat_at
        reasoning = f"no sign of life for {self._older_than_s:g} seconds"
        metadata: JsonObject = {
            "heartbeat_at": None if beat is None else beat.isoformat(),
            "lease_owner": unit.lease_owner,
            "beats": unit.beats,
            "older_than_s": self._older_than_s,
        }
        moved = await self._move(unit, _SOFT, reasoning, metadata, timeout_s, expect_beats=True)
        if moved is None:
            return
        self._done.zombied.append(unit.unit_id)
        self._saving.reclaimed(unit, moved)
        if self._is_exhausted(moved):
            await self._bury(moved, timeout_s)

    async def _overdue(self, timeout_s: float | None) -> None:
        pen = await self._saving.pen()
        async for unit in self._all(WorkStatus.PENDING_PILOT_APPROVAL, timeout_s):
            async with self._saving.reading(timeout_s) as (call, store):
                entry = await parked(store, self._space, unit.unit_id, timeout_s=call.timeout_s)
            own_s = None if entry is None else question_of(entry).deadline_s
            waited_s = self._approval_s if own_s is None else own_s
            if unit.updated_at >= pen.now - timedelta(seconds=waited_s):
                continue
            metadata: JsonObject = {
                "approval_s": waited_s,
                "target": None if unit.target is None else unit.target.value,
            }
            reasoning = f"no answer for {waited_s:g} seconds"
            if await self._move(unit, _SOFT, reasoning, metadata, timeout_s, expect_beats=False) is not None:
                self._done.overdue.append(unit.unit_id)

    async def _exhausted(self, timeout_s: float | None) -> None:
        async for unit in self._all(_SOFT, timeout_s):
            # One that used up its interactions waits for somebody to clear it up, however often it was tried.
            if self._is_exhausted(unit) and not is_used_up(unit):
                await self._bury(unit, timeout_s)

    async def _bury(self, unit: WorkUnit, timeout_s: float | None) -> None:
        reasoning = f"tried again {unit.retry_count} times, of at most {self._retries_max}"
        metadata: JsonObject = {"retry_count": unit.retry_count, "retries_max": self._retries_max}
        if await self._move(unit, _DEAD, reasoning, metadata, timeout_s, expect_beats=False) is not None:
            self._done.dead.append(unit.unit_id)

    def _is_exhausted(self, unit: WorkUnit) -> bool:
        return unit.retry_count >= self._retries_max

    async def _move(
        self,
        unit: WorkUnit,
        status: WorkStatus,
        reasoning: str,
        metadata: JsonObject,
        timeout_s: float | None,
        *,
        expect_beats: bool,
    ) -> WorkUnit | None:
        """The unit in its new status, or None if somebody was faster."""
        pen = await self._saving.pen()
        write = plan_move(unit, status, reasoning=reasoning, metadata=metadata, pen=pen, expect_beats=expect_beats)
        try:
            return (await self._saving.commit(write, "sweep", timeout_s=timeout_s)).unit
        except (StaleVersion, NotFound):
            self._done.missed.add(unit.unit_id)
            return None

    async def _all(self, status: WorkStatus, timeout_s: float | None) -> AsyncIterator[WorkUnit]:
        cursor: str | None = None
        while True:
            async with self._saving.reading(timeout_s) as (call, store):
                page = await store.units(
                    self._space, status=status, cursor=cursor, limit=SWEEP_PAGE, timeout_s=call.timeout_s
                )
            for unit in page.items:
                yield unit
            cursor = page.next_cursor
            if cursor is None:
                return
