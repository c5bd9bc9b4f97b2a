"""Whether a store is worth waiting for: what was written, what was not, and when to try again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from perdure.core.recorder_limits import TRIAL_BUDGET_S, RecorderLimits, RecorderMode
from perdure.ports.environment import Clock

_log: Final = logging.getLogger("perdure.recorder")

SUSPENDED: Final = "recording_suspended"
RESUMED: Final = "recording_resumed"
_POWER_MAX: Final = 32  # doublings of a pause; beyond any longest one, and before a float overflows


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderWarning:
    """What a recorder has to say about one operation that failed, or about an outage that begins or ends.

    ``code`` is that of the error, or ``recording_suspended`` or ``recording_resumed``; ``step`` is what failed
    (``redact``, ``encode``, ``publish_bundle``, ``create_context``, ``put_blob``, ``append_turn``, ``read``).
    """

    code: str
    message: str
    step: str | None = None
    record_type: str | None = None
    event_kind: str | None = None
    idempotency_key: str | None = None
    sequence_no: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderStatus:
    """What became of the records so far: ``attempted`` is ``written`` and ``failed`` together.

    ``replayed`` of those written were there before, ``suspended`` of those failed were not tried, because an outage was
    going on. ``is_suspended``: it still is. ``last_error`` is the code of the last error.
    """

    mode: RecorderMode
    attempted: int = 0
    written: int = 0
    replayed: int = 0
    failed: int = 0
    suspended: int = 0
    is_suspended: bool = False
    last_error: str | None = None

    @property
    def is_degraded(self) -> bool:
        """Whether something is missing."""
        return self.failed > 0


OnWarning = Callable[[RecorderWarning], None]


class Warnings:
    """Where warnings go: the log, and whoever asked."""

    def __init__(self, on_warning: OnWarning | None) -> None:
        self._on_warning = on_warning

    def tell(self, warning: RecorderWarning) -> None:
        """Say it once in each place; a callback that fails is logged and harms nobody."""
        _log.warning("%s", warning.message)
        if self._on_warning is None:
            return
        try:
            self._on_warning(warning)
        except Exception:  # noqa: BLE001 - it is not ours, and the run that it watches goes on
            _log.exception("a callback for warnings of a recorder failed")


class Counts:
    """The counters behind ``RecorderStatus``."""

    def __init__(self) -> None:
        self.attempted = 0
        self.written = 0
        self.replayed = 0
        self.failed = 0
        self.suspended = 0
        self.last_error: str | None = None


class Breaker:
    """Bounds how long callers wait for a store that does not answer.

    Every admission is followed by one of ``succeeded``, ``failed`` and ``learned_nothing``.
    """

    def __init__(self, limits: RecorderLimits, *, clock: Clock, warnings: Warnings) -> None:
        self._limits = limits
        self._clock = clock
        self._warnings = warnings
        self._failures = 0
        self._waited_s = 0.0
        self._trials = 0
        self._skipped = 0
        self._next_trial_s: float | None = None
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Whether records are dropped without being tried."""
        return self._next_trial_s is not None

    def admit(self) -> float | None:
        """How long the next operation may take, in seconds; None if it is not to be tried now."""
        if self._next_trial_s is not None:
            if self._is_trying or self._clock.monotonic() < self._next_trial_s:
                self._skipped += 1
                return None
            self._is_trying = True
        left_s = self._limits.outage_budget_s - self._waited_s
        return min(self._limits.record_budget_s, max(left_s, TRIAL_BUDGET_S))

    def succeeded(self) -> None:
        """The store answered and did it: an outage is over."""
        if self._next_trial_s is not None:
            message = f"the store answers again; {self._skipped} records of the outage were not tried"
            self._warnings.tell(RecorderWarning(code=RESUMED, message=message))
        self._failures, self._waited_s, self._trials, self._skipped = 0, 0.0, 0, 0
        self._next_trial_s, self._is_trying = None, False

    def failed(self, *, waited_s: float) -> None:
        """The store did not do it after so long."""
        limits = self._limits
        self._failures += 1
        self._waited_s += waited_s
        if self._next_trial_s is None:
            if self._failures < limits.failures_max and self._waited_s < limits.outage_budget_s:
                return
            message = (
                f"{self._failures} operations failed in a row, {self._waited_s:.1f} s were spent waiting; "
                f"nothing is recorded for {limits.retry_after_s:g} s, then one record is tried"
            )
            self._warnings.tell(RecorderWarning(code=SUSPENDED, message=message))
        pause_s = min(limits.retry_after_s_max, limits.retry_after_s * 2.0 ** min(self._trials, _POWER_MAX))
        self._trials += 1
        self._next_trial_s = self._clock.monotonic() + pause_s
        self._is_trying = False

    def learned_nothing(self) -> None:
        """What failed was the record, and says nothing about the store."""
        self._is_trying = False
