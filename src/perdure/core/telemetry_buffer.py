"""What was recorded and is not written yet: bounded, in memory, and never in the way of whoever records.

::

    record ──► urgent ─┐                ┌─► ack      flushed
               others ─┴─► lease ───────┼─► requeue  pending again, at the head, in order
                                        ├─► bury     dead_lettered
                                        └─► drop     dropped
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from perdure.core.telemetry_snapshots import snapshot, within
from perdure.core.telemetry_stats import TelemetryStats
from perdure.domain.telemetry import ENTRY_BYTES_MAX, LogType, TelemetryEntry, TelemetryRecord
from perdure.errors import Invalid

ENTRIES_MAX: Final = 10_000  # a minute of a busy program, and some 10 MB
BYTES_MAX: Final = 64 * 1_048_576  # of snapshots: what a program can spare that has other things to do
BATCH_ENTRIES: Final = 500  # leased at once, and how many wake the flusher: a write costs more than its rows below it

_HELD_BYTES: Final = 512  # what an entry and its place in the queue cost beside its snapshots
_ERROR: Final = LogType.ERROR
_DECISION: Final = LogType.GUARDIAN_DECISION


class Held:
    """An entry in the buffer, with its details as they were when it was recorded."""

    __slots__ = ("details", "entry", "error", "is_done", "is_spilled", "is_urgent", "record", "size")

    def __init__(
        self,
        entry: TelemetryEntry,
        details: bytes | None,
        error: bytes | None,
        size: int,
        is_urgent: bool,  # noqa: FBT001 - made a million times a second
    ) -> None:
        self.entry = entry
        self.details = details
        self.error = error
        self.size = size
        self.is_urgent = is_urgent
        self.is_done = False
        self.record: TelemetryRecord | None = None
        self.is_spilled = False


class Lease:
    """Entries that somebody is about to write; each of them is settled once."""

    __slots__ = ("generation", "held")

    def __init__(self, held: tuple[Held, ...], generation: int) -> None:
        self.held = held
        self.generation = generation


class TelemetryBuffer:
    """A bounded buffer of entries. ``record`` may be called from any thread and costs microseconds.

    Errors and guardian decisions are leased before everything else, in the order in which they came, and when the
    buffer is full each takes the place of the newest entry that is neither. After a fork the child's is empty, has a
    lock of its own and wakes nobody; the parent's is as it was.
    """

    def __init__(
        self, *, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX, batch_entries: int = BATCH_ENTRIES
    ) -> None:
        for name, value in (("entries_max", entries_max), ("bytes_max", bytes_max), ("batch_entries", batch_entries)):
            if value < 1:
                raise Invalid(f"{name} of a telemetry buffer is {value}; expected 1 at least")
        self.entries_max = entries_max
        self.bytes_max = bytes_max
        self.batch_entries = batch_entries
        self._generation = 0
        self._begin()
        _BUFFERS.add(self)

    def _begin(self) -> None:
        # A signal's handler may record in the very thread that is recording.
        self._lock = threading.RLock()
        self._urgent: deque[Held] = deque()
        self._others: deque[Held] = deque()
        self._fresh: deque[Held] | None = None
        self._wake: Callable[[], object] | None = None
        self._is_closed = False
        self._held_count = self._held_bytes = self._high_water = 0
        self._accepted = self._flushed = self._in_flight = self._buried = self._retried = 0
        self._oversized = 0
        self._dropped: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    # --- recording ----------------------------------------------------------------------------------------------------

    def record(self, entry: TelemetryEntry) -> bool:
        """Keep an entry until it is written; whether it was accepted.

        Its details are encoded now, so that what happens to them later is not seen. It never waits and never raises;
        what was refused is counted by its reason in ``stats().refused``.
        """
        try:
            log_type = entry.log_type
            is_urgent = log_type is _ERROR or log_type is _DECISION
            if self._is_closed or (self._held_count >= self.entries_max and not (is_urgent and self._others)):
                # Before anything is encoded: a full buffer costs its callers next to nothing.
                return self.refuse("closed" if self._is_closed else "full")
            value = entry.event_details
            details = None if value is None else snapshot(value)
            value = entry.error_metadata
            error = None if value is None else snapshot(value)
            size = (0 if details is None else len(details)) + (0 if error is None else len(error))
            if size > ENTRY_BYTES_MAX:
                details, error = within(details, error)
                size = len(details or b"") + len(error or b"")
                self._oversized += 1
            return self._accept(Held(entry, details, error, size + _HELD_BYTES, is_urgent))
        except Exception:  # noqa: BLE001 - whoever records goes on, whatever it was that was given
            return self.refuse("invalid")

    def refuse(self, reason: str) -> bool:
        """Count an entry that is not accepted, and say so: False."""
        with self._lock:
            self._refused[reason] += 1
        return False

    def _accept(self, held: Held) -> bool:
        with self._lock:
            if self._is_closed:
                self._refused["closed"] += 1
                return False
            if self._held_count >= self.entries_max or self._held_bytes + held.size > self.bytes_max:
                reason = "full" if self._held_count >= self.entries_max else "full_bytes"
                if not (held.is_urgent and self._make_room(held.size)):
                    self._refused[reason] += 1
                    return False
            (self._urgent if held.is_urgent else self._others).append(held)
            if self._fresh is not None:
                self._fresh.append(held)
            self._held_bytes += held.size
            self._accepted += 1
            self._held_count = count = self._held_count + 1
            if count > self._high_water:  # noqa: PLR1730 - a call of max() is a tenth of what all of this takes
                self._high_water = count
            wake = self._wake if count - self._in_flight == self.batch_entries else None
        if wake is not None:
            wake()
        return True

    def _make_room(self, size: int) -> bool:
        """Give up the newest entries that are not urgent, as many as it takes; whether that was enough."""
        spare_bytes, count = self.bytes_max - self._held_bytes - size, 0
        for held in reversed(self._others):
            if self._held_count - count < self.entries_max and spare_bytes >= 0:
                break
            spare_bytes += held.size
            count += 1
        if spare_bytes < 0 or self._held_count - count >= self.entries_max:
            return False
        for _ in range(count):
            self._forget(self._others.pop())
        self._dropped["displaced"] += count
        return True

    # --- writing ------------------------------------------------------------------------------------------------------

    def lease(self, entries_max: int, *, bytes_max: int | None = None) -> Lease:
        """The next entries, urgent ones first, to be written by the caller; none if there is nothing.

        Of each the outcome is to be said: ``ack``, ``requeue``, ``bury`` or ``drop``.
        """
        taken: list[Held] = []
        left = self.bytes_max if bytes_max is None else bytes_max
        with self._lock:
            for queue in (self._urgent, self._others):
                while queue and len(taken) < entries_max and (queue[0].size <= left or not taken):
                    left -= queue[0].size
                    taken.append(queue.popleft())
            self._in_flight += len(taken)
            return Lease(tuple(taken), self._generation)

    def ack(self, lease: Lease, held: Sequence[Held]) -> None:
        """These were written."""
        with self._lock:
            if lease.generation == self._generation:
                self._settle(held)
                self._flushed += len(held)

    def bury(self, lease: Lease, held: Sequence[Held]) -> None:
        """These were put where dead letters are."""
        with self._lock:
            if lease.generation == self._generation:
                self._settle(held)
                self._buried += len(held)

    def drop(self, lease: Lease, held: Sequence[Held], reason: str) -> None:
        """These are given up."""
        with self._lock:
            if lease.generation == self._generation:
                self._settle(held)
                if held:
                    self._dropped[reason] += len(held)

    def requeue(self, lease: Lease, held: Sequence[Held]) -> None:
        """These were not written; they are the next again, in their order."""
        with self._lock:
            if lease.generation == self._generation:
                for one in reversed(held):
                    (self._urgent if one.is_urgent else self._others).appendleft(one)
                self._in_flight -= len(held)
                self._retried += len(held)

    def _settle(self, held: Iterable[Held]) -> None:
        for one in held:
            self._in_flight -= 1
            self._forget(one)

    def _forget(self, held: Held) -> None:
        self._held_count -= 1
        self._held_bytes -= held.size
        held.is_done = True

    # --- looking and ending -------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many entries wait to be leased."""
        return self._held_count - self._in_flight

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing any more."""
        return self._is_closed

    def stats(self) -> TelemetryStats:
        """All counters, as they were at one moment."""
        with self._lock:
            return TelemetryStats(
                accepted=self._accepted,
                flushed=self._flushed,
                pending=self._held_count - self._in_flight,
                in_flight=self._in_flight,
                dead_lettered=self._buried,
                dropped=dict(self._dropped),
                refused=dict(self._refused),
                retried=self._retried,
                oversized=self._oversized,
                held_bytes=self._held_bytes,
                entries_max=self.entries_max,
                bytes_max=self.bytes_max,
                high_water=self._high_water,
            )

    def wake_with(self, wake: Callable[[], object] | None) -> None:
        """Have ``wake`` called, by whoever records, each time ``batch_entries`` are pending; None: nobody."""
        with self._lock:
            self._wake = wake

    def spill_fresh(self) -> None:
        """From now on remember what was recorded since it was last asked for, for ``take_fresh``."""
        with self._lock:
            if self._fresh is None:
                self._fresh = deque((*self._urgent, *self._others))

    def take_fresh(self) -> Sequence[Held]:
        """What was recorded since the last time and is not settled yet."""
        with self._lock:
            if not self._fresh:
                return ()
            taken, self._fresh = self._fresh, deque()
        return [held for held in taken if not held.is_done]

    def close(self) -> None:
        """Take nothing any more; what is pending stays, to be written or handed over."""
        with self._lock:
            self._is_closed = True

    def hand_over(self) -> tuple[TelemetryEntry, ...]:
        """Empty it, open it again and count from 0; the entries that were pending, urgent ones first."""
        with self._lock:
            left = (*self._urgent, *self._others)
            in_flight = self._in_flight
            wake, fresh, lock = self._wake, self._fresh, self._lock
            self._begin()
            # Whoever waits for the lock waits for this one; and a lease that is out is still to be settled.
            self._lock, self._wake, self._fresh = lock, wake, None if fresh is None else deque()
            self._accepted = self._in_flight = self._held_count = in_flight
            self._held_bytes = 0
            for held in left:
                held.is_done = True
        return tuple(held.entry for held in left)

    def begin_anew_in_child(self) -> None:
        """After a fork: what is in here is the parent's to write, and its lock may be held by a thread that is gone."""
        self._generation += 1
        self._begin()


_BUFFERS: Final[weakref.WeakSet[TelemetryBuffer]] = weakref.WeakSet()


def _after_fork() -> None:
    for buffer in list(_BUFFERS):
        buffer.begin_anew_in_child()


os.register_at_fork(after_in_child=_after_fork)
