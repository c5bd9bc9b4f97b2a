"""Turns by the engine's own bare write: append, the newest page, forks at growing depths, eight connections."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.cxdb_client import append_request, connected
from bench.disk import StretchedFiles
from bench.report import Row, Target, progress
from bench.rounds import Subject, compare_latencies, compare_rates
from bench.server import Server
from bench.settings import Settings
from bench.store_engines import ENGINES, Engine, documents, open_file
from bench.store_rows import BARE, SYNC, numbers, row, subject
from perdure.adapters.cxdb.server import ServerSettings, serving
from perdure.adapters.filesystem.driver import FilesystemDriver
from perdure.adapters.filesystem.file_ops import FileOps
from perdure.adapters.objectstore.opening import local, memory
from perdure.core.environment import system_environment
from perdure.core.objects import StoreBlobs
from perdure.core.turn_entries import Place, entry_id_of, to_entry
from perdure.core.turn_store import Blobs, StoredTurns, TurnParts
from perdure.domain.container import make_space
from perdure.domain.log import APPEND_ENTRIES_MAX
from perdure.domain.turn import NewTurn, context_container
from perdure.ports.backend import Backend

SPACE: Final = make_space(tenant="t_bench", mode="lab", env="dev", project="default")
TIMEOUT_S: Final = 30.0
PAGE_TURNS: Final = 64
CONNECTIONS: Final = 8
REPEATED_TURNS: Final = 100
REPEATED_DIFFERENT: Final = 10
APPEND: Final = "append a turn of 10 KB"
SLOW_DISK_TARGET: Final = Target(quantity="latency_a", bound=2.0)


async def measure(server: Server, settings: Settings) -> list[Row]:
    """Every operation on every backend, then what only a directory can tell."""
    rows: list[Row] = []
    for start in ENGINES:
        async with start(server) as engine:
            progress(f"turns: {engine.name}")
            rows += await _measure_engine(engine, server.directory.parent, settings)
            progress(f"turns: {engine.name}, {CONNECTIONS} connections")
            rows += await _connections(engine, settings)
    progress("turns: filesystem, 1 ms disk")
    rows += await _slow_disk(server.directory.parent, settings)
    progress("turns: payloads that come again")
    rows += [await _repeated(server.directory.parent, size) for size in (10_000, 256_000)]
    return rows


async def _measure_engine(engine: Engine, directory: Path, settings: Settings) -> list[Row]:
    turns = _turns(engine.backend)
    depths = settings.store_histories
    with ThreadPoolExecutor(1) as thread, open_file(directory / "sync-floor") as descriptor:
        subjects = [
            subject(BARE, lambda number: engine.bare(f"t{number:012}")),
            _bare_sync(thread, descriptor, FileOps(), SYNC),
            await _append(turns, 100, "append a turn of 100 B"),
            await _append(turns, 10_000, APPEND),
            await _page(turns, engine.backend),
        ]
        forks = {depth: await _fork(turns, engine.backend, depth) for depth in depths}
        subjects += forks.values()
        shallow = forks[depths[0]].name
        found = await compare_latencies(
            subjects, bases=(BARE, SYNC, shallow), rounds=settings.turn_rounds, count=settings.turn_count
        )
    deep = {forks[depth].name for depth in depths[1:]}
    return [
        replace(
            row(_section(engine), name, series, growth=series.latency_ratio(shallow) if name in deep else None),
            latency_b=series.latency_ratio(SYNC),
        )
        for name, series in found.items()
    ]


async def _connections(engine: Engine, settings: Settings) -> list[Row]:
    """Appends through a server of CXDB's protocol, by one client and by eight, each to its own context."""
    rows: list[Row] = []
    floor = subject(BARE, lambda number: engine.bare(f"c{number:012}"))
    async with AsyncExitStack() as stack:
        served = serving(_turns(engine.backend), SPACE, settings=ServerSettings(port=0))
        port = (await stack.enter_async_context(served)).port
        clients = [await stack.enter_async_context(connected(port)) for _ in range(CONNECTIONS)]
        contexts = [await client.create() for client in clients]

        def prepare(wanted: int) -> Sequence[Sequence[bytes]]:
            return [[append_request(context_id, 100) for context_id in contexts] for _ in range(wanted)]

        async def perform(worker: int, requests: Sequence[bytes]) -> None:
            await clients[worker].ask(requests[worker])

        appends = Subject(name="APPEND_TURN of 100 B", prepare=prepare, perform=perform)
        alone: float | None = None
        for workers in (1, CONNECTIONS):
            found = await compare_rates(
                floor, [appends], workers=workers, rounds=settings.rate_rounds, round_s=settings.rate_round_s
            )
            series = found[appends.name]
            measured = row(_section(engine), f"{appends.name}, {workers} connection{'s' * (workers > 1)}", series)
            rate_one = None if alone is None else series.rate() / alone
            rows.append(replace(measured, rate_a=series.rate_ratio(BARE), rate_one=rate_one))
            alone = series.rate()
    return rows


