"""The rates that the page of telemetry speaks of come from one command that anybody can run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_r82_rates_of_recording_and_of_flushing_are_measured_by_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--only", "telemetry", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.strip().splitlines()[-1])["rows"]
    rates = {row["what"]: row for row in rows if row["section"].startswith("telemetry")}
    for floor, ours in (
        ("QueueHandler.emit(record), prebuilt", "record(entry), prebuilt"),
        ("rows, bare COPY in binary, 500 at a time", "rows to PostgreSQL, 500 at a time"),
    ):
        assert rates[floor]["rate"] > 0
        # The median of the ratios of rounds, so it is not the ratio of the medians.
        assert rates[ours]["rate_a"] > 0
        assert [target["quantity"] for target in rates[ours]["targets"]] == ["rate_a"]
