"""From the buffer to a store: in batches, in order, again after a failure, and never two writes at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from perdure.core.recorder_redaction import Redaction
from perdure.core.telemetry_buffer import Held, Lease, TelemetryBuffer
from perdure.core.telemetry_lines import DeadLetters
from perdure.core.telemetry_settings import TelemetrySettings
from perdure.core.telemetry_snapshots import Preparing
from perdure.core.telemetry_spill import Spill, left_behind
from perdure.core.telemetry_stats import Latencies, TelemetryStats
from perdure.domain.telemetry import WRITE_BYTES_MAX, TelemetryRecord
from perdure.errors import Forbidden, NoRoute, PerdureError, PersistenceError, Unavailable
from perdure.ports.environment import Environment

Write: TypeAlias = Callable[[Sequence[TelemetryRecord]], Awaitable[None]]
"""Writes records, idempotently; what it raises says that some of them may not be written."""

_log = logging.getLogger(__name__)

# What these say is true of every entry alike, so none of them is looked for as the one that cannot be written.
_OUTAGES: Final = (Unavailable, NoRoute, Forbidden, TimeoutError, ConnectionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """How a flusher ended: what it wrote since it was told to, and what is lost with it."""

    flushed: int
    lost: int


class TelemetryFlusher:
    """Writes what a buffer holds, for as long as ``run`` goes on.

    A flush begins when a batch is pending, when ``interval_s`` has passed since the last, or when ``flush`` is called.
    A write that fails puts its batch back at the head and is tried again after pauses that double; while the store is
    away, after ``breaker_failures`` of them, with one entry only. What fails ``poison_failures`` times although the
    store is there is written in halves until the entry is found that makes it fail; that one becomes a dead letter if
    others were written meanwhile.
    """

    def __init__(
        self,
        buffer: TelemetryBuffer,
        write: Write,
        *,
        environment: Environment,
        settings: TelemetrySettings | None = None,
    ) -> None:
        settings = settings if settings is not None else TelemetrySettings()
        self.buffer = buffer
        self.settings = settings
        self._write = write
        self._clock = environment.clock
        self._chance = environment.randomness
        self._preparing = Preparing(
            Redaction(settings.redaction), is_off=settings.redaction == "off", always=callable(settings.redaction)
        )
        self._dead_letters = (
            None
            if settings.dead_letters is None
            else DeadLetters(settings.dead_letters, bytes_max=settings.dead_letter_bytes_max)
        )
        self._spill = (
            None
            if settings.spill_dir is None
            else Spill(
                buffer,
                settings.spill_dir,
                record=self._record,
                new_id=environment.ids.new,
                window_ms=settings.spill_window_ms,
                bytes_max=settings.spill_bytes_max,
            )
        )
        self._one_at_a_time = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._failures_in_row = 0
        self._is_away = False
        self._not_before = 0.0
        self._flushed_at = self._clock.monotonic()
        self._flushes = self._failures = self._replayed = 0
        self._latencies = Latencies()
        self._is_stopping = False

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go on until stopped or cancelled. What fails is counted, reported and tried again."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            """Called by whoever records, in whatever thread."""
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be woken
                loop.call_soon_threadsafe(self._wanted.set)

        self.buffer.wake_with(wake)
        if self._spill is not None:
            self._spill.start()
        try:
            await self._replay_left_behind()
            while not self._is_stopping:
                while await self.once():
                    pass
                await self._wait()
        finally:
            self.buffer.wake_with(None)

    async def once(self) -> bool:
        """Flush one batch if that is due now; whether there was one and it was written."""
        now = self._clock.monotonic()
        pending = self.buffer.pending
        is_due = pending >= self.buffer.batch_entries or now - self._flushed_at >= self.settings.interval_s
        if not pending or not is_due or now < self._not_before:
            return False
        try:
            await self._flush_batch(1 if self._is_open and self._is_away else self.buffer.batch_entries)
        except Exception as exc:  # noqa: BLE001 - a sink of somebody else may raise anything; it is tried again
            log = _log.warning if self._failures_in_row in (1, self.settings.breaker_failures) else _log.debug
            log("telemetry could not be written (%s), and is kept to be tried again", _named(exc))
            return False
        return self.buffer.pending >= self.buffer.batch_entries

    async def _wait(self) -> None:
        self._wanted.clear()
        if self._is_stopping:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.interval_s if self._failures_in_row == 0 else self._pause_s):
                await self._wanted.wait()

    @property
    def _is_open(self) -> bool:
        return self._failures_in_row >= self.settings.breaker_failures

    @property
    def _pause_s(self) -> float:
        return max(min(self._not_before - self._clock.monotonic(), self.settings.interval_s), 0.001)

    # --- flushing -----------------------------------------------------------------------------------------------------

    async def flush(self, entries_max: int | None = None) -> int:
        """Write one batch now, of at most ``entries_max``; how many were. Raises what the store raises."""
        return await self._flush_batch(self.buffer.batch_entries if entries_max is None else entries_max)

    async def flush_all(self) -> int:
        """Write what is pending now, batch after batch; how many were. Ends with the first failure, and raises it."""
        left, written = self.buffer.pending, 0
        while left > 0:
            done = await self._flush_batch(min(left, self.buffer.batch_entries))
            if not done and not self.buffer.pending:
                break
            written += done
            left -= max(done, 1)
        return written

    async def _flush_batch(self, entries_max: int) -> int:
        async with self._one_at_a_time:
            lease = self.buffer.lease(entries_max, bytes_max=WRITE_BYTES_MAX)
            if not lease.held:
                return 0
            began = self._clock.monotonic()
            done = await self._settle(lease)
            self._flushed_at = now = self._clock.monotonic()
            self._latencies = self._latencies.with_one(max(now - began, 0.0))
            self._flushes += 1
            return done

    async def _settle(self, lease: Lease) -> int:
        """Write what was leased and say what became of each."""
        unsettled = list(lease.held)
        try:
            await self._write_held(lease.held)
        except Exception as exc:
            self._failed(is_away=_is_outage(exc))
            if _is_about_the_user(exc):
                self.buffer.drop(lease, unsettled, "forbidden")
                unsettled = []
                raise
            if not self._may_be_poison(lease):
                raise
            return await self._bisect(lease, unsettled)
        else:
            self._succeeded()
            self.buffer.ack(lease, unsettled)
            unsettled = []
            return len(lease.held)
        finally:
            # Also when this was cancelled: it may have been written, and writing it again is harmless.
            self.buffer.requeue(lease, unsettled)

    def _may_be_poison(self, lease: Lease) -> bool:
        if self._is_away or len(lease.held) == 1:
            return False
        return self._failures_in_row % self.settings.poison_failures == 0

    async def _bisect(self, lease: Lease, unsettled: list[Held]) -> int:
        """Write a batch in halves; what cannot be written alone, although others can, is a dead letter.

        ``unsettled`` is what is left to be put back. Raises the last error if nothing could be written.
        """
        written = 0
        suspects: list[tuple[Held, Exception]] = []
        parts = _halves(lease.held)
        last: Exception | None = None
        while parts:
            part = parts.pop(0)
            try:
                await self._write_held(part)
            except Exception as exc:
                last = exc
                if _is_outage(exc):
                    raise
                if len(part) == 1:
                    suspects.append((part[0], exc))
                else:
                    parts[:0] = _halves(part)
            else:
                written += len(part)
                self.buffer.ack(lease, part)
                _remove(unsettled, part)
        if not written:
            # Nobody can be written, so it is not any one of them.
            assert last is not None, "nothing was written, so something failed"
            raise last
        self._succeeded()
        self._bury(lease, suspects)
        _remove(unsettled, [held for held, _ in suspects])
        return written

    def _bury(self, lease: Lease, suspects: Sequence[tuple[Held, Exception]]) -> None:
        if not suspects:
            return
        held = [one for one, _ in suspects]
        if self._dead_letters is not None:
            try:
                self._dead_letters.append((self._record(one), _named(exc)) for one, exc in suspects)
            except OSError as exc:
                _log.error("dead letters of telemetry cannot be kept (%s)", exc.strerror)
            else:
                self.buffer.bury(lease, held)
                return
        _log.error("%d entries of telemetry cannot be written and are given up", len(held))
        self.buffer.drop(lease, held, "poison")

    async def _write_held(self, held: Sequence[Held]) -> None:
        records = [self._record(one) for one in held]
        async with asyncio.timeout(self.settings.write_s):
            await self._write(records)

    def _record(self, held: Held) -> TelemetryRecord:
        if held.record is None:
            held.record = self._preparing.record(held.entry, held.details, held.error)
        return held.record

    def _failed(self, *, is_away: bool) -> None:
        self._is_away = is_away
        self._failures += 1
        self._failures_in_row += 1
        longest_s = min(
            self.settings.backoff_base_s * 2 ** min(self._failures_in_row - 1, 32), self.settings.backoff_s_max
        )
        # Half of it is chance, so that many processes do not come back at the same moment.
        self._not_before = self._clock.monotonic() + longest_s * (0.5 + self._chance.random() / 2)

    def _succeeded(self) -> None:
        self._failures_in_row = 0
        self._is_away = False
        self._not_before = 0.0

    async def _replay_left_behind(self) -> None:
        """Write what processes that were killed left in the spill directory. Raises nothing: it stays for next time."""
        if self.settings.spill_dir is None:
            return
        for path, records in left_behind(self.settings.spill_dir):
            for first in range(0, len(records), self.settings.batch_entries):
                part = records[first : first + self.settings.batch_entries]
                if not await self._replayed_part(part):
                    return
                self._replayed += len(part)
            path.unlink(missing_ok=True)

    async def _replayed_part(self, part: Sequence[TelemetryRecord]) -> bool:
        try:
            async with asyncio.timeout(self.settings.write_s):
                await self._write(part)
        except Exception as exc:  # noqa: BLE001 - as in ``once``
            _log.warning("spilled telemetry could not be written (%s), and stays for the next start", _named(exc))
            return False
        return True

    # --- looking and ending -------------------------------------------------------------------------------------------

    def stats(self) -> TelemetryStats:
        """All counters, as they are now."""
        spill = self._spill
        return replace(
            self.buffer.stats(),
            redacted=self._preparing.redacted,
            unserialisable=self._preparing.unserialisable,
            flushes=self._flushes,
            failures=self._failures,
            breaker="open" if self._is_open else "closed",
            last_flush_age_s=self._clock.monotonic() - self._flushed_at if self._flushes else None,
            latencies=self._latencies,
            spilled=0 if spill is None else spill.spilled,
            unspilled=0 if spill is None else spill.unspilled,
            replayed=self._replayed,
        )

    async def stop(self, deadline_s: float | None = None) -> Stopped:
        """Take nothing more, write what is pending for at most ``deadline_s``, and say what became of it.

        What is left then is lost, unless it is spilled: then it is written at the next start, and is not counted here.
        """
        self._is_stopping = True
        self.buffer.close()
        self._wanted.set()
        before = self.buffer.stats().flushed
        deadline_s = self.settings.stop_s if deadline_s is None else deadline_s
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._drain(self._clock.monotonic() + deadline_s)
        if self._spill is not None:
            self._stop_spill()
        left = self.buffer.lease(self.buffer.entries_max)
        lost = [held for held in left.held if not held.is_spilled]
        self.buffer.drop(left, lost, "lost")
        self.buffer.drop(left, [held for held in left.held if held.is_spilled], "spilled")
        if left.held:
            _log.warning(
                "telemetry ended with %d entries that were not written, %d of them lost", len(left.held), len(lost)
            )
        return Stopped(flushed=self.buffer.stats().flushed - before, lost=len(lost))

    async def _drain(self, ends: float) -> None:
        while self.buffer.pending or self.buffer.stats().in_flight:
            try:
                await self.flush_all()
            except Exception as exc:  # noqa: BLE001 - as in ``once``; there is still time
                left_s = ends - self._clock.monotonic()
                pause_s = self._not_before - self._clock.monotonic()
                _log.debug("telemetry could not be written (%s) while it ends", _named(exc))
                if pause_s >= left_s:
                    return
                await asyncio.sleep(max(pause_s, 0.001))

    def _stop_spill(self) -> None:
        assert self._spill is not None, "asked only if there is one"
        try:
            # Not in a thread: when the program ends, no executor begins one any more.
            self._spill.stop()
        except OSError as exc:
            _log.error("telemetry cannot be spilled (%s)", exc.strerror)


def _is_outage(error: Exception) -> bool:
    return isinstance(error, _OUTAGES) and not isinstance(error, PersistenceError)


def _named(error: Exception) -> str:
    return error.code if isinstance(error, PerdureError) else type(error).__name__


def _is_about_the_user(error: Exception) -> bool:
    return isinstance(error, Forbidden) and error.code == "not_a_member"


def _halves(held: tuple[Held, ...]) -> list[tuple[Held, ...]]:
    middle = len(held) // 2
    return [held[:middle], held[middle:]]


def _remove(unsettled: list[Held], settled: Sequence[Held]) -> None:
    gone = set(map(id, settled))
    unsettled[:] = [held for held in unsettled if id(held) not in gone]
