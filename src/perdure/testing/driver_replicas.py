"""Reads that lag: what drivers see of each other's commits when each reads from a replica of its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perdure.ports.document_rules import LOWEST_CHARACTER, check_commit
from perdure.ports.documents import SCAN_BYTES_MAX, SCAN_DOCUMENTS_MAX, Document, DocumentDriver, Page, Write


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One commit: when it was, and what was there before it (None: nothing)."""

    operation: int
    before: Mapping[str, Document | None]


class Replicas:
    """What the drivers on the same data share, so that each sees the commits of the others ``lag`` operations late.

    Operations are counted over all of them. A driver always sees its own commits and everything before them, and never
    goes back to what was before something that it has seen: session consistency, at its worst.
    """

    def __init__(self, *, lag: int) -> None:
        self.lag = lag
        self.operations = 0
        self.entries: dict[str, list[_Entry]] = defaultdict(list)
        self.turn = asyncio.Lock()  # a commit and the look at what was before it are one


class Replica:
    """One driver's view of the data."""

    def __init__(self, replicas: Replicas, driver: DocumentDriver) -> None:
        self._replicas = replicas
        self._driver = driver
        self._seen: dict[str, int] = defaultdict(int)  # of each partition, how many of its entries

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """The documents as this driver sees them."""
        async with self._replicas.turn:
            found = dict(await self._driver.get(partition, sorts, timeout_s=timeout_s))
            for sort, document in self._hidden(partition).items():
                if document is None:
                    found.pop(sort, None)
                elif sort in sorts:
                    found[sort] = document
            return found

    async def scan(self, partition: str, *, start: str, end: str, limit: int, reverse: bool, timeout_s: float) -> Page:
        """A page as this driver sees it; reads the whole range if something is hidden from it."""
        async with self._replicas.turn:
            hidden = self._hidden(partition)
            if not hidden:
                return await self._driver.scan(
                    partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=timeout_s
                )
            kept = {document.sort: document for document in await self._range(partition, start, end, timeout_s)}
            for sort, document in hidden.items():
                if document is None:
                    kept.pop(sort, None)
                elif start <= sort < end:
                    kept[sort] = document
            return _page([kept[sort] for sort in sorted(kept, reverse=reverse)], limit)

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """Commit, remembering what was there before."""
        async with self._replicas.turn:
            check_commit(partition, writes)
            self._replicas.operations += 1
            sorts = [write.sort for write in writes]
            before: dict[str, Document | None] = dict.fromkeys(sorts)
            before.update(await self._driver.get(partition, sorts, timeout_s=timeout_s))
            tokens = await self._driver.commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)
            entries = self._replicas.entries[partition]
            entries.append(_Entry(operation=self._replicas.operations, before=before))
            self._seen[partition] = len(entries)
            return tokens

    def _hidden(self, partition: str) -> Mapping[str, Document | None]:
        """What to show of documents whose newest commits are not to be seen yet."""
        self._replicas.operations += 1
        entries = self._replicas.entries[partition]
        seen = self._seen[partition]
        while seen < len(entries) and entries[seen].operation + self._replicas.lag < self._replicas.operations:
            seen += 1
        self._seen[partition] = seen
        shown: dict[str, Document | None] = {}
        for entry in entries[seen:]:
            for sort, document in entry.before.items():
                shown.setdefault(sort, document)
        return shown

    async def _range(self, partition: str, start: str, end: str, timeout_s: float) -> list[Document]:
        documents: list[Document] = []
        while True:
            page = await self._driver.scan(
                partition, start=start, end=end, limit=SCAN_DOCUMENTS_MAX, timeout_s=timeout_s
            )
            documents += page.documents
            if not page.more:
                return documents
            start = page.documents[-1].sort + LOWEST_CHARACTER


def _page(documents: Sequence[Document], limit: int) -> Page:
    kept: list[Document] = []
    kept_bytes = 0
    for document in documents:
        if len(kept) == limit or kept_bytes >= SCAN_BYTES_MAX:
            break
        kept.append(document)
        kept_bytes += len(document.body)
    return Page(documents=kept, more=len(kept) < len(documents))
