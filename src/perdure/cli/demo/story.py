"""The whole demo: signals in, a worker killed half way, another one going on, effects out, and everything compared."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from perdure.cli.demo.children import Child, Crew
from perdure.cli.demo.git import open_repository
from perdure.cli.demo.receiver import SECRET, Received, ReceiverTask, read_journal
from perdure.cli.demo.tally import Losses, Tally
from perdure.cli.demo.triage import Commit, outstanding_commits
from perdure.cli.demo.worker import CLAIM, RUN_NAME, TENANT, WorkerTask
from perdure.compose import open_plane
from perdure.core.plane import Tenant
from perdure.domain.limits import PAGE_SIZE_MAX
from perdure.domain.records import Signal
from perdure.domain.run import SignalStatus
from perdure.domain.trace import Trace
from perdure.errors import KeyReused, NotFound, TimedOut

COMMITS_MAX: Final = 10_000  # a few minutes; the counts are held in memory
CHANNEL: Final = "git"

_AT_ONCE: Final = 32
_SENT_TWICE_EVERY: Final = 5
_LOOK_S: Final = 0.1
_IDLE_S_MAX: Final = 90.0  # three times what a relay may take to find the lease of a killed one
_RELAY_LEASE_S: Final = 10.0
_RELAY_TIMEOUT_S: Final = 5.0
_PORT: Final = "port"


class Progress(Protocol):
    """Who watches."""

    def say(self, sentence: str) -> None:
        """Something happened that is worth a line."""
        ...

    def show(self, tally: Tally) -> None:
        """The counts have changed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What was asked for."""

    repository: Path
    commits_max: int
    data_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it. ``trace`` is the one run that is shown."""

    repository: Path
    commits: int
    sent: int
    new_signals: int
    tally: Tally
    received: Received
    repeated: int
    steps_skipped: int
    worker_pids: tuple[int, ...]
    killed_worker_pid: int | None
    losses: Losses
    trace: Trace
    tenants: int
    seconds: float

    @property
    def signals_repeated(self) -> int:
        """Signals that were sent although the ledger had them."""
        return self.sent - self.new_signals

    @property
    def duplicates_suppressed(self) -> int:
        """Everything that came twice in this demo and had no effect the second time."""
        return self.signals_repeated + self.steps_skipped + self.repeated


class Ledger:
    """The event log, read as it grows."""

    def __init__(self, acme: Tenant, *, progress: Progress, check: Callable[[], None]) -> None:
        self.tally = Tally()
        self._acme = acme
        self._progress = progress
        self._check = check

    async def catch_up(self) -> bool:
        """Read what is new; whether there was anything."""
        before = self.tally.number
        while events := await self._acme.events.after(self.tally.number, limit=PAGE_SIZE_MAX):
            for event in events:
                self.tally.add(event)
            self._progress.show(self.tally)
        return self.tally.number > before

    async def until(self, reached: Callable[[], bool]) -> bool:
        """Read on until ``reached``; False when nothing has happened for a long time. Raises ``Unavailable``."""
        last_change = monotonic()
        while True:
            if await self.catch_up():
                last_change = monotonic()
            if reached():
                return True
            self._check()
            if monotonic() - last_change > _IDLE_S_MAX:
                return False
            await asyncio.sleep(_LOOK_S)


@dataclass(slots=True)
class Workers:
    """What the workers said, and who they were."""

    pids: list[int] = field(default_factory=list)
    killed_pid: int | None = None
    steps_skipped: int = 0
    holding: Mapping[str, Any] | None = None

    def heard(self, message: Mapping[str, Any]) -> None:
        """A worker said something."""
        if "holding" in message:
            self.holding = message
        self.steps_skipped += len(message.get("skipped", ()))


