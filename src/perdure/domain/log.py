"""A log: numbered entries of one container, dense from 1, and what is known about it. Streams and sessions are logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from perdure.domain.ids import check_text
from perdure.domain.row import Instant
from perdure.errors import LimitExceeded

APPEND_ENTRIES_MAX: Final = 48  # two documents an entry, and room for the rest, in one commit of the narrowest engine
APPEND_BYTES_MAX: Final = 1_048_576  # bodies of one append: fits the narrowest engine's commit with its overhead
ENTRY_BYTES_MAX: Final = 262_144  # one body: below every engine's item limit, whatever it adds
ENTRY_ID_BYTES_MAX: Final = 512  # an entry's id is part of a key
READ_ENTRIES_MAX: Final = 500  # one page
READ_BYTES_MAX: Final = 4 * 1_048_576  # bodies of one page, which is held in memory; the first entry always fits
SEQUENCE_MAX: Final = 2**63 - 1  # what a database's large integers hold
TTL_S_MAX: Final = 10 * 366 * 86_400  # a sliding lifetime above ten years means none


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """An entry before it is numbered. ``fingerprint`` is a hash of its content: one id means one content."""

    entry_id: str
    fingerprint: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A kept entry. ``recorded_at`` is when the store took it; order is ``sequence`` alone."""

    sequence: int
    entry_id: str
    fingerprint: str
    recorded_at: datetime
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Where an entry is. ``duplicate`` says that it was there before this call."""

    entry_id: str
    sequence: int
    epoch: int
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a log: after the entry of that number (0: before the first), in one epoch."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the keeper of a log decides about it.

    ``ttl_s`` is a sliding lifetime in seconds, counted from the last append (or from the making); ``expires_at`` an
    absolute end. ``attributes`` is a JSON object of the caller's own. A log past either end is not there: for reads,
    for lists and for appends, which begin a new one.
    """

    ttl_s: int | None = None
    expires_at: Instant | None = None
    attributes: bytes = b"{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHead:
    """A log as a whole.

    ``epoch`` names this life of the log: clearing it, or its expiry, begins another, and what refers to an older epoch
    refers to nothing. ``sequence`` is the last number given (0: none), ``earliest`` the first that can still be read
    (``sequence + 1`` if none). ``version`` counts changes of the settings.
    """

    epoch: int
    sequence: int
    earliest: int
    version: int
    created_at: datetime
    updated_at: datetime
    settings: LogSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Entries in order (newest first if asked so), and the head as it was when they were read."""

    head: LogHead
    entries: Sequence[Entry]
    more: bool


def is_expired(settings: LogSettings, *, touched_at: datetime, now: datetime) -> bool:
    """Whether a log last touched then is gone by now. A lifetime ends when its last second is over."""
    if settings.expires_at is not None and now >= settings.expires_at:
        return True
    return settings.ttl_s is not None and now >= touched_at + timedelta(seconds=settings.ttl_s)


def check_entry_id(value: str, *, what: str) -> str:
    """The id of an entry, which ``what`` names: one line of at most ``ENTRY_ID_BYTES_MAX`` bytes of UTF-8."""
    limit = "entry_id_bytes_max"
    check_text(value, what=what, limit=limit, chars_max=ENTRY_ID_BYTES_MAX, blank_edges_allowed=True)
    size = len(value.encode())
    if size > ENTRY_ID_BYTES_MAX:
        raise LimitExceeded(
            f"{what} is too long: {size} bytes of UTF-8, at most {ENTRY_ID_BYTES_MAX} ({limit})",
            limit=limit,
            allowed=ENTRY_ID_BYTES_MAX,
            actual=size,
        )
    return value


def next_epoch(previous: int | None, *, now: datetime) -> int:
    """The epoch that follows: milliseconds since 1970, and more than the one before, so that none is used twice."""
    milliseconds = int(now.timestamp() * 1000)
    return milliseconds if previous is None else max(previous + 1, milliseconds)
