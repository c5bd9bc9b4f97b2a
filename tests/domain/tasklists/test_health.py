"""Health: each event's transition, and no serious error hidden behind a lesser one."""

from __future__ import annotations

import pytest

from perdure.domain.tasklists.health import (
    ErrorCode,
    Health,
    HealthState,
    Observation,
    RecoveryOutcome,
    budget_moved,
    checkpoint_failed,
    checkpoint_succeeded,
    combined_health,
    fell_back,
    initialization_failed,
    recovered,
)
from perdure.domain.tasklists.retention import Pressure
from perdure.domain.tasklists.settings import PersistenceMode

STRICT, DEGRADED = Health(mode=PersistenceMode.STRICT), Health(mode=PersistenceMode.DEGRADED)


def shown(health: Health) -> tuple[str, bool, str | None, str | None]:
    document = health.as_document()
    error = document["last_error"]
    return document["state"], document["degraded"], document["last_recovery_outcome"], error and error["code"]


def test_before_the_start_nothing_is_known():
    assert shown(STRICT) == ("starting_up", False, None, None)


@pytest.mark.parametrize("outcome", [RecoveryOutcome.LOADED_SNAPSHOT, RecoveryOutcome.EMPTY_STORE])
def test_upstream_44_what_was_loaded_or_is_empty_is_ready(outcome: RecoveryOutcome):
    assert shown(recovered(STRICT, outcome)) == ("ready", False, outcome.value, None)


def test_upstream_45_a_failed_checkpoint_degrades_or_fails_by_the_mode():
    for health, state in ((DEGRADED, "degraded"), (STRICT, "failed")):
        ready = recovered(health, RecoveryOutcome.LOADED_SNAPSHOT)
        assert shown(checkpoint_failed(ready, "no")) == (state, True, "loaded_snapshot", "checkpoint_failure")


def test_upstream_46_a_fallback_before_encrypted_artefacts_says_that_the_format_is_plaintext():
    health = fell_back(DEGRADED, RecoveryOutcome.UNSUPPORTED_LEGACY, "found one")
    code = "unsupported_legacy_encrypted_artifact"

    assert shown(health) == ("degraded", True, code, code)
    assert health.last_error is not None
    assert "plaintext format" in health.last_error.remediation


def test_a_fallback_is_degraded_with_the_code_of_a_startup_load():
    health = fell_back(DEGRADED, RecoveryOutcome.DEGRADED_FALLBACK, "all corrupt")

    assert shown(health) == ("degraded", True, "degraded_fallback", "startup_load_failure")


def test_a_start_that_strict_refused_has_failed():
    refused = initialization_failed(STRICT, "no manifest", is_legacy=False)
    legacy = initialization_failed(STRICT, "encrypted", is_legacy=True)

    assert shown(refused) == ("failed", True, "strict_init_failure", "strict_initialization_failure")
    assert shown(legacy)[2:] == ("unsupported_legacy_encrypted_artifact", "unsupported_legacy_encrypted_artifact")


def test_upstream_50_degraded_heals_with_the_next_checkpoint():
    for sick in (
        checkpoint_failed(recovered(DEGRADED, RecoveryOutcome.EMPTY_STORE), "no"),
        fell_back(DEGRADED, RecoveryOutcome.DEGRADED_FALLBACK, "all corrupt"),
    ):
        healed = checkpoint_succeeded(sick)
        assert healed.last_recovery_outcome is sick.last_recovery_outcome
        assert (healed.state, healed.degraded, healed.last_error) == (HealthState.READY, False, None)


def test_upstream_51_failed_stays_failed_until_a_restart():
    sick = checkpoint_failed(recovered(STRICT, RecoveryOutcome.EMPTY_STORE), "no")

    assert checkpoint_succeeded(sick) == sick


@pytest.mark.parametrize(
    ("pressure", "code"),
    [
        (Pressure.NORMAL, None),
        (Pressure.WARNING, "budget_warning"),
        (Pressure.CRITICAL, "budget_critical"),
        (Pressure.AT_CAPACITY, "budget_at_capacity"),
    ],
)
def test_the_budget_has_its_codes_and_takes_them_back(pressure: Pressure, code: str | None):
    warned = budget_moved(recovered(DEGRADED, RecoveryOutcome.EMPTY_STORE), Pressure.CRITICAL, "full")
    moved = budget_moved(warned, pressure, "other")

    assert shown(moved) == ("ready", False, "empty_store", code)
    assert moved.budget_pressure is pressure


def test_the_budget_hides_no_serious_error_and_clears_none():
    sick = checkpoint_failed(DEGRADED, "the disk is gone")
    for pressure in (Pressure.AT_CAPACITY, Pressure.NORMAL):
        assert budget_moved(sick, pressure, "full").last_error == sick.last_error
    full = checkpoint_failed(DEGRADED, "full", code=ErrorCode.BUDGET_AT_CAPACITY)
    assert shown(checkpoint_failed(full, "the disk is gone"))[3] == "checkpoint_failure"


def test_a_failed_checkpoint_does_not_hide_why_the_start_failed():
    sick = checkpoint_failed(fell_back(DEGRADED, RecoveryOutcome.DEGRADED_FALLBACK, "all corrupt"), "no")

    assert shown(sick)[3] == "startup_load_failure"


def test_after_healing_the_budget_s_warning_is_still_there():
    warned = budget_moved(recovered(DEGRADED, RecoveryOutcome.EMPTY_STORE), Pressure.WARNING, "full")

    assert shown(checkpoint_succeeded(checkpoint_failed(warned, "no"))) == (
        "ready",
        False,
        "empty_store",
        "budget_warning",
    )


def test_every_code_has_its_advice():
    for code in ErrorCode:
        health = checkpoint_failed(DEGRADED, "what happened", code=code)
        assert health.last_error is not None
        assert health.last_error.as_document() == {
            "code": code.value,
            "message": "what happened",
            "remediation": health.last_error.remediation,
        }
        assert len(health.last_error.remediation) > 20


def test_a_store_is_as_well_as_its_worst_list():
    ready = recovered(DEGRADED, RecoveryOutcome.LOADED_SNAPSHOT)
    sick = checkpoint_failed(ready, "no")

    assert combined_health(PersistenceMode.DEGRADED, [ready, sick, ready]) == sick
    assert combined_health(PersistenceMode.DEGRADED, [ready]) == ready
    assert combined_health(PersistenceMode.DEGRADED, []).state is HealthState.READY


def test_upstream_78_the_contract_is_one_object_of_three_members_with_the_promised_names():
    document = Observation(health=DEGRADED).as_document()

    assert {name: sorted(member) for name, member in document.items()} == {
        "health": ["budget_pressure", "degraded", "last_error", "last_recovery_outcome", "mode", "state"],
        "checkpoint_frequency": ["debounce_floor_secs", "dirty_time_floor_secs", "mutation_threshold"],
        "checkpoint_frequency_bounds": [
            "allow_runtime_checkpoint_frequency_adjustment",
            "max_debounce_floor_secs",
            "max_dirty_time_floor_secs",
            "max_mutation_threshold",
            "min_debounce_floor_secs",
            "min_dirty_time_floor_secs",
            "min_mutation_threshold",
        ],
    }
