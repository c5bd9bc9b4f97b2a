"""Where the limits stand that the page of each routed kind lists; others in the same modules are left out."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from perdure.core import (
    backends,
    blackboards,
    copying,
    fanout,
    memory,
    object_collecting,
    route_upkeep,
    routing,
    stores,
    streams,
    telemetry_buffer,
    telemetry_settings,
    turn_retention,
    turn_store,
    turn_transfer,
    work_finding,
    work_guards,
    work_sweeping,
)
from perdure.core import objects as objects_facade
from perdure.core import telemetry as telemetry_facade
from perdure.domain import (
    container,
    limits,
    log,
    retention,
    route,
    stream,
    turn,
    typed_values,
    versioned,
    work,
    work_hash,
)
from perdure.domain import memory as messages
from perdure.domain import object as kept_object
from perdure.domain import telemetry as entries
from perdure.domain.tasklists import entity_ids, positions, resync, settings, snapshot_format, tasks
from perdure.ports import replicas

Limits = Sequence[tuple[ModuleType, str]]
_LOG = "APPEND_ENTRIES_MAX APPEND_BYTES_MAX ENTRY_BYTES_MAX ENTRY_ID_BYTES_MAX READ_ENTRIES_MAX READ_BYTES_MAX"
_ROWS = "KEY_BYTES_MAX VALUE_BYTES_MAX ROW_WRITES_MAX ROW_WRITES_BYTES_MAX ROWS_GET_MAX ROWS_PAGE_MAX"
STREAM_LIMITS: Limits = (
    (container, "STREAM_CHARS_MAX PART_CHARS_MAX"),
    (stream, "EVENT_TYPE_CHARS_MAX SAMPLE_EVERY_DEFAULT"),
    (log, f"{_LOG} SEQUENCE_MAX"),
    (streams, "SAMPLERS_MAX"),
    (fanout, "PASSING_EVENTS_MAX"),
)
TABLE_LIMITS: Limits = (
    (versioned, f"TABLE_CHARS_MAX {_ROWS} ROWS_PAGE_BYTES_MAX"),
    (log, "TTL_S_MAX"),
    (limits, "JSON_DEPTH_MAX EXACT_DIGITS_MAX"),
)
MEMORY_LIMITS: Limits = (
    (container, "PART_CHARS_MAX"),
    (messages, "ROLE_CHARS_MAX PATCH_DEPTH_MAX"),
    (log, f"{_LOG} TTL_S_MAX"),
    (memory, "ATTRIBUTES_BYTES_MAX"),
    (versioned, _ROWS),
    (blackboards, "PATCH_ATTEMPTS_MAX"),
)
ROUTE_LIMITS: Limits = (
    (route, "RATIONALE_CHARS_MAX COST_NOTES_CHARS_MAX CONFIG_ENTRIES_MAX CONFIG_VALUE_CHARS_MAX"),
    (routing, "REFRESH_S STALENESS_S_MAX"),
    (stores, "WRITE_S_MAX ADMISSION_S ADMISSIONS_MAX SETTLE_POLL_S"),
    (route_upkeep, "UNRELAYED_MAX"),
    (copying, "SETTLE_S_MAX ROLLBACK_S_DEFAULT ROLLBACK_S_MAX"),
    (backends, "BACKENDS_OPEN_MAX PROBE_SLOW_S"),
)

TURN_LIMITS: Limits = (
    (
        turn,
        "TURNS_MAX CONTEXT_NUMBER_MAX TURN_PAYLOAD_BYTES_MAX INLINE_BYTES_MAX TYPE_ID_CHARS_MAX TYPE_VERSION_MAX",
    ),
    (turn, "KEY_BYTES_MAX LABELS_MAX LABEL_CHARS_MAX TURNS_PAGE_MAX CONTEXTS_PAGE_MAX BUNDLE_BYTES_MAX"),
    (turn_store, "PAGE_PAYLOAD_BYTES_MAX"),
    (turn_transfer, "DIFFERENT_TURNS_MAX"),
    (retention, "FAMILY_MAX REASON_CHARS_MAX CLASS_CHARS_MAX HOLDS_PAGE_MAX"),
    (turn_retention, "UNDECIDED_S_MAX"),
)
OBJECT_LIMITS: Limits = (
    (kept_object, "OBJECT_BYTES_MAX READ_CHUNK_BYTES_MAX SPOOL_BYTES_MAX OBJECTS_PAGE_MAX MEDIA_TYPE_CHARS_MAX"),
    (objects_facade, "READ_BYTES_MAX GRACE_S_DEFAULT GRACE_S_MIN"),
    (object_collecting, "COLLECT_OBJECTS_MAX"),
)
TELEMETRY_LIMITS: Limits = (
    (entries, "ID_CHARS_MAX ENTRY_BYTES_MAX WRITE_ENTRIES_MAX WRITE_BYTES_MAX LOGS_PAGE_MAX"),
    (telemetry_buffer, "ENTRIES_MAX BYTES_MAX BATCH_ENTRIES"),
    (telemetry_settings, "INTERVAL_S WRITE_S BACKOFF_BASE_S BACKOFF_S_MAX BREAKER_FAILURES POISON_FAILURES STOP_S"),
    (telemetry_settings, "SPILL_WINDOW_MS SPILL_BYTES_MAX DEAD_LETTER_BYTES_MAX"),
    (telemetry_facade, "DESTINATIONS_MAX"),
)
WORK_LIMITS: Limits = (
    (work, "ATTRIBUTES_MAX ATTRIBUTES_BYTES_MAX ATTRIBUTE_KEY_CHARS_MAX ATTRIBUTE_CHANGES_MAX"),
    (typed_values, "VALUE_BYTES_MAX VALUE_DEPTH_MAX VALUE_DIGITS_MAX DECIMAL_EXPONENT_MAX"),
    (work, "REASONING_CHARS_MAX METADATA_BYTES_MAX HOST_ID_CHARS_MAX UNITS_PAGE_MAX HISTORY_PAGE_MAX"),
    (work_hash, "HASH_KEY_BYTES_MIN HASH_KEY_BYTES_MAX"),
    (work_guards, "GUARD_TIMEOUT_S_DEFAULT GUARD_TIMEOUT_S_MAX"),
    (work_finding, "KEYS_NAMED_MAX"),
    (work_sweeping, "OLDER_THAN_S_DEFAULT APPROVAL_S_DEFAULT RETRIES_MAX_DEFAULT SWEEP_PAGE"),
)
TASKLIST_LIMITS: Limits = (
    (tasks, "TASKS_MAX TITLE_CHARS_MAX DESCRIPTION_CHARS_MAX TAGS_MAX TAG_CHARS_MAX AGENT_CHARS_MAX"),
    (tasks, "TASK_ID_CHARS_MAX LIST_NAME_CHARS_MAX PRIORITY_MAX"),
    (positions, "POSITION_CHARS_MAX"),
    (entity_ids, "ENTITY_ID_BYTES_MAX"),
    (replicas, "UPDATE_BYTES_MAX"),
    (resync, "MESSAGE_BYTES_MAX"),
    (snapshot_format, "SNAPSHOT_BYTES_MAX"),
    (settings, "CHECKPOINTS_TO_KEEP_MAX"),
)
