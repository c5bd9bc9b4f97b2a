"""Removing rows whose lifetime is over. They are gone for every reader already; this is about space only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

from perdure.adapters.documents import keys
from perdure.adapters.documents.pointers import Pointer, Pointers
from perdure.adapters.documents.removals import see_removed
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.row_documents import KeptRow, is_over, kept_row
from perdure.adapters.documents.together import together
from perdure.domain.container import Container
from perdure.errors import Invalid
from perdure.ports.documents import ExpectationFailed, Remove

BATCH_MAX: Final = 100  # pointers looked at together: their rows are one get


class RowSweeping:
    """Follows what is due to its row, and removes the row in the very state in which it was found to be over."""

    def __init__(self, driver: ResilientDriver, pointers: Pointers) -> None:
        self._driver = driver
        self._pointers = pointers

    async def sweep(self, *, limit: int, timeout_s: float) -> int:
        """As the port's ``sweep``."""
        if limit < 1:
            raise Invalid(f"a sweep of {limit} rows; ask for at least 1")
        patience = self._driver.patience(timeout_s)
        swept = 0
        batch: list[Pointer] = []
        due = self._pointers.due(self._driver.environment.clock.now(), timeout_s=timeout_s)
        async with aclosing(due) as pointers:
            async for pointer in pointers:
                batch.append(pointer)
                if len(batch) == min(limit - swept, BATCH_MAX):
                    swept += await self._sweep(batch, timeout_s=patience.left_s)
                    batch = []
                    if swept == limit:
                        return swept
        return swept + await self._sweep(batch, timeout_s=patience.left_s)

    async def _sweep(self, batch: Sequence[Pointer], *, timeout_s: float) -> int:
        by_rows: dict[Container, list[Pointer]] = {}
        for pointer in batch:
            by_rows.setdefault(pointer.container, []).append(pointer)
        swept = await together(
            [partial(self._sweep_rows, rows, pointers, timeout_s=timeout_s) for rows, pointers in by_rows.items()]
        )
        return sum(swept)

    async def _sweep_rows(self, rows: Container, pointers: Sequence[Pointer], *, timeout_s: float) -> int:
        patience = self._driver.patience(timeout_s)
        partition = keys.rows_partition(rows)
        sorts = {keys.row_sort(pointer.detail) for pointer in pointers}
        found = await self._driver.get(partition, sorted(sorts), timeout_s=patience.left_s)
        now = self._driver.environment.clock.now()
        kept = {one.row.key: one for one in map(kept_row, found.values())}
        over = {key: one for key, one in kept.items() if is_over(one.row, now)}
        removed = await self._remove(partition, list(over.values()), timeout_s=patience.left_s)
        await together(
            [
                partial(self._finish, pointer, kept.get(pointer.detail), removed, timeout_s=patience.left_s)
                for pointer in pointers
            ]
        )
        return len(removed)

    async def _remove(self, partition: str, over: Sequence[KeptRow], *, timeout_s: float) -> frozenset[str]:
        """The keys of those removed: all in one commit, or one by one if somebody writes one of them."""
        if not over:
            return frozenset()
        patience = self._driver.patience(timeout_s)
        removals = [
            Remove(sort=one.document.sort, expect=one.document.version, token=one.document.token) for one in over
        ]
        try:
            await see_removed(self._driver, partition, removals, timeout_s=patience.left_s)
        except ExpectationFailed:
            if len(over) == 1:
                return frozenset()
        else:
            return frozenset(one.row.key for one in over)
        removed: frozenset[str] = frozenset()
        for one in over:
            removed |= await self._remove(partition, [one], timeout_s=patience.left_s)
        return removed

    async def _finish(
        self, pointer: Pointer, kept: KeptRow | None, removed: frozenset[str], *, timeout_s: float
    ) -> None:
        """Do with a pointer what its row asks for."""
        key = pointer.detail
        if key in removed:
            await self._pointers.withdraw(pointer, timeout_s=timeout_s)
        elif kept is None or kept.row.expires_at is None:
            await self._pointers.settle(pointer, timeout_s=timeout_s)
        elif not is_over(kept.row, self._driver.environment.clock.now()):
            # The row lives longer than it did when this was written, and relied on it for its new end as well.
            patience = self._driver.patience(timeout_s)
            await self._pointers.announce(
                pointer.container, due_at=kept.row.expires_at, detail=key, timeout_s=patience.left_s
            )
            await self._pointers.withdraw(pointer, timeout_s=patience.left_s)
