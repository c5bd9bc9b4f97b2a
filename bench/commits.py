"""What a commit costs: alone against the floors, and many at once over many tenants or one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from bench import floors
from bench.report import Row, Target, progress
from bench.rounds import Series, Subject, compare_latencies, compare_rates
from bench.server import Server
from bench.settings import Settings
from bench.workload import POOL_AS_SHIPPED, Place, Shape, Workload, commit_queue, open_plane

TENANTS: Final = 100
HOT_RUNS: Final = 32

Disk = str
AS_IS: Final[Disk] = "disk as it is"
SLOW: Final[Disk] = "1 ms disk"

_LATENCY_TARGETS: Final = {
    (AS_IS, Shape.MINIMAL): (
        Target(quantity="latency_a", bound=2.0),
        Target(quantity="p99_ms", bound=10.0),
    ),
    (AS_IS, Shape.THREE): (Target(quantity="latency_a", bound=3.0), Target(quantity="latency_b", bound=1.3)),
    (SLOW, Shape.MINIMAL): (Target(quantity="latency_a", bound=1.3),),
    (SLOW, Shape.THREE): (Target(quantity="latency_a", bound=1.6),),
}
_SPREAD_TARGETS: Final = {
    (Shape.MINIMAL, False): (Target(quantity="rate_a", bound=0.3, at_most=False),),
    (Shape.THREE, False): (Target(quantity="rate_a", bound=0.15, at_most=False),),
    (Shape.MINIMAL, True): (Target(quantity="rate_a", bound=0.5, at_most=False),),
}
_HOT_TARGET: Final = (Target(quantity="rate_one", bound=2.0, at_most=False),)
_TARGET_WORKERS: Final = 32


async def measure(server: Server, settings: Settings) -> list[Row]:
    """Everything about commits, on the disk as it is and on one that is stretched to a millisecond."""
    database = await server.create_database("ledger")
    app = server.dsn("app", database=database)
    rows: list[Row] = []
    async with open_plane(app, connections=POOL_AS_SHIPPED, coalesce=False) as plane:
        workload = Workload(plane)
        spread = await workload.start_runs("spread", tenants=TENANTS)
        hot = await workload.start_runs("hot", tenants=1, runs=HOT_RUNS)
    floors.install(server, database=database)
    for disk in (AS_IS, SLOW):
        if disk == SLOW:
            server.setting("commit_delay", "1000")
            server.setting("commit_siblings", "0")
        progress(f"{disk}: one connection")
        rows += await _alone(app, workload, spread, settings, disk)
        for name, places in (("100 tenants", spread), ("one hot tenant", hot)):
            rows += await _together(app, workload, places, settings, disk, name)
    server.setting("commit_delay", None)
    server.setting("commit_siblings", None)
    return rows


async def _alone(app: str, workload: Workload, places: Sequence[Place], settings: Settings, disk: Disk) -> list[Row]:
    async with (
        floors.floor_a(app, workers=1) as a,
        floors.floor_b(app, workload, places) as b,
        _paths(app, workload, places, connections=1, coalesce=False) as subjects,
    ):
        found = await compare_latencies(
            [a, b, *subjects], bases=[a.name, b.name], rounds=settings.single_rounds, count=settings.single_count
        )
    section = f"one connection, 100 tenants, {disk}"
    names = {a.name: "floor A: bare INSERT", b.name: "floor B: the same rows, bare"}
    return [
        Row(
            section=section,
            what=names.get(name, name),
            p50_ms=series.percentile_ms(0.5),
            p95_ms=series.percentile_ms(0.95),
            p99_ms=series.percentile_ms(0.99),
            rate=series.rate(),
            latency_a=series.latency_ratio(a.name),
            latency_b=series.latency_ratio(b.name) if Shape.MINIMAL not in name else None,
            targets=() if name in names else _LATENCY_TARGETS[disk, _shape(name)],
        )
        for name, series in found.items()
    ]


async def _together(
    app: str, workload: Workload, places: Sequence[Place], settings: Settings, disk: Disk, name: str
) -> list[Row]:
    rows: list[Row] = []
    alone: dict[str, float] = {}
    for workers in settings.workers:
        progress(f"{disk}: {name}, {workers} at once")
        async with AsyncExitStack() as stack:
            floor = await stack.enter_async_context(floors.floor_a(app, workers=workers))
            subjects: list[Subject] = []
            for coalesce in (False, True):
                connections = min(workers, POOL_AS_SHIPPED) if coalesce else workers
                paths = _paths(app, workload, places, connections=connections, coalesce=coalesce)
                subjects += await stack.enter_async_context(paths)
            found = await compare_rates(
                floor, subjects, workers=workers, rounds=settings.rate_rounds, round_s=settings.rate_round_s
            )
        if workers == 1:
            alone = {subject: series.rate() for subject, series in found.items()}
        section = f"{workers} at once, {name}, {disk}"
        rows += [_rate_row(section, one, series, alone.get(one), name, workers) for one, series in found.items()]
    return rows


def _rate_row(section: str, what: str, series: Series, alone: float | None, places: str, workers: int) -> Row:
    targets: tuple[Target, ...] = ()
    if what != "A" and workers == _TARGET_WORKERS:
        coalesced = what.endswith("coalesced")
        if places == "one hot tenant":
            targets = _HOT_TARGET if coalesced else ()
        elif AS_IS in section:
            targets = _SPREAD_TARGETS.get((_shape(what), coalesced), ())
    return Row(
        section=section,
        what="floor A: bare INSERT" if what == "A" else what,
        p50_ms=series.percentile_ms(0.5),
        p95_ms=series.percentile_ms(0.95),
        p99_ms=series.percentile_ms(0.99),
        rate=series.rate(),
        rate_a=series.rate_ratio("A"),
        rate_one=series.rate() / alone if alone and workers > 1 else None,
        targets=targets,
    )


@asynccontextmanager
async def _paths(
    app: str, workload: Workload, places: Sequence[Place], *, connections: int, coalesce: bool
) -> AsyncIterator[list[Subject]]:
    """Both changes through the call and through the API."""
    suffix = ", coalesced" if coalesce else ""
    async with (
        commit_queue(app, connections=connections, coalesce=coalesce) as queue,
        # Effects are announced to relays over the same pool, so one connection for one worker would be a queue.
        open_plane(app, connections=max(connections, POOL_AS_SHIPPED), coalesce=coalesce) as plane,
    ):
        yield [
            *(workload.through_call(f"{shape}, call{suffix}", shape, places, queue) for shape in Shape),
            *(workload.through_api(f"{shape}, API{suffix}", shape, places, plane) for shape in Shape),
        ]


def _shape(name: str) -> Shape:
    return Shape.MINIMAL if name.startswith(Shape.MINIMAL) else Shape.THREE
