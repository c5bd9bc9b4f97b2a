"""Ways into telemetry: errors and decisions of guards, log records, events of structlog. None of them ever raises."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

from perdure.core.environment import system_environment
from perdure.domain.telemetry import ID_CHARS_MAX, LogType, TelemetryEntry
from perdure.ports.environment import Environment

HostId: TypeAlias = "str | UUID | None"
_Event: TypeAlias = MutableMapping[str, Any]

# Its own records must not be recorded: each flush would leave more to flush.
_OWN: Final = "perdure"
# What every log record has; the rest came by ``extra=``.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Fields of ``extra=``, or of an event, that are fields of an entry.
_ID_FIELDS: Final = ("unit_id", "actor_id", "role_id", "interaction_id")


class TakesEntries(Protocol):
    """A buffer, or the telemetry of a scope."""

    def record(self, entry: TelemetryEntry) -> bool:
        """Keep an entry; whether it was accepted."""
        ...


class _Capturing:
    """Makes entries of one instance."""

    def __init__(self, telemetry: TakesEntries, instance_id: str | UUID, environment: Environment | None) -> None:
        self._telemetry = telemetry
        self._instance_id = str(instance_id)
        self._environment = environment if environment is not None else system_environment()

    def now(self) -> datetime:
        """The time of an entry."""
        return self._environment.clock.now()

    def record(
        self,
        log_type: LogType,
        *,
        ids: Mapping[str, HostId],
        details: object = None,
        error: object = None,
        timestamp: datetime | None = None,
    ) -> bool:
        """Record an entry; False for what is no entry."""
        try:
            entry = TelemetryEntry(
                entry_id=self._environment.ids.new(),
                instance_id=self._instance_id,
                log_type=log_type,
                event_details=details,
                error_metadata=error,
                timestamp=self.now() if timestamp is None else timestamp,
                **{name: None if value is None else str(value)[:ID_CHARS_MAX] for name, value in ids.items()},
            )
        except Exception:  # noqa: BLE001 - whoever captures goes on, whatever it was that was given
            return False
        return self._telemetry.record(entry)


class ShadowLoggerTelemetryAdapter:
    """Errors and decisions of guards, as entries of one instance. ``telemetry`` is a buffer or ``acme.telemetry``."""

    def __init__(
        self, telemetry: TakesEntries, instance_id: str | UUID, *, environment: Environment | None = None
    ) -> None:
        self._capturing = _Capturing(telemetry, instance_id, environment)

    def capture_shadow_log_error(
        self,
        uow_id: HostId,
        role_id: HostId = None,
        interaction_id: HostId = None,
        actor_id: HostId = None,
        error_message: str = "",
        condition: str | None = None,
        variables: Mapping[str, Any] | None = None,
        *,
        error_type: str | None = None,
        branch_index: int | None = None,
    ) -> bool:
        """Record that a condition could not be evaluated: an ``ERROR``. Whether it was accepted.

        ``variables`` are encoded at once and redacted before they are written.
        """
        now = self._capturing.now()
        error = {
            "error_message": error_message,
            "condition": condition,
            "variables": variables,
            "timestamp": now,
            "error_type": error_type,
            "branch_index": branch_index,
        }
        return self._capturing.record(
            LogType.ERROR, ids=_ids(uow_id, role_id, interaction_id, actor_id), error=error, timestamp=now
        )

    def capture_guardian_decision(
        self,
        uow_id: HostId,
        role_id: HostId = None,
        interaction_id: HostId = None,
        actor_id: HostId = None,
        guardian_name: str = "",
        condition: str | None = None,
        decision: str | None = None,
        matched_branch_index: int | None = None,
    ) -> bool:
        """Record what a guard decided: a ``GUARDIAN_DECISION``. Whether it was accepted."""
        now = self._capturing.now()
        details = {
            "guardian_name": guardian_name,
            "condition": condition,
            "decision": decision,
            "matched_branch_index": matched_branch_index,
            "timestamp": now,
        }
        return self._capturing.record(
            LogType.GUARDIAN_DECISION,
            ids=_ids(uow_id, role_id, interaction_id, actor_id),
            details=details,
            timestamp=now,
        )


class TelemetryHandler(logging.Handler):
    """Log records as entries: from ``ERROR`` up as ``ERROR``, others as ``TELEMETRY``.

    ``extra={"unit_id": ..., "actor_id": ...}`` fills the entry's fields, all else of it is among the details. Perdure's
    own records are left out: each flush would leave more to flush.
    """

    def __init__(
        self,
        telemetry: TakesEntries,
        instance_id: str | UUID,
        *,
        level: int = logging.NOTSET,
        environment: Environment | None = None,
    ) -> None:
        super().__init__(level)
        self._capturing = _Capturing(telemetry, instance_id, environment)

    def emit(self, record: logging.LogRecord) -> None:
        """Record it. It never waits, for no file and no socket."""
        if record.name == _OWN or record.name.startswith(f"{_OWN}."):
            return
        try:
            extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
            ids = {name: extra.pop(name, None) for name in _ID_FIELDS}
            details = {"logger": record.name, "level": record.levelname, "message": record.getMessage(), **extra}
            error = _error(record.exc_info[1]) if record.exc_info else None
            self._capturing.record(
                LogType.ERROR if record.levelno >= logging.ERROR else LogType.TELEMETRY,
                ids=ids,
                details=details,
                error=error,
                timestamp=datetime.fromtimestamp(record.created, UTC),
            )
        except Exception:  # noqa: BLE001 - a message that does not fit its arguments: as every handler does
            self.handleError(record)


class TelemetryProcessor:
    """A processor of structlog: records each event, and hands it on as it is.

    ``unit_id``, ``actor_id``, ``role_id`` and ``interaction_id`` of an event are the entry's, the rest its details.
    """

    def __init__(
        self, telemetry: TakesEntries, instance_id: str | UUID, *, environment: Environment | None = None
    ) -> None:
        self._capturing = _Capturing(telemetry, instance_id, environment)

    def __call__(self, logger: object, method_name: str, event_dict: _Event) -> _Event:
        """Record an event."""
        del logger
        details = {name: value for name, value in event_dict.items() if name != "exc_info"}
        ids = {name: details.pop(name, None) for name in _ID_FIELDS}
        given = event_dict.get("exc_info")
        error = _error(given) if isinstance(given, BaseException) else None
        is_error = method_name in {"error", "critical", "exception", "fatal"}
        self._capturing.record(
            LogType.ERROR if is_error else LogType.TELEMETRY,
            ids=ids,
            details={"level": method_name, **details},
            error=error,
        )
        return event_dict


def _ids(unit_id: HostId, role_id: HostId, interaction_id: HostId, actor_id: HostId) -> Mapping[str, HostId]:
    return {"unit_id": unit_id, "role_id": role_id, "interaction_id": interaction_id, "actor_id": actor_id}


def _error(error: BaseException | None) -> Mapping[str, object] | None:
    if error is None:
        return None
    return {
        "error_type": type(error).__name__,
        "error_message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
