"""How often checkpoints are taken, the bounds that the host sets, and what an update of it may do while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from perdure.domain.tasklists.failures import FrequencyRefused, InvalidHostPolicyEnvelope

MUTATION_THRESHOLD_DEFAULT: Final = 32
DIRTY_TIME_FLOOR_SECS_DEFAULT: Final = 300
DEBOUNCE_FLOOR_SECS_DEFAULT: Final = 2
WHOLE_NUMBER_MAX: Final = 2**32 - 1  # what every reader of the contract keeps in 32 bits

NOT_ALLOWED: Final = "runtime_checkpoint_adjustment_not_allowed"

# In the order in which an update is judged.
FIELDS: Final = ("mutation_threshold", "dirty_time_floor_secs", "debounce_floor_secs")
OUT_OF_BOUNDS: Final[Mapping[str, str]] = {
    "mutation_threshold": "mutation_threshold_out_of_bounds",
    "dirty_time_floor_secs": "dirty_time_floor_out_of_bounds",
    "debounce_floor_secs": "debounce_floor_out_of_bounds",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFrequency:
    """When a changed list is written: after so many mutations, or when it has been dirty for so long.

    Never sooner than the debounce after the last time.
    """

    mutation_threshold: int = MUTATION_THRESHOLD_DEFAULT
    dirty_time_floor_secs: int = DIRTY_TIME_FLOOR_SECS_DEFAULT
    debounce_floor_secs: int = DEBOUNCE_FLOOR_SECS_DEFAULT

    def as_document(self) -> dict[str, int]:
        """The contract's own names and values."""
        return {name: getattr(self, name) for name in FIELDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPolicyEnvelope:
    """The bounds of the frequency, both ends allowed. The default allows nothing but the default frequency."""

    allow_runtime_checkpoint_frequency_adjustment: bool = False
    min_mutation_threshold: int = MUTATION_THRESHOLD_DEFAULT
    max_mutation_threshold: int = MUTATION_THRESHOLD_DEFAULT
    min_dirty_time_floor_secs: int = DIRTY_TIME_FLOOR_SECS_DEFAULT
    max_dirty_time_floor_secs: int = DIRTY_TIME_FLOOR_SECS_DEFAULT
    min_debounce_floor_secs: int = DEBOUNCE_FLOOR_SECS_DEFAULT
    max_debounce_floor_secs: int = DEBOUNCE_FLOOR_SECS_DEFAULT

    def bounds(self, name: str) -> tuple[int, int]:
        """The least and the greatest value of a field of the frequency."""
        return getattr(self, f"min_{name}"), getattr(self, f"max_{name}")

    def as_document(self) -> dict[str, bool | int]:
        """The contract's own names and values."""
        document: dict[str, bool | int] = {
            "allow_runtime_checkpoint_frequency_adjustment": self.allow_runtime_checkpoint_frequency_adjustment
        }
        for name in FIELDS:
            document[f"min_{name}"], document[f"max_{name}"] = self.bounds(name)
        return document


def check_envelope(envelope: HostPolicyEnvelope) -> None:
    """Raise ``InvalidHostPolicyEnvelope`` for a range with zero in it or upside down.

    And where adjustments are not allowed each range has to be one value: another would promise what cannot be had.
    """
    for name in FIELDS:
        least, most = envelope.bounds(name)
        if not _is_whole(least) or not _is_whole(most) or least < 1 or least > most:
            raise InvalidHostPolicyEnvelope(
                f"the host allows {name} from {least} to {most}; expected 1 or more, and the least first",
                field=name,
                min=least,
                max=most,
            )
        if least != most and not envelope.allow_runtime_checkpoint_frequency_adjustment:
            raise InvalidHostPolicyEnvelope(
                f"the host allows {name} from {least} to {most} and no adjustment; set both to one value, or "
                "allow_runtime_checkpoint_frequency_adjustment",
                code=NOT_ALLOWED,
                field=name,
                min=least,
                max=most,
            )


def check_inside(frequency: CheckpointFrequency, envelope: HostPolicyEnvelope) -> None:
    """Raise ``InvalidHostPolicyEnvelope`` unless a configured frequency lies inside its envelope, which is valid.

    Deliberate: who configures another threshold widens the envelope too, so that the two cannot disagree unseen.
    """
    for name in FIELDS:
        value = getattr(frequency, name)
        least, most = envelope.bounds(name)
        if not least <= value <= most:
            raise InvalidHostPolicyEnvelope(
                f"{name} is configured as {value}, and the host policy allows {least} to {most}; widen host_policy",
                field=name,
                value=value,
                min=least,
                max=most,
            )


def updated_frequency(
    current: CheckpointFrequency, envelope: HostPolicyEnvelope, request: Mapping[str, object]
) -> CheckpointFrequency:
    """The frequency that an update gives: all of it is applied, or it is refused as a whole.

    Raises ``FrequencyRefused`` with the code of what was found first: a request that is none (an unknown field, or a
    value that is no whole number from 0 to ``WHOLE_NUMBER_MAX``; None is a field left out); an envelope that is
    invalid; adjustments that are not allowed; then each field's bounds, in the order of ``FIELDS``. A request without
    a field changes nothing and is fine everywhere.
    """
    asked = {name: value for name, value in request.items() if value is not None}
    _check_request(asked)
    try:
        check_envelope(envelope)
    except InvalidHostPolicyEnvelope as exc:
        raise FrequencyRefused(exc.message, code=exc.code, **exc.detail) from exc
    if asked and not envelope.allow_runtime_checkpoint_frequency_adjustment:
        raise FrequencyRefused(
            "the host does not allow to change the checkpoint frequency while it runs; change its configuration",
            code=NOT_ALLOWED,
        )
    values = current.as_document()
    for name in FIELDS:
        if name not in asked:
            continue
        value, (least, most) = asked[name], envelope.bounds(name)
        assert type(value) is int, "checked with the request"
        if not least <= value <= most:
            raise FrequencyRefused(
                f"{name} {value} is out of bounds; the host allows {least} to {most}",
                code=OUT_OF_BOUNDS[name],
                value=value,
                min=least,
                max=most,
            )
        values[name] = value
    return CheckpointFrequency(**values)


def _check_request(asked: Mapping[str, object]) -> None:
    for name, value in asked.items():
        if name not in FIELDS:
            raise FrequencyRefused(
                f"{ascii(name)[:80]} is not a field of the checkpoint frequency; expected {', '.join(FIELDS)}"
            )
        if not _is_whole(value):
            raise FrequencyRefused(
                f"{name} has to be a whole number from 0 to {WHOLE_NUMBER_MAX}, not {ascii(value)[:40]}", field=name
            )


def _is_whole(value: object) -> bool:
    return type(value) is int and 0 <= value <= WHOLE_NUMBER_MAX
