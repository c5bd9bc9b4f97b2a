"""The health of a list while it is open: the value as it is now, and its one event."""

from __future__ import annotations

import logging
from typing import Final

from perdure.core.tasklist_events import Emit, EventName
from perdure.domain.tasklists.health import (
    ErrorCode,
    Health,
    RecoveryOutcome,
    budget_moved,
    checkpoint_failed,
    checkpoint_succeeded,
    fell_back,
    initialization_failed,
    recovered,
)
from perdure.domain.tasklists.retention import Pressure
from perdure.domain.tasklists.settings import PersistenceMode
from perdure.errors import PerdureError

_logger: Final = logging.getLogger("perdure.tasklists")


class HealthKeeper:
    """Holds one ``Health`` and tells when it stops being good."""

    def __init__(self, mode: PersistenceMode, *, entity_id: str, emit: Emit) -> None:
        self._value = Health(mode=mode)
        self._entity_id = entity_id
        self._emit = emit

    @property
    def value(self) -> Health:
        """How it is now."""
        return self._value

    def recovered(self, outcome: RecoveryOutcome) -> None:
        """A start loaded something, or found that there is nothing yet."""
        self._become(recovered(self._value, outcome))

    def fell_back(self, outcome: RecoveryOutcome, message: str) -> None:
        """A start went on with nothing."""
        self._become(fell_back(self._value, outcome, message))

    def initialization_failed(self, message: str, *, is_legacy: bool) -> None:
        """A start was refused."""
        self._become(initialization_failed(self._value, message, is_legacy=is_legacy))

    def checkpoint_failed(self, message: str, *, code: ErrorCode = ErrorCode.CHECKPOINT_FAILURE) -> None:
        """A checkpoint was not written."""
        self._become(checkpoint_failed(self._value, message, code=code))

    def checkpoint_succeeded(self) -> None:
        """A checkpoint was written."""
        self._become(checkpoint_succeeded(self._value))

    def budget_moved(self, pressure: Pressure) -> None:
        """The budget was judged."""
        self._become(budget_moved(self._value, pressure, f"the storage budget is {pressure.value}"))

    def noticed(self, error: PerdureError) -> None:
        """A failure that is part of the health already reached somebody who does not end because of it."""
        _logger.debug("list %s goes on after %s", self._entity_id, error.code)

    def _become(self, health: Health) -> None:
        before, self._value = self._value, health
        if health.degraded and (not before.degraded or health.state is not before.state):
            code = None if health.last_error is None else health.last_error.code.value
            fields = {"list": self._entity_id, "from": before.state.value, "to": health.state.value, "code": code}
            self._emit(EventName.DEGRADED_TRANSITION, fields)
