"""Updates of the checkpoint frequency: one table of requests and answers, which every surface replays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perdure.domain.tasklists.failures import FrequencyRefused, InvalidHostPolicyEnvelope
from perdure.domain.tasklists.frequency import (
    FIELDS,
    WHOLE_NUMBER_MAX,
    CheckpointFrequency,
    HostPolicyEnvelope,
    check_envelope,
    updated_frequency,
)
from tests.support.frequency_requests import OPEN, REQUESTS, FrequencyRequest


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.name)
def test_fault_20_a_request_is_answered_by_the_table(request_: FrequencyRequest):
    current = CheckpointFrequency()
    if request_.code is None:
        assert updated_frequency(current, request_.envelope, request_.fields) == request_.gives
        return
    with pytest.raises(FrequencyRefused) as refused:
        updated_frequency(current, request_.envelope, request_.fields)
    assert refused.value.code == request_.code
    assert refused.value.message == request_.message


def test_upstream_49_an_update_inside_the_bounds_gives_all_of_its_values():
    updated = updated_frequency(
        CheckpointFrequency(),
        OPEN,
        {"mutation_threshold": 48, "dirty_time_floor_secs": 600, "debounce_floor_secs": 3},
    )

    assert updated.as_document() == {"mutation_threshold": 48, "dirty_time_floor_secs": 600, "debounce_floor_secs": 3}


def test_both_ends_of_each_range_are_inside_and_the_next_number_is_not():
    for name in FIELDS:
        least, most = OPEN.bounds(name)
        for value in (least, most):
            assert updated_frequency(CheckpointFrequency(), OPEN, {name: value}).as_document()[name] == value
        for value in (least - 1, most + 1):
            with pytest.raises(FrequencyRefused, match=f"the host allows {least} to {most}"):
                updated_frequency(CheckpointFrequency(), OPEN, {name: value})


@pytest.mark.parametrize("value", [True, 1.0, "64", -1, WHOLE_NUMBER_MAX + 1, [64]])
@pytest.mark.parametrize("name", FIELDS)
def test_what_is_no_whole_number_is_an_invalid_request(name: str, value: Any):
    with pytest.raises(FrequencyRefused) as refused:
        updated_frequency(CheckpointFrequency(), OPEN, {name: value})

    assert refused.value.code == "invalid_request"


def test_the_greatest_whole_number_is_judged_by_the_bounds():
    widest = replace(OPEN, max_mutation_threshold=WHOLE_NUMBER_MAX)
    updated = updated_frequency(CheckpointFrequency(), widest, {"mutation_threshold": WHOLE_NUMBER_MAX})

    assert updated.mutation_threshold == WHOLE_NUMBER_MAX
    check_envelope(widest)
    with pytest.raises(InvalidHostPolicyEnvelope):
        check_envelope(replace(OPEN, max_mutation_threshold=WHOLE_NUMBER_MAX + 1))


def test_ranges_that_are_no_points_need_the_allowance():
    with pytest.raises(InvalidHostPolicyEnvelope) as refused:
        check_envelope(replace(OPEN, allow_runtime_checkpoint_frequency_adjustment=False))

    assert refused.value.code == "runtime_checkpoint_adjustment_not_allowed"
    check_envelope(HostPolicyEnvelope())
