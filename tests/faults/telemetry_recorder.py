"""A process that records telemetry from many threads until it is told to end, or killed.

::

    python -m tests.faults.telemetry_recorder TASK

Its store is a file of ids, which fails as often as the task says. It prints what the buffer counted each time it looks,
and forks once while it records.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perdure.core.environment import system_environment
from perdure.core.telemetry_settings import TelemetrySettings
from perdure.domain.telemetry import LogType, TelemetryEntry, TelemetryRecord
from perdure.errors import BackendDown
from perdure.telemetry import TelemetryBuffer, TelemetryThread

PRODUCERS = 16
ENVIRONMENT = system_environment()


class FileStore:
    """Appends ids and details to a file, some of a batch before it fails."""

    def __init__(self, path: Path, *, failures: float) -> None:
        self._path = path
        self._failures = failures
        self._chance = random.Random(7)  # noqa: S311 - repeatable on purpose

    def write(self, records: Sequence[TelemetryRecord]) -> None:
        """Keep a batch, or a part of it and fail."""
        fails = self._chance.random() < self._failures
        kept = records[: len(records) // 2] if fails and self._failures < 1 else () if fails else records
        lines = [json.dumps([str(one.entry_id), json.loads(one.event_details or b"null")]) for one in kept]
        with self._path.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))
        if fails:
            raise BackendDown("the store of this test is away")


def say(value: Any) -> None:
    """A line for the test."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def record(buffer: TelemetryBuffer, details: Any) -> bool:
    """One entry."""
    return buffer.record(
        TelemetryEntry(
            entry_id=ENVIRONMENT.ids.new(),
            instance_id="site-1",
            log_type=LogType.ERROR if details[1] % 5 == 0 else LogType.TELEMETRY,
            event_details=details,
            timestamp=ENVIRONMENT.clock.now(),
        )
    )


def produce(buffer: TelemetryBuffer, producer: int, ending: threading.Event, accepted: list[int]) -> None:
    """Record until it is to end; ``accepted[producer]`` is how many were accepted."""
    number = 0
    while not ending.is_set():
        accepted[producer] += record(buffer, [producer, number])
        number += 1
        ending.wait(0.0005)  # as a program that does something else as well


def in_child(buffer: TelemetryBuffer) -> int:
    """What a child finds: an empty buffer of its own, which the parent's flusher does not flush."""
    stats = buffer.stats()
    fine = stats.accepted == 0 and record(buffer, [99, 1]) and buffer.pending == 1 and buffer.stats().is_balanced
    return 0 if fine else 1


def main(task: dict[str, Any]) -> None:
    """Record until SIGTERM; then say what was accepted and what became of it."""
    folder = Path(task["folder"])
    buffer = TelemetryBuffer(entries_max=200_000, batch_entries=64)
    settings = TelemetrySettings(
        interval_s=0.02,
        backoff_base_s=0.001,
        backoff_s_max=0.01,
        spill_dir=folder / "spill" if task["spill"] else None,
        spill_window_ms=20,
        stop_s=30.0,
    )
    thread = TelemetryThread(
        buffer, FileStore(folder / "kept.jsonl", failures=task["failures"]).write, settings=settings
    )
    thread.start()
    ending, accepted = threading.Event(), [0] * PRODUCERS
    told: list[int] = []
    # Not the event itself: the handler may interrupt its wait, which holds the lock that setting it needs.
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    producers = [threading.Thread(target=produce, args=(buffer, n, ending, accepted)) for n in range(PRODUCERS)]
    for one in producers if task["produce"] else ():
        one.start()
    looks = 0
    while not told:
        stats = thread.stats()
        say(["look", stats.is_balanced, stats.accepted, stats.spilled, stats.replayed])
        looks += 1
        if looks == 5 and task["fork"]:
            child = os.fork()
            if child == 0:
                os._exit(in_child(buffer))
            say(["fork", os.waitpid(child, 0)[1]])
        ending.wait(0.01)
    ending.set()
    for one in producers if task["produce"] else ():
        one.join()
    stopped = thread.stop()
    stats = thread.stats()
    say(["end", stats.is_balanced, sum(accepted), stats.accepted, stats.flushed, stopped.lost, stats.pending])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
