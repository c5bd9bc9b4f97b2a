"""What happens to snapshots, told by stable names to whoever reads the log. Never a payload."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, TypeAlias

_logger: Final = logging.getLogger("perdure.tasklists")


class EventName(StrEnum):
    """The names; safe to alert on."""

    INIT_STARTED = "persistence.init.started"
    INIT_LOADED = "persistence.init.loaded"
    INIT_EMPTY_STORE = "persistence.init.empty_store"
    INIT_FAILURE = "persistence.init.failure"
    CHECKPOINT_ATTEMPT = "persistence.checkpoint.attempt"
    CHECKPOINT_SUCCESS = "persistence.checkpoint.success"
    CHECKPOINT_FAILURE = "persistence.checkpoint.failure"
    BUDGET_THRESHOLD = "persistence.budget.threshold"
    LEGACY_DETECTED = "persistence.legacy_artifact.detected"
    DEGRADED_TRANSITION = "persistence.health.degraded_transition"
    SKIPPED_CORRUPT = "persistence.snapshot.skipped_corrupt"
    SKIPPED_UNREADABLE = "persistence.snapshot.skipped_unreadable"
    SKIPPED_UNSUPPORTED = "persistence.snapshot.skipped_unsupported"
    QUARANTINE_FAILED = "persistence.snapshot.quarantine_failed"
    TRIM_FAILED = "persistence.snapshot.trim_failed"
    MIGRATION_DECISION = "persistence.migration.decision"
    CLOCK_REGRESSED = "persistence.clock.regressed"
    MANIFEST_UNUSABLE = "persistence.manifest.unusable"
    FREQUENCY_UPDATED = "persistence.checkpoint_frequency.updated"


Emit: TypeAlias = Callable[[EventName, Mapping[str, object]], None]

_WARNINGS: Final = frozenset(
    {
        EventName.INIT_FAILURE,
        EventName.CHECKPOINT_FAILURE,
        EventName.BUDGET_THRESHOLD,
        EventName.LEGACY_DETECTED,
        EventName.DEGRADED_TRANSITION,
        EventName.SKIPPED_CORRUPT,
        EventName.SKIPPED_UNREADABLE,
        EventName.SKIPPED_UNSUPPORTED,
        EventName.QUARANTINE_FAILED,
        EventName.TRIM_FAILED,
        EventName.CLOCK_REGRESSED,
        EventName.MANIFEST_UNUSABLE,
    }
)


def log_event(name: EventName, fields: Mapping[str, object]) -> None:
    """Log an event to ``perdure.tasklists``; the record has its name as ``event`` and the rest as ``fields``."""
    level = logging.WARNING if name in _WARNINGS else logging.INFO
    text = json.dumps(dict(fields), default=str, sort_keys=True)
    _logger.log(level, "%s %s", name.value, text, extra={"event": name.value, "fields": dict(fields)})
