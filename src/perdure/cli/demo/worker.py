"""A worker: claims runs of commits, asks git about them, judges them, and requests a webhook for the risky ones.

Every step is committed before the next one begins, so a worker may die anywhere: whoever claims its runs next finds in
``run.done`` what need not be done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import msgspec

from perdure.cli.demo.git import Repository, open_repository
from perdure.cli.demo.inspection import Inspection, inspect
from perdure.cli.demo.tether import tie_to_parent
from perdure.cli.demo.triage import Commit, Facts, assess, kind_of
from perdure.compose import open_plane
from perdure.core.plane import Tenant
from perdure.domain.handles import Run
from perdure.domain.run import StepType
from perdure.errors import LeaseLost

TENANT: Final = "t_demo"
RUN_NAME: Final = "triage-commit"
ACTOR: Final = "agent:triage"
LEASE_S: Final = 2.0  # short, so that the runs of the killed worker are taken over while somebody watches
CLAIM: Final = 8
VERDICT: Final = "verdict"

_PAUSE_S: Final = 0.1
_MS_A_SECOND: Final = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTask:
    """What a worker is started with.

    ``hold_from`` and ``hold_by``: having finished that many runs it stops in the middle of one, after its ``inspect``
    step is committed, and waits for what comes: at a risky commit from the first number on, at any from the second.
    """

    data_dir: str
    repository: str
    webhook_url: str
    signing_ref: str
    hold_from: int | None = None
    hold_by: int | None = None


class Worker:
    """One process's work on the runs of a tenant."""

    def __init__(self, acme: Tenant, repository: Repository, task: WorkerTask) -> None:
        self._acme = acme
        self._repository = repository
        self._task = task
        self._held: dict[Run, None] = {}
        self._finished = 0
        self._about = {"worker_pid": os.getpid()}

    async def work(self) -> None:
        """Claim and work until cancelled."""
        async with self._leases_kept():
            while True:
                claimed = await self._acme.runs.claim(CLAIM, lease_s=LEASE_S, name=RUN_NAME)
                self._held = dict.fromkeys(claimed)
                for run in claimed:
                    # Somebody else has it now: drop what is in hand.
                    with contextlib.suppress(LeaseLost):
                        await self._triage(run)
                    self._held.pop(run, None)
                if not claimed:
                    await asyncio.sleep(_PAUSE_S)

    async def _triage(self, run: Run) -> None:
        signal_kept = await self._acme.signals.get(run.signal_id)
        commit = Commit.from_payload(signal_kept.normalized_payload)
        skipped = [key for key in ("classify", "inspect", VERDICT) if run.done(key) is not None]
        if "classify" not in skipped:
            await self._classify(run, commit)
        if (recorded := run.done("inspect")) is not None:
            inspection = Inspection.from_output(recorded)
        else:
            inspection = await self._inspect(run, commit)
        facts = Facts(
            commit=commit,
            touched=inspection.touched,
            earlier_authors=inspection.earlier_authors,
            outstanding=bool(run.record.metadata.get("outstanding")),
        )
        await self._hold(run, risky=assess(facts).risky)
        if VERDICT not in skipped:
            await self._judge(run, facts)
        self._finished += 1
        tell({"finished": str(run.id), "skipped": skipped})

    async def _classify(self, run: Run, commit: Commit) -> None:
        began = perf_counter()
        output = {"kind": kind_of(commit), "lines": commit.lines, "merge": commit.is_merge}
        async with self._acme.change(run) as change:
            change.step(
                "classify",
                step_type=StepType.DECISION,
                key="classify",
                input={"commit": commit.hash, "subject": commit.subject},
                output=output,
                duration_ms=_ms_since(began),
                metadata=self._about,
            )

    async def _inspect(self, run: Run, commit: Commit) -> Inspection:
        began = perf_counter()
        inspection = await inspect(self._repository, commit)
        async with self._acme.change(run) as change:
            step = change.step(
                "inspect",
                step_type=StepType.TOOL_SEQUENCE,
                key="inspect",
                input={"commit": commit.hash},
                output=inspection.output(),
                duration_ms=_ms_since(began),
                metadata=self._about,
            )
            for call in inspection.calls:
                change.tool_call(
                    step,
                    call.tool,
                    args=call.arguments,
                    result=call.result,
                    error=call.error,
                    duration_ms=call.duration_ms,
                )
        return inspection

    async def _hold(self, run: Run, *, risky: bool) -> None:
        first, last = self._task.hold_from, self._task.hold_by
        if first is None or last is None or self._finished < (first if risky else last):
            return
        tell({"holding": str(run.id), "correlation_id": str(run.correlation_id), "claimed": len(self._held)})
        await asyncio.Event().wait()

    async def _judge(self, run: Run, facts: Facts) -> None:
        """Judge, ask for the webhook and complete the run: one change, so that no half of it is ever seen."""
        began = perf_counter()
        verdict = assess(facts)
        async with self._acme.change(run) as change:
            step = change.step(
                VERDICT,
                step_type=StepType.DECISION,
                key=VERDICT,
                output=verdict.as_json(),
                duration_ms=_ms_since(began),
                metadata=self._about,
            )
            if verdict.risky:
                change.effect(step, "WEBHOOK_CALL", self._webhook(facts.commit, verdict.as_json()), key="alert")
            change.complete_run()

    def _webhook(self, commit: Commit, verdict: Mapping[str, Any]) -> dict[str, Any]:
        body = {"type": "commit.risky", "commit": commit.hash, "author": commit.author, "subject": commit.subject}
        return {
            "url": self._task.webhook_url,
            "method": "POST",
            "body": {**body, **verdict},
            "secret_ref": self._task.signing_ref,
        }

    @asynccontextmanager
    async def _leases_kept(self) -> AsyncIterator[None]:
        beating = asyncio.create_task(self._beat(), name="leases")
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait({beating})

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 4)
            for run in list(self._held):
                # Whoever drives the run finds out with its next change.
                with contextlib.suppress(LeaseLost):
                    await self._acme.runs.extend(run)


def tell(message: Mapping[str, Any]) -> None:
    """Tell the parent something."""
    print(msgspec.json.encode(message).decode(), flush=True)  # noqa: T201 - stdout is the pipe to the parent


def _ms_since(began: float) -> float:
    return (perf_counter() - began) * _MS_A_SECOND


async def run_worker(task: WorkerTask) -> None:
    """Work until SIGTERM."""
    working = asyncio.current_task()
    assert working is not None, "a coroutine that runs is in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    repository = await open_repository(Path(task.repository))
    async with open_plane(data_dir=task.data_dir, connections_max=2) as plane:
        source = f"api:triage-worker/{os.getpid()}"
        acme = plane.scope(tenant=TENANT, actor=ACTOR, source=source)
        with contextlib.suppress(asyncio.CancelledError):
            await Worker(acme, repository, task).work()


def main() -> None:
    """The process: a task as JSON in its one argument, an end when its stdin ends."""
    tie_to_parent()
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(run_worker(msgspec.json.decode(sys.argv[1], type=WorkerTask)))


if __name__ == "__main__":
    main()
