"""What pytest does for the whole repository: mark the fast half, and print the kind x backend table."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long something takes says how busy the machine is; no test fails for it.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

ROOT = Path(__file__).parent
FAST_FOLDERS = tuple(ROOT / "tests" / name for name in ("architecture", "domain", "golden"))
CONTRACTS_JSON = ROOT / "build" / "contracts.json"
CONTRACT_TEST = re.compile(r"^tests/contracts/test_(?P<backend>\w+)\.py::Test(?P<kind>\w+?)(?:On\w+)?::")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--contracts-table``."""
    parser.addoption(
        "--contracts-table", action="store_true", help="end with a table of contract results by kind and backend"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs no engine by the folder it is in; elsewhere a test says ``@pytest.mark.fast`` itself."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in FAST_FOLDERS):
            item.add_marker(pytest.mark.fast)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how each kind fared on each backend, from the reports alone, so that it works under xdist too."""
    if not config.getoption("--contracts-table"):
        return
    results = Results()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            results.add(report, "failed" if outcome == "error" else outcome)
    terminalreporter.section("contracts: kind x backend")
    for line in contract_table(results.cells):
        terminalreporter.write_line(line)
    terminalreporter.write_line("")
    for backend, (engine, emulator) in sorted(results.engines.items()):
        terminalreporter.write_line(f"{backend}: {engine}{' (an emulator)' if emulator else ''}")
    CONTRACTS_JSON.parent.mkdir(exist_ok=True)
    CONTRACTS_JSON.write_text(json.dumps(contract_report(results), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    terminalreporter.write_line(f"written to {CONTRACTS_JSON.relative_to(ROOT)}")


class Results:
    """How each kind fared on each backend, and what each backend was."""

    def __init__(self) -> None:
        self.cells: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.engines: dict[str, tuple[str, bool]] = {}

    def add(self, report: pytest.TestReport, outcome: str) -> None:
        """Count a report, if it is one of a contract test."""
        match = CONTRACT_TEST.match(report.nodeid)
        if match is None:
            return
        backend = match["backend"]
        self.cells[match["kind"].lower(), backend][outcome] += 1
        said = dict(report.user_properties)
        if "engine" in said:
            self.engines[backend] = (str(said["engine"]), bool(said["emulator"]))


def contract_report(results: Results) -> dict[str, dict[str, dict[str, object]]]:
    """The table for machines: ``{kind: {backend: {passed, failed, skipped, engine, emulator}}}``."""
    report: defaultdict[str, dict[str, dict[str, object]]] = defaultdict(dict)
    for (kind, backend), count in results.cells.items():
        engine, emulator = results.engines.get(backend, ("unknown", False))
        counts: dict[str, object] = {outcome: count[outcome] for outcome in ("passed", "failed", "skipped")}
        report[kind][backend] = {**counts, "engine": engine, "emulator": emulator}
    return dict(report)


def contract_table(cells: dict[tuple[str, str], Counter[str]]) -> list[str]:
    """Lay out the counts: one row for each kind, one column for each backend, a dash where nothing ran."""
    backends = sorted({backend for _, backend in cells})
    rows = [["", *backends]]
    for kind in sorted({kind for kind, _ in cells}):
        counts = (cells.get((kind, backend), Counter()) for backend in backends)
        rows.append(
            [kind, *(", ".join(f"{number} {outcome}" for outcome, number in count.items()) or "-" for count in counts)]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
