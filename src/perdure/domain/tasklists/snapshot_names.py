"""Names of files below a root: which are snapshots, which are ours to sweep, and what the next one is called."""

from __future__ import annotations

import re
from typing import Final

from perdure.domain.tasklists.failures import NamesExhausted

NAME_DIGITS: Final = 20
TIMESTAMP_MS_MAX: Final = 10**NAME_DIGITS - 1  # one more would have 21 digits, and sort below all others
CLOCK_REGRESSION_MS: Final = 24 * 3_600_000  # a newest file this far ahead is no drift between machines any more

MANIFEST_NAME: Final = "store.manifest.json"
LOCK_NAME: Final = ".lock"
QUARANTINE_NAME: Final = "quarantine"

# [0-9] and fullmatch: \d takes digits of other scripts, and $ takes a line feed after the end.
_CANONICAL: Final = re.compile(r"([0-9]{20})\.snapshot")
_TEMPORARY: Final = re.compile(r"\.[0-9]{20}\.[0-9]+\.[0-9a-f]+\.tmp")
_MANIFEST_TEMPORARY: Final = re.compile(r"\.store\.manifest\.[0-9]+\.[0-9a-f]+\.tmp")
_QUARANTINED: Final = re.compile(r"corrupt-([0-9]{20})\.snapshot(?:\.([0-9]{1,9}))?")


def snapshot_name(timestamp_ms: int) -> str:
    """The canonical name of the snapshot of that moment; raises ``NamesExhausted`` where 20 digits do not hold it."""
    if not 0 <= timestamp_ms <= TIMESTAMP_MS_MAX:
        raise NamesExhausted(f"no name of {NAME_DIGITS} digits holds {timestamp_ms}; expected 0 to {TIMESTAMP_MS_MAX}")
    return f"{timestamp_ms:0{NAME_DIGITS}d}.snapshot"


def snapshot_timestamp(name: str) -> int | None:
    """The moment that a canonical name tells; None for every other name, which is not a snapshot and not ours."""
    match = _CANONICAL.fullmatch(name)
    return int(match[1]) if match else None


def next_timestamp(now_ms: int, *, newest_ms: int | None) -> int:
    """The moment that the next snapshot is named after: now, but always after the newest there is.

    So one millisecond gives two checkpoints two names, and a clock that was set back does not make the newest state the
    oldest file. Raises ``NamesExhausted`` after the last name there can be.
    """
    following = 0 if newest_ms is None else newest_ms + 1
    if following > TIMESTAMP_MS_MAX:
        raise NamesExhausted(
            f"{snapshot_name(TIMESTAMP_MS_MAX)} is the last name there can be, so nothing can be newer; move that file "
            "out of the directory",
            newest_ms=newest_ms,
        )
    return min(max(now_ms, following, 0), TIMESTAMP_MS_MAX)


def is_clock_regressed(now_ms: int, *, newest_ms: int) -> bool:
    """Whether the newest snapshot is from so far in the future that a clock must have been wrong."""
    return newest_ms >= now_ms + CLOCK_REGRESSION_MS


def temporary_name(timestamp_ms: int, *, pid: int, token: str) -> str:
    """A name for a snapshot that is being written, which nobody else uses."""
    return f".{timestamp_ms:0{NAME_DIGITS}d}.{pid}.{token}.tmp"


def manifest_temporary_name(*, pid: int, token: str) -> str:
    """A name for a manifest that is being written, which nobody else uses."""
    return f".store.manifest.{pid}.{token}.tmp"


def is_temporary(name: str) -> bool:
    """Whether this is what a writer of snapshots leaves when it is killed."""
    return _TEMPORARY.fullmatch(name) is not None


def is_manifest_temporary(name: str) -> bool:
    """Whether this is what a writer of the manifest leaves when it is killed."""
    return _MANIFEST_TEMPORARY.fullmatch(name) is not None


def quarantined_name(name: str, *, attempt: int) -> str:
    """What a corrupt file is called in quarantine; a later ``attempt`` has a suffix, so that no evidence is lost."""
    return f"corrupt-{name}" if attempt == 0 else f"corrupt-{name}.{attempt}"


def quarantine_order(name: str) -> tuple[int, int] | None:
    """What orders quarantined files, oldest first; None for a name that is not ours."""
    match = _QUARANTINED.fullmatch(name)
    return (int(match[1]), int(match[2] or 0)) if match else None
