"""From what a deliverer did to what is recorded of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from perdure.domain import limits
from perdure.domain.canonical import check_json
from perdure.domain.outbox import next_after_failure, policy_for
from perdure.domain.run import OutboxStatus
from perdure.errors import PerdureError, Refused
from perdure.ports.environment import Randomness
from perdure.ports.relay import Delivery, DeliveryFailed, LeasedEntry, Outcome

MESSAGE_CHARS_MAX: Final = 1_000  # of a recorded error; the whole story belongs into the deliverer's own log
CODE_CHARS_MAX: Final = 100
TIMED_OUT: Final = "TIMED_OUT"
LEASE_EXPIRED: Final = "LEASE_EXPIRED"

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_CODE: Final = re.compile(r"[^A-Z0-9_]+")
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff\u2028\u2029]+")
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@]+@")


def delivery_of(leased: LeasedEntry, *, deadline_s: float) -> Delivery:
    """What the deliverer of a leased entry is given."""
    entry = leased.entry
    return Delivery(
        tenant=leased.tenant,
        tenant_id=entry.tenant_id,
        effect_type=entry.event_type,
        spec=entry.payload,
        idempotency_key=entry.idempotency_key,
        attempt=entry.retry_count + 1,
        entry_id=entry.id,
        effect_id=entry.aggregate_id,
        run_id=entry.ordering_key,
        correlation_id=entry.correlation_id,
        deadline_s=deadline_s,
    )


def delivered(leased: LeasedEntry, result: Any, *, duration_ms: float) -> Outcome:
    """The outcome of a delivery. A result that cannot be kept does not undo what was done: its refusal is kept."""
    try:
        recorded = check_json(result, what="the result of a delivery", bytes_max=limits.PAYLOAD_BYTES_MAX)
    except Refused as exc:
        recorded = {"result_not_recorded": exc.message}
    return Outcome(
        entry_id=leased.entry.id,
        lock_token=leased.lock_token,
        outcome="delivered",
        result=recorded,
        duration_ms=round(duration_ms, 3),
    )


def failed(
    leased: LeasedEntry, error: Mapping[str, Any], *, randomness: Randomness, duration_ms: float | None
) -> Outcome:
    """The outcome of a failure: due again as the policy of its type says, or dead."""
    entry = leased.entry
    following = next_after_failure(
        policy_for(entry.event_type),
        retry_count=entry.retry_count,
        max_retries=entry.max_retries,
        retryable=error["retryable"],
        jitter=randomness.random(),
        retry_after_s=error.get("retry_after_s"),
    )
    return Outcome(
        entry_id=entry.id,
        lock_token=leased.lock_token,
        outcome="dead" if following.status is OutboxStatus.DEAD_LETTER else "failed",
        error=error,
        retry_in_s=following.delay_s,
        duration_ms=None if duration_ms is None else round(duration_ms, 3),
        expired=error["code"] == LEASE_EXPIRED,
    )


def error_of(exc: BaseException, *, redact: Callable[[str], str]) -> dict[str, Any]:
    """What is recorded of an exception: code, one bounded line without secrets, and whether trying again can help."""
    if isinstance(exc, DeliveryFailed):
        error = described(exc.code, exc.message, retryable=exc.retryable, redact=redact)
        after_s = exc.retry_after_s
        if after_s is not None and 0 <= after_s < float("inf"):
            error["retry_after_s"] = after_s
        return error
    # A class name is no secret, and a refusal of our own (a limit, a bad reference) will be the same tomorrow.
    code = exc.code if isinstance(exc, PerdureError) else _CAMEL.sub("_", type(exc).__name__)
    return described(code, str(exc), retryable=not isinstance(exc, Refused), redact=redact)


def described(code: str, message: str, *, retryable: bool, redact: Callable[[str], str]) -> dict[str, Any]:
    """An error as it is recorded."""
    line = _CREDENTIALS.sub("***@", _UNPRINTABLE.sub(" ", redact(message))).strip()
    return {
        "code": _NOT_CODE.sub("_", code.upper())[:CODE_CHARS_MAX],
        "message": line[:MESSAGE_CHARS_MAX],
        "retryable": retryable,
    }


def lease_expired(leased: LeasedEntry) -> dict[str, Any]:
    """The error of an entry whose worker fell silent."""
    return {
        "code": LEASE_EXPIRED,
        "message": f"{leased.entry.locked_by} took it and was not heard of again; it may have been delivered",
        "retryable": True,
    }
