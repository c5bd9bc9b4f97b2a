"""Checkpoints of one list that is open: when they are written, one at a time, never on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, Protocol

from perdure.core.tasklist_events import Emit, EventName
from perdure.core.tasklist_health import HealthKeeper
from perdure.core.tasklist_writing import KeptList, RootWriter, Written
from perdure.domain.tasklists.checkpoint_policy import (
    Action,
    CheckpointState,
    Reason,
    Trigger,
    begun,
    decide,
    failed,
    merged,
    mutated,
    next_deadline_s,
    succeeded,
)
from perdure.domain.tasklists.failures import BudgetAtCapacity, CheckpointFailed, SnapshotExceedsBudget
from perdure.domain.tasklists.frequency import CheckpointFrequency
from perdure.domain.tasklists.health import ErrorCode
from perdure.errors import PerdureError
from perdure.ports.environment import Clock

SHUTDOWN_TIMEOUT_S: Final = 10.0  # what a service manager grants before it kills is more than that


class CheckpointOutcome(StrEnum):
    """What became of asking for a checkpoint."""

    PERSISTED = "persisted"
    NOT_DUE = "not_due"
    DEBOUNCED = "debounced"
    NOOP_CLEAN = "noop_clean"
    SKIPPED_CLEAN = "skipped_clean"
    DEGRADED_CONTINUED = "degraded_continued"


# Called on the event loop in the moment of the decision; what it returns is called in the worker thread.
Capture = Callable[[], Callable[[], bytes]]


class Worker(Protocol):
    """The one thread that does what blocks."""

    def __call__(self, work: Callable[[], Written]) -> Awaitable[Written]:
        """What ``work`` returns or raises, from the thread."""
        ...


class ListCheckpoints:
    """The checkpoints of one list.

    ``record_mutation`` and ``record_merge`` only note what happened; ``mutated``, ``tick``, ``checkpoint`` and
    ``shutdown`` write if it is time. Strict raises what went wrong; degraded answers ``degraded_continued``. A caller
    that is cancelled leaves the write under way as it is.
    """

    def __init__(
        self,
        kept: KeptList,
        *,
        capture: Capture,
        writer: RootWriter,
        worker: Worker,
        frequency: Callable[[], CheckpointFrequency],
        health: HealthKeeper,
        clock: Clock,
        emit: Emit,
        is_strict: bool,
        is_dirty: bool = False,
    ) -> None:
        self._kept = kept
        self._capture = capture
        self._writer = writer
        self._worker = worker
        self._frequency = frequency
        self._health = health
        self._clock = clock
        self._emit = emit
        self._is_strict = is_strict
        self._state = CheckpointState()
        self._flight: asyncio.Task[CheckpointOutcome] | None = None
        self._changed = asyncio.Event()
        if is_dirty:
            self.record_merge()

    @property
    def entity_id(self) -> str:
        """Which list."""
        return self._kept.entity_id

    @property
    def state(self) -> CheckpointState:
        """What is not written yet."""
        return self._state

    @property
    def health(self) -> HealthKeeper:
        """How it is."""
        return self._health

    def record_mutation(self, count: int = 1) -> None:
        """Note local mutations; they count towards the threshold."""
        self._state = mutated(self._state, now_s=self._clock.monotonic(), count=count)
        self._changed.set()

    def record_merge(self) -> None:
        """Note a merge that changed something; it makes dirty and does not count."""
        self._state = merged(self._state, now_s=self._clock.monotonic())
        self._changed.set()

    def next_deadline_s(self) -> float | None:
        """When ``tick`` has something to do, by the monotonic clock; None while nothing waits."""
        if self._writer.memory_only is not None:
            return None
        return next_deadline_s(self._state, self._frequency())

    def reconsider(self) -> None:
        """The frequency changed, so the deadline may have."""
        self._changed.set()

    async def mutated(self, count: int = 1) -> CheckpointOutcome:
        """Note local mutations, and write if the threshold is reached."""
        self.record_mutation(count)
        return await self._ask(Trigger.MUTATION)

    async def tick(self) -> CheckpointOutcome:
        """Write if the time has come."""
        return await self._ask(Trigger.TIMER)

    async def checkpoint(self) -> CheckpointOutcome:
        """Write what is dirty, unless the last time was too short ago. Whoever asks during a write waits for it."""
        joined = await self._join()
        if joined is CheckpointOutcome.DEGRADED_CONTINUED:
            return joined
        outcome = await self._ask(Trigger.EXPLICIT)
        return joined if joined is not None and outcome is CheckpointOutcome.NOOP_CLEAN else outcome

    async def shutdown(self, *, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> CheckpointOutcome:
        """Write what is dirty, whenever the last time was. Call it when nothing changes the list any more.

        It takes ``timeout_s`` at most: what is not on the disk then is reported as not written.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._shut_down()
        except TimeoutError as exc:
            message = f"the last checkpoint of {self.entity_id!a} was not on the disk within {timeout_s:g} s"
            self._health.checkpoint_failed(message)
            self._emit(EventName.CHECKPOINT_FAILURE, {"list": self.entity_id, "code": "timed_out"})
            if self._is_strict:
                raise CheckpointFailed(f"{message}; look at the disk", reason="timed_out") from exc
            return CheckpointOutcome.DEGRADED_CONTINUED

    async def run(self, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Tick whenever it is time, until it is cancelled. What fails is in the health and in the log."""
        while True:
            self._changed.clear()
            deadline_s = self.next_deadline_s()
            wait_s = None if deadline_s is None else deadline_s - self._clock.monotonic()
            if wait_s is not None and wait_s <= 0:
                try:
                    await self.tick()
                except PerdureError as exc:
                    # Reported where it was found out; strict has failed, and the next attempt is a backoff away.
                    self._health.noticed(exc)
                continue
            await self._sleep_until_changed(wait_s, sleep)

    async def _sleep_until_changed(self, wait_s: float | None, sleep: Callable[[float], Awaitable[object]]) -> None:
        if wait_s is None:
            await self._changed.wait()
            return
        waits = {asyncio.ensure_future(self._changed.wait()), asyncio.ensure_future(sleep(wait_s))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _shut_down(self) -> CheckpointOutcome:
        joined: CheckpointOutcome | None = None
        while self._flight is not None:
            try:
                joined = await self._join()
            except PerdureError as exc:
                self._health.noticed(exc)  # strict; the last attempt below says how it ends
        if not self._state.is_dirty:
            return CheckpointOutcome.SKIPPED_CLEAN if joined is None else joined
        return await self._ask(Trigger.SHUTDOWN)

    async def _join(self) -> CheckpointOutcome | None:
        return None if self._flight is None else await asyncio.shield(self._flight)

    async def _ask(self, trigger: Trigger) -> CheckpointOutcome:
        if self._writer.memory_only is not None and self._state.is_dirty:
            is_asked = trigger in {Trigger.EXPLICIT, Trigger.SHUTDOWN}
            return CheckpointOutcome.DEGRADED_CONTINUED if is_asked else CheckpointOutcome.NOT_DUE
        now_s = self._clock.monotonic()
        decision = decide(self._state, trigger, now_s=now_s, frequency=self._frequency())
        match decision.action:
            case Action.PERSIST:
                assert decision.reason is not None, "what is written has a reason"
                return await asyncio.shield(self._fly(decision.reason, now_s=now_s))
            case Action.SKIP_CLEAN:
                return CheckpointOutcome.NOOP_CLEAN if trigger is Trigger.EXPLICIT else CheckpointOutcome.NOT_DUE
            case Action.SKIP_POLICY:
                return CheckpointOutcome.NOT_DUE
            case Action.SKIP_DEBOUNCED | Action.SKIP_IN_FLIGHT:
                return CheckpointOutcome.DEBOUNCED

    def _fly(self, reason: Reason, *, now_s: float) -> asyncio.Task[CheckpointOutcome]:
        self._emit(EventName.CHECKPOINT_ATTEMPT, {"list": self.entity_id, "reason": reason.value})
        self._state = begun(self._state, now_s=now_s)
        self._flight = asyncio.ensure_future(self._write(reason))
        # Whoever asked may be gone; what went wrong is in the health, and nobody has to fetch it.
        self._flight.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        return self._flight

    async def _write(self, reason: Reason) -> CheckpointOutcome:
        try:
            encode = self._capture()
            written = await self._worker(lambda: self._writer.write(self._kept, encode()))
        except Exception as exc:  # noqa: BLE001 - whatever fails, nothing was written, and that is what is reported
            return self._not_written(exc)
        except BaseException:
            self._failed()
            raise
        self._flight = None
        self._state = succeeded(self._state)
        self._health.checkpoint_succeeded()
        self._health.budget_moved(written.pressure)
        self._changed.set()
        fields = {"list": self.entity_id, "reason": reason.value, "bytes": written.size}
        self._emit(EventName.CHECKPOINT_SUCCESS, fields | {"generation": self._kept.generation})
        return CheckpointOutcome.PERSISTED

    def _failed(self) -> None:
        self._flight = None
        self._state = failed(self._state, now_s=self._clock.monotonic())
        self._changed.set()

    def _not_written(self, exc: Exception) -> CheckpointOutcome:
        self._failed()
        known = isinstance(exc, PerdureError)
        code = exc.code if isinstance(exc, PerdureError) else type(exc).__name__
        # A foreign error's text may quote what is in the list.
        text = exc.message if isinstance(exc, PerdureError) else f"{code} while it was encoded"
        is_full = isinstance(exc, BudgetAtCapacity | SnapshotExceedsBudget)
        self._health.budget_moved(self._writer.pressure)
        self._health.checkpoint_failed(
            text, code=ErrorCode.BUDGET_AT_CAPACITY if is_full else ErrorCode.CHECKPOINT_FAILURE
        )
        self._emit(EventName.CHECKPOINT_FAILURE, {"list": self.entity_id, "code": code})
        if not self._is_strict:
            return CheckpointOutcome.DEGRADED_CONTINUED
        if is_full or isinstance(exc, CheckpointFailed):
            raise exc
        raise CheckpointFailed(
            f"Checkpoint: {self.entity_id!a} was not written: {text}; what is on the disk is as old as before",
            reason=code,
        ) from (exc if known else None)
