"""Everything a store of telemetry promises, and what a plane promises of telemetry over it, in one class.

::

    class TestTelemetryOnSomething(TelemetryContract):
        async def open_backend(self) -> Backend: ...

        async def advance(self, seconds: float) -> None: ...
"""

from __future__ import annotations

from perdure.testing.contracts.telemetry_keeping import TelemetryKeepingContract
from perdure.testing.contracts.telemetry_recording import TelemetryRecordingContract


class TelemetryContract(TelemetryKeepingContract, TelemetryRecordingContract):
    """Every part of the contract; a backend's test file only says how to open it and how its time is moved."""
