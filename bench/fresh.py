"""A database that was never analysed must not slow down as it fills: no plan may have been made for empty tables."""

from __future__ import annotations

from statistics import fmean
from typing import Final

import psycopg

from bench import floors
from bench.report import Row, Target, progress
from bench.rounds import Round, run_round
from bench.server import Server
from bench.settings import Settings
from bench.workload import Shape, Workload, commit_queue, open_plane

WINDOW: Final = 1_000
RUNS: Final = 50
_FLOOR_COUNT: Final = 200
_TARGETS: Final = (
    Target(quantity="rate_early", bound=0.8, at_most=False),
    Target(quantity="scans", bound=0),
)
_SCANS: Final = (
    "SELECT seq_scan FROM pg_stat_user_tables WHERE schemaname = 'perdure' AND relname = 'orchestration_events'"
)


async def measure(server: Server, settings: Settings) -> list[Row]:
    """The rate of the last thousand changes by that of the second thousand, for one tenant, without autovacuum."""
    server.setting("autovacuum", "off")
    rows: list[Row] = []
    for workers in (1, 8):
        for shape in Shape:
            progress(f"never analysed: {settings.fresh_changes} {shape} changes, {workers} at once")
            database = await server.create_database(f"fresh_{workers}_{shape.name.lower()}")
            rows.append(await _fill(server, database, shape, workers, settings.fresh_changes))
            with psycopg.connect(server.dsn("superuser", database="postgres"), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {database}".encode())
    server.setting("autovacuum", None)
    return rows


async def _fill(server: Server, database: str, shape: Shape, workers: int, changes: int) -> Row:
    app = server.dsn("app", database=database)
    floors.install_bare(server, database=database)
    async with open_plane(app, connections=1, coalesce=False) as plane:
        workload = Workload(plane)
        places = await workload.start_runs("fresh", tenants=1, runs=RUNS)
    before = _scans(server, database)
    windows: list[Round] = []
    floor_rates: list[float] = []
    async with (
        floors.floor_a(app, workers=workers) as floor,
        commit_queue(app, connections=workers, coalesce=False) as queue,
    ):
        subject = workload.through_call(shape, shape, places, queue)
        for _ in range(changes // WINDOW):
            base = await run_round(floor, workers=workers, count=_FLOOR_COUNT)
            windows.append(await run_round(subject, workers=workers, count=WINDOW))
            after = await run_round(floor, workers=workers, count=_FLOOR_COUNT)
            floor_rates.append(fmean((base.rate, after.rate)))
    early, late = windows[1].rate, windows[-1].rate
    # The machine may be busier at the end than at the beginning; the floor beside each window says how much.
    drift = floor_rates[-1] / floor_rates[1]
    return Row(
        section="never analysed, one tenant, no autovacuum",
        what=f"{shape}, {workers} at once, {changes - WINDOW + 1:,}-{changes:,} (floor A {drift:.2f})",
        p50_ms=windows[-1].p50_s * 1000,
        rate=late,
        rate_a=late / floor_rates[-1],
        rate_early=late / early,
        scans=_scans(server, database) - before,
        targets=_TARGETS,
    )


def _scans(server: Server, database: str) -> int:
    """Sequential scans of the events so far; sessions report when they end, and all but this one have ended."""
    with psycopg.connect(server.dsn("superuser", database=database), autocommit=True) as connection:
        for _ in range(1_000):
            others = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
            if others is not None and others[0] == 0:
                break
        row = connection.execute(_SCANS).fetchone()
    if row is None:
        raise SystemExit("pg_stat_user_tables does not know orchestration_events")
    return int(row[0])
