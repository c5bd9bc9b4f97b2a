"""What effects must say, and when they are tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain import limits
from perdure.domain.outbox import (
    EFFECT_CONTRACTS,
    EFFECT_POLICIES,
    EFFECT_POLICY_DEFAULT,
    EffectPolicy,
    backoff_s,
    check_effect_spec,
    next_after_failure,
    policy_for,
)
from perdure.domain.run import OutboxStatus
from perdure.errors import Invalid, LimitExceeded

EXACT = 0.5  # the jitter that changes nothing


@pytest.mark.parametrize(
    ("effect_type", "delays_s"),
    [
        ("NOTIFY_USER", [2, 4, 8]),
        ("MY_OWN_TYPE", [2, 4, 8]),
        ("SEND_EMAIL", [4, 8, 16]),
        ("API_CALL", [2, 4, 8, 16, 32]),
        ("SOR_UPDATE", [10]),
    ],
)
def test_each_type_is_tried_again_on_its_own_schedule_and_then_given_up(effect_type: str, delays_s: list[float]):
    policy = policy_for(effect_type)
    seen: list[float] = []
    retry_count = 0
    while True:
        after = next_after_failure(
            policy, retry_count=retry_count, max_retries=policy.max_retries, retryable=True, jitter=EXACT
        )
        assert after.retry_count == retry_count + 1
        if after.delay_s is None:
            break
        assert after.status is OutboxStatus.FAILED
        seen.append(after.delay_s)
        retry_count = after.retry_count
    assert after.status is OutboxStatus.DEAD_LETTER
    assert seen == pytest.approx(delays_s)
    assert after.retry_count == policy.max_retries + 1


def test_what_another_attempt_cannot_cure_is_a_dead_letter_at_once():
    after = next_after_failure(EFFECT_POLICY_DEFAULT, retry_count=0, max_retries=3, retryable=False, jitter=EXACT)
    assert (after.status, after.delay_s) == (OutboxStatus.DEAD_LETTER, None)


def test_the_number_of_attempts_is_the_entrys_own():
    after = next_after_failure(policy_for("SOR_UPDATE"), retry_count=4, max_retries=5, retryable=True, jitter=EXACT)
    assert after.status is OutboxStatus.FAILED
    after = next_after_failure(policy_for("API_CALL"), retry_count=0, max_retries=0, retryable=True, jitter=EXACT)
    assert after.status is OutboxStatus.DEAD_LETTER


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_within_a_tenth_of_the_schedule_and_never_above_the_cap(retry_count: int, jitter: float):
    policy = EffectPolicy(base_s=1.5, cap_s=600)
    delay = backoff_s(policy, retry_count=retry_count, jitter=jitter)
    planned = 1.5 * 2.0 ** min(retry_count, 60)
    assert min(0.9 * planned, 600) - 1e-9 <= delay <= min(1.1 * planned, 600) + 1e-9


@given(st.floats(0, 10**7), st.floats(0, 1, exclude_max=True))
def test_what_the_receiver_asked_for_is_never_cut_short_but_bounded(asked_s: float, jitter: float):
    delay = backoff_s(EFFECT_POLICY_DEFAULT, retry_count=1, jitter=jitter, retry_after_s=asked_s)
    assert min(asked_s, limits.RETRY_AFTER_S_MAX) <= delay <= limits.RETRY_AFTER_S_MAX


@pytest.mark.parametrize(
    ("retry_count", "jitter", "retry_after_s"),
    [(0, 0.0, None), (1, 1.0, None), (1, -0.1, None), (1, float("nan"), None), (1, 0.0, -1.0), (1, 0.0, float("nan"))],
)
def test_arguments_out_of_bounds_are_refused(retry_count: int, jitter: float, retry_after_s: float | None):
    with pytest.raises(Invalid):
        backoff_s(EFFECT_POLICY_DEFAULT, retry_count=retry_count, jitter=jitter, retry_after_s=retry_after_s)


def test_a_policy_stays_within_the_limits():
    EffectPolicy(max_retries=limits.RETRIES_MAX, cap_s=limits.RETRY_DELAY_S_MAX)
    with pytest.raises(Invalid, match="retries_max"):
        EffectPolicy(max_retries=limits.RETRIES_MAX + 1)
    with pytest.raises(Invalid, match="retry_delay_s_max"):
        EffectPolicy(cap_s=limits.RETRY_DELAY_S_MAX + 1)
    with pytest.raises(Invalid):
        EffectPolicy(base_s=0)
    with pytest.raises(Invalid):
        EffectPolicy(max_retries=-1)


def test_the_seven_types_have_a_policy_and_a_contract_and_wait_for_each_other():
    assert len(EFFECT_POLICIES) == 7
    assert EFFECT_POLICIES.keys() == EFFECT_CONTRACTS.keys()
    assert all(policy.ordered for policy in EFFECT_POLICIES.values())


@pytest.mark.parametrize(
    ("effect_type", "spec"),
    [
        ("SEND_EMAIL", {"to": "cfo@acme.test"}),
        ("SEND_EMAIL", {"to": ["a@acme.test"], "subject": "s", "body_html": "<p>", "reply_to": None, "x": 1}),
        ("SEND_CHAT_MESSAGE", {"text": "hello", "channel_id": "c1"}),
        ("API_CALL", {"method": "POST", "url": "https://api.test/x", "headers": {"secret_ref": "secret://env/X"}}),
        ("SOR_UPDATE", {"entity_type": "invoice", "entity_id": "42", "change": {"paid": True}}),
        ("NOTIFY_USER", {"user_id": "u1"}),
        ("SCHEDULE_TASK", {"schedule_id": "s1", "scheduled_for": "2026-01-01T00:00:00Z"}),
        ("WEBHOOK_CALL", {"url": "http://127.0.0.1:8080/hook", "body": [1]}),
        ("MY_OWN_TYPE", {"anything": ["goes"]}),
    ],
)
def test_a_specification_that_fits_is_copied(effect_type: str, spec: dict[str, object]):
    copy = check_effect_spec(effect_type, spec=spec)
    assert copy == spec
    assert copy is not spec


@pytest.mark.parametrize(
    ("effect_type", "spec", "problem"),
    [
        ("SEND_EMAIL", {}, "to is missing"),
        ("SEND_EMAIL", {"to": []}, "to must be an address"),
        ("SEND_EMAIL", {"to": ""}, "to must be an address"),
        ("SEND_EMAIL", {"to": "a@b.test", "subject": 3}, "subject must be text"),
        ("API_CALL", {"url": "https://a.test"}, "method is missing"),
        ("WEBHOOK_CALL", {"url": "file:///etc/passwd"}, "url must be an http"),
        ("WEBHOOK_CALL", {"url": "https://user:pw@a.test"}, "url must be an http"),
        ("WEBHOOK_CALL", {"url": "https://[::1"}, "url must be an http"),
        ("WEBHOOK_CALL", {"url": "https://a.test", "headers": {"Authorization": "Bearer x"}}, "carries a secret"),
        ("MY_OWN_TYPE", {"idempotency_key": "mine"}, "pass key= instead"),
        ("MY_OWN_TYPE", ["a"], "must be a JSON object"),
        ("my_own_type", {}, "not an effect type"),
    ],
)
def test_a_specification_that_does_not_fit_is_refused(effect_type: str, spec: object, problem: str):
    with pytest.raises(Invalid, match=problem) as refused:
        check_effect_spec(effect_type, spec=spec)
    assert "pw" not in refused.value.message.replace("password", "")
    assert "Bearer" not in refused.value.message


def test_a_specification_has_a_size():
    with pytest.raises(LimitExceeded, match="payload_bytes_max"):
        check_effect_spec("MY_OWN_TYPE", spec={"x": "y" * limits.PAYLOAD_BYTES_MAX})
