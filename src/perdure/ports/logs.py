"""What the plane needs of a store of logs: streams and sessions are kept in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from perdure.domain.container import Container
from perdure.domain.kinds import Kind
from perdure.domain.log import Appended, Entry, LogHead, LogPage, LogSettings, NewEntry, Position
from perdure.domain.store_audit import StoreAudit
from perdure.errors import Refused


class PositionLost(Refused):
    """A position is not one from which reading can go on.

    ``reason`` is ``unknown`` (another epoch, or a number that was never given) or ``expired`` (what followed was
    trimmed); then ``earliest`` is the first number that can be read.
    """

    code = "cursor_invalid"

    def __init__(self, message: str, *, reason: str, epoch: int | None = None, earliest: int | None = None) -> None:
        super().__init__(message, reason=reason)
        self.reason = reason
        self.epoch = epoch
        self.earliest = earliest


class LogStore(Protocol):
    """Logs of one backend.

    Every method is strongly consistent with what was acknowledged before it began (on a backend of ``session``
    consistency: acknowledged to this process). A failure is one of ``Unavailable``, never an empty answer.
    ``timeout_s`` is the caller's patience: within it a refused or failed attempt is repeated, with growing pauses of
    random length.

    A log that is past its lifetime is absent everywhere. Time is the store's own. A container of another (mode, env)
    than the store's is ``Invalid``.
    """

    async def append(
        self,
        log: Container,
        entries: Sequence[NewEntry],
        *,
        expected: int | None = None,
        settings: LogSettings | None = None,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Sequence[Appended]:
        """Append 1 to ``APPEND_ENTRIES_MAX`` entries, all or none; dense numbers from 1, in the order given.

        An entry whose id is there already keeps its number and is not written again; with another ``fingerprint`` it is
        ``KeyReused``, and nothing is written. ``expected`` is the sequence that the head must have (0: no entry yet),
        else ``StaleVersion``, unless every entry is a duplicate. ``settings`` are those of a log that this call makes;
        one that exists keeps its own. ``audit`` is kept in the same commit.

        Raises ``LimitExceeded`` before anything is sent, ``KeyReused``, ``StaleVersion``, and ``OutcomeUnknown`` after
        which appending the same entries again is safe.
        """
        ...

    async def head(self, log: Container, *, timeout_s: float) -> LogHead | None:
        """The log as a whole, or None if there is none."""
        ...

    async def read(
        self,
        log: Container,
        *,
        after: Position | None = None,
        limit: int,
        reverse: bool = False,
        bytes_max: int,
        timeout_s: float,
    ) -> LogPage | None:
        """Up to ``limit`` entries strictly after a position, or from the earliest; None if there is no log.

        No number is left out: an entry that is missing where it should be makes this ``PositionLost`` with reason
        ``expired`` (it was trimmed). A position of another epoch, or beyond the head, is ``PositionLost``, ``unknown``.
        The position of the head itself gives an empty page. With ``reverse`` the newest come first and ``after`` means
        before. A page ends early at ``bytes_max`` of bodies, but never before its first entry.
        """
        ...

    async def locate(self, log: Container, entry_id: str, *, timeout_s: float) -> Position | None:
        """Where the entry with that id is, or None."""
        ...

    async def configure(
        self,
        log: Container,
        settings: LogSettings,
        *,
        if_version: int | None = None,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> LogHead:
        """Give a log other settings, making it if there is none. Raises ``StaleVersion`` (0: there must be none)."""
        ...

    async def trim(
        self, log: Container, *, before: int | datetime, audit: StoreAudit | None = None, timeout_s: float
    ) -> int:
        """Remove entries numbered below ``before``, or recorded before that moment, oldest first; returns how many.

        Numbers go on as if nothing had happened, even when all are removed. Interrupted, it has removed some of them.
        """
        ...

    async def clear(self, log: Container, *, audit: StoreAudit | None = None, timeout_s: float) -> bool:
        """Begin a new epoch without entries; False if there is no log. Settings stay.

        An append that began before ends in the old epoch and is gone, or in the new one and stays; it is never
        acknowledged and lost.
        """
        ...

    async def erase(self, log: Container, *, timeout_s: float) -> bool:
        """Remove a log and every trace of its name from this store; False if there is none."""
        ...

    async def containers(
        self,
        kind: Kind,
        tenant: str,
        *,
        user: str | None = None,
        after: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> tuple[Sequence[Container], str | None]:
        """Logs of a tenant that are there, in an order of the store's own, with the mark to go on after, or None.

        With ``user``, only that user's. Every log with an acknowledged entry is listed by somebody who begins after
        that; none is listed that is not there.
        """
        ...

    async def restore(self, log: Container, head: LogHead, entries: Sequence[Entry], *, timeout_s: float) -> None:
        """Write entries of another store as they are: numbers, epoch, times, settings. For copying a log page by page.

        Pages come in order and may come again; the log has the head's epoch from the first page on. At most
        ``APPEND_ENTRIES_MAX`` entries. A head whose ``earliest`` is above 1 says that earlier entries were trimmed.
        """
        ...

    async def sweep(self, *, limit: int, timeout_s: float) -> int:
        """Remove what is past its lifetime, of any tenant, up to ``limit`` logs; returns how many."""
        ...

    async def audits(
        self, log: Container, *, after: UUID | None = None, limit: int, timeout_s: float
    ) -> Sequence[StoreAudit]:
        """The records that were kept with this log's commits, in the order of their ids: oldest first.

        Those above ``after``; fewer than ``limit`` (1 to ``AUDITS_PAGE_MAX``) means that there are no more. They
        outlive clearing and expiry, and go with ``erase``.
        """
        ...
