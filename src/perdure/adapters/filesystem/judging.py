"""Whether commits may happen, judged one after the other as if those before them had."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from perdure.adapters.filesystem.index import DOCUMENT_OVERHEAD_BYTES, Index
from perdure.adapters.filesystem.log_format import Change, stored_bytes
from perdure.errors import LimitExceeded
from perdure.ports.document_rules import holds, not_as_expected
from perdure.ports.documents import Document, Put, Require, Write


class Judge:
    """Judges the commits of one write to the disk, in their order. The index stays as it is."""

    def __init__(self, index: Index, *, memory_bytes_max: int) -> None:
        self._index = index
        self._memory_bytes_max = memory_bytes_max
        self._growth = 0
        self._ahead: dict[tuple[str, str], Document | None] = {}

    def judge(self, partition: str, writes: Sequence[Write], *, commit_id: str) -> Change:
        """What the commit does; raises ``ExpectationFailed`` or ``LimitExceeded``, and then it does nothing."""
        documents: list[Document] = []
        removed: list[str] = []
        growth = 0
        for write in writes:
            found = self._find(partition, write.sort)
            if not holds(write, None if found is None else found.version):
                raise not_as_expected(write, found)
            if isinstance(write, Require):
                continue
            growth -= 0 if found is None else _memory_bytes(found)
            if isinstance(write, Put):
                documents.append(_written(write, commit_id))
                growth += _memory_bytes(documents[-1])
            elif found is not None:
                removed.append(write.sort)
        self._check_memory(growth)
        self._growth += growth
        self._ahead.update({(partition, document.sort): document for document in documents})
        self._ahead.update({(partition, sort): None for sort in removed})
        return Change(partition=partition, documents=documents, removed=removed)

    def _find(self, partition: str, sort: str) -> Document | None:
        key = (partition, sort)
        return self._ahead[key] if key in self._ahead else self._index.find(partition, sort)

    def _check_memory(self, growth: int) -> None:
        after = self._index.memory_bytes + self._growth + growth
        if growth > 0 and after > self._memory_bytes_max:
            raise LimitExceeded(
                f"all documents together would take {after} bytes, and this backend keeps them in memory: at most "
                f"{self._memory_bytes_max} (memory_bytes_max); remove some, or choose another backend",
                limit="memory_bytes_max",
                allowed=self._memory_bytes_max,
                actual=after,
            )


def _written(put: Put, commit_id: str) -> Document:
    return Document(
        sort=put.sort,
        version=put.version,
        body=put.body,
        commit_id=commit_id,
        expires_at=None if put.expires_at is None else put.expires_at.astimezone(UTC),
    )


def _memory_bytes(document: Document) -> int:
    return stored_bytes(document) + DOCUMENT_OVERHEAD_BYTES
