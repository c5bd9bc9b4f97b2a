"""A commit as the engine's transactional batch.

Each expectation is one condition of the engine: ``ABSENT`` a create, ``PRESENT`` a replace or delete (which fail where
nothing is), a version a replace or delete with the etag of that version, a requirement a read. Only ``ANY`` is an
upsert, whose conditions the engine ignores when it creates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from azure.cosmos.exceptions import CosmosBatchOperationError

from perdure.adapters.cosmos.items import to_item
from perdure.ports.documents import Expect, Put, Remove, Write

Operation: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The operations of a commit, and which write each of them is for: removals of what is not there have none."""

    operations: Sequence[Operation]
    positions: Sequence[int]


def make_batch(
    partition: str,
    writes: Sequence[Write],
    *,
    etags: Mapping[str, object],
    absent: Collection[str],
    commit_id: str,
    now: datetime,
) -> Batch:
    """The batch that does these writes, without those removals whose documents are known to be ``absent``.

    ``etags`` has those that were read for writes which came without a token.
    """
    operations: list[Operation] = []
    positions: list[int] = []
    for position, write in enumerate(writes):
        if isinstance(write, Remove) and write.expect is Expect.ANY and write.sort in absent:
            continue
        positions.append(position)
        if isinstance(write, Put):
            item = to_item(partition, write, commit_id=commit_id, now=now)
            operations.append(_put(write, item, etags.get(write.sort, write.token)))
        elif isinstance(write, Remove):
            operations.append(("delete", (write.sort,), _condition(write, etags.get(write.sort, write.token))))
        else:
            operations.append(("read", (write.sort,), {}))
    return Batch(operations=operations, positions=positions)


def needs_etag(write: Write) -> bool:
    """Whether the engine has to be asked for the etag of the version that this write expects."""
    return isinstance(write, Put | Remove) and isinstance(write.expect, int) and write.token is None


def tokens_of(batch: Batch, writes: Sequence[Write], answers: Sequence[Mapping[str, Any]]) -> list[object]:
    """The new token of each write, from the engine's answers."""
    tokens: list[object] = [None] * len(writes)
    for position, answer in zip(batch.positions, answers, strict=True):
        if isinstance(writes[position], Put):
            tokens[position] = answer.get("eTag")
    return tokens


def failed_write(batch: Batch, writes: Sequence[Write], error: CosmosBatchOperationError) -> Write:
    """The write whose operation failed; the others only failed with it (424)."""
    index: int = error.error_index
    return writes[batch.positions[index]]


def _put(write: Put, item: dict[str, Any], etag: object) -> Operation:
    if write.expect is Expect.ABSENT:
        return "create", (item,), {}
    if write.expect is Expect.ANY:
        return "upsert", (item,), {}
    return "replace", (write.sort, item), _condition(write, etag)


def _condition(write: Put | Remove, etag: object) -> dict[str, Any]:
    # A token that comes with PRESENT or ANY is no condition: whatever its version, says the expectation.
    return {"if_match_etag": etag} if isinstance(write.expect, int) else {}
