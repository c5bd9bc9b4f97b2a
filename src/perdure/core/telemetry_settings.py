"""How telemetry is buffered, flushed, spilled and ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from perdure.core.recorder_redaction import RedactionPolicy
from perdure.core.telemetry_buffer import BATCH_ENTRIES, BYTES_MAX, ENTRIES_MAX
from perdure.domain.telemetry import WRITE_ENTRIES_MAX
from perdure.errors import Invalid

INTERVAL_S: Final = 1.0  # how old an entry gets in the buffer, beside what its write takes
WRITE_S: Final = 30.0  # one write; the same as everything else that writes
BACKOFF_BASE_S: Final = 0.1  # after the first failure; each later one waits twice as long
BACKOFF_S_MAX: Final = 30.0  # so that the end of a long outage is noticed within half a minute
BREAKER_FAILURES: Final = 5  # in a row; from then on one entry is tried at a time, until one is written
POISON_FAILURES: Final = 3  # of the same batch, before the entry is looked for that makes it fail
STOP_S: Final = 5.0  # what a program that is told to end has for what is pending, below the 10 s of most supervisors
SPILL_WINDOW_MS: Final = 100  # what SIGKILL takes at most, beside what one fsync takes
SPILL_BYTES_MAX: Final = 256 * 1_048_576  # an hour of a busy program while its store is away
DEAD_LETTER_BYTES_MAX: Final = 16 * 1_048_576  # enough to see what is wrong; more of it says the same


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """What a buffer holds, and how its flusher goes about it.

    A flush begins when ``batch_entries`` are pending or ``interval_s`` has passed since the last. ``redaction`` is
    ``"default"``, ``"off"`` or a function of the type of an entry and its details. With ``spill_dir`` everything
    pending is in a file there ``spill_window_ms`` after it was recorded, and is written at the next start. What cannot
    be written stands in ``dead_letters``; None: nowhere. At the end ``stop_s`` are left for what is pending.
    """

    entries_max: int = ENTRIES_MAX
    bytes_max: int = BYTES_MAX
    batch_entries: int = BATCH_ENTRIES
    interval_s: float = INTERVAL_S
    write_s: float = WRITE_S
    redaction: RedactionPolicy = "default"
    backoff_base_s: float = BACKOFF_BASE_S
    backoff_s_max: float = BACKOFF_S_MAX
    breaker_failures: int = BREAKER_FAILURES
    poison_failures: int = POISON_FAILURES
    stop_s: float = STOP_S
    spill_dir: Path | None = None
    spill_window_ms: int = SPILL_WINDOW_MS
    spill_bytes_max: int = SPILL_BYTES_MAX
    dead_letters: Path | None = None
    dead_letter_bytes_max: int = DEAD_LETTER_BYTES_MAX

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, int | float) and not (math.isfinite(value) and value > 0):
                raise Invalid(f"{item.name} of telemetry is {value}; expected a finite number above 0")
        if self.batch_entries > WRITE_ENTRIES_MAX:
            raise Invalid(f"batch_entries of telemetry is {self.batch_entries}; expected {WRITE_ENTRIES_MAX} at most")
