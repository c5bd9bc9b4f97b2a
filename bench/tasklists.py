"""Task lists of ten thousand tasks beside the bare library: encoded, written and synced, restored, merged."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import pycrdt

from bench.report import Row, Target, progress
from bench.server import Server
from bench.settings import Settings
from perdure.adapters.crdt.replica import YrsReplica
from perdure.compose.tasklists import open_tasklist
from perdure.core.environment import system_environment
from perdure.core.tasklist_replica import TaskListReplica
from perdure.core.tasklists import TaskList
from perdure.ports.environment import Environment
from perdure.tasklists import CheckpointOutcome

TASKS: Final = 10_000
DIVERGING: Final = 500  # operations on each side
CHANGED: Final = 32  # operations before each checkpoint, as by default
RATIO_MAX: Final = 1.5
AGENT: Final = "agent:bench"
LIST: Final = "bench"
FAR_SECS: Final = 2**31
# Nothing is written but when it is asked: the time of other checkpoints would be measured too.
SETTINGS: Final = {
    "checkpoint_mutation_threshold": FAR_SECS,
    "checkpoint_dirty_time_floor_secs": FAR_SECS,
    "host_policy": {
        "allow_runtime_checkpoint_frequency_adjustment": True,
        "max_mutation_threshold": FAR_SECS,
        "max_dirty_time_floor_secs": FAR_SECS,
    },
}

Timed = Callable[[], Awaitable[float]]


class _LeapingClock:
    """The time of day, and a monotonic time that leaps over every debounce: it would be all that is measured."""

    def __init__(self) -> None:
        self._looks = 0
        self._system = system_environment().clock

    def now(self) -> datetime:
        """As it is."""
        return self._system.now()

    def monotonic(self) -> float:
        """A minute after the last look."""
        self._looks += 1
        return self._looks * 60.0


async def measure(server: Server, settings: Settings) -> list[Row]:
    """What each costs, by the bare library in the same round."""
    root = server.directory / "tasklists"
    shutil.rmtree(root, ignore_errors=True)
    rounds = 5 if settings.quick else 21
    try:
        progress(f"task lists: filling one with {TASKS:,} tasks")
        async with _opened(root) as tasks:
            for number in range(TASKS):
                await tasks.add(f"task {number} of many", agent=AGENT, priority=number % 256)
            await _checkpoint(tasks)
            rows = await _writing(tasks, root, rounds)
            payload = await _whole(tasks)
        rows += await _restoring(root, payload, rounds)
        return rows + await _merging(payload, rounds)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@asynccontextmanager
async def _opened(root: Path) -> AsyncIterator[TaskList]:
    system = system_environment()
    environment = Environment(clock=_LeapingClock(), randomness=system.randomness, ids=system.ids)
    async with open_tasklist(LIST, root=root, settings=SETTINGS, environment=environment) as tasks:
        yield tasks


async def _checkpoint(tasks: TaskList) -> None:
    outcome = await tasks.checkpoint()
    assert outcome is CheckpointOutcome.PERSISTED, outcome


async def _whole(tasks: TaskList) -> bytes:
    return await tasks.delta_since(b"\x00")  # the vector of somebody who has nothing


async def _writing(tasks: TaskList, root: Path, rounds: int) -> list[Row]:
    progress("task lists: checkpoints")
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    document.apply_update(await _whole(tasks))
    bare = root / "bare"

    async def encode() -> float:
        began = time.perf_counter()
        document.get_update()
        return time.perf_counter() - began

    async def floor() -> float:
        began = time.perf_counter()
        _write(bare, document.get_update())
        return time.perf_counter() - began

    async def checkpoint() -> float:
        await _change(tasks)
        began = time.perf_counter()
        await _checkpoint(tasks)
        return time.perf_counter() - began

    async def stall() -> float:
        await _change(tasks)
        return await _longest_stall(_checkpoint(tasks))

    timed = await _compared({"A": encode, "B": floor, "checkpoint": checkpoint, "stall": stall}, rounds)
    size = max(path.stat().st_size for path in (root / LIST).glob("*.snapshot"))
    section = f"task list, {TASKS:,} tasks"
    return [
        _row(section, "A: bare pycrdt, encode", timed["A"]),
        _row(section, "B: bare pycrdt, encode, write, fsync", timed["B"], a=timed["A"]),
        _row(
            section,
            "checkpoint, end to end",
            timed["checkpoint"],
            a=timed["A"],
            b=timed["B"],
            targets=(Target(quantity="latency_b", bound=RATIO_MAX),),
        ),
        _row(
            section,
            "longest stall of the loop in a checkpoint",
            timed["stall"],
            a=timed["A"],
            targets=(Target(quantity="latency_a", bound=RATIO_MAX),),
        ),
        # The one row that is no time: what is kept, by what the library encodes.
        Row(section=section, what=f"size: {size:,} bytes, by the bare", growth=size / len(document.get_update())),
    ]


async def _restoring(root: Path, payload: bytes, rounds: int) -> list[Row]:
    progress("task lists: restoring")

    async def bare() -> float:
        began = time.perf_counter()
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        document.apply_update(payload)
        dict(document.get("facts", type=pycrdt.Map).items())
        return time.perf_counter() - began

    async def restore() -> float:
        began = time.perf_counter()
        async with _opened(root) as tasks:
            assert len((await tasks.view()).tasks) == TASKS
            return time.perf_counter() - began

    timed = await _compared({"A": bare, "restore": restore}, max(3, rounds // 3))
    section = "task list, restored"
    return [
        _row(section, "A: bare pycrdt, decode, every fact read", timed["A"]),
        _row(section, "open, verify, every task resolved", timed["restore"], a=timed["A"]),
    ]


async def _merging(payload: bytes, rounds: int) -> list[Row]:
    progress("task lists: merging")
    sides = [_replica(payload) for _ in range(2)]
    vector = sides[0].vector()
    for side in sides:
        _diverge(side)
    left, right = (side.delta_since(vector) for side in sides)

    async def bare() -> float:
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        document.apply_update(payload)
        began = time.perf_counter()
        document.apply_update(left)
        document.apply_update(right)
        return time.perf_counter() - began

    async def merge() -> float:
        replica = _replica(payload)
        replica.view()
        began = time.perf_counter()
        replica.merge(left)
        replica.merge(right)
        replica.view()
        return time.perf_counter() - began

    timed = await _compared({"A": bare, "merge": merge}, max(3, rounds // 3))
    section = f"task list, {DIVERGING} + {DIVERGING} operations"
    return [
        _row(section, f"A: bare pycrdt, two updates of {len(left) + len(right):,} bytes", timed["A"]),
        _row(section, "merge, and the view after it", timed["merge"], a=timed["A"]),
    ]


async def _compared(subjects: dict[str, Timed], rounds: int) -> dict[str, list[float]]:
    """Each subject once a round, the first round to warm."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            seconds = await subject()
            if number:
                taken[name].append(seconds)
    return taken


