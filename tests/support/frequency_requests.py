"""One table of updates of the checkpoint frequency, replayed through every surface: code, message and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from perdure.domain.tasklists.frequency import CheckpointFrequency, HostPolicyEnvelope

OPEN: Final = HostPolicyEnvelope(
    allow_runtime_checkpoint_frequency_adjustment=True,
    min_mutation_threshold=16,
    max_mutation_threshold=64,
    min_dirty_time_floor_secs=60,
    max_dirty_time_floor_secs=900,
    min_debounce_floor_secs=1,
    max_debounce_floor_secs=10,
)
PINNED: Final = HostPolicyEnvelope()
INVERTED: Final = replace(OPEN, min_mutation_threshold=64, max_mutation_threshold=32)
ZERO: Final = replace(OPEN, min_debounce_floor_secs=0)
CLOSED_RANGES: Final = replace(OPEN, allow_runtime_checkpoint_frequency_adjustment=False)

_NOT_ALLOWED: Final = (
    "the host does not allow to change the checkpoint frequency while it runs; change its configuration"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyRequest:
    """A request to a node with the default frequency, and what it answers: a frequency, or a code and a message."""

    name: str
    envelope: HostPolicyEnvelope
    fields: Mapping[str, object]
    gives: CheckpointFrequency = field(default_factory=CheckpointFrequency)
    code: str | None = None
    message: str = ""


REQUESTS: Final = (
    FrequencyRequest(name="nothing asked, pinned", envelope=PINNED, fields={}),
    FrequencyRequest(name="nothing asked, open", envelope=OPEN, fields={}),
    FrequencyRequest(name="only nulls, pinned", envelope=PINNED, fields={"mutation_threshold": None}),
    FrequencyRequest(
        name="all three",
        envelope=OPEN,
        fields={"mutation_threshold": 48, "dirty_time_floor_secs": 600, "debounce_floor_secs": 3},
        gives=CheckpointFrequency(mutation_threshold=48, dirty_time_floor_secs=600, debounce_floor_secs=3),
    ),
    FrequencyRequest(
        name="one",
        envelope=OPEN,
        fields={"debounce_floor_secs": 10},
        gives=CheckpointFrequency(debounce_floor_secs=10),
    ),
    FrequencyRequest(
        name="not allowed, and the same value",
        envelope=PINNED,
        fields={"mutation_threshold": 32},
        code="runtime_checkpoint_adjustment_not_allowed",
        message=_NOT_ALLOWED,
    ),
    FrequencyRequest(
        name="not allowed, and out of bounds",
        envelope=PINNED,
        fields={"mutation_threshold": 80},
        code="runtime_checkpoint_adjustment_not_allowed",
        message=_NOT_ALLOWED,
    ),
    FrequencyRequest(
        name="threshold out of bounds",
        envelope=OPEN,
        fields={"mutation_threshold": 80},
        code="mutation_threshold_out_of_bounds",
        message="mutation_threshold 80 is out of bounds; the host allows 16 to 64",
    ),
    FrequencyRequest(
        name="dirty time out of bounds",
        envelope=OPEN,
        fields={"dirty_time_floor_secs": 59},
        code="dirty_time_floor_out_of_bounds",
        message="dirty_time_floor_secs 59 is out of bounds; the host allows 60 to 900",
    ),
    FrequencyRequest(
        name="debounce out of bounds",
        envelope=OPEN,
        fields={"debounce_floor_secs": 0},
        code="debounce_floor_out_of_bounds",
        message="debounce_floor_secs 0 is out of bounds; the host allows 1 to 10",
    ),
    FrequencyRequest(
        name="all out of bounds: the threshold is judged first",
        envelope=OPEN,
        fields={"debounce_floor_secs": 0, "dirty_time_floor_secs": 0, "mutation_threshold": 0},
        code="mutation_threshold_out_of_bounds",
        message="mutation_threshold 0 is out of bounds; the host allows 16 to 64",
    ),
    FrequencyRequest(
        name="one fits and one does not: nothing is changed",
        envelope=OPEN,
        fields={"mutation_threshold": 48, "debounce_floor_secs": 99},
        code="debounce_floor_out_of_bounds",
        message="debounce_floor_secs 99 is out of bounds; the host allows 1 to 10",
    ),
    FrequencyRequest(
        name="an inverted envelope",
        envelope=INVERTED,
        fields={"mutation_threshold": 48},
        code="invalid_host_policy_envelope",
        message="the host allows mutation_threshold from 64 to 32; expected 1 or more, and the least first",
    ),
    FrequencyRequest(
        name="an inverted envelope, nothing asked",
        envelope=INVERTED,
        fields={},
        code="invalid_host_policy_envelope",
        message="the host allows mutation_threshold from 64 to 32; expected 1 or more, and the least first",
    ),
    FrequencyRequest(
        name="a zero in the envelope",
        envelope=ZERO,
        fields={"mutation_threshold": 48},
        code="invalid_host_policy_envelope",
        message="the host allows debounce_floor_secs from 0 to 10; expected 1 or more, and the least first",
    ),
    FrequencyRequest(
        name="ranges without the allowance",
        envelope=CLOSED_RANGES,
        fields={"mutation_threshold": 48},
        code="runtime_checkpoint_adjustment_not_allowed",
        message="the host allows mutation_threshold from 16 to 64 and no adjustment; set both to one value, or "
        "allow_runtime_checkpoint_frequency_adjustment",
    ),
    FrequencyRequest(
        name="a truth value",
        envelope=OPEN,
        fields={"mutation_threshold": True},
        code="invalid_request",
        message="mutation_threshold has to be a whole number from 0 to 4294967295, not True",
    ),
    FrequencyRequest(
        name="a fraction",
        envelope=OPEN,
        fields={"debounce_floor_secs": 2.5},
        code="invalid_request",
        message="debounce_floor_secs has to be a whole number from 0 to 4294967295, not 2.5",
    ),
    FrequencyRequest(
        name="a negative number",
        envelope=OPEN,
        fields={"mutation_threshold": -1},
        code="invalid_request",
        message="mutation_threshold has to be a whole number from 0 to 4294967295, not -1",
    ),
    FrequencyRequest(
        name="a number of 33 bits",
        envelope=OPEN,
        fields={"mutation_threshold": 2**32},
        code="invalid_request",
        message="mutation_threshold has to be a whole number from 0 to 4294967295, not 4294967296",
    ),
    FrequencyRequest(
        name="an unknown field, beside one that fits",
        envelope=OPEN,
        fields={"mutation_threshold": 48, "checkpoint_interval": 7},
        code="invalid_request",
        message="'checkpoint_interval' is not a field of the checkpoint frequency; expected mutation_threshold, "
        "dirty_time_floor_secs, debounce_floor_secs",
    ),
)
