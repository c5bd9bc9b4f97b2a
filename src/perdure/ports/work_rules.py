"""What a request to a store of units of work may look like: every store asks here first, before it sends anything.

The checks raise ``Invalid`` (wrong in itself) or ``LimitExceeded`` (too much of it). No value is shown in a message.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from perdure.domain.work import (
    ATTRIBUTE_CHANGES_MAX,
    ATTRIBUTE_KEY_BYTES_MAX,
    ATTRIBUTE_KEY_CHARS_MAX,
    ENTRIES_MAX,
    HISTORY_PAGE_MAX,
    METADATA_BYTES_MAX,
    REASONING_CHARS_MAX,
    UNITS_PAGE_MAX,
    HistoryEntry,
    WorkWrite,
)
from perdure.errors import Invalid, LimitExceeded

_MARK: Final = re.compile(r"([0-9]{17})([0-9a-f]{32})")
_EPOCH: Final = datetime(1, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def check_work_write(write: WorkWrite) -> None:
    """Raise unless this can be one save: numbers that follow, times with zones, sizes within the limits."""
    _check_most("entries_max", ENTRIES_MAX, len(write.entries), "history entries in one save")
    _check_most("attribute_changes_max", ATTRIBUTE_CHANGES_MAX, len(write.attributes), "attributes in one save")
    if write.unit.version < 1:
        raise Invalid("a unit of work is saved with version 1 first, and one more each time")
    if (write.request_id is None) != (write.fingerprint is None):
        raise Invalid("request_id and fingerprint come together, or not at all")
    keys = [version.key for version in write.attributes]
    if len(set(keys)) < len(keys):
        raise Invalid("one attribute twice in one save; make one change of the two")
    for key in keys:
        _check_most("attribute_key_chars_max", ATTRIBUTE_KEY_CHARS_MAX, len(key), "characters in an attribute's key")
        _check_most("attribute_key_bytes_max", ATTRIBUTE_KEY_BYTES_MAX, _bytes_of(key), "bytes in an attribute's key")
    for entry in write.entries:
        _check_entry(write, entry)
    last = write.unit.history_sequence
    expected = tuple(range(last - len(write.entries) + 1, last + 1))
    if tuple(entry.sequence for entry in write.entries) != expected:
        raise Invalid("the entries of a save are numbered densely up to the unit's history_sequence")


def check_units_page(limit: int) -> None:
    """Raise unless a list of units may have pages of this size."""
    _check_page(limit, name="units_page_max", most=UNITS_PAGE_MAX)


def check_history_page(limit: int) -> None:
    """Raise unless a page of history, or of versions of attributes, may have this size."""
    _check_page(limit, name="history_page_max", most=HISTORY_PAGE_MAX)


def place_mark(moment: datetime, row_id: UUID) -> str:
    """A place in a list that is ordered by time and id; marks are ordered as the places are."""
    return f"{(moment - _EPOCH) // _MICROSECOND:017d}{row_id.hex}"


def read_place_mark(cursor: str | None) -> tuple[datetime, UUID] | None:
    """The place that ``place_mark`` named. Raises ``Invalid`` for what is none."""
    if cursor is None:
        return None
    match = _MARK.fullmatch(cursor)
    if match is None:
        raise Invalid("the cursor is not one that this list gave; begin again without a cursor")
    try:
        return _EPOCH + int(match[1]) * _MICROSECOND, UUID(hex=match[2])
    except OverflowError as exc:
        raise Invalid("the cursor is not one that this list gave; begin again without a cursor") from exc


def _bytes_of(key: str) -> int:
    try:
        return len(key.encode())
    except UnicodeEncodeError:
        raise Invalid("the key of an attribute is not text that can be written as UTF-8") from None


def _check_entry(write: WorkWrite, entry: HistoryEntry) -> None:
    if entry.unit_id != write.unit.unit_id or entry.instance_id != write.unit.instance_id:
        raise Invalid("a history entry of another unit of work or instance")
    if entry.transition_timestamp.utcoffset() is None:
        raise Invalid("transition_timestamp has no time zone; use an aware time, as in datetime.now(UTC)")
    _check_most("reasoning_chars_max", REASONING_CHARS_MAX, len(entry.reasoning or ""), "characters of reasoning")
    size = len(msgspec.json.encode(entry.transition_metadata))
    _check_most("metadata_bytes_max", METADATA_BYTES_MAX, size, "bytes of transition metadata, as JSON")


def _check_page(limit: int, *, name: str, most: int) -> None:
    if limit < 1:
        raise Invalid(f"a page of {limit}; ask for at least 1")
    _check_most(name, most, limit, "items in one page")


def _check_most(limit: str, allowed: int, actual: int, what: str) -> None:
    if actual > allowed:
        raise LimitExceeded(
            f"{actual} {what}, at most {allowed} ({limit})", limit=limit, allowed=allowed, actual=actual
        )
