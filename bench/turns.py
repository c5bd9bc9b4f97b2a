"""Turns by the engine's own bare write: append, the newest page, and a fork at growing depths."""

from __future__ import annotations

import asyncio
from typing import Final

from bench.report import Row, progress
from bench.rounds import Subject, compare_latencies
from bench.server import Server
from bench.settings import Settings
from bench.store_engines import ENGINES, Engine
from bench.store_rows import BARE, numbers, row, subject
from perdure.adapters.objectstore.opening import memory
from perdure.core.environment import system_environment
from perdure.core.objects import StoreBlobs
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import make_space
from perdure.domain.turn import NewTurn

SPACE: Final = make_space(tenant="t_bench", mode="lab", env="dev", project="default")
TIMEOUT_S: Final = 30.0
PAGE_TURNS: Final = 64


async def measure(server: Server, settings: Settings) -> list[Row]:
    """Every operation on every backend."""
    rows: list[Row] = []
    for start in ENGINES:
        async with start(server) as engine:
            progress(f"turns: {engine.name}")
            rows += await _measure_engine(engine, settings)
    return rows


async def _measure_engine(engine: Engine, settings: Settings) -> list[Row]:
    section = f"turns: {engine.name}{' (emulator)' if engine.emulator else ''}"
    turns = _turns(engine)
    depths = (10, *settings.store_histories)
    subjects = [
        subject(BARE, lambda number: engine.bare(f"t{number:012}")),
        await _append(turns, 100, "100 B"),
        await _append(turns, 10_000, "10 KB"),
        await _page(turns),
    ]
    forks = {depth: await _fork(turns, depth) for depth in depths}
    subjects += forks.values()
    shallow = forks[depths[0]].name
    found = await compare_latencies(
        subjects, bases=(BARE, shallow), rounds=settings.store_rounds, count=settings.store_count
    )
    deep = {forks[depth].name for depth in depths[1:]}
    return [
        row(section, name, series, growth=series.latency_ratio(shallow) if name in deep else None)
        for name, series in found.items()
    ]


def _turns(engine: Engine) -> StoredTurns:
    environment = system_environment()
    parts = TurnParts(engine.backend.logs, engine.backend.rows, environment=environment, sleep=asyncio.sleep)
    return StoredTurns(parts, StoreBlobs(memory(mode="lab", env="dev", environment=environment)))


async def _append(turns: StoredTurns, size: int, called: str) -> Subject:
    context = await turns.create(SPACE, timeout_s=TIMEOUT_S)

    async def perform(number: int) -> None:
        payload = number.to_bytes(8, "big") + bytes(size - 8)
        await turns.append(SPACE, context.context_id, _turn(number, payload), timeout_s=TIMEOUT_S)

    return subject(f"append a turn of {called}", perform)


async def _page(turns: StoredTurns) -> Subject:
    context_id, _ = await _conversation(turns, 2 * PAGE_TURNS)

    async def perform(_number: int) -> None:
        page = await turns.list(SPACE, context_id, limit=PAGE_TURNS, timeout_s=TIMEOUT_S)
        assert len(page) == PAGE_TURNS

    return subject(f"the newest {PAGE_TURNS} turns of 100 B", perform)


async def _fork(turns: StoredTurns, depth: int) -> Subject:
    _, head = await _conversation(turns, depth)

    async def perform(_number: int) -> None:
        await turns.create(SPACE, base_turn_id=head, timeout_s=TIMEOUT_S)

    return subject(f"fork at depth {depth:,}", perform)


async def _conversation(turns: StoredTurns, depth: int) -> tuple[str, str]:
    context = await turns.create(SPACE, timeout_s=TIMEOUT_S)
    head = context.head_turn_id
    for _ in range(depth):
        turn = _turn(next(numbers), bytes(100))
        head = (await turns.append(SPACE, context.context_id, turn, timeout_s=TIMEOUT_S)).turn_id
    return context.context_id, head


def _turn(number: int, payload: bytes) -> NewTurn:
    return NewTurn(type_id="bench", type_version=1, payload=payload, idempotency_key=f"bench-{number}")
