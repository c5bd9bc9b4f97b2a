"""What task lists need of a library of conflict-free replicated data types: a set of facts that merges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from perdure.domain.tasklists.tasks import FactChange

UPDATE_BYTES_MAX: Final = 64 * 1_048_576  # of a delta or a whole list: many times the largest list that may be made


class FactWatcher(Protocol):
    """Who is told of every effective change of a replica's facts, in the call that makes it."""

    def put(self, key: str, value: object) -> None:
        """A fact is there that was not; ``value`` may be anything that a peer sent."""
        ...

    def remove(self, key: str) -> None:
        """A fact is gone."""
        ...

    def changed(self) -> None:
        """All of one change was told."""
        ...


class FactReplica(Protocol):
    """A replica of one list's facts. Not safe between threads."""

    @property
    def writer_id(self) -> int:
        """Under which this replica writes: fresh at every start, below 2^53."""
        ...

    def apply(self, change: FactChange) -> None:
        """Do a local change, whole."""
        ...

    def merge(self, update: bytes) -> bool:
        """Take in what a peer sent; whether anything came of it that was not known.

        Doubled, reordered and delayed updates do no harm. Raises ``Corrupt`` for what is no update, having taken in
        nothing of it, and ``LimitExceeded`` beyond ``UPDATE_BYTES_MAX``. An update with this writer's own id and
        something in it that this replica never wrote shows that another one has its identity: the replica goes on
        under a fresh id, and ``identity_conflicts`` counts it.
        """
        ...

    @property
    def identity_conflicts(self) -> int:
        """How often another writer with this replica's id was met."""
        ...

    def vector(self) -> bytes:
        """What this replica has, in a form from which a peer knows what it lacks."""
        ...

    def has_vector(self, vector: bytes) -> bool:
        """Whether a peer with that vector has the same facts put, in whatever order its bytes stand.

        Removals are not told by vectors. Raises ``Invalid`` for what is no vector.
        """
        ...

    def delta_since(self, vector: bytes) -> bytes:
        """What a peer with that vector lacks. Raises ``Invalid`` for what is no vector."""
        ...

    def encode(self) -> bytes:
        """All of it; a snapshot's payload."""
        ...

    def facts(self) -> Iterable[tuple[str, object]]:
        """Every fact that is there."""
        ...
