"""Declared payloads are held to their contracts; undeclared ones to nothing."""

from __future__ import annotations

import pytest

from perdure.domain.run import SignalType
from perdure.domain.signal import PAYLOAD_CONTRACTS, validate_payload

GOOD: dict[SignalType, dict[str, object]] = {
    SignalType.EMAIL: {"from": "a@b.test", "to": ["c@d.test"], "subject": "", "body": "hello"},
    SignalType.WEBHOOK: {"webhook_id": "w1", "event_type": "paid", "payload": None, "signature_valid": True},
    SignalType.CHAT_MESSAGE: {"channel_id": "c", "user_id": "u", "text": "hi"},
    SignalType.API_CALL: {"method": "POST", "path": "/runs"},
    SignalType.SCHEDULED_TASK: {"schedule_id": "nightly", "scheduled_for": "2026-01-01T00:00:00Z"},
    SignalType.HUMAN_COMMAND: {"command": "retry", "issued_by": "user:1"},
}


def test_every_type_has_a_contract():
    assert PAYLOAD_CONTRACTS.keys() == set(SignalType) == GOOD.keys()


@pytest.mark.parametrize("signal_type", SignalType)
def test_a_declared_payload_is_held_to_its_contract(signal_type: SignalType):
    good = GOOD[signal_type]
    assert validate_payload(signal_type, payload={**good, "more": 1}, declared=True) == []
    for name in good:
        lacking = {key: value for key, value in good.items() if key != name}
        problems = validate_payload(signal_type, payload=lacking, declared=True)
        assert [problem.split(" is missing")[0] for problem in problems] == [name]
    assert len(validate_payload(signal_type, payload={}, declared=True)) == len(good)


@pytest.mark.parametrize("payload", [None, "text", 3, [], {}])
def test_an_undeclared_payload_may_be_anything(payload: object):
    assert validate_payload(SignalType.API_CALL, payload=payload, declared=False) == []


@pytest.mark.parametrize("payload", [None, "text", 3, []])
def test_a_declared_payload_is_an_object(payload: object):
    assert "expected an object" in validate_payload(SignalType.EMAIL, payload=payload, declared=True)[0]


@pytest.mark.parametrize(
    ("signal_type", "name", "wrong"),
    [
        (SignalType.EMAIL, "from", ""),
        (SignalType.EMAIL, "to", [3]),
        (SignalType.EMAIL, "attachments", ["a.pdf"]),
        (SignalType.EMAIL, "attachments", [{"name": "a.pdf"}]),
        (SignalType.EMAIL, "headers", "x"),
        (SignalType.WEBHOOK, "signature_valid", "yes"),
        (SignalType.CHAT_MESSAGE, "mentions", "u1"),
        (SignalType.CHAT_MESSAGE, "thread_ts", 3),
    ],
)
def test_a_field_of_another_shape_is_one_problem_that_does_not_quote_it(
    signal_type: SignalType, name: str, wrong: object
):
    problems = validate_payload(signal_type, payload={**GOOD[signal_type], name: wrong}, declared=True)
    assert len(problems) == 1
    assert problems[0].startswith(name)
    assert "a.pdf" not in problems[0]


def test_an_optional_field_may_be_null():
    payload = {**GOOD[SignalType.CHAT_MESSAGE], "thread_ts": None}
    assert validate_payload(SignalType.CHAT_MESSAGE, payload=payload, declared=True) == []
