"""Telemetry for code that has no plane, and ways into it for code that logs.

>>> from perdure.telemetry import ShadowLoggerTelemetryAdapter, get_telemetry_buffer
>>> adapter = ShadowLoggerTelemetryAdapter(get_telemetry_buffer(), "site-1")
>>> adapter.capture_guardian_decision("unit-7", guardian_name="InvoiceRouter", decision="HighValue")
True
"""

from __future__ import annotations

from perdure.core.telemetry_buffer import TelemetryBuffer
from perdure.core.telemetry_capture import ShadowLoggerTelemetryAdapter, TelemetryHandler, TelemetryProcessor
from perdure.core.telemetry_flusher import Stopped, TelemetryFlusher
from perdure.core.telemetry_settings import TelemetrySettings
from perdure.core.telemetry_stats import TelemetryStats
from perdure.core.telemetry_thread import TelemetryThread, get_telemetry_buffer, reset_telemetry_buffer
from perdure.domain.telemetry import LogType, TelemetryEntry, TelemetryRecord

__all__ = [
    "LogType",
    "ShadowLoggerTelemetryAdapter",
    "Stopped",
    "TelemetryBuffer",
    "TelemetryEntry",
    "TelemetryFlusher",
    "TelemetryHandler",
    "TelemetryProcessor",
    "TelemetryRecord",
    "TelemetrySettings",
    "TelemetryStats",
    "TelemetryThread",
    "get_telemetry_buffer",
    "reset_telemetry_buffer",
]
