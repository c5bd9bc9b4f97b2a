"""``python -m bench [--quick] [--json FILE]``: one table on stdout, then one JSON document (or into FILE)."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import uvloop

from bench import commits, cxdb, deliveries, disk, fresh, stores, story, tasklists, telemetry, turns, work
from bench.report import Row, document, progress, table
from bench.rounds import percentile
from bench.server import Server
from bench.settings import FULL, QUICK, Settings

PARTS = {
    "commits": commits.measure,
    "fresh": fresh.measure,
    "outbox": deliveries.measure,
    "trace": story.measure,
    "stores": stores.measure,
    "turns": turns.measure,
    "cxdb": cxdb.measure,
    "work": work.measure,
    "telemetry": telemetry.measure,
    "tasklists": tasklists.measure,
}


def main() -> None:
    """Measure, and print what was measured."""
    arguments = _arguments()
    settings = QUICK if arguments.quick else FULL
    progress("starting PostgreSQL")
    with Server(arguments.directory) as server:
        machine = {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "postgresql": server.binaries.version,
            "quick": settings.quick,
        }
        rows: list[Row] = []
        try:
            uvloop.run(_measure(server, settings, arguments.only, rows))
        finally:
            # What one part found is not lost because another one failed.
            print(table(rows))
            _write(document(rows, machine=machine), arguments.json)


async def _measure(server: Server, settings: Settings, only: list[str], rows: list[Row]) -> None:
    """Add to ``rows`` what each part finds."""
    rows.append(_disk(server, settings, "before"))
    for name, part in PARTS.items():
        if name in only:
            rows += await part(server, settings)
    rows.insert(1, _disk(server, settings, "after"))
    progress("done")


def _disk(server: Server, settings: Settings, when: str) -> Row:
    taken_s = disk.sync_latencies_s(server.directory, count=settings.sync_probes)
    return Row(
        section="disk",
        what=f"8 KB written and fdatasynced, {when}",
        p50_ms=percentile(taken_s, 0.5) * 1000,
        p95_ms=percentile(taken_s, 0.95) * 1000,
        p99_ms=percentile(taken_s, 0.99) * 1000,
        rate=len(taken_s) / sum(taken_s),
    )


def _write(result: dict[str, Any], path: Path | None) -> None:
    text = json.dumps(result, indent=None if path is None else 2)
    if path is None:
        print(f"\n{text}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"\nJSON: {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=sys.modules["bench"].__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute's worth: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON document there instead of stdout")
    parser.add_argument(
        "--only", choices=[*PARTS], nargs="+", default=[*PARTS], metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--directory", type=Path, default=Path(".perdure"), help="on the disk to measure (default: ./.perdure)"
    )
    return parser.parse_args()


main()
