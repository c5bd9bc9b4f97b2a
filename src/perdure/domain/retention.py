"""How long a conversation is kept: what its first record says, holds that keep it longer, and what a purge did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from perdure.domain.container import Container, Space
from perdure.domain.ids import check_text
from perdure.domain.kinds import Kind
from perdure.domain.turn_records import codec
from perdure.domain.turn_records.catalog import find_record_type
from perdure.errors import Invalid, LegacyArtifact, LimitExceeded

FAMILY_MAX: Final = 10_000  # contexts that are looked at before one is removed; more would not be in memory
REASON_CHARS_MAX: Final = 1_000  # of a hold: a sentence and the number of a case
CLASS_CHARS_MAX: Final = 100  # of a retention class that is held: part of a key on every engine
HOLDS_PAGE_MAX: Final = 500  # holds of one page, each of which is a row

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Outcome(StrEnum):
    """What a purge did with a context whose time is over."""

    REMOVED = "removed"
    KEPT = "kept"


class KeptFor(StrEnum):
    """Why a context whose time is over was kept."""

    HOLD = "hold"
    """Somebody holds it, or its retention class."""
    FORK = "fork"
    """A context that is kept goes on from it, or was about to be made."""
    CYCLE = "cycle"
    """Two contexts lead to each other, by appends with ``rebase``: neither can go first."""
    FAMILY = "family"
    """It has more forks than are looked at (``family_max``)."""
    WRITTEN = "written"
    """Somebody appended to it in that moment."""
    BUSY = "busy"
    """Another purge is at it, or was until a minute ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What the first record of a context says about how long it is kept. None: nothing."""

    retention_class: str | None = None
    expires_at: datetime | None = None


NO_RETENTION: Final = Retention()


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedContext:
    """A context whose time is over, and what became of it.

    ``because`` is what it was kept for: the id of the fork that needs it, or the class that is held.
    """

    context_id: str
    outcome: Outcome
    reason: KeptFor | None = None
    because: str | None = None
    retention_class: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A hold on a context, or on a retention class: as long as it stands, nothing of it is purged.

    One that was lifted says who lifted it, when and why; it is replaced when the same is held again.
    """

    context_id: str | None = None
    retention_class: str | None = None
    reason: str
    placed_by: str
    placed_at: datetime
    lifted_by: str | None = None
    lifted_at: datetime | None = None
    lifted_because: str | None = None

    @property
    def stands(self) -> bool:
        """Whether it still holds."""
        return self.lifted_at is None


def read_retention(type_id: str, *, version: int, payload: bytes) -> Retention:
    """What a context's first turn says; nothing if it is no record, or says nothing that can be read."""
    record_type = find_record_type(type_id, version=version)
    if record_type is None:
        return NO_RETENTION
    try:
        values = codec.decode(record_type, payload).values
        ends = values.get("expires_at")
        expires_at = _EPOCH + timedelta(milliseconds=ends) if isinstance(ends, int) else None
    except (Invalid, LegacyArtifact, LimitExceeded, OverflowError):
        return NO_RETENTION
    named = values.get("retention_class")
    return Retention(retention_class=named if isinstance(named, str) else None, expires_at=expires_at)


def check_reason(reason: str) -> str:
    """Why something is held, or no longer."""
    return check_text(reason, what="a reason", limit="reason_chars_max", chars_max=REASON_CHARS_MAX)


def check_class(retention_class: str) -> str:
    """A retention class that can be held."""
    return check_text(
        retention_class,
        what="a retention class",
        limit="class_chars_max",
        chars_max=CLASS_CHARS_MAX,
        blank_edges_allowed=True,
    )


def retention_container(space: Space) -> Container:
    """Where holds are kept, and which contexts are being removed."""
    return Container(kind=Kind.TURNS, space=space, name=("retention",))
