"""Effects: what each type must say, how often it is tried, and when the next attempt is due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from perdure.domain import limits
from perdure.domain.canonical import JsonObject, check_json_object, refuse_secret_keys
from perdure.domain.ids import check_effect_type
from perdure.domain.run import OutboxStatus
from perdure.domain.shape import Field, Shape, problems_of
from perdure.errors import Invalid

_JITTER_SHARE: Final = 0.1  # enough to part callers that failed together, too little to surprise whoever reads the log
_DOUBLINGS_MAX: Final = 64  # beyond it every schedule has met its cap, and powers of two leave what floats can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectPolicy:
    """How deliveries of one effect type are tried again.

    ``max_retries`` counts attempts after the first. Before retry n lie ``base_s * 2**n`` seconds, at most ``cap_s``.
    ``ordered`` effects of a run wait for each other. Raises ``Invalid`` for values out of bounds.
    """

    max_retries: int = 3
    base_s: float = 1.0
    cap_s: float = limits.RETRY_DELAY_S_MAX
    ordered: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.max_retries <= limits.RETRIES_MAX:
            raise Invalid(f"max_retries is {self.max_retries}; expected 0 to {limits.RETRIES_MAX} (retries_max)")
        if not 0 < self.base_s <= self.cap_s <= limits.RETRY_DELAY_S_MAX:
            raise Invalid(
                f"base_s is {self.base_s} and cap_s is {self.cap_s}; "
                f"expected 0 < base_s <= cap_s <= {limits.RETRY_DELAY_S_MAX} (retry_delay_s_max)"
            )


EFFECT_POLICY_DEFAULT: Final = EffectPolicy()
EFFECT_POLICIES: Final[Mapping[str, EffectPolicy]] = MappingProxyType(
    {
        "SEND_EMAIL": EffectPolicy(max_retries=3, base_s=2.0),  # 4, 8, 16 s: mail servers dislike haste
        "SEND_CHAT_MESSAGE": EFFECT_POLICY_DEFAULT,  # 2, 4, 8 s
        "API_CALL": EffectPolicy(max_retries=5, base_s=1.0),  # 2 to 32 s: outlives a restart of the other side
        "SOR_UPDATE": EffectPolicy(max_retries=1, base_s=5.0),  # 10 s: a person should look soon
        "NOTIFY_USER": EFFECT_POLICY_DEFAULT,
        "SCHEDULE_TASK": EFFECT_POLICY_DEFAULT,
        "WEBHOOK_CALL": EFFECT_POLICY_DEFAULT,
    }
)

_HTTP_FIELDS: Final = (
    Field(name="url", shape=Shape.URL, required=True),
    Field(name="headers", shape=Shape.OBJECT),
    Field(name="body", shape=Shape.ANY),
)

# Types outside this table are the user's own, and so is what they hold.
EFFECT_CONTRACTS: Final[Mapping[str, tuple[Field, ...]]] = MappingProxyType(
    {
        "SEND_EMAIL": (
            Field(name="to", shape=Shape.RECIPIENTS, required=True),
            Field(name="subject", shape=Shape.TEXT),
            Field(name="body", shape=Shape.TEXT),
            Field(name="body_html", shape=Shape.TEXT),
            Field(name="reply_to", shape=Shape.TEXT),
        ),
        "SEND_CHAT_MESSAGE": (
            Field(name="text", shape=Shape.TEXT_FILLED, required=True),
            Field(name="channel_id", shape=Shape.TEXT),
            Field(name="thread_ts", shape=Shape.TEXT),
        ),
        "API_CALL": (Field(name="method", shape=Shape.TEXT_FILLED, required=True), *_HTTP_FIELDS),
        "SOR_UPDATE": (
            Field(name="entity_type", shape=Shape.TEXT_FILLED, required=True),
            Field(name="entity_id", shape=Shape.TEXT_FILLED, required=True),
            Field(name="change", shape=Shape.OBJECT, required=True),
            Field(name="evidence_pack", shape=Shape.ANY),
        ),
        "NOTIFY_USER": (
            Field(name="user_id", shape=Shape.TEXT_FILLED, required=True),
            Field(name="text", shape=Shape.TEXT),
        ),
        "SCHEDULE_TASK": (
            Field(name="schedule_id", shape=Shape.TEXT_FILLED, required=True),
            Field(name="scheduled_for", shape=Shape.TEXT_FILLED, required=True),
        ),
        "WEBHOOK_CALL": (Field(name="method", shape=Shape.TEXT_FILLED), *_HTTP_FIELDS),
    }
)


def policy_for(effect_type: str) -> EffectPolicy:
    """The policy of an effect type; types of the user's own have the default one."""
    return EFFECT_POLICIES.get(effect_type, EFFECT_POLICY_DEFAULT)


