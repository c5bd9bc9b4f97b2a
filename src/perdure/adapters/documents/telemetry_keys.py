"""Where telemetry is: the names of its partitions and the sort keys in them."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from perdure.adapters.documents.keys import FIRST, LAST, Range, hashed, partition, space_parts
from perdure.domain.container import Space


def telemetry_partition(space: Space, day: int) -> str:
    """The telemetry of one space that was recorded on one day."""
    return partition("tel", *space_parts(space), str(day))


def telemetry_days_partition(space: Space) -> str:
    """On which days there is telemetry of a space, and of what."""
    return partition("teldays", *space_parts(space))


def telemetry_days(holder: str) -> str:
    """What the days of a holder begin with: of all (``e``), of an instance or of a unit."""
    return f"{holder}.d."


def telemetry_day_sort(holder: str, day: int) -> str:
    """A day on which there is something of a holder, in their order."""
    return f"{telemetry_days(holder)}{day:07d}"


def telemetry_day(sort: str) -> int:
    """The day of such a key."""
    return int(sort.rpartition(".")[2])


def telemetry_holder(what: Literal["i", "u"], name: str) -> str:
    """An instance (``i``) or a unit (``u``), as keys name it."""
    return f"{what}.{hashed(name)}"


def telemetry_sort(holder: str, log_type: str, entry_id: UUID) -> str:
    """An entry (of ``e``), or where one is found by its instance or unit; of one type in the order of their ids."""
    return f"{holder}.{log_type}.{entry_id}"


def telemetry_range(holder: str, log_type: str, *, after: UUID | None = None, before: UUID | None = None) -> Range:
    """Entries of one type of a holder, between two ids that are left out."""
    stem = f"{holder}.{log_type}."
    start = stem if after is None else f"{stem}{after}{FIRST}"
    return start, stem + LAST if before is None else f"{stem}{before}"


def telemetry_id(sort: str) -> UUID:
    """The id of an entry in its key, or in what leads to it. Raises ``ValueError``."""
    return UUID(sort.rpartition(".")[2])