async def _longest_stall(work: Awaitable[None]) -> float:
    """The longest that another task of the loop waits for its turn while ``work`` is done."""
    worked = asyncio.ensure_future(work)
    longest, before = 0.0, time.perf_counter()
    while not worked.done():
        await asyncio.sleep(0.0005)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    await worked
    return longest


async def _change(tasks: TaskList) -> None:
    view = await tasks.view()
    for task in view.tasks[:CHANGED]:
        await tasks.edit(task.task_id, title=f"changed in view {view.version}")


def _diverge(replica: TaskListReplica) -> None:
    ids = [task.task_id for task in replica.view().tasks]
    agent = f"{AGENT}{replica.writer_id}"
    for number in range(DIVERGING):
        task_id = ids[number * 17 % TASKS]
        match number % 5:
            case 0 | 1:
                replica.claim(task_id, agent=agent)
            case 2:
                replica.edit(task_id, title=f"edited by {agent}")
            case 3:
                replica.move(task_id, after=ids[number * 31 % TASKS - 1])
            case _:
                replica.add(f"added by {agent}", agent=agent)


def _replica(payload: bytes) -> TaskListReplica:
    replica = TaskListReplica(make_replica=YrsReplica, environment=system_environment())
    replica.merge(payload)
    return replica


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def _row(
    section: str,
    what: str,
    taken: list[float],
    *,
    a: list[float] | None = None,
    b: list[float] | None = None,
    targets: tuple[Target, ...] = (),
) -> Row:
    """The median over rounds of the time here by that of the floor in the same round."""
    return Row(
        section=section,
        what=what,
        p50_ms=median(taken) * 1000,
        latency_a=None if a is None else median(one / base for one, base in zip(taken, a, strict=True)),
        latency_b=None if b is None else median(one / base for one, base in zip(taken, b, strict=True)),
        targets=targets,
    )
