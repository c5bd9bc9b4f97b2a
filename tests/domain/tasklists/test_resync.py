"""Messages of the resync, and when a node greets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.tasklists.resync import (
    BACKOFF_S_MAX,
    BURST_S,
    JITTER,
    MESSAGE_BYTES_MAX,
    STEADY_S,
    Delta,
    Greeting,
    Schedule,
    decode_message,
    encode_message,
)
from perdure.errors import Invalid, LimitExceeded, PerdureError

pytestmark = pytest.mark.fast

MIDDLE = 0.5  # chance that neither lengthens nor shortens
GREETING = Greeting(list_id="sprint", sender="a", vector=b"\x00", view_digest="0" * 64)


@pytest.mark.parametrize("message", [GREETING, Delta(list_id="sprint", sender="a", update=b"\x00\x01")])
def test_what_is_encoded_is_decoded(message: Greeting | Delta):
    assert decode_message(encode_message(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(source: bytes):
    try:
        decode_message(source)
    except PerdureError as exc:
        assert isinstance(exc, Invalid)  # noqa: PT017 - the point is that it is nothing else


def test_a_message_is_taken_at_its_limit_and_not_beyond():
    around = len(encode_message(Delta(list_id="sprint", sender="a", update=bytes(2**16))))
    fitting = Delta(list_id="sprint", sender="a", update=bytes(MESSAGE_BYTES_MAX - (around - 2**16)))
    encoded = encode_message(fitting)
    assert len(encoded) == MESSAGE_BYTES_MAX
    assert isinstance(decode_message(encoded), Delta)
    with pytest.raises(LimitExceeded):
        decode_message(encoded + b"\x00")
    with pytest.raises(LimitExceeded):
        encode_message(Delta(list_id="sprint", sender="a", update=fitting.update + b"\x00"))


def test_the_first_greeting_is_at_once_and_the_next_ones_as_the_burst_says():
    schedule = Schedule(started_at=100.0)
    assert schedule.due_at(MIDDLE) == 100.0
    for moment in BURST_S:
        assert schedule.due_at(MIDDLE) == pytest.approx(100.0 + moment)
        schedule.greeted(100.0 + moment)


def test_upstream_a_schedule_never_ends_while_unconverged_and_backs_off_to_a_bound():
    schedule, now, waits = Schedule(started_at=0.0), 0.0, []
    for _ in range(60):
        due = schedule.due_at(MIDDLE)
        waits.append(due - now)
        now = due
        schedule.greeted(now)
    assert waits[len(BURST_S)] == pytest.approx(BURST_S[-1])
    assert waits[len(BURST_S) + 1] == pytest.approx(2 * BURST_S[-1])
    assert waits[-1] == pytest.approx(BACKOFF_S_MAX)
    assert max(waits) <= BACKOFF_S_MAX * 1.0001


def test_after_an_agreement_greetings_are_steady():
    schedule = Schedule(started_at=0.0)
    schedule.greeted(0.0)
    schedule.matched(0.5)
    assert schedule.due_at(MIDDLE) == pytest.approx(STEADY_S)


def test_chance_spreads_each_wait_by_its_share():
    schedule = Schedule(started_at=0.0)
    schedule.greeted(0.0)
    schedule.matched(0.0)
    assert schedule.due_at(0.0) == pytest.approx(STEADY_S * (1 - JITTER))
    assert schedule.due_at(1.0) == pytest.approx(STEADY_S * (1 + JITTER))
