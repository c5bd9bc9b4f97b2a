"""All documents, in memory and in order. Bodies too: what is stored here is bounded by ``MEMORY_BYTES_MAX``."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from perdure.adapters.filesystem.log_format import Change, stored_bytes
from perdure.ports.documents import SCAN_BYTES_MAX, Document, Page

DOCUMENT_OVERHEAD_BYTES: Final = 500  # of the Python objects around a document: 300 measured, and room
MEMORY_BYTES_MAX: Final = 1_073_741_824  # what a laptop can spare; who needs more needs a database


@dataclass(slots=True, kw_only=True)
class _Partition:
    documents: dict[str, Document] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)


class Index:
    """Documents by partition and sort key.

    ``stored_bytes`` is about what a log of nothing else would take, ``memory_bytes`` about what they take here.
    """

    def __init__(self) -> None:
        self.stored_bytes = 0
        self.count = 0
        self._partitions: dict[str, _Partition] = {}

    @property
    def memory_bytes(self) -> int:
        """About what all documents take in memory."""
        return self.stored_bytes + self.count * DOCUMENT_OVERHEAD_BYTES

    def find(self, partition: str, sort: str) -> Document | None:
        """The document with this key, or None."""
        kept = self._partitions.get(partition)
        return None if kept is None else kept.documents.get(sort)

    def scan(self, partition: str, start: str, end: str, limit: int, *, reverse: bool) -> Page:
        """One page of a range, in order."""
        kept = self._partitions.get(partition)
        if kept is None:
            return Page(documents=(), more=False)
        low, high = bisect_left(kept.order, start), bisect_left(kept.order, end)
        last = min(high, low + limit) if not reverse else max(low, high - limit)
        found: list[Document] = []
        size = 0
        for sort in kept.order[low:last] if not reverse else kept.order[last:high][::-1]:
            if found and size >= SCAN_BYTES_MAX:
                break
            document = kept.documents[sort]
            found.append(document)
            size += len(document.body)
        return Page(documents=found, more=len(found) < high - low)

    def apply(self, change: Change) -> None:
        """Do what a commit did."""
        kept = self._partitions.setdefault(change.partition, _Partition())
        for document in change.documents:
            if document.sort not in kept.documents:
                insort(kept.order, document.sort)
        for sort in change.removed:
            if sort in kept.documents:
                del kept.order[bisect_left(kept.order, sort)]
        self._change(kept, change)

    def load(self, change: Change) -> None:
        """Do what a commit did, without keeping order; ``settle`` after the last one."""
        self._change(self._partitions.setdefault(change.partition, _Partition()), change)

    def settle(self) -> None:
        """Put everything loaded in order, once instead of at each change."""
        for kept in self._partitions.values():
            kept.order = sorted(kept.documents)

    def chunks(self, *, chunk_bytes: int) -> Iterator[Sequence[Change]]:
        """Everything, in pieces of about ``chunk_bytes``.

        Changes may be applied between two pieces: what they touch is then seen as it was, as it is, or not at all, and
        everything else once.
        """
        chunk: list[Change] = []
        room = chunk_bytes
        for partition in list(self._partitions):
            after = ""
            while documents := self._next_documents(partition, after, room):
                after = documents[-1].sort
                chunk.append(Change(partition=partition, documents=documents))
                room -= len(partition) + sum(stored_bytes(document) for document in documents)
                if room <= 0:
                    yield chunk
                    chunk, room = [], chunk_bytes
        if chunk:
            yield chunk

    def _next_documents(self, partition: str, after: str, room: int) -> list[Document]:
        """The documents that follow, until they take ``room``; at least one unless there are none."""
        kept = self._partitions.get(partition)
        found: list[Document] = []
        if kept is None:
            return found
        for place in range(bisect_right(kept.order, after), len(kept.order)):
            document = kept.documents[kept.order[place]]
            found.append(document)
            room -= stored_bytes(document)
            if room <= 0:
                break
        return found

    def _change(self, kept: _Partition, change: Change) -> None:
        for document in change.documents:
            self._forget(kept.documents.get(document.sort))
            kept.documents[document.sort] = document
            self.stored_bytes += stored_bytes(document)
            self.count += 1
        for sort in change.removed:
            self._forget(kept.documents.pop(sort, None))
        if not kept.documents:
            del self._partitions[change.partition]

    def _forget(self, document: Document | None) -> None:
        if document is not None:
            self.stored_bytes -= stored_bytes(document)
            self.count -= 1
