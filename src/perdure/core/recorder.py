"""Records on their way to turns: redacted, numbered, keyed, encoded, and written as the mode says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar

from perdure.core.recorder_health import (
    Breaker,
    Counts,
    OnWarning,
    RecorderStatus,
    RecorderWarning,
    Warnings,
)
from perdure.core.recorder_limits import (
    MODES,
    SOURCE_HASHES,
    RecorderLimits,
    RecorderMode,
    RecorderTurns,
    SourceHashes,
)
from perdure.core.recorder_lines import Draft, Track
from perdure.core.recorder_redaction import Redaction, RedactionPolicy
from perdure.core.recorder_steps import APPEND, RECORD_STEPS, REDACT, Step, Steps
from perdure.core.recorder_texts import TextRules
from perdure.domain.turn import TurnRef
from perdure.errors import Invalid, KeyReused, PerdureError, PersistenceError, TimedOut
from perdure.ports.environment import Environment

Deadline: TypeAlias = Callable[[float], AbstractAsyncContextManager[Any]]
_T = TypeVar("_T")

RECORDING_FAILED: Final = "recording_failed"
_LIMITS_DEFAULT: Final = RecorderLimits()


class Recorder:
    """Writes typed records to turns, for journals; one of them may serve many runs and sessions of one process.

    ``required``: a record that cannot be written raises ``PersistenceError`` (code ``recording_failed``), and no record
    of that run or session is written before it is. ``best_effort``: nothing is ever raised; each failed operation is
    one warning, the next record that is written tells which ones are missing, and an outage makes callers wait for a
    bounded time. ``off``: nothing is called, checked or computed.

    ``redact`` is ``default`` (keys that name a secret, shapes of tokens), ``off`` or a callable ``(record_type,
    payload) -> payload``, which gets a copy; what it fails for is not written. ``source_hashes="omitted"`` leaves out
    the hash of a text as it was before. ``keeps_blobs`` says whether the backend keeps objects.
    """

    def __init__(
        self,
        turns: RecorderTurns,
        *,
        mode: RecorderMode,
        environment: Environment,
        redact: RedactionPolicy = "default",
        limits: RecorderLimits = _LIMITS_DEFAULT,
        keeps_blobs: bool = True,
        source_hashes: SourceHashes = "plain",
        on_warning: OnWarning | None = None,
        deadline: Deadline = asyncio.timeout,
    ) -> None:
        if mode not in MODES:
            raise Invalid(f"a recorder's mode is {ascii(mode)[:40]}; expected one of {', '.join(MODES)}")
        if source_hashes not in SOURCE_HASHES:
            raise Invalid(
                f"source_hashes of a recorder is {ascii(source_hashes)[:40]}; expected {' or '.join(SOURCE_HASHES)}"
            )
        self.mode: Final = mode
        self._redaction = Redaction(redact)
        self._steps = Steps(
            turns,
            redaction=self._redaction,
            rules=TextRules(limits=limits, keeps_blobs=keeps_blobs, source_hashes=source_hashes),
            clock=environment.clock,
        )
        self._clock = environment.clock
        self._deadline = deadline
        self._limits = limits
        self._warnings = Warnings(on_warning)
        self._breaker = Breaker(limits, clock=environment.clock, warnings=self._warnings)
        self._counts = Counts()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def is_off(self) -> bool:
        """Whether nothing is recorded."""
        return self.mode == "off"

    @property
    def status(self) -> RecorderStatus:
        """What became of the records so far."""
        counts = self._counts
        return RecorderStatus(
            mode=self.mode,
            attempted=counts.attempted,
            written=counts.written,
            replayed=counts.replayed,
            failed=counts.failed,
            suspended=counts.suspended,
            is_suspended=self._breaker.is_open,
            last_error=counts.last_error,
        )

    def now(self) -> datetime:
        """The time of day, for a record that is given none."""
        return self._clock.now()

    async def open(self) -> None:
        """Publish the bundle that describes the records, if it is not there; else the first record does.

        Raises ``PersistenceError`` in mode ``required``, in particular if other bytes stand under the bundle's id.
        """
        if not self.is_off:
            await self._finish(self._attempt(self._steps.publish))

    async def prepare(self, track: Track) -> str | None:
        """The id of a track's context, which is found or made now; None if that failed, or nothing is recorded."""
        if self.is_off:
            return None

        async def work(ends_s: float, step: Step) -> None:
            """The steps before the first record."""
            async with track.lock:
                await self._steps.publish(ends_s, step)
                await self._steps.settle(track, ends_s, step)

        await self._finish(self._attempt(work))
        return track.context_id

    def refuse_blocked(self, track: Track) -> None:
        """Raise ``PersistenceError`` if an earlier record of the track's line has to be written first."""
        if track.line.unwritten:
            raise self._blocked(track.line.unwritten[0][1])

    async def write(self, track: Track, draft: Draft) -> TurnRef | None:
        """Write a record; None if it is not known to be kept, or nothing is recorded.

        Whoever is cancelled meanwhile leaves at once; the record is written all the same, in its place.
        """
        if self.is_off:
            return None
        return await self._finish(self._write(track, draft))

    async def retry(self, track: Track) -> None:
        """In mode ``required``: write what could not be written, with the numbers, times and bytes it had.

        Raises ``PersistenceError`` as before.
        """
        while track.line.unwritten:
            await self.write(*track.line.unwritten[0])

    async def drain(self) -> None:
        """Wait for records whose writers were cancelled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _finish(self, work: Coroutine[Any, Any, _T | PersistenceError]) -> _T:
        # In a task of its own: a record half way through its steps is not torn when its writer is cancelled.
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        outcome = await asyncio.shield(task)
        if isinstance(outcome, PersistenceError):
            raise outcome
        return outcome

    async def _attempt(self, work: Callable[[float, Step], Awaitable[None]]) -> PersistenceError | None:
        """Work that is no record: opening, and looking where to go on."""
        budget_s = self._budget_s()
        if budget_s is None:
            return None
        begun_s, step = self._clock.monotonic(), Step()
        try:
            async with self._deadline(budget_s):
                await work(begun_s + budget_s, step)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is told, and does not stop a run
            return self._failed(None, exc, step=step.name, begun_s=begun_s)
        self._breaker.succeeded()
        return None

    async def _write(self, track: Track, draft: Draft) -> TurnRef | PersistenceError | None:
        self._counts.attempted += 1
        budget_s = self._budget_s()
        if budget_s is None:
            self._counts.failed += 1
            self._counts.suspended += 1
            track.line.lose(draft.sequence_no)
            return None
        begun_s, step = self._clock.monotonic(), Step()
        ref: TurnRef | None = None
        try:
            async with self._deadline(budget_s), track.lock:
                blocked_by = _earlier(track, draft)
                if blocked_by is None:
                    ref = await self._steps.write(track, draft, begun_s + budget_s, step)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is told, and does not stop a run
            self._give_up(track, draft, is_there=step.name == APPEND and isinstance(exc, KeyReused))
            return self._failed(draft, exc, step=step.name, begun_s=begun_s)
        if ref is None:
            assert blocked_by is not None, "what is not blocked is written, or has failed"
            self._give_up(track, draft)
            return self._blocked(blocked_by)
        if track.line.unwritten and track.line.unwritten[0][1] is draft:
            track.line.unwritten.pop(0)
        self._counts.written += 1
        self._counts.replayed += ref.replayed
        self._breaker.succeeded()
        return ref

    def _budget_s(self) -> float | None:
        return self._limits.required_timeout_s if self.mode == "required" else self._breaker.admit()

    def _give_up(self, track: Track, draft: Draft, *, is_there: bool = False) -> None:
        self._counts.failed += 1
        if self.mode == "best_effort":
            track.line.tell_later(draft.gap)
            if is_there:  # a record of that number is kept, even if it is another one
                track.has_first = True
            else:
                track.line.lose(draft.sequence_no)
        elif all(draft is not other for _, other in track.line.unwritten):
            track.line.unwritten.append((track, draft))

    def _failed(self, draft: Draft | None, error: Exception, *, step: str, begun_s: float) -> PersistenceError | None:
        """What is raised in mode ``required``; else None, and a warning was given."""
        code = _code_of(error)
        self._counts.last_error = code
        what = "the recorder" if draft is None else f"{draft.record_type.type_id} ({draft.event_kind})"
        key = None if draft is None else draft.idempotency_key
        advice = "the run goes on without it" if self.mode == "best_effort" else "end the run, or retry and go on"
        message = self._redaction.message(
            f"{step} failed for {what}, key {key}, in mode {self.mode}: {_cause_of(error, step)}; {advice}"
        )
        if self.mode == "required":
            failure = PersistenceError(
                message,
                code=RECORDING_FAILED,
                mode=self.mode,
                record_type=None if draft is None else draft.record_type.type_id,
                idempotency_key=key,
                step=step,
                cause=code,
                retryable=False,
            )
            failure.__cause__ = None if step == REDACT else error  # what a redactor raises may show what it saw
            return failure
        self._warnings.tell(
            RecorderWarning(
                code=code,
                message=message,
                step=step,
                record_type=None if draft is None else draft.record_type.type_id,
                event_kind=None if draft is None else draft.event_kind,
                idempotency_key=key,
                sequence_no=None if draft is None else draft.sequence_no,
            )
        )
        if step in RECORD_STEPS or (step == APPEND and isinstance(error, KeyReused)):
            self._breaker.learned_nothing()
        else:
            self._breaker.failed(waited_s=self._clock.monotonic() - begun_s)
        return None

    def _blocked(self, first: Draft) -> PersistenceError:
        return PersistenceError(
            f"nothing more is recorded before {first.record_type.type_id} ({first.event_kind}), key "
            f"{first.idempotency_key}, which failed in mode {self.mode}; end the run, or retry and go on",
            code=RECORDING_FAILED,
            mode=self.mode,
            record_type=first.record_type.type_id,
            idempotency_key=first.idempotency_key,
            step=APPEND,
            cause=self._counts.last_error,
            retryable=False,
        )


def _earlier(track: Track, draft: Draft) -> Draft | None:
    """The record that has to be written before this one, if any."""
    if not track.line.unwritten or track.line.unwritten[0][1] is draft:
        return None
    return track.line.unwritten[0][1]


def _code_of(error: Exception) -> str:
    if isinstance(error, PerdureError):
        return error.code
    return TimedOut.code if isinstance(error, TimeoutError) else PersistenceError.code


def _cause_of(error: Exception, step: str) -> str:
    """What is told of a cause: of errors that are not ours, and of a redactor's, only the kind."""
    if isinstance(error, TimeoutError):
        return "the time for it was up"
    return error.message if isinstance(error, PerdureError) and step != REDACT else type(error).__name__
