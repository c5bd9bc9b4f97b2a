"""Trimming: the floor rises in one commit, which closes the gate, and what is below it is removed afterwards.

The end of the log is read before the gate is closed, so nobody who knows the new gate can have a number left to give
that is below the floor.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from perdure.adapters.documents import keys
from perdure.adapters.documents.audits import audit_put
from perdure.adapters.documents.log_documents import LogState, read_entry
from perdure.adapters.documents.log_lives import LogLives
from perdure.adapters.documents.log_looking import LogLooking, wait
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Container
from perdure.domain.store_audit import StoreAudit
from perdure.ports.patience import Patience

PAGE_ENTRIES: Final = (
    500  # looked at before they are trimmed; time that ends between two pages leaves the first trimmed
)


class LogTrimming:
    """Trims logs."""

    def __init__(self, driver: ResilientDriver, *, looking: LogLooking, lives: LogLives) -> None:
        self._driver = driver
        self._looking = looking
        self._lives = lives

    async def trim_by_number(self, log: Container, before: int, audit: StoreAudit | None, *, patience: Patience) -> int:
        """Remove entries numbered below ``before``; returns how many."""
        while (state := await self._looking.current(log, patience=patience)) is not None:
            trimmed = await self._trim(log, state, before, audit, patience=patience)
            if trimmed is not None:
                return trimmed
            await wait(patience)
        return 0

    async def trim_by_time(
        self, log: Container, before: datetime, audit: StoreAudit | None, *, patience: Patience
    ) -> int:
        """Remove the oldest entries up to the first recorded at that moment or later; returns how many."""
        count = 0
        while (state := await self._looking.current(log, patience=patience)) is not None:
            first_kept, more = await self._first_kept(log, state, before, patience=patience)
            trimmed = await self._trim(log, state, first_kept, audit, patience=patience)
            if trimmed is None:
                await wait(patience)
                continue
            count += trimmed
            audit = None if trimmed else audit  # one record of one call
            if not more:
                return count
        return count

    async def _first_kept(
        self, log: Container, state: LogState, before: datetime, *, patience: Patience
    ) -> tuple[int, bool]:
        """The number of the first entry that stays, as far as one page shows, and whether it may be a later one."""
        start, end = keys.entry_range(state.epoch, first=state.floor + 1)
        page = await self._driver.scan(
            keys.log_partition(log), start=start, end=end, limit=PAGE_ENTRIES, timeout_s=patience.left_s
        )
        first_kept = state.floor + 1
        for document in page.documents:
            entry = read_entry(log, document)
            if entry is None or entry.sequence != first_kept or entry.recorded_at >= before:
                return first_kept, False
            first_kept += 1
        return first_kept, page.more

    async def _trim(
        self, log: Container, state: LogState, before: int, audit: StoreAudit | None, *, patience: Patience
    ) -> int | None:
        """One attempt to raise the floor; None if somebody else was first."""
        floor = min(before - 1, state.sequence)
        if floor <= state.floor:
            return 0
        announced = await self._lives.leftovers(log, patience=patience)
        header = replace(state.life.header, floor=floor, updated_at=self._lives.now(), touched_at=state.touched_at)
        beside = [] if audit is None else [audit_put(audit)]
        if await self._lives.change(log, state.life, header, beside=beside, patience=patience) is None:
            return None
        await self._lives.clean(log, announced, patience=patience)
        return floor - state.floor