def check_effect_spec(effect_type: str, *, spec: object) -> JsonObject:
    """A plain copy of an effect's specification, fit to be recorded and delivered.

    Raises ``Invalid`` for a wrong type name, a field the type needs, a secret in it, an idempotency key of the
    caller's (the library makes it from run, step and ``key=``) and what JSON cannot keep; ``LimitExceeded`` above
    ``PAYLOAD_BYTES_MAX``.
    """
    what = f"the specification of {check_effect_type(effect_type)}"
    copy = check_json_object(spec, what=what, bytes_max=limits.PAYLOAD_BYTES_MAX)
    if "idempotency_key" in copy:
        raise Invalid(f"{what} brings its own idempotency_key; pass key= instead, it is made from run, step and key")
    problems = problems_of(EFFECT_CONTRACTS.get(effect_type, ()), value=copy)
    if problems:
        raise Invalid(f"{what} does not fit its contract: {'; '.join(problems)}", problems=problems)
    refuse_secret_keys(copy, what=what)
    return copy


def backoff_s(policy: EffectPolicy, *, retry_count: int, jitter: float, retry_after_s: float | None = None) -> float:
    """Seconds until retry number ``retry_count`` (from 1).

    ``base_s * 2**retry_count``, moved by up to a tenth either way as ``jitter`` in [0, 1) says (0.5: not at all), and
    never above ``cap_s``. What the receiver asked for (``retry_after_s``) counts instead and is never cut short by
    jitter, but is believed up to ``RETRY_AFTER_S_MAX`` only. Raises ``Invalid`` for arguments out of bounds.
    """
    if retry_count < 1:
        raise Invalid(f"retry_count is {retry_count}; retries count from 1")
    if not 0.0 <= jitter < 1.0:
        raise Invalid(f"jitter is {jitter}; expected at least 0 and below 1")
    if retry_after_s is not None:
        if not (math.isfinite(retry_after_s) and retry_after_s >= 0):
            raise Invalid(f"retry_after_s is {retry_after_s}; expected seconds, 0 or more")
        return min(retry_after_s * (1.0 + _JITTER_SHARE * jitter), float(limits.RETRY_AFTER_S_MAX))
    delay_s = policy.base_s * 2.0 ** min(retry_count, _DOUBLINGS_MAX)
    return min(delay_s * (1.0 - _JITTER_SHARE + 2.0 * _JITTER_SHARE * jitter), policy.cap_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterFailure:
    """What follows a failed attempt: FAILED and due again in ``delay_s`` seconds, or DEAD_LETTER (``delay_s`` None).

    ``retry_count`` counts the failed attempts so far, this one included.
    """

    status: OutboxStatus
    retry_count: int
    delay_s: float | None


def next_after_failure(
    policy: EffectPolicy,
    *,
    retry_count: int,
    max_retries: int,
    retryable: bool,
    jitter: float,
    retry_after_s: float | None = None,
) -> AfterFailure:
    """Decide what follows a failed attempt of an entry that has ``retry_count`` failed attempts behind it.

    There are ``max_retries + 1`` attempts in all (``max_retries`` is the entry's own, written when it was requested). A
    failure that another attempt cannot cure (``retryable=False``) is a dead letter at once.
    """
    failed = retry_count + 1
    if not retryable or failed > max_retries:
        return AfterFailure(status=OutboxStatus.DEAD_LETTER, retry_count=failed, delay_s=None)
    delay_s = backoff_s(policy, retry_count=failed, jitter=jitter, retry_after_s=retry_after_s)
    return AfterFailure(status=OutboxStatus.FAILED, retry_count=failed, delay_s=delay_s)
