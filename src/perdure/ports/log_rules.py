"""What a request to a store of logs may look like: every store asks here first, before it sends anything.

The checks raise ``Invalid`` (wrong in itself) or ``LimitExceeded`` (too much of it). No body is shown in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from perdure.domain.log import (
    APPEND_BYTES_MAX,
    APPEND_ENTRIES_MAX,
    ENTRY_BYTES_MAX,
    ENTRY_ID_BYTES_MAX,
    READ_BYTES_MAX,
    READ_ENTRIES_MAX,
    SEQUENCE_MAX,
    TTL_S_MAX,
    Entry,
    LogHead,
    LogSettings,
    NewEntry,
    Position,
)
from perdure.domain.store_audit import AUDITS_PAGE_MAX
from perdure.errors import Invalid, LimitExceeded

FINGERPRINT_CHARS_MAX: Final = 128  # a hash in hexadecimal; kept twice with each entry
ATTRIBUTES_BYTES_MAX: Final = 102_400  # an inline JSON value, as everywhere; part of one document with the settings
EPOCH_MAX: Final = 10**15  # milliseconds for thirty thousand years
LOGS_PAGE_MAX: Final = 500  # names of one page, each of which is looked at
SWEEP_LOGS_MAX: Final = 1_000  # more is another call, so that one cannot take for ever


def check_append(entries: Sequence[NewEntry], *, expected: int | None, settings: LogSettings | None) -> None:
    """Raise unless these can be one append."""
    if not entries:
        raise Invalid("an append of no entries; leave it out")
    _check_most("append_entries_max", APPEND_ENTRIES_MAX, len(entries), "entries in one append")
    _check_entries(entries)
    if expected is not None:
        _check_sequence(expected, "the sequence expected")
    if settings is not None:
        check_settings(settings)


def check_settings(settings: LogSettings) -> None:
    """Raise unless a log may have these settings."""
    if settings.ttl_s is not None:
        if settings.ttl_s < 1:
            raise Invalid(f"a lifetime of {settings.ttl_s} seconds; expected at least 1, or None")
        _check_most("ttl_s_max", TTL_S_MAX, settings.ttl_s, "seconds of lifetime")
    if settings.expires_at is not None:
        _check_instant(settings.expires_at, "expires_at")
    _check_most("attributes_bytes_max", ATTRIBUTES_BYTES_MAX, len(settings.attributes), "bytes of attributes")


def check_read(after: Position | None, *, limit: int, bytes_max: int) -> None:
    """Raise unless such a page may be asked for."""
    if after is not None:
        _check_sequence(after.sequence, "a position")
    _check_page("read_entries_max", READ_ENTRIES_MAX, limit, "entries in one page")
    _check_page("read_bytes_max", READ_BYTES_MAX, bytes_max, "bytes in one page")


def check_locate(entry_id: str) -> None:
    """Raise unless an entry may have this id."""
    _check_id(entry_id)


def check_trim(before: int | datetime) -> None:
    """Raise unless a log may be trimmed to there."""
    if isinstance(before, datetime):
        _check_instant(before, "before")
    else:
        _check_sequence(before, "before")


def check_if_version(if_version: int | None) -> None:
    """Raise unless settings can have this version (0: there is no log)."""
    if if_version is not None and if_version < 0:
        raise Invalid(f"if_version is {if_version}; versions count from 1, and 0 is no log")


def check_restore(head: LogHead, entries: Sequence[Entry]) -> None:
    """Raise unless these entries can be a part of a log with this head."""
    _check_most("append_entries_max", APPEND_ENTRIES_MAX, len(entries), "entries in one restore")
    _check_entries([NewEntry(entry_id=e.entry_id, fingerprint=e.fingerprint, body=e.body) for e in entries])
    check_settings(head.settings)
    if not 0 <= head.epoch <= EPOCH_MAX:
        raise Invalid(f"epoch {head.epoch}; expected 0 to {EPOCH_MAX}")
    _check_sequence(head.sequence, "the sequence of the head")
    if not 1 <= head.earliest <= head.sequence + 1 or head.version < 1:
        raise Invalid("a head whose earliest is not between 1 and the number after its sequence, or with no version")
    first = entries[0].sequence if entries else head.earliest
    numbers = [entry.sequence for entry in entries]
    if numbers != list(range(first, first + len(entries))) or first < head.earliest or numbers[-1:] > [head.sequence]:
        raise Invalid("entries to restore are numbered without gaps, from the head's earliest to its sequence")


def check_logs_page(limit: int) -> None:
    """Raise unless so many names may be asked for."""
    _check_page("logs_page_max", LOGS_PAGE_MAX, limit, "logs in one page")


def check_sweep(limit: int) -> None:
    """Raise unless so many logs may be removed by one sweep."""
    _check_page("sweep_logs_max", SWEEP_LOGS_MAX, limit, "logs in one sweep")


def check_audits_page(limit: int) -> None:
    """Raise unless so many records may be asked for."""
    _check_page("audits_page_max", AUDITS_PAGE_MAX, limit, "audit records in one page")


def _check_entries(entries: Sequence[NewEntry]) -> None:
    for entry in entries:
        _check_id(entry.entry_id)
        _check_most("entry_bytes_max", ENTRY_BYTES_MAX, len(entry.body), "bytes in one entry")
        _check_most(
            "fingerprint_chars_max", FINGERPRINT_CHARS_MAX, len(entry.fingerprint), "characters of a fingerprint"
        )
    size = sum(len(entry.body) for entry in entries)
    _check_most("append_bytes_max", APPEND_BYTES_MAX, size, "bytes of entries in one append")


def _check_id(entry_id: str) -> None:
    try:
        size = len(entry_id.encode())
    except UnicodeEncodeError as exc:
        raise Invalid(
            f"an entry's id holds half a character (a lone surrogate) at {exc.start}; it is not text"
        ) from exc
    _check_most("entry_id_bytes_max", ENTRY_ID_BYTES_MAX, size, "bytes of UTF-8 in an entry's id")
    if not entry_id or "\0" in entry_id:
        raise Invalid("an entry's id must not be empty and must not hold U+0000")


def _check_instant(value: datetime, what: str) -> None:
    if value.utcoffset() is None:
        raise Invalid(f"{what} has no time zone; use an aware time, as in datetime.now(UTC)")


def _check_sequence(value: int, what: str) -> None:
    if not 0 <= value <= SEQUENCE_MAX:
        raise Invalid(f"{what} is {value}; expected 0 to {SEQUENCE_MAX}")


def _check_page(limit: str, allowed: int, actual: int, what: str) -> None:
    if actual < 1:
        raise Invalid(f"{actual} {what}; ask for at least 1")
    _check_most(limit, allowed, actual, what)


def _check_most(limit: str, allowed: int, actual: int, what: str) -> None:
    if actual > allowed:
        raise LimitExceeded(
            f"{actual} {what}; at most {allowed} ({limit})", limit=limit, allowed=allowed, actual=actual
        )
