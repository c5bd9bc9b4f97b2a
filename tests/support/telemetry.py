"""What tests of telemetry share: entries in few words, and a store that fails when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perdure.core.telemetry_buffer import TelemetryBuffer
from perdure.core.telemetry_flusher import TelemetryFlusher
from perdure.core.telemetry_settings import TelemetrySettings
from perdure.domain.telemetry import LogType, TelemetryEntry, TelemetryRecord
from perdure.ports.environment import Environment
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness

IDS = CountingIds()
CLOCK = FakeClock()


def entry_of(details: Any = None, *, log_type: LogType = LogType.TELEMETRY, **fields: Any) -> TelemetryEntry:
    """An entry with as few words as a test needs."""
    return TelemetryEntry(
        entry_id=IDS.new(),
        instance_id="site-1",
        log_type=log_type,
        event_details=details,
        timestamp=CLOCK.now(),
        **fields,
    )


class Sink:
    """A store in memory. ``judge`` is shown each batch, and may raise before it is kept."""

    def __init__(self, judge: Callable[[Sequence[TelemetryRecord]], None] | None = None) -> None:
        self.judge = judge
        self.batches: list[list[Any]] = []
        self.kept: dict[Any, TelemetryRecord] = {}

    async def write(self, records: Sequence[TelemetryRecord]) -> None:
        """Keep a batch, each entry once."""
        if self.judge is not None:
            self.judge(records)
        self.batches.append([details(record) for record in records])
        for record in records:
            self.kept.setdefault(record.entry_id, record)

    @property
    def details(self) -> list[Any]:
        """The details of everything kept, in the order in which it was."""
        return [details(record) for record in self.kept.values()]


def details(record: TelemetryRecord) -> str | None:
    """The details of a record, as text."""
    return None if record.event_details is None else record.event_details.decode()


class Works:
    """A buffer with a flusher, in a time that stands still."""

    def __init__(self, sink: Sink | None = None, *, settings: TelemetrySettings | None = None, **limits: int) -> None:
        self.clock = FakeClock()
        self.sink = sink if sink is not None else Sink()
        self.buffer = TelemetryBuffer(**limits)
        environment = Environment(clock=self.clock, randomness=SeededRandomness(), ids=CountingIds())
        self.flusher = TelemetryFlusher(
            self.buffer, self.sink.write, environment=environment, settings=settings or TelemetrySettings()
        )

    def record(self, *all_details: Any, log_type: LogType = LogType.TELEMETRY) -> None:
        """Record an entry for each of these details; all are accepted."""
        for one in all_details:
            assert self.buffer.record(entry_of(one, log_type=log_type))
