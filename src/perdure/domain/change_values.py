"""The checks that every value of a change passes when it is given, each with its limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias
from uuid import UUID

from perdure.domain import limits
from perdure.domain.canonical import JsonObject, JsonValue, check_json, check_json_object, json_bytes
from perdure.domain.handles import StepRef
from perdure.domain.ids import check_entity, check_text
from perdure.errors import Invalid, LimitExceeded

DECISIONS: Final = frozenset({"APPROVE", "DENY"})
Entities: TypeAlias = Iterable[tuple[str, str]]


def refuse_above(limit: str, allowed: float, actual: float) -> None:
    """Raise ``LimitExceeded`` naming the limit and both numbers if ``actual`` is above ``allowed``."""
    if actual > allowed:
        raise LimitExceeded(
            f"{limit.removesuffix('_max').replace('_', ' ')}: {actual} is above {allowed} ({limit})",
            limit=limit,
            allowed=allowed,
            actual=actual,
        )


def refuse_other_step(step: StepRef, run_id: UUID) -> None:
    """Raise ``Invalid`` if the step is of another run: a change stays in one."""
    if step.run_id != run_id:
        raise Invalid(f"step {step.key!r} is of run {step.run_id}, not of run {run_id}; a change stays in one run")


def checked_json(value: Any, what: str) -> Any:
    """A copy of a JSON value of at most ``PAYLOAD_BYTES_MAX``; None stays None."""
    return None if value is None else check_json(value, what=what, bytes_max=limits.PAYLOAD_BYTES_MAX)


def checked_object(value: Mapping[str, Any], what: str) -> JsonObject:
    """A copy of a JSON object of at most ``PAYLOAD_BYTES_MAX``."""
    if not isinstance(value, Mapping):
        raise Invalid(f"{what} must be a JSON object, not {type(value).__name__}")
    return check_json_object(dict(value), what=what, bytes_max=limits.PAYLOAD_BYTES_MAX)


def checked_error(error: Mapping[str, Any] | str, what: str) -> JsonObject:
    """An error as an object with at least ``message``; text becomes the message."""
    details = checked_object({"message": error} if isinstance(error, str) else error, what)
    if not isinstance(details.get("message"), str):
        raise Invalid(f"{what} has no message; pass text, or an object with a message")
    return details


def checked_text(value: str | None, limit: str, chars_max: int) -> str | None:
    """One line of text of at most ``chars_max`` characters, or None. ``limit`` names the limit and so the value."""
    what = f"a {limit.removesuffix('_chars_max').replace('_', ' ')}"
    return None if value is None else check_text(value, what=what, limit=limit, chars_max=chars_max)


def checked_duration(duration_ms: float | None) -> float | None:
    """A duration in milliseconds: zero or more, or None."""
    if duration_ms is not None and not 0 <= duration_ms < float("inf"):
        raise Invalid(f"a duration of {duration_ms} ms; zero or more is expected")
    return duration_ms


def checked_wait(timeout_s: float) -> float:
    """How long an approval may stay open, in seconds: more than 0 and at most ``STEP_WAIT_S_MAX``."""
    if not timeout_s > 0:
        raise Invalid(f"a wait of {timeout_s} s; more than 0 is expected")
    refuse_above("step_wait_s_max", limits.STEP_WAIT_S_MAX, timeout_s)
    return float(timeout_s)


def checked_state(state: Any) -> tuple[JsonValue, int]:
    """A copy of a checkpoint's state, and its size in bytes: at most ``CHECKPOINT_BYTES_MAX``."""
    content = check_json(
        state, what="a checkpoint", bytes_max=limits.CHECKPOINT_BYTES_MAX, limit="checkpoint_bytes_max"
    )
    return content, len(json_bytes(content))


def checked_ttl(ttl_s: float) -> float:
    """How long a checkpoint is kept, in seconds: more than 0."""
    if not ttl_s > 0:
        raise Invalid(f"a checkpoint that lives {ttl_s} s; more than 0 is expected")
    return float(ttl_s)


def checked_decision(decision: str) -> str:
    """What an approver decides: ``APPROVE`` or ``DENY``."""
    if decision not in DECISIONS:
        raise Invalid(f"{decision!r} is not a decision; one of: {', '.join(sorted(DECISIONS))}")
    return decision


def checked_retries(max_retries: int) -> int:
    """How often a failed delivery is tried again: from 0 to ``RETRIES_MAX``."""
    if max_retries < 0:
        raise Invalid(f"{max_retries} retries; zero or more is expected")
    refuse_above("retries_max", limits.RETRIES_MAX, max_retries)
    return max_retries


def checked_entities(entities: Entities, *, new_id: Callable[[], UUID]) -> tuple[tuple[UUID, str, str], ...]:
    """References to entities, each (type, id) with an id of its own; at most ``ENTITIES_MAX``, repeats dropped."""
    named = dict.fromkeys(check_entity(entity_type, entity_id=entity_id) for entity_type, entity_id in entities)
    refuse_above("entities_max", limits.ENTITIES_MAX, len(named))
    return tuple((new_id(), entity_type, entity_id) for entity_type, entity_id in named)