async def _slow_disk(directory: Path, settings: Settings) -> list[Row]:
    """An append by a write and a sync of the same bytes, where each sync takes a millisecond."""
    folder = Path(tempfile.mkdtemp(prefix="slow-", dir=directory))
    files = StretchedFiles()
    with ThreadPoolExecutor(1) as thread, open_file(folder / "bare") as descriptor:
        async with documents(FilesystemDriver(folder / "store", files=files)) as backend:
            subjects = [_bare_sync(thread, descriptor, files, BARE), await _append(_turns(backend), 10_000, APPEND)]
            found = await compare_latencies(
                subjects, bases=(BARE,), rounds=settings.turn_rounds, count=settings.turn_count
            )
    return [
        replace(row("turns: filesystem, 1 ms disk", name, series), targets=(SLOW_DISK_TARGET,) * (name == APPEND))
        for name, series in found.items()
    ]


async def _repeated(directory: Path, size: int) -> Row:
    """Bytes on the disk by bytes appended, of a conversation in which every payload comes ten times."""
    folder = Path(tempfile.mkdtemp(prefix="repeated-", dir=directory))
    objects = local(folder / "objects", mode="lab", env="dev", environment=system_environment())
    await objects.open(timeout_s=TIMEOUT_S)
    payloads = [os.urandom(size) for _ in range(REPEATED_DIFFERENT)]
    async with documents(FilesystemDriver(folder / "store")) as backend:
        turns = _turns(backend, StoreBlobs(objects))
        context = await turns.create(SPACE, timeout_s=TIMEOUT_S)
        for number in range(REPEATED_TURNS):
            turn = _turn(next(numbers), payloads[number % REPEATED_DIFFERENT])
            await turns.append(SPACE, context.context_id, turn, timeout_s=TIMEOUT_S)
    await objects.close()
    stored = _taken_bytes(folder)
    what = f"{REPEATED_TURNS} turns of {size // 1_000} KB, {REPEATED_DIFFERENT} different"
    return Row(section="turns: payloads that come again", what=what, stored=stored / (REPEATED_TURNS * size))


def _taken_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _turns(backend: Backend, blobs: Blobs | None = None) -> StoredTurns:
    environment = system_environment()
    parts = TurnParts(backend.logs, backend.rows, environment=environment, sleep=asyncio.sleep)
    return StoredTurns(parts, blobs or StoreBlobs(memory(mode="lab", env="dev", environment=environment)))


def _section(engine: Engine) -> str:
    return f"turns: {engine.name}{' (emulator)' if engine.emulator else ''}"


def _bare_sync(thread: ThreadPoolExecutor, descriptor: int, files: FileOps, called: str) -> Subject:
    """A write of 10 KB at the end of a file, and a sync of it, in a thread."""
    content = os.urandom(10_000)

    def write() -> None:
        os.write(descriptor, content)
        files.sync(descriptor)

    async def perform(_number: int) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, write)

    return subject(called, perform)


async def _append(turns: StoredTurns, size: int, called: str) -> Subject:
    context = await turns.create(SPACE, timeout_s=TIMEOUT_S)

    async def perform(number: int) -> None:
        payload = number.to_bytes(8, "big") + bytes(size - 8)
        await turns.append(SPACE, context.context_id, _turn(number, payload), timeout_s=TIMEOUT_S)

    return subject(called, perform)


async def _page(turns: StoredTurns, backend: Backend) -> Subject:
    context_id, _ = await _conversation(turns, backend, 2 * PAGE_TURNS)

    async def perform(_number: int) -> None:
        page = await turns.list(SPACE, context_id, limit=PAGE_TURNS, timeout_s=TIMEOUT_S)
        assert len(page) == PAGE_TURNS

    return subject(f"the newest {PAGE_TURNS} turns of 100 B", perform)


async def _fork(turns: StoredTurns, backend: Backend, depth: int) -> Subject:
    _, head = await _conversation(turns, backend, depth)

    async def perform(_number: int) -> None:
        await turns.create(SPACE, base_turn_id=head, timeout_s=TIMEOUT_S)

    return subject(f"fork at depth {depth:,}", perform)


async def _conversation(turns: StoredTurns, backend: Backend, depth: int) -> tuple[str, str]:
    """A context of so many turns, and its head; put into its log many at a time, as they would stand there."""
    context = await turns.create(SPACE, timeout_s=TIMEOUT_S)
    number = int(context.context_id)
    for first in range(1, depth + 1, APPEND_ENTRIES_MAX):
        entries = [
            to_entry(
                _turn(position, bytes(100)),
                Place(number=number, position=position, anchor=1, entered=0, depth=position),
                entry_id=entry_id_of(f"bench-{position}", unique=""),
                inline=True,
            )
            for position in range(first, min(first + APPEND_ENTRIES_MAX, depth + 1))
        ]
        await backend.logs.append(context_container(SPACE, number), entries, timeout_s=TIMEOUT_S)
    made = await turns.head(SPACE, context.context_id, timeout_s=TIMEOUT_S)
    assert made.head_depth == depth
    return made.context_id, made.head_turn_id


def _turn(number: int, payload: bytes) -> NewTurn:
    return NewTurn(type_id="bench", type_version=1, payload=payload, idempotency_key=f"bench-{number}")
