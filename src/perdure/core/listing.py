"""Lists of signals and of runs, in pages, and the parts of one run."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from perdure.core.paging import Paging
from perdure.domain.limits import PAGE_SIZE_DEFAULT
from perdure.domain.reading import Resume, RunFilter, SignalFilter
from perdure.domain.records import Checkpoint, Effect, OutboxEntry, Page, RunRecord, Signal, Step, ToolCall
from perdure.domain.run import RunStatus, RunType, SignalStatus, SignalType
from perdure.domain.scope import Scope
from perdure.errors import Invalid
from perdure.ports.ledger_reads import LedgerReader


class SignalLists:
    """The signals of one tenant, to look at."""

    def __init__(self, reader: LedgerReader, scope: Scope) -> None:
        self._reader = reader
        self._scope = scope

    async def list(
        self,
        *,
        status: SignalStatus | str | None = None,
        signal_type: SignalType | str | None = None,
        received_before: datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_SIZE_DEFAULT,
    ) -> Page[Signal]:
        """Signals by status, type and age, newest first; ``received_before`` asks for those at least that old."""
        wanted = SignalFilter(
            status=None if status is None else SignalStatus(status),
            signal_type=None if signal_type is None else SignalType(signal_type),
            received_before=_zoned(received_before),
        )
        paging = Paging(self._scope, "signals", wanted, cursor=cursor, limit=limit)
        signals = await self._reader.list_signals(
            self._scope, wanted, after=paging.moment(), limit=paging.limit, oldest_first=False
        )
        return paging.page(signals, keys=_received)

    async def pending(
        self,
        *,
        signal_type: SignalType | str | None = None,
        received_before: datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_SIZE_DEFAULT,
    ) -> Page[Signal]:
        """Signals that no run has taken up yet, oldest first."""
        wanted = SignalFilter(
            status=SignalStatus.PENDING,
            signal_type=None if signal_type is None else SignalType(signal_type),
            received_before=_zoned(received_before),
        )
        paging = Paging(self._scope, "pending", wanted, cursor=cursor, limit=limit)
        signals = await self._reader.list_signals(
            self._scope, wanted, after=paging.moment(), limit=paging.limit, oldest_first=True
        )
        return paging.page(signals, keys=_received)


class RunLists:
    """The runs of one tenant, to look at."""

    def __init__(self, reader: LedgerReader, scope: Scope) -> None:
        self._reader = reader
        self._scope = scope

    async def list(
        self,
        *,
        status: RunStatus | str | None = None,
        run_type: RunType | str | None = None,
        name: str | None = None,
        started_from: datetime | None = None,
        started_before: datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_SIZE_DEFAULT,
    ) -> Page[RunRecord]:
        """Runs by status, type, name and time of start, newest first."""
        wanted = RunFilter(
            status=None if status is None else RunStatus(status),
            run_type=None if run_type is None else RunType(run_type),
            name=name,
            started_from=_zoned(started_from),
            started_before=_zoned(started_before),
        )
        paging = Paging(self._scope, "runs", wanted, cursor=cursor, limit=limit)
        runs = await self._reader.list_runs(self._scope, wanted, after=paging.moment(), limit=paging.limit)
        return paging.page(runs, keys=_started)

    async def of_signal(
        self, signal_id: UUID, *, cursor: str | None = None, limit: int = PAGE_SIZE_DEFAULT
    ) -> Page[RunRecord]:
        """The runs that were for a signal, oldest first."""
        paging = Paging(self._scope, "runs of signal", signal_id, cursor=cursor, limit=limit)
        runs = await self._reader.runs_of_signal(self._scope, signal_id, after=paging.moment(), limit=paging.limit)
        return paging.page(runs, keys=_started)

    async def steps(self, run_id: UUID, *, cursor: str | None = None, limit: int = PAGE_SIZE_DEFAULT) -> Page[Step]:
        """The steps of a run by index."""
        paging = Paging(self._scope, "steps", run_id, cursor=cursor, limit=limit)
        steps = await self._reader.steps_of_run(self._scope, run_id, after=_index(paging), limit=paging.limit)
        return paging.page(steps, keys=lambda step: (step.step_index,))

    async def checkpoints(
        self, run_id: UUID, *, cursor: str | None = None, limit: int = PAGE_SIZE_DEFAULT
    ) -> Page[Checkpoint]:
        """The checkpoints of a run by index, without their states; ``resume`` gives the latest state."""
        paging = Paging(self._scope, "checkpoints", run_id, cursor=cursor, limit=limit)
        found = await self._reader.checkpoints_of_run(self._scope, run_id, after=_index(paging), limit=paging.limit)
        return paging.page(found, keys=lambda checkpoint: (checkpoint.checkpoint_index,))

    async def tool_calls(
        self, run_id: UUID, *, cursor: str | None = None, limit: int = PAGE_SIZE_DEFAULT
    ) -> Page[ToolCall]:
        """The tool calls of a run by id, which is by time as far as their makers' clocks agree."""
        paging = Paging(self._scope, "tool calls", run_id, cursor=cursor, limit=limit)
        calls = await self._reader.tool_calls_of_run(self._scope, run_id, after=paging.row_id(), limit=paging.limit)
        return paging.page(calls, keys=lambda call: (call.id,))

    async def effects(self, run_id: UUID, *, cursor: str | None = None, limit: int = PAGE_SIZE_DEFAULT) -> Page[Effect]:
        """The effects of a run by id."""
        paging = Paging(self._scope, "effects", run_id, cursor=cursor, limit=limit)
        effects = await self._reader.effects_of_run(self._scope, run_id, after=paging.row_id(), limit=paging.limit)
        return paging.page(effects, keys=lambda effect: (effect.id,))

    async def outbox(
        self, run_id: UUID, *, cursor: str | None = None, limit: int = PAGE_SIZE_DEFAULT
    ) -> Page[OutboxEntry]:
        """The outbox entries of a run by the id of their effect; delivered ones may have been pruned."""
        paging = Paging(self._scope, "outbox", run_id, cursor=cursor, limit=limit)
        entries = await self._reader.outbox_of_run(self._scope, run_id, after=paging.row_id(), limit=paging.limit)
        return paging.page(entries, keys=lambda entry: (entry.aggregate_id,))

    async def resume(self, run_id: UUID) -> Resume:
        """Where a run goes on: its latest checkpoint, whether that has expired, and the run's events after it.

        Raises ``NotFound``, and ``LimitExceeded`` when more than ``TRACE_EVENTS_MAX`` events came after it.
        """
        return await self._reader.resume(self._scope, run_id)


def _zoned(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise Invalid(f"{moment.isoformat()} has no zone; pass an aware time, as datetime(..., tzinfo=UTC)")
    return moment


def _index(paging: Paging) -> int:
    number = paging.number()
    return -1 if number is None else number


def _received(signal: Signal) -> tuple[datetime, UUID]:
    return (signal.received_at, signal.id)


def _started(run: RunRecord) -> tuple[datetime, UUID]:
    return (run.started_at, run.id)