async def run_demo(demo: Demo, *, progress: Progress) -> Outcome:
    """Run it all. Raises ``Refused`` for a place without commits, ``Unavailable`` when a part of it fails."""
    began = monotonic()
    repository = await open_repository(demo.repository)
    commits = await repository.history(demo.commits_max)
    progress.say(f"{len(commits)} commits of {repository.path}")
    async with open_plane(data_dir=demo.data_dir) as plane, Crew() as crew:
        acme = plane.scope(tenant=TENANT, actor="system:perdure-demo", source="manual:demo")
        directory = await asyncio.to_thread(_prepare, demo.data_dir)
        ledger = Ledger(acme, progress=progress, check=crew.check)
        await ledger.catch_up()
        signals_before = ledger.tally.signals
        before = await asyncio.to_thread(read_journal, directory)
        sent = await _ingest(acme, commits)
        await ledger.catch_up()
        new_signals = ledger.tally.signals - signals_before
        progress.say(f"{new_signals} new signals; {sent - new_signals} of {sent} sent were kept already")
        workers = Workers()
        if not ledger.tally.settled:
            staff = Staff(crew, demo=demo, repository=repository.path, directory=directory, workers=workers)
            await _work(staff, ledger, progress=progress)
        await ledger.catch_up()
        received = await asyncio.to_thread(read_journal, directory)
        return Outcome(
            repository=repository.path,
            commits=len(commits),
            sent=sent,
            new_signals=new_signals,
            tally=ledger.tally,
            received=received,
            repeated=received.repeated - before.repeated,
            steps_skipped=workers.steps_skipped,
            worker_pids=tuple(workers.pids),
            killed_worker_pid=workers.killed_pid,
            losses=ledger.tally.losses(
                (commit.hash for commit in commits),
                received=received.keys,
                last_number=await acme.events.last_number(),
            ),
            trace=await acme.trace(_worth_telling(ledger.tally)),
            tenants=len(await plane.tenants.list(limit=2)),
            seconds=monotonic() - began,
        )


async def _ingest(acme: Tenant, commits: tuple[Commit, ...]) -> int:
    """Send every commit, each fifth of them twice, and start the runs of those that have none; how many were sent."""
    outstanding = outstanding_commits(commits)

    async def send(commit: Commit) -> None:
        signal = await _kept(acme, commit)
        if signal.status is SignalStatus.PENDING:
            await acme.runs.start(
                RUN_NAME,
                signal=signal,
                metadata={"outstanding": commit.hash in outstanding},
                entities=[("commit", commit.hash)],
            )

    # Oldest first, so that the ledger tells the story in the order of history.
    await _all(send, reversed(commits))
    # What a sender does whose request got no answer; the signal and its run are there already.
    again = commits[::_SENT_TWICE_EVERY]
    await _all(send, again)
    return len(commits) + len(again)


async def _kept(acme: Tenant, commit: Commit) -> Signal:
    try:
        return await acme.signals.ingest(CHANNEL, commit.hash, commit.payload())
    except KeyReused:
        # The same commit, seen with other parents or sizes when the clone was shallower: what was kept first counts.
        found = await acme.signals.find(CHANNEL, commit.hash)
        if found is None:
            raise
        return found


async def _all(work: Callable[[Commit], Awaitable[None]], commits: Iterable[Commit]) -> None:
    waiting = list(commits)
    for start in range(0, len(waiting), _AT_ONCE):
        done = await asyncio.gather(*map(work, waiting[start : start + _AT_ONCE]), return_exceptions=True)
        for failure in done:
            if isinstance(failure, BaseException):
                raise failure


