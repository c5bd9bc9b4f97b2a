"""Removing all of a container: first what lets anything be added, then everything, and its name at last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from perdure.adapters.documents import keys
from perdure.adapters.documents.anchors import Anchors
from perdure.adapters.documents.directory import Directory
from perdure.adapters.documents.pointers import Pointer, Pointers
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.row_documents import KeptRow, kept_row
from perdure.adapters.documents.row_plans import live
from perdure.adapters.documents.together import together
from perdure.domain.container import Container
from perdure.errors import Corrupt
from perdure.ports.documents import COMMIT_WRITES_MAX, Document, Expect, Remove

_FIRST: Final = "A"  # of all characters that a sort key can begin with, and
_LAST: Final = keys.LAST  # what comes after all of them
_ROWS: Final = keys.row_range()[0]


class RowErasing:
    """Erasing, which may be interrupted anywhere and done again: the name is there until everything else is gone."""

    def __init__(self, driver: ResilientDriver, directory: Directory, anchors: Anchors, pointers: Pointers) -> None:
        self._driver = driver
        self._directory = directory
        self._anchors = anchors
        self._pointers = pointers

    async def erase(self, rows: Container, *, timeout_s: float) -> int:
        """As the port's ``erase``."""
        patience = self._driver.patience(timeout_s)
        partition = keys.rows_partition(rows)
        version = await self._directory.find(rows, timeout_s=patience.left_s)
        await self._anchors.remove(partition, timeout_s=patience.left_s)
        erased = 0
        more = True
        while more:
            page = await self._driver.scan(
                partition, start=_FIRST, end=_LAST, limit=COMMIT_WRITES_MAX, timeout_s=patience.left_s
            )
            if page.documents:
                erased += await self._remove(rows, partition, page.documents, timeout_s=patience.left_s)
            more = page.more
        if version is not None:
            await self._directory.remove(rows, version=version, timeout_s=patience.left_s)
        return erased

    async def _remove(self, rows: Container, partition: str, documents: Sequence[Document], *, timeout_s: float) -> int:
        patience = self._driver.patience(timeout_s)
        now = self._driver.environment.clock.now()
        kept = [one for one in map(_kept, documents) if one is not None]
        # Pointers first: they hold the name too, and once the rows are gone nobody can tell which there are.
        pointers = [_pointer(rows, one) for one in kept]
        await together(
            [
                partial(self._pointers.withdraw, pointer, timeout_s=patience.left_s)
                for pointer in pointers
                if pointer is not None
            ]
        )
        removals = [Remove(sort=document.sort, expect=Expect.ANY) for document in documents]
        await self._driver.commit(partition, removals, timeout_s=patience.left_s)
        return sum(live(one, now) is not None for one in kept)


def _kept(document: Document) -> KeptRow | None:
    if not document.sort.startswith(_ROWS):
        return None
    try:
        return kept_row(document)
    except Corrupt:
        return None  # what cannot be read can be erased all the same


def _pointer(rows: Container, kept: KeptRow) -> Pointer | None:
    due = kept.due
    if due is None:
        return None
    return Pointer(container=rows, detail=kept.row.key, due_at=due.at, settled_at=due.at, version=due.version)
