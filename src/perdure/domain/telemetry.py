"""What telemetry keeps: entries as they are recorded, as they are kept, and as they are read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from perdure.domain.container import Container, Space
from perdure.domain.kinds import Kind
from perdure.errors import Invalid, LimitExceeded

ID_CHARS_MAX: Final = 255  # of a unit, instance, actor, role or interaction: ids of the host, as wide as anybody's
ENTRY_BYTES_MAX: Final = 32_768  # details and error of one entry as JSON; more is an object, and drags every page along
WRITE_ENTRIES_MAX: Final = 1_000  # of one write: a batch is held in memory twice while it is written
WRITE_BYTES_MAX: Final = 8 * 1_048_576  # of one write: far below what any engine's client takes at once
LOGS_PAGE_MAX: Final = 1_000  # entries of one page; a page is held in memory on both sides
LOGS_PAGE_DEFAULT: Final = 100  # a screenful, and one round trip

UNSERIALISABLE: Final = "__unserialisable__"  # stands for a value that is no JSON, with the name of its type
OVERSIZED: Final = "__oversized__"  # stands for a value that was too large, with its bytes
WITHHELD: Final = "__withheld__"  # stands for details whose redactor failed, with the name of its error


class LogType(StrEnum):
    """What an entry tells of."""

    INTERACTION = "INTERACTION"
    TELEMETRY = "TELEMETRY"
    ERROR = "ERROR"
    GUARDIAN_DECISION = "GUARDIAN_DECISION"
    STATE_TRANSITION = "STATE_TRANSITION"


# What is flushed first, and may take the place of what is not among them.
URGENT: Final = frozenset({LogType.ERROR, LogType.GUARDIAN_DECISION})


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryEntry:
    """Something that was seen: when, in which instance, about which unit, by whom.

    ``entry_id`` is what makes writing it again harmless, and orders entries. The other ids are the host's, at most
    ``ID_CHARS_MAX`` characters. Raises ``Invalid`` and ``LimitExceeded`` for anything else.
    """

    entry_id: UUID
    instance_id: str
    log_type: LogType = LogType.TELEMETRY
    unit_id: str | None = None
    actor_id: str | None = None
    role_id: str | None = None
    interaction_id: str | None = None
    event_details: Any = field(default=None, repr=False)
    error_metadata: Any = field(default=None, repr=False)
    timestamp: datetime

    def __post_init__(self) -> None:
        check_host_id(self.instance_id, what="instance_id")
        for value, what in (
            (self.unit_id, "unit_id"),
            (self.actor_id, "actor_id"),
            (self.role_id, "role_id"),
            (self.interaction_id, "interaction_id"),
        ):
            if value is not None:
                check_host_id(value, what=what)
        if type(self.log_type) is not LogType:
            object.__setattr__(self, "log_type", check_log_type(self.log_type))
        if self.timestamp.tzinfo is None:
            raise Invalid("timestamp has no time zone; use an aware time, as in datetime.now(UTC)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryRecord:
    """An entry as it is kept: redacted, within its limits, details and error as JSON texts."""

    entry_id: UUID
    instance_id: str
    log_type: LogType
    unit_id: str | None
    actor_id: str | None
    role_id: str | None
    interaction_id: str | None
    event_details: bytes | None = field(repr=False)
    error_metadata: bytes | None = field(repr=False)
    timestamp: datetime

    @property
    def size_bytes(self) -> int:
        """The bytes of its JSON."""
        return len(self.event_details or b"") + len(self.error_metadata or b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryPage:
    """Records in the order of their ids. ``next_after`` is where the next page goes on, None on the last."""

    records: tuple[TelemetryRecord, ...]
    next_after: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsQuery:
    """Which entries of a space are wanted: of a unit, of an instance, of a type, or all.

    From the first after ``after`` on; the newest first with ``reverse``. At most ``limit``.
    """

    unit_id: str | None = None
    instance_id: str | None = None
    log_type: LogType | None = None
    after: UUID | None = None
    limit: int = LOGS_PAGE_DEFAULT
    reverse: bool = False


def check_host_id(value: object, *, what: str) -> str:
    """An id of the host: text of 1 to ``ID_CHARS_MAX`` characters. Raises ``Invalid``, ``LimitExceeded``."""
    if not isinstance(value, str) or not value:
        raise Invalid(f"{what} is {type(value).__name__ if value else 'empty'}; expected the text of an id")
    if len(value) > ID_CHARS_MAX:
        raise LimitExceeded(
            f"{what} has {len(value)} characters, at most {ID_CHARS_MAX} are kept (id_chars_max)",
            limit="id_chars_max",
            allowed=ID_CHARS_MAX,
            actual=len(value),
        )
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise Invalid(f"{what} holds half a surrogate pair, which is no text")
    if "\0" in value:
        raise Invalid(f"{what} holds U+0000, which no database keeps")
    return value


def check_log_type(value: str) -> LogType:
    """The type of that name. Raises ``Invalid``."""
    try:
        return LogType(value)
    except ValueError as exc:
        raise Invalid(f"{ascii(value)[:60]} is no type of entry; one of: {', '.join(LogType)}") from exc


def check_logs_query(query: LogsQuery) -> LogsQuery:
    """A query that can be asked. Raises ``Invalid``, ``LimitExceeded``."""
    for value, what in ((query.unit_id, "unit"), (query.instance_id, "instance")):
        if value is not None:
            check_host_id(value, what=what)
    if query.limit < 1:
        raise Invalid(f"limit is {query.limit}; expected 1 to {LOGS_PAGE_MAX}")
    if query.limit > LOGS_PAGE_MAX:
        raise LimitExceeded(
            f"a page of {query.limit} entries, at most {LOGS_PAGE_MAX} (logs_page_max)",
            limit="logs_page_max",
            allowed=LOGS_PAGE_MAX,
            actual=query.limit,
        )
    return query


def check_write(records: Sequence[TelemetryRecord]) -> None:
    """Raise ``LimitExceeded`` for more than one write takes."""
    size_bytes = sum(record.size_bytes for record in records)
    for limit, allowed, actual in (
        ("write_entries_max", WRITE_ENTRIES_MAX, len(records)),
        ("write_bytes_max", WRITE_BYTES_MAX, size_bytes),
        ("entry_bytes_max", ENTRY_BYTES_MAX, max((record.size_bytes for record in records), default=0)),
    ):
        if actual > allowed:
            raise LimitExceeded(
                f"a write of telemetry is {actual}, at most {allowed} ({limit}); write less at once",
                limit=limit,
                allowed=allowed,
                actual=actual,
            )


def telemetry_container(space: Space) -> Container:
    """Where the telemetry of a space is, for audit and routes."""
    return Container(kind=Kind.TELEMETRY, space=space, name=("entries",))