@dataclass(frozen=True, slots=True)
class Staff:
    """How the demo's processes are started."""

    crew: Crew
    demo: Demo
    repository: Path
    directory: Path
    workers: Workers

    async def start_receiver(self) -> str:
        """Start the receiver; the address of its webhook."""
        ports: list[int] = []
        kept = self.directory / _PORT
        # The same port as last time if it is free: effects that an interrupted demo left behind name it.
        port = int(kept.read_text()) if kept.exists() else 0
        task = ReceiverTask(directory=str(self.directory), port=port, answers_lost=1)
        child = await Child.start(
            "receiver",
            "perdure.cli.demo.receiver",
            msgspec.json.encode(task).decode(),
            log=self.directory / "receiver.log",
            heard=lambda message: ports.append(message["port"]),
        )
        self.crew.add(child)
        async with asyncio.timeout(_IDLE_S_MAX):
            while not ports:
                child.check()
                await asyncio.sleep(_LOOK_S / 10)
        kept.write_text(f"{ports[0]}\n")
        return f"http://127.0.0.1:{ports[0]}/commits"

    async def start_relay(self) -> None:
        """Start ``perdure relay``."""
        options = ("--lease-s", str(_RELAY_LEASE_S), "--timeout-s", str(_RELAY_TIMEOUT_S))
        where = ("--data-dir", str(self.demo.data_dir), "--webhooks", "--webhook-host", "127.0.0.1")
        log = self.directory / "relay.log"
        self.crew.add(await Child.start("relay", "perdure.cli.demo.tether", "relay", *where, *options, log=log))

    async def start_worker(self, url: str, *, hold: tuple[int, int] | None = None) -> Child:
        """Start a worker, which holds as ``WorkerTask`` says."""
        hold_from, hold_by = hold if hold is not None else (None, None)
        task = WorkerTask(
            data_dir=str(self.demo.data_dir),
            repository=str(self.repository),
            webhook_url=url,
            signing_ref=f"secret://file{self.directory / SECRET}",
            hold_from=hold_from,
            hold_by=hold_by,
        )
        argument = msgspec.json.encode(task).decode()
        log = self.directory / "worker.log"
        child = await Child.start("worker", "perdure.cli.demo.worker", argument, log=log, heard=self.workers.heard)
        self.workers.pids.append(child.pid)
        return self.crew.add(child)


async def _work(staff: Staff, ledger: Ledger, *, progress: Progress) -> None:
    workers, tally = staff.workers, ledger.tally
    url = await staff.start_receiver()
    await staff.start_relay()
    to_judge = tally.to_judge
    if to_judge:
        half = to_judge // 2
        worker = await staff.start_worker(url, hold=(half, min(half + CLAIM, to_judge * 3 // 4)))
        progress.say(f"worker {worker.pid} takes {to_judge} runs; a relay delivers to {url}")
        if not await ledger.until(lambda: workers.holding is not None):
            raise TimedOut(
                f"worker {worker.pid} did nothing for {_IDLE_S_MAX:g} s; see {staff.directory / 'worker.log'}"
            )
        assert workers.holding is not None, "that is what was waited for"
        await worker.kill()
        workers.killed_pid = worker.pid
        progress.say(
            f"worker {worker.pid} was killed with SIGKILL: {to_judge - tally.to_judge} runs done, one half done, "
            f"{workers.holding['claimed']} in its hands"
        )
        successor = await staff.start_worker(url)
        progress.say(f"worker {successor.pid} goes on; the leases of the dead one expire by themselves")
    else:
        progress.say("every commit is judged already, so no worker is started and none killed")
    if not await ledger.until(lambda: tally.settled):
        progress.say(f"nothing has happened for {_IDLE_S_MAX:g} s; giving up")


def _prepare(data_dir: Path) -> Path:
    """The demo's own directory, with a signing secret that nobody else can read."""
    directory = (data_dir / "demo").resolve()
    directory.mkdir(mode=0o700, exist_ok=True)
    # It stands in somebody's repository, and what is in here is nothing to commit.
    (directory / ".gitignore").write_text("*\n")
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(directory / SECRET, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
    return directory


def _worth_telling(tally: Tally) -> UUID:
    found = tally.worth_telling()
    if found is None:
        raise NotFound(f"tenant {TENANT} has no run; is there a commit?")
    return found
