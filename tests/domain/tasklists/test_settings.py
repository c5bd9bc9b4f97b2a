"""Configuration: every default, and what is refused before anything is touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perdure.domain.tasklists.failures import InvalidHostPolicyEnvelope, InvalidPersistenceMode
from perdure.domain.tasklists.frequency import CheckpointFrequency, HostPolicyEnvelope
from perdure.domain.tasklists.settings import (
    CHECKPOINTS_TO_KEEP_MAX,
    STORE_ID_CHARS_MAX,
    PersistenceConfig,
    PersistenceMode,
    parse_mode,
    resolve_config,
)
from perdure.errors import Invalid

ENABLED = PersistenceConfig(enabled=True)
WIDE = HostPolicyEnvelope(
    allow_runtime_checkpoint_frequency_adjustment=True,
    min_mutation_threshold=16,
    max_mutation_threshold=64,
    min_dirty_time_floor_secs=60,
    max_dirty_time_floor_secs=900,
    min_debounce_floor_secs=1,
    max_debounce_floor_secs=10,
)


def test_upstream_13_every_default_is_the_source_s():
    config = PersistenceConfig()

    assert not config.enabled
    assert config.mode == "degraded"
    assert config.checkpoint_mutation_threshold == 32
    assert config.checkpoint_dirty_time_floor_secs == 300
    assert config.checkpoint_debounce_floor_secs == 2
    assert config.retention_checkpoints_to_keep == 3
    assert config.retention_storage_budget_bytes == 268_435_456
    assert config.retention_warning_threshold_percent == 80
    assert config.retention_critical_threshold_percent == 90
    assert not config.strict_initialize_if_missing
    assert not config.delete_orphans
    assert config.store_id is None
    assert config.host_policy.as_document() == {
        "allow_runtime_checkpoint_frequency_adjustment": False,
        "min_mutation_threshold": 32,
        "max_mutation_threshold": 32,
        "min_dirty_time_floor_secs": 300,
        "max_dirty_time_floor_secs": 300,
        "min_debounce_floor_secs": 2,
        "max_debounce_floor_secs": 2,
    }


@pytest.mark.parametrize("text", ["strict", "STRICT", " Strict\n"])
def test_upstream_14_a_mode_is_read_in_any_case(text: str):
    assert parse_mode(text) is PersistenceMode.STRICT
    assert parse_mode("DeGraded") is PersistenceMode.DEGRADED


@pytest.mark.parametrize("text", ["best_effort", "required", "off", "", "strict degraded"])
def test_upstream_15_no_other_word_is_a_mode(text: str):
    with pytest.raises(InvalidPersistenceMode):
        resolve_config(replace(ENABLED, mode=text))


def test_upstream_16_a_threshold_of_zero_is_refused():
    with pytest.raises(Invalid, match="checkpoint_mutation_threshold is 0"):
        resolve_config(replace(ENABLED, checkpoint_mutation_threshold=0))


def test_upstream_17_strict_without_the_intent_to_initialise_resolves():
    policy = resolve_config(replace(ENABLED, mode="strict"))

    assert policy is not None
    assert policy.is_strict
    assert not policy.initialize_if_missing


def test_upstream_18_off_has_no_policy_and_on_carries_every_field():
    assert resolve_config(PersistenceConfig()) is None
    policy = resolve_config(
        PersistenceConfig(
            enabled=True,
            mode="strict",
            checkpoint_mutation_threshold=64,
            checkpoint_dirty_time_floor_secs=900,
            checkpoint_debounce_floor_secs=4,
            retention_checkpoints_to_keep=5,
            retention_storage_budget_bytes=512 * 1_048_576,
            retention_warning_threshold_percent=70,
            retention_critical_threshold_percent=85,
            strict_initialize_if_missing=True,
            host_policy=WIDE,
            store_id="node-1",
            delete_orphans=True,
        )
    )

    assert policy is not None
    assert policy.frequency == CheckpointFrequency(
        mutation_threshold=64, dirty_time_floor_secs=900, debounce_floor_secs=4
    )
    assert policy.host_policy == WIDE
    assert (policy.initialize_if_missing, policy.store_id) == (True, "node-1")
    retention = policy.retention
    assert (retention.checkpoints_to_keep, retention.storage_budget_bytes) == (5, 536_870_912)
    assert (retention.warning_threshold_percent, retention.critical_threshold_percent) == (70, 85)
    assert retention.delete_orphans


def test_a_threshold_outside_of_the_pinned_envelope_is_a_configuration_error():
    with pytest.raises(InvalidHostPolicyEnvelope, match="widen host_policy"):
        resolve_config(replace(ENABLED, checkpoint_mutation_threshold=64))


def test_upstream_22_an_inverted_envelope_is_refused():
    inverted = replace(WIDE, min_mutation_threshold=64, max_mutation_threshold=32)

    with pytest.raises(InvalidHostPolicyEnvelope):
        resolve_config(replace(ENABLED, host_policy=inverted))


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint_debounce_floor_secs": 0},
        {"checkpoint_dirty_time_floor_secs": 0},
        {"checkpoint_mutation_threshold": -1},
        {"checkpoint_mutation_threshold": True},
        {"checkpoint_mutation_threshold": 32.0},
        {"retention_warning_threshold_percent": 90},
        {"retention_warning_threshold_percent": 0},
        {"retention_critical_threshold_percent": 101},
        {"retention_checkpoints_to_keep": CHECKPOINTS_TO_KEEP_MAX + 1},
        {"retention_storage_budget_bytes": -1},
        {"store_id": ""},
        {"store_id": "x" * (STORE_ID_CHARS_MAX + 1)},
    ],
)
def test_a_wrong_value_is_refused_also_where_snapshots_are_off(changes: dict[str, Any]):
    for enabled in (True, False):
        with pytest.raises(Invalid):
            resolve_config(PersistenceConfig(enabled=enabled, **changes))


@pytest.mark.parametrize(("keep", "kept"), [(0, 1), (1, 1), (CHECKPOINTS_TO_KEEP_MAX, CHECKPOINTS_TO_KEEP_MAX)])
def test_fault_13_at_least_one_checkpoint_is_kept(keep: int, kept: int):
    policy = resolve_config(replace(ENABLED, retention_checkpoints_to_keep=keep))

    assert policy is not None
    assert policy.retention.checkpoints_to_keep == kept
    assert resolve_config(replace(ENABLED, store_id="x" * STORE_ID_CHARS_MAX)) is not None
