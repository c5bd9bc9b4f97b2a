"""Log records and events of structlog become entries, and nothing that is wrong with them reaches who logs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import structlog

from perdure.domain.telemetry import ID_CHARS_MAX, LogType, TelemetryEntry
from perdure.telemetry import ShadowLoggerTelemetryAdapter, TelemetryBuffer, TelemetryHandler, TelemetryProcessor

pytestmark = pytest.mark.fast


@pytest.fixture
def buffer() -> TelemetryBuffer:
    return TelemetryBuffer()


@pytest.fixture
def log(buffer: TelemetryBuffer) -> logging.Logger:
    logger = logging.Logger("app.billing")  # noqa: LOG001 - of this test alone
    logger.addHandler(TelemetryHandler(buffer, "site-1"))
    return logger


def entries(buffer: TelemetryBuffer) -> list[TelemetryEntry]:
    return [held.entry for held in buffer.lease(100).held]


def test_log_records_are_entries_and_errors_are_errors(buffer: TelemetryBuffer, log: logging.Logger) -> None:
    log.info("%d of %d paid", 3, 5, extra={"unit_id": "unit-7", "actor_id": 42, "invoice": "i-1"})
    log.error("failed", exc_info=ValueError("no such invoice"))
    error, info = entries(buffer)
    assert (info.log_type, info.unit_id, info.actor_id, error.log_type) == (
        LogType.TELEMETRY,
        "unit-7",
        "42",
        LogType.ERROR,
    )
    assert info.event_details == {"logger": "app.billing", "level": "INFO", "message": "3 of 5 paid", "invoice": "i-1"}
    assert error.error_metadata["error_type"] == "ValueError"
    assert "no such invoice" in error.error_metadata["traceback"]


def test_perdure_s_own_records_are_left_out(buffer: TelemetryBuffer) -> None:
    handler = TelemetryHandler(buffer, "site-1")
    for name, count in (("perdure", 0), ("perdure.audit", 0), ("perdured", 1)):
        handler.emit(logging.LogRecord(name, logging.INFO, "f.py", 1, "x", None, None))
        assert buffer.pending == count


def test_a_record_that_cannot_be_formatted_reaches_nobody(
    buffer: TelemetryBuffer, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.info("%d", "no number")
    log.info("fine", extra={"unit_id": ""})
    assert buffer.pending == 0


def test_structlog_events_are_entries_and_go_on_as_they_are(buffer: TelemetryBuffer) -> None:
    rendered: list[Any] = []

    def last(logger: object, name: str, event: Any) -> Any:
        del logger, name
        rendered.append(dict(event))
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[TelemetryProcessor(buffer, "site-1"), last])
    log.info("paid", unit_id="unit-7", amount=3)
    log.error("failed", exc_info=ValueError("no"))
    error, info = entries(buffer)
    assert (info.unit_id, info.event_details, info.log_type) == (
        "unit-7",
        {"level": "info", "event": "paid", "amount": 3},
        LogType.TELEMETRY,
    )
    assert (error.log_type, error.error_metadata["error_message"]) == (LogType.ERROR, "no")
    assert rendered[0] == {"event": "paid", "unit_id": "unit-7", "amount": 3}


def test_ids_of_any_kind_are_taken_and_long_ones_are_cut(buffer: TelemetryBuffer) -> None:
    adapter = ShadowLoggerTelemetryAdapter(buffer, "site-1")
    assert adapter.capture_guardian_decision("u" * 999, guardian_name="g")
    assert len(entries(buffer)[0].unit_id or "") == ID_CHARS_MAX
    assert adapter.capture_guardian_decision("") is False
    assert adapter.capture_shadow_log_error(None, error_message="no unit")
