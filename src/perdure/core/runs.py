"""Runs: starting them, taking them over, and ending them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from perdure.core.changes import Committer
from perdure.core.listing import RunLists
from perdure.core.signals import same_signal
from perdure.domain import limits
from perdure.domain.change import Change
from perdure.domain.change_values import Entities, refuse_above
from perdure.domain.handles import Run, RunLease
from perdure.domain.intake import RunDraft, SignalDraft, draft_run, draft_signal, render_signal, render_start
from perdure.domain.records import RunRecord, Signal, Step
from perdure.domain.run import RunStatus, RunType, SignalStatus, SignalType
from perdure.domain.scope import Scope
from perdure.errors import Conflict, IllegalTransition, Invalid, KeyReused, LeaseLost, OutcomeUnknown
from perdure.ports.environment import Environment
from perdure.ports.ledger import Ledger
from perdure.ports.ledger_reads import LedgerReader

SignalGiven: TypeAlias = tuple[str, str] | Signal | UUID

_TAKE_UP_ROUNDS_MAX: Final = 3  # a signal can be taken up by somebody else between two looks, and then has a run


class Runs(RunLists):
    """The runs of one tenant."""

    def __init__(
        self,
        scope: Scope,
        *,
        committer: Committer,
        ledger: Ledger,
        reader: LedgerReader,
        environment: Environment,
        worker: str,
    ) -> None:
        super().__init__(reader, scope)
        self._committer = committer
        self._ledger = ledger
        self._environment = environment
        self._worker = worker

    # --- starting -------------------------------------------------------------------------------------------------

    async def start(
        self,
        name: str,
        *,
        signal: SignalGiven,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the word the ledger uses
        signal_type: SignalType | str | None = None,
        run_type: RunType | str = RunType.SIGNAL_PROCESSING,
        entities: Entities = (),
        metadata: Mapping[str, Any] | None = None,
        orchestrator_version: str | None = None,
        continues: Run | None = None,
        lease_s: float | None = None,
    ) -> Run:
        """Start the run of a signal, in one change with the signal itself when that is new.

        ``signal`` is (channel, source id) with its body in ``input``, or a kept signal or its id. The same signal again
        gives the same run; another body raises ``KeyReused``. A declared ``signal_type`` is validated first: what does
        not fit is kept as a FAILED signal and raises ``Invalid``. ``continues`` starts a new run on the signal of a
        finished one, which becomes its cause (another one each time, as ``rerun``). With ``lease_s`` the run is leased
        to this worker at once; without, it belongs to whoever works on it, and ``claim`` hands it out.
        """
        draft = self._draft(
            name,
            run_type=RunType.CONTINUATION if continues is not None else run_type,
            entities=entities,
            metadata=metadata,
            orchestrator_version=orchestrator_version,
            parent_run_id=continues.id if continues is not None else None,
            lease_s=lease_s,
        )
        if continues is not None:
            return await self._start_after(continues, draft)
        if isinstance(signal, tuple):
            channel, source_id = signal
            new = draft_signal(
                channel,
                source_id,
                input or {},
                signal_type=signal_type,
                received_at=self._environment.clock.now(),
                new_id=self._environment.ids.new,
            )
            return await self._start_new(draft, new)
        kept = signal if isinstance(signal, Signal) else await self._reader.get_signal(self._scope, signal)
        return await self._start_kept(draft, kept)

    async def rerun(self, run: Run, *, lease_s: float | None = None) -> Run:
        """Start a finished run again: a new run of the same name on the same signal, with the old one as its cause.

        Each call starts another one: after ``OutcomeUnknown`` look at ``of_signal`` before you call it again.
        """
        record = run.record
        draft = self._draft(
            record.name,
            run_type=record.run_type,
            entities=(),
            metadata=record.metadata,
            orchestrator_version=record.orchestrator_version,
            parent_run_id=record.id,
            lease_s=lease_s,
        )
        return await self._start_after(run, draft)

    async def _start_new(self, draft: RunDraft, signal: SignalDraft) -> Run:
        new_id = self._environment.ids.new
        if signal.problems:
            await self._committer.send(render_signal(self._scope, signal, new_id=new_id))
            raise Invalid(
                f"signal {signal.channel}/{signal.source_id} does not fit its type {signal.signal_type}: "
                f"{'; '.join(signal.problems)}. It is kept as FAILED",
                code="signal_invalid",
                problems=list(signal.problems),
            )
        rendered = render_start(
            self._scope,
            draft,
            signal=signal,
            signal_id=signal.id,
            correlation_id=signal.correlation_id,
            cause=signal.received_event_id,
            take_up=False,
            new_id=new_id,
        )
        result = await self._committer.send(rendered)
        if "ok" in result:
            return self._started(draft, signal.id, signal.correlation_id, result["at"])
        recorded = result["recorded"]
        kept = same_signal(signal, recorded["signal"])
        if recorded["run"] is None:
            return await self._start_kept(draft, kept)
        run = await self._same_run(draft, RunRecord.from_row(recorded["run"]))
        if draft.lease_s is not None and recorded["run"]["locked_by"] == self._worker:
            # This worker started it before and the answer was lost: the lease is its own.
            run.lease = self._lease(recorded["run"], draft.lease_s)
        return run

    async def _start_kept(self, draft: RunDraft, signal: Signal) -> Run:
        """Take up a kept signal, or find the run that did."""
        for _ in range(_TAKE_UP_ROUNDS_MAX):
            if signal.status is SignalStatus.PENDING:
                rendered = render_start(
                    self._scope,
                    draft,
                    signal=None,
                    signal_id=signal.id,
                    correlation_id=signal.correlation_id,
                    cause=signal.last_event_id,
                    take_up=True,
                    new_id=self._environment.ids.new,
                )
                result = await self._committer.send(rendered)
                if "ok" in result:
                    return self._started(draft, signal.id, signal.correlation_id, result["at"])
            runs = await self._reader.runs_of_signal(self._scope, signal.id, after=None, limit=1)
            if runs:
                return await self._same_run(draft, runs[0])
            signal = await self._reader.get_signal(self._scope, signal.id)
            if signal.status is SignalStatus.FAILED:
                break
        raise IllegalTransition(
            f"signal {signal.id} is {signal.status} and has no run; it failed validation and is never processed",
            signal_id=str(signal.id),
        )

    async def _start_after(self, parent: Run, draft: RunDraft) -> Run:
        parent = await self.get(parent.id)
        if parent.status is RunStatus.RUNNING:
            raise IllegalTransition(f"run {parent.id} is RUNNING; only a finished run is repeated or continued")
        rendered = render_start(
            self._scope,
            draft,
            signal=None,
            signal_id=parent.signal_id,
            correlation_id=parent.correlation_id,
            cause=parent.record.last_event_id,
            take_up=False,
            new_id=self._environment.ids.new,
        )
        try:
            result = await self._committer.send(rendered)
        except OutcomeUnknown:
            # The ids are in what was sent, so that sending it again never starts two runs.
            try:
                result = await self._committer.send(rendered)
            except KeyReused:
                run = await self.get(draft.id)
                run.lease = _lease_of_draft(draft)
                return run
        return self._started(draft, parent.signal_id, parent.correlation_id, result["at"])

    async def _same_run(self, draft: RunDraft, record: RunRecord) -> Run:
        if record.name != draft.name:
            raise KeyReused(
                f"the signal was taken up by run {record.name!r} already, not by {draft.name!r}; one signal starts one "
                "run. To go on from a finished one, pass continues=",
                run_id=str(record.id),
            )
        return await self.get(record.id)

    def _started(self, draft: RunDraft, signal_id: UUID, correlation_id: UUID, started_at: str) -> Run:
        """The handle of a run that was just started: all of it is known without asking again."""
        record = RunRecord(
            tenant_id=self._scope.tenant_id,
            id=draft.id,
            signal_id=signal_id,
            run_type=draft.run_type,
            name=draft.name,
            started_at=datetime.fromisoformat(started_at),
            status=RunStatus.RUNNING,
            correlation_id=correlation_id,
            causation_id=draft.parent_run_id,
            actor=self._scope.actor,
            source=self._scope.source,
            orchestrator_version=draft.orchestrator_version,
            metadata=draft.metadata or {},
            locked_by=draft.locked_by,
            last_event_id=draft.started_event_id,
        )
        return Run(record, lease=_lease_of_draft(draft))

    def _draft(self, name: str, *, lease_s: float | None, **values: Any) -> RunDraft:
        if lease_s is not None:
            check_lease(lease_s)
        return draft_run(name, lease_s=lease_s, locked_by=self._worker, new_id=self._environment.ids.new, **values)

    # --- reading and taking over ----------------------------------------------------------------------------------

    async def get(self, run_id: UUID) -> Run:
        """The run with that id, and which of its steps are done. Raises ``NotFound``."""
        record, steps = await self._reader.get_run(self._scope, run_id)
        return Run(record, steps=steps)

    async def claim(
        self, limit: int = 1, *, lease_s: float = limits.LEASE_S_DEFAULT, name: str | None = None
    ) -> list[Run]:
        """Lease up to ``limit`` RUNNING runs that nobody holds to this worker for ``lease_s`` seconds, oldest first.

        Not handed out: runs that wait for an approval or only for their effects. Each commit under the lease renews
        it. A worker that lost its lease gets ``LeaseLost`` on its next change.
        """
        check_lease(lease_s)
        if limit < 1:
            raise Invalid(f"a claim of {limit} runs; at least 1 is expected")
        refuse_above("claim_max", limits.CLAIM_MAX, limit)
        claimed = await self._ledger.claim_runs(
            self._scope, worker=self._worker, limit=limit, lease_s=lease_s, name=name
        )
        return [self._leased(row["run"], row["steps"], lease_s) for row in claimed]

    def _leased(self, row: Mapping[str, Any], steps: list[Mapping[str, Any]], lease_s: float) -> Run:
        lease = self._lease(row, lease_s)
        return Run(RunRecord.from_row(row), lease=lease, steps=tuple(Step.from_row(step) for step in steps))

    def _lease(self, row: Mapping[str, Any], lease_s: float) -> RunLease:
        return RunLease(token=UUID(row["lock_token"]), worker=self._worker, lease_s=lease_s)

    async def extend(self, run: Run, *, lease_s: float | None = None) -> None:
        """Prolong the lease of a claimed run without changing the run. Raises ``LeaseLost``."""
        lease = _lease_of(run)
        seconds = lease.lease_s if lease_s is None else lease_s
        check_lease(seconds)
        if not await self._ledger.renew_run_lease(self._scope, run.id, token=lease.token, lease_s=seconds):
            raise LeaseLost(f"the lease of run {run.id} is held by another worker now; drop the work in hand")
        run.lease = replace(lease, lease_s=seconds)

    async def release(self, run: Run) -> None:
        """Give a claimed run back, so that another worker can claim it at once; harmless when the lease is lost."""
        lease = _lease_of(run)
        await self._ledger.renew_run_lease(self._scope, run.id, token=lease.token, lease_s=0)
        run.lease = None

    # --- ending ---------------------------------------------------------------------------------------------------

    async def complete(self, run: Run) -> None:
        """End the run as COMPLETED once its steps are done. With effects outstanding the last delivery ends it."""
        change = self._change(run)
        change.complete_run()
        await self._end(change)

    async def fail(self, run: Run, reason: str, *, error: Mapping[str, Any] | None = None) -> None:
        """End the run as FAILED; its undelivered effects become dead letters with code RUN_CANCELLED."""
        change = self._change(run)
        change.fail_run(reason, error=error)
        await self._end(change)

    async def cancel(self, run: Run, reason: str) -> None:
        """End the run as CANCELLED; its undelivered effects become dead letters with code RUN_CANCELLED."""
        change = self._change(run)
        change.cancel_run(reason)
        await self._end(change)

    def _change(self, run: Run) -> Change:
        return Change(self._scope, run, new_id=self._environment.ids.new)

    async def _end(self, change: Change) -> None:
        try:
            await self._committer.commit(change)
        except OutcomeUnknown:
            # Ending a run is safe to repeat, so this needs nobody's decision; a second unknown outcome is raised.
            await self._committer.commit(change)


def check_lease(lease_s: float) -> None:
    """Raise ``Invalid`` or ``LimitExceeded`` unless a lease lasts from ``LEASE_S_MIN`` to ``LEASE_S_MAX`` seconds."""
    if not lease_s >= limits.LEASE_S_MIN:
        raise Invalid(f"a lease of {lease_s} s; at least {limits.LEASE_S_MIN} s is expected (lease_s_min)")
    refuse_above("lease_s_max", limits.LEASE_S_MAX, lease_s)


def _lease_of_draft(draft: RunDraft) -> RunLease | None:
    if draft.lock_token is None or draft.locked_by is None or draft.lease_s is None:
        return None
    return RunLease(token=draft.lock_token, worker=draft.locked_by, lease_s=draft.lease_s)


def _lease_of(run: Run) -> RunLease:
    if run.lease is None:
        raise Conflict(f"run {run.id} was not claimed by this handle; get it from runs.claim or start it with lease_s=")
    return run.lease
