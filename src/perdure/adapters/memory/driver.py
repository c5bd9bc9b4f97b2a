"""The document driver that forgets: the shortest one that keeps the port's promises, and the model of the others."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Final

from perdure.errors import BackendDown
from perdure.ports.capabilities import Capabilities
from perdure.ports.document_rules import check_commit, check_get, check_scan, holds, not_as_expected
from perdure.ports.documents import (
    COMMIT_BYTES_MAX,
    COMMIT_WRITES_MAX,
    DOCUMENT_BYTES_MAX,
    PARTITION_CHARS_MAX,
    SCAN_BYTES_MAX,
    SORT_CHARS_MAX,
    Document,
    Page,
    Put,
    Remove,
    Write,
)

CAPABILITIES: Final = Capabilities(
    consistency="strong",
    durable=False,
    shared=False,
    ttl=False,
    change_feed=False,
    node_local=True,
    document_bytes_max=DOCUMENT_BYTES_MAX,
    sort_bytes_max=SORT_CHARS_MAX,
    partition_name_bytes_max=PARTITION_CHARS_MAX,
    batch_writes_max=COMMIT_WRITES_MAX,
    batch_bytes_max=COMMIT_BYTES_MAX,
    partition_bytes_max=None,
)


class MemoryStore:
    """Documents that outlive the drivers on them, as a database outlives its clients. For one event loop."""

    def __init__(self) -> None:
        self._partitions: dict[str, _Partition] = {}

    def partition(self, name: str) -> _Partition:
        """The documents of one partition, to read."""
        return self._partitions.get(name) or _Partition()

    def partition_to_write(self, name: str) -> _Partition:
        """The documents of one partition, made if it is the first time."""
        return self._partitions.setdefault(name, _Partition())


class _Partition:
    """Documents by key, and the keys in order: ASCII text sorts as its bytes do."""

    __slots__ = ("documents", "sorts")

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.sorts: list[str] = []

    def version(self, sort: str) -> int | None:
        found = self.documents.get(sort)
        return None if found is None else found.version

    def put(self, document: Document) -> None:
        if document.sort not in self.documents:
            insort(self.sorts, document.sort)
        self.documents[document.sort] = document

    def remove(self, sort: str) -> None:
        if self.documents.pop(sort, None) is not None:
            del self.sorts[bisect_left(self.sorts, sort)]


class MemoryDriver:
    """A client of a ``MemoryStore``; of one nobody else has, if none is given.

    Nothing waits, so nothing takes longer than ``timeout_s``, and a commit is atomic because nobody else runs.
    """

    def __init__(self, store: MemoryStore | None = None) -> None:
        self._store = MemoryStore() if store is None else store
        self._is_open = False

    @property
    def capabilities(self) -> Capabilities:
        """Those of the port's own limits."""
        return CAPABILITIES

    async def open(self) -> None:
        """Nothing has to be made."""
        self._is_open = True

    async def close(self) -> None:
        """Let go of nothing: the store keeps its documents for as long as somebody has it."""
        self._is_open = False

    async def probe(self, *, timeout_s: float) -> None:
        """Raise unless open."""
        del timeout_s
        self._check_open()

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """The documents with these keys that are there."""
        del timeout_s
        check_get(partition, sorts)
        self._check_open()
        documents = self._store.partition(partition).documents
        return {sort: documents[sort] for sort in sorts if sort in documents}

    async def scan(
        self,
        partition: str,
        *,
        start: str,
        end: str,
        limit: int,
        reverse: bool = False,
        timeout_s: float,
    ) -> Page:
        """A slice of the keys in order, cut where its bodies reach ``SCAN_BYTES_MAX``."""
        del timeout_s
        check_scan(partition, start, end, limit)
        self._check_open()
        kept = self._store.partition(partition)
        first, last = bisect_left(kept.sorts, start), bisect_left(kept.sorts, end)
        if reverse:
            sorts = kept.sorts[max(first, last - limit) : last][::-1]
        else:
            sorts = kept.sorts[first : min(first + limit, last)]
        documents: list[Document] = []
        scanned_bytes = 0
        for sort in sorts:
            if scanned_bytes >= SCAN_BYTES_MAX:
                break
            documents.append(kept.documents[sort])
            scanned_bytes += len(documents[-1].body)
        return Page(documents=documents, more=len(documents) < last - first)

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """Check everything, then write everything, with no wait between. Tokens are not needed and None."""
        del timeout_s
        check_commit(partition, writes)
        self._check_open()
        kept = self._store.partition(partition)
        for write in writes:
            if not holds(write, kept.version(write.sort)):
                raise not_as_expected(write, kept.documents.get(write.sort))
        kept = self._store.partition_to_write(partition)
        for write in writes:
            if isinstance(write, Put):
                kept.put(_document(write, commit_id))
            elif isinstance(write, Remove):
                kept.remove(write.sort)
        return [None] * len(writes)

    def _check_open(self) -> None:
        if not self._is_open:
            raise BackendDown("this driver is not open; open it first, and do not use it after close")


def _document(put: Put, commit_id: str) -> Document:
    return Document(sort=put.sort, version=put.version, body=put.body, commit_id=commit_id, expires_at=put.expires_at)
