"""Units of work by the engine's own bare write: a save and its commit, a guard between, a heartbeat, a verification."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bench.report import Row, progress
from bench.rounds import Subject, compare_latencies
from bench.server import Server
from bench.settings import Settings
from bench.store_engines import ENGINES, Engine
from bench.store_rows import BARE, row, subject
from perdure.core.environment import system_environment
from perdure.core.work import WorkUnits
from perdure.domain.typed_values import TypedValue
from perdure.domain.work_results import Work
from perdure.ports.guards import Allow, GuardRequest, Verdict
from perdure.testing.routed import given, routed_plane

ATTRIBUTES: Final[dict[str, TypedValue]] = {f"key-{number}": f"value {number}" * 8 for number in range(10)}
ENTRIES: Final = (10, 200)  # of the histories that are verified


async def measure(server: Server, settings: Settings) -> list[Row]:
    """Every operation on every backend."""
    rows: list[Row] = []
    for start in ENGINES:
        async with start(server) as engine:
            if engine.backend.work is None:
                continue
            progress(f"work: {engine.name}")
            rows += await _measure_engine(engine, settings)
    return rows


async def _measure_engine(engine: Engine, settings: Settings) -> list[Row]:
    section = f"work: {engine.name}{' (emulator)' if engine.emulator else ''}"
    async with _units(engine) as work:
        subjects = [
            subject(BARE, lambda number: engine.bare(f"w{number:012}")),
            await _create(work),
            await _save(work),
            await _guarded(work),
            await _heartbeat(work),
        ]
        verified = [await _verify(work, entries) for entries in ENTRIES]
        found = await compare_latencies(
            [*subjects, *verified],
            bases=(BARE,),
            rounds=settings.store_rounds,
            count=settings.store_count,
        )
    return [row(section, name, series) for name, series in found.items()]


@asynccontextmanager
async def _units(engine: Engine) -> AsyncIterator[WorkUnits]:
    """The facade over an engine, with a route that leads there."""
    async with routed_plane(
        [given("main", engine.backend)], engine.backend.routes, environment=system_environment()
    ) as plane:
        acme = plane.tenant("t_bench")
        await acme.routes.set("work", "main")
        yield acme.work


async def _create(work: WorkUnits) -> Subject:
    async def perform(_number: int) -> None:
        await work.create(instance="bench", attributes=ATTRIBUTES)

    return subject("create a unit of 10 attributes", perform)


async def _save(work: WorkUnits) -> Subject:
    state = [await _active(work)]

    async def perform(number: int) -> None:
        state[0] = await work.save(state[0], attributes={"key-0": number}, new_interaction_id=f"i-{number}")

    return subject("save: load, verify, commit", perform)


async def _guarded(work: WorkUnits) -> Subject:
    state = [await _active(work)]

    async def allow(request: GuardRequest) -> Verdict:
        del request
        return Allow()

    async def perform(number: int) -> None:
        state[0] = await work.save(state[0], attributes={"key-0": number}, guard=allow)

    return subject("save with a guard", perform)


async def _heartbeat(work: WorkUnits) -> Subject:
    unit = await _active(work)

    async def perform(_number: int) -> None:
        await work.heartbeat(unit, owner="bench")

    return subject("heartbeat", perform)


async def _verify(work: WorkUnits, entries: int) -> Subject:
    unit = await _active(work)
    for number in range(entries - 2):
        unit = await work.save(unit, attributes={"key-0": number})

    async def perform(_number: int) -> None:
        found = await work.verify(unit)
        assert found.ok

    return subject(f"verify a unit with {entries:,} entries", perform)


async def _active(work: WorkUnits) -> Work:
    return await work.checkout(await work.create(instance="bench", attributes=ATTRIBUTES), owner="bench")
