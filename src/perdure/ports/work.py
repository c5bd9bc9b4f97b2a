"""What the plane needs of a store of units of work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from perdure.domain.container import Space
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.work import (
    AttributeVersion,
    HistoryEntry,
    StoredWork,
    WorkCommitted,
    WorkStatus,
    WorkUnit,
    WorkWrite,
)


class WorkStore(Protocol):
    """Units of work of one backend; everything belongs to one space, and nothing of another is found.

    Whoever calls has read, hashed and judged; the store keeps, compares versions, and refuses what would break the
    chain. Consistency, failures and ``timeout_s`` are as in ``LogStore``. Times are the caller's, because hashes cover
    them. ``connection`` is the caller's own transaction on the same database, joined and neither committed nor rolled
    back; a backend that has no such thing raises ``Unsupported``.
    """

    async def load(
        self, space: Space, unit_id: UUID, *, connection: object | None = None, timeout_s: float
    ) -> StoredWork | None:
        """The unit with the newest version of each attribute, in one round trip; None if there is none."""
        ...

    async def commit(
        self,
        space: Space,
        write: WorkWrite,
        *,
        audit: StoreAudit | None = None,
        connection: object | None = None,
        timeout_s: float,
    ) -> WorkCommitted:
        """Keep unit, entries and attribute versions together, or nothing.

        Heartbeats that came since the unit was read stay, unless the save ends them (``heartbeat_at`` None), and so do
        counts of children. What a unit was made with (instance, parent, ``created_at``) stays too: another one is
        ``Forbidden`` (``immutable``). Values of attributes are JSON texts, kept to the digit. A request belongs to its
        unit, and is forgotten with it; repeated, it returns the unit as it is by then.

        Raises ``StaleVersion`` (with ``found``, 0: none, in the detail) if the version before ``write.unit.version`` is
        not the stored one, or beats were expected and others are there, or an entry or attribute version with a number
        of this write exists; ``KeyReused`` if ``request_id`` was used with another fingerprint; ``NotFound`` for a
        parent to adopt it that is not there; ``OutcomeUnknown`` after which the same write may be committed again if it
        has a ``request_id``.
        """
        ...

    async def heartbeat(self, space: Space, unit_id: UUID, *, owner: str, now: datetime, timeout_s: float) -> WorkUnit:
        """Say that the lease's owner is alive: ``heartbeat_at`` (never back) and ``beats`` move, nothing else.

        Raises ``NotFound``, and ``StaleVersion`` if the unit is not ACTIVE or its lease is another's; a commit that
        expected the beats before it then fails, and the other way round: never both.
        """
        ...

    async def history(
        self, space: Space, unit_id: UUID, *, after: int = 0, limit: int, reverse: bool = False, timeout_s: float
    ) -> Sequence[HistoryEntry]:
        """Entries of one unit above ``after`` in order, or with ``reverse`` the newest first (below ``after``, 0: all).

        They are there when their unit was deleted, too. Entries are given as they are stored, gaps included: judging
        them is the caller's.
        """
        ...

    async def find_history(
        self,
        space: Space,
        *,
        instance_id: str | None = None,
        actor_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> Page[HistoryEntry]:
        """Entries of all units of a space by time, then id, oldest first: of an instance, of an actor, of both, or all.

        ``since`` is included, ``until`` is not. Each combination is read from an index, a page at a time.
        """
        ...

    async def attribute_versions(
        self, space: Space, unit_id: UUID, *, after: tuple[str, int] | None = None, limit: int, timeout_s: float
    ) -> Sequence[AttributeVersion]:
        """All versions of all attributes in the order of (key, version), strictly after ``after``.

        Keys are in the order of their code points. None are there once the unit was deleted.
        """
        ...

    async def units(
        self,
        space: Space,
        *,
        status: WorkStatus | None = None,
        instance_id: str | None = None,
        parent_id: UUID | None = None,
        cursor: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> Page[WorkUnit]:
        """Units of a space in the order in which they were made (``created_at``, then id), by what is given.

        Every unit that a commit was acknowledged for before is listed, under the status it has now.
        """
        ...

    async def stale(self, space: Space, *, before: datetime, limit: int, timeout_s: float) -> Sequence[WorkUnit]:
        """ACTIVE units whose ``heartbeat_at`` is before that moment, oldest first. Units that never beat are not.

        A sweep asks this, so what a crash left half done in this space (the counts of a parent, what belonged to a
        deleted unit) is finished first.
        """
        ...

    async def delete(
        self, space: Space, unit_id: UUID, *, last: WorkWrite, audit: StoreAudit | None = None, timeout_s: float
    ) -> None:
        """Remove the unit and its attributes and keep its history, ended by the entry in ``last``.

        Compares versions as ``commit``; of ``last``, version and entries count. A unit made again under the same id
        begins at version 1, without attributes, and goes on with the numbers of its history.
        """
        ...
