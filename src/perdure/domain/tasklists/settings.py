"""What an operator configures of snapshots, every default, and what is refused before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from perdure.domain.tasklists.failures import InvalidPersistenceMode
from perdure.domain.tasklists.frequency import (
    DEBOUNCE_FLOOR_SECS_DEFAULT,
    DIRTY_TIME_FLOOR_SECS_DEFAULT,
    MUTATION_THRESHOLD_DEFAULT,
    CheckpointFrequency,
    HostPolicyEnvelope,
    check_envelope,
    check_inside,
)
from perdure.errors import Invalid

CHECKPOINTS_TO_KEEP_DEFAULT: Final = 3
CHECKPOINTS_TO_KEEP_MAX: Final = 255  # each start lists and may read all of them
STORAGE_BUDGET_BYTES_DEFAULT: Final = 256 * 1_048_576
WARNING_PERCENT_DEFAULT: Final = 80
CRITICAL_PERCENT_DEFAULT: Final = 90
PERCENT_MAX: Final = 100  # a threshold beyond the budget would never be met
STORE_ID_CHARS_MAX: Final = 200  # it is compared and shown, and stands in each root


class PersistenceMode(StrEnum):
    """What a failure does. ``STRICT`` is what is elsewhere called required, ``DEGRADED`` best effort."""

    STRICT = "strict"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistenceConfig:
    """Snapshots as they are configured. Off unless ``enabled``, and then degraded unless ``mode`` says otherwise.

    ``store_id`` names the store, so that a root of another one is refused; without it a root has the id that it was
    given when it was made. ``delete_orphans`` lets the retention cycle remove lists that are not active any more.
    """

    enabled: bool = False
    mode: str = "degraded"
    checkpoint_mutation_threshold: int = MUTATION_THRESHOLD_DEFAULT
    checkpoint_dirty_time_floor_secs: int = DIRTY_TIME_FLOOR_SECS_DEFAULT
    checkpoint_debounce_floor_secs: int = DEBOUNCE_FLOOR_SECS_DEFAULT
    retention_checkpoints_to_keep: int = CHECKPOINTS_TO_KEEP_DEFAULT
    retention_storage_budget_bytes: int = STORAGE_BUDGET_BYTES_DEFAULT
    retention_warning_threshold_percent: int = WARNING_PERCENT_DEFAULT
    retention_critical_threshold_percent: int = CRITICAL_PERCENT_DEFAULT
    strict_initialize_if_missing: bool = False
    host_policy: HostPolicyEnvelope = field(default_factory=HostPolicyEnvelope)
    store_id: str | None = None
    delete_orphans: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How many checkpoints of a list are kept, and how many bytes all lists together may have."""

    checkpoints_to_keep: int = CHECKPOINTS_TO_KEEP_DEFAULT
    storage_budget_bytes: int = STORAGE_BUDGET_BYTES_DEFAULT
    warning_threshold_percent: int = WARNING_PERCENT_DEFAULT
    critical_threshold_percent: int = CRITICAL_PERCENT_DEFAULT
    delete_orphans: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistencePolicy:
    """A configuration that was checked. There is none where snapshots are off."""

    mode: PersistenceMode = PersistenceMode.DEGRADED
    frequency: CheckpointFrequency = field(default_factory=CheckpointFrequency)
    host_policy: HostPolicyEnvelope = field(default_factory=HostPolicyEnvelope)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    initialize_if_missing: bool = False
    store_id: str | None = None

    @property
    def is_strict(self) -> bool:
        """Whether a failure stops what was asked."""
        return self.mode is PersistenceMode.STRICT


def parse_mode(text: str) -> PersistenceMode:
    """The mode of that name, whatever its case. Raises ``InvalidPersistenceMode``."""
    try:
        return PersistenceMode(text.strip().lower())
    except ValueError as exc:
        raise InvalidPersistenceMode(
            f"{ascii(text)[:80]} is not a mode of snapshots; expected strict or degraded"
        ) from exc


def resolve_config(config: PersistenceConfig) -> PersistencePolicy | None:
    """The policy of a configuration, None where it is off; a wrong one is refused in both cases.

    Raises ``InvalidPersistenceMode``, ``Invalid``, then ``InvalidHostPolicyEnvelope``: for an envelope that contradicts
    itself, and for a frequency outside of it. Whether a root is initialised is asked when it is opened, not here.
    """
    mode = parse_mode(config.mode)
    frequency = CheckpointFrequency(
        mutation_threshold=_at_least_one("checkpoint_mutation_threshold", config.checkpoint_mutation_threshold),
        dirty_time_floor_secs=_at_least_one(
            "checkpoint_dirty_time_floor_secs", config.checkpoint_dirty_time_floor_secs
        ),
        debounce_floor_secs=_at_least_one("checkpoint_debounce_floor_secs", config.checkpoint_debounce_floor_secs),
    )
    retention = _retention(config)
    if config.store_id is not None and not 0 < len(config.store_id) <= STORE_ID_CHARS_MAX:
        raise Invalid(f"store_id has {len(config.store_id)} characters; expected 1 to {STORE_ID_CHARS_MAX}")
    check_envelope(config.host_policy)
    check_inside(frequency, config.host_policy)
    if not config.enabled:
        return None
    return PersistencePolicy(
        mode=mode,
        frequency=frequency,
        host_policy=config.host_policy,
        retention=retention,
        initialize_if_missing=config.strict_initialize_if_missing,
        store_id=config.store_id,
    )


def _retention(config: PersistenceConfig) -> RetentionPolicy:
    keep = _whole("retention_checkpoints_to_keep", config.retention_checkpoints_to_keep)
    if keep > CHECKPOINTS_TO_KEEP_MAX:
        raise Invalid(f"retention_checkpoints_to_keep is {keep}; at most {CHECKPOINTS_TO_KEEP_MAX}")
    budget = _whole("retention_storage_budget_bytes", config.retention_storage_budget_bytes)
    warning = _whole("retention_warning_threshold_percent", config.retention_warning_threshold_percent)
    critical = _whole("retention_critical_threshold_percent", config.retention_critical_threshold_percent)
    if not 0 < warning < critical <= PERCENT_MAX:
        raise Invalid(
            f"retention warns at {warning} percent and is critical at {critical}; expected more than 0, at most 100, "
            "and the warning first"
        )
    return RetentionPolicy(
        # Nobody means to keep nothing: the newest is what a restart loads.
        checkpoints_to_keep=max(1, keep),
        storage_budget_bytes=budget,
        warning_threshold_percent=warning,
        critical_threshold_percent=critical,
        delete_orphans=config.delete_orphans,
    )


def _at_least_one(name: str, value: int) -> int:
    if _whole(name, value) < 1:
        raise Invalid(f"{name} is 0; expected 1 or more")
    return value


def _whole(name: str, value: int) -> int:
    if type(value) is not int or value < 0:
        raise Invalid(f"{name} is {ascii(value)[:40]}; expected a whole number, not negative")
    return value
