"""What pytest does for the whole repository: mark the fast half, and print the kind x backend table."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
FAST_FOLDERS = (ROOT / "tests" / "architecture", ROOT / "tests" / "domain")
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
    cells: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            if match := CONTRACT_TEST.match(report.nodeid):
                cells[match["kind"], match["backend"]][outcome] += 1
    terminalreporter.section("contracts: kind x backend")
    for line in contract_table(cells):
        terminalreporter.write_line(line)


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
