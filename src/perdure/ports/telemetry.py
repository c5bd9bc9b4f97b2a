"""What the plane needs of a store of telemetry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perdure.domain.container import Space
from perdure.domain.telemetry import LogsQuery, TelemetryPage, TelemetryRecord


class TelemetryStore(Protocol):
    """Keeps entries of telemetry, each by its id, for ever or until whoever runs it removes them.

    ``timeout_s`` is how long the caller can wait, for each call.
    """

    async def write(self, space: Space, records: Sequence[TelemetryRecord], *, timeout_s: float) -> None:
        """Keep records of one space; those that are kept already stay one.

        So a write that failed, or whose outcome is unknown, may be repeated whole: some of it may be kept. When it
        returns all of it is. Two of the same id in one write are one. Raises ``LimitExceeded`` for more than
        ``WRITE_ENTRIES_MAX`` or ``WRITE_BYTES_MAX``, and the errors of a write for the rest.
        """
        ...

    async def logs(self, space: Space, query: LogsQuery, *, timeout_s: float) -> TelemetryPage:
        """A page of the records of a space, in the order of their ids, or the other way round.

        It reads what it returns and no more than a constant beside it, whatever else is kept. A page may be shorter
        than asked where both a unit and an instance are named; only ``next_after`` says whether there is more. What
        was written with an older id after a page was read is not in the pages that follow it.
        """
        ...
