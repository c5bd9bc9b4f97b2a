"""Telemetry as log records of OpenTelemetry, by the logger provider that the program has set.

A batch is emitted and flushed; what the exporter did not take in time is sent again, under the same
``perdure.entry_id``, by which a receiver can tell that it has it. Nothing is read back from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger_provider

from perdure.domain.container import Space
from perdure.domain.telemetry import URGENT, LogsQuery, LogType, TelemetryPage, TelemetryRecord, check_write
from perdure.errors import Refused, TimedOut, Unsupported

NAME: Final = "perdure.telemetry"

_SEVERITIES: Final = {LogType.ERROR: (SeverityNumber.ERROR, "ERROR")}
_INFO: Final = (SeverityNumber.INFO, "INFO")
_IDS: Final = ("instance_id", "unit_id", "actor_id", "role_id", "interaction_id")


class OtelTelemetry:
    """A ``TelemetryStore`` that only writes. ``get_provider`` gives the logger provider; the program's unless given."""

    def __init__(self, *, get_provider: Callable[[], Any] = get_logger_provider) -> None:
        self._get_provider = get_provider

    async def write(self, space: Space, records: Sequence[TelemetryRecord], *, timeout_s: float) -> None:
        """Emit records, urgent or not, and wait until the exporter has them. Raises ``Refused``, ``TimedOut``."""
        check_write(records)
        provider = self._get_provider()
        force_flush = getattr(provider, "force_flush", None)
        if force_flush is None:
            raise Refused(
                "this program has no logger provider of OpenTelemetry; give it one by _logs.set_logger_provider",
                code="otel_provider_missing",
            )
        logger = provider.get_logger(NAME)
        for record in records:
            logger.emit(_log_record(space, record))
        if not await asyncio.to_thread(force_flush, max(int(timeout_s * 1000), 1)):
            raise TimedOut("the exporter of OpenTelemetry did not take a batch within timeout_s; it is sent again")

    async def logs(self, space: Space, query: LogsQuery, *, timeout_s: float) -> TelemetryPage:
        """Raises ``Unsupported``: where records go from here, and how they are read there, is not known."""
        del space, query, timeout_s
        raise Unsupported(
            "telemetry that went to OpenTelemetry is read where it went; to read it here, route it to a store"
        )


def _log_record(space: Space, record: TelemetryRecord) -> LogRecord:
    number, text = _SEVERITIES.get(record.log_type, _INFO)
    attributes: dict[str, Any] = {
        "perdure.entry_id": str(record.entry_id),
        "perdure.log_type": record.log_type.value,
        "perdure.urgent": record.log_type in URGENT,
        "perdure.tenant": space.tenant,
        "perdure.project": space.project,
    }
    for name in _IDS:
        value = getattr(record, name)
        if value is not None:
            attributes[f"perdure.{name}"] = value
    if record.error_metadata is not None:
        # As text: an attribute of OpenTelemetry that is no plain value may be dropped on the way.
        attributes["perdure.error"] = record.error_metadata.decode()
    return LogRecord(
        timestamp=int(record.timestamp.timestamp() * 1_000_000) * 1_000,
        severity_number=number,
        severity_text=text,
        body=None if record.event_details is None else msgspec.json.decode(record.event_details),
        attributes=attributes,
        event_name=record.log_type.value,
    )
