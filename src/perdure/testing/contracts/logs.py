"""The contract of a store of logs: every sentence of ``perdure.ports.logs``."""

from __future__ import annotations

from perdure.testing.contracts.logs_appending import LogsAppendingContract
from perdure.testing.contracts.logs_lives import LogsLivesContract
from perdure.testing.contracts.logs_places import LogsPlacesContract
from perdure.testing.contracts.logs_reading import LogsReadingContract


class LogsContract(LogsAppendingContract, LogsReadingContract, LogsLivesContract, LogsPlacesContract):
    """Everything that a store of logs promises."""
