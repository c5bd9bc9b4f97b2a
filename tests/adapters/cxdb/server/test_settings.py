"""Settings that mean something, and the codes of failures."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.adapters.cxdb.server import ServerSettings
from perdure.adapters.cxdb.server.failures import DETAIL_CHARS_MAX, failure_of
from perdure.errors import (
    BackendDown,
    DigestMismatch,
    Forbidden,
    Invalid,
    KeyReused,
    LimitExceeded,
    NoRoute,
    NotFound,
    OutcomeUnknown,
    PersistenceError,
    StaleVersion,
    Throttled,
    TimedOut,
    Unsupported,
)
from tests.adapters.cxdb.server.conversing import (
    HELLO,
    served,
)

PAYLOAD_BYTES_MAX = 64 * 1_048_576


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Invalid("x"), 422),
        (LimitExceeded("x"), 422),
        (Forbidden("x"), 403),
        (Unsupported("x"), 501),
        (NoRoute("x"), 500),
        (NotFound("x", resource="context"), 404),
        (KeyReused("x"), 409),
        (StaleVersion("x"), 409),
        (Throttled("x"), 429),
        (TimedOut("x"), 503),
        (BackendDown("x"), 503),
        (PersistenceError("x"), 503),
        (OutcomeUnknown("x"), 504),
        (DigestMismatch("x"), 500),
        (RuntimeError("x"), 500),
    ],
)
def test_every_kind_of_failure_has_its_code(error: Exception, code: int):
    failure = failure_of(error, None)

    assert failure.code == code
    assert failure.detail.endswith("x") or not isinstance(error, Invalid)


def test_a_failure_says_no_more_than_somebody_reads():
    assert len(failure_of(Invalid("x" * DETAIL_CHARS_MAX), None).detail) == DETAIL_CHARS_MAX
    assert len(failure_of(Invalid("x" * (DETAIL_CHARS_MAX + 1)), None).detail) == DETAIL_CHARS_MAX


@pytest.mark.parametrize(
    "wrong",
    [
        {"connections_max": 0},
        {"payload_bytes_max": 0},
        {"payload_bytes_max": PAYLOAD_BYTES_MAX + 1},
        {"answer_turns_max": 0},
        {"idle_s": 0},
        {"write_s": -1},
        {"request_s": float("nan")},
        {"shutdown_s": 0},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]):
    with pytest.raises(Invalid, match=next(iter(wrong))):
        ServerSettings(**wrong)


def test_times_may_be_unlimited():
    with served(idle_s=None, write_s=None) as running, running.client() as client:
        assert client.answer(HELLO)
