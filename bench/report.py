"""What was measured, as rows of one table and as one JSON document. Targets stand beside; nothing fails for them."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

_BEGAN: Final = time.perf_counter()

Quantity = Literal["p99_ms", "p95_ms", "latency_a", "latency_b", "rate_a", "rate_one", "rate_early", "growth", "scans"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What one quantity of a row should be: at most or at least ``bound``."""

    quantity: Quantity
    bound: float
    at_most: bool = True

    def __str__(self) -> str:
        return f"{_SHORT[self.quantity]} {'<=' if self.at_most else '>='} {self.bound:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured thing.

    Times are in milliseconds and vary with the machine; the ratios are what is compared. ``latency_a`` and
    ``latency_b``: p50 by that of the floor; ``rate_a``: operations a second by those of floor A with as many workers;
    ``rate_one``: by its own with one worker; ``rate_early``: by its own when the tables were nearly empty; ``growth``:
    p50 by that of the same operation on something empty; ``stored``: bytes on the disk by bytes that were given.
    """

    section: str
    what: str
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    rate: float | None = None
    latency_a: float | None = None
    latency_b: float | None = None
    rate_a: float | None = None
    rate_one: float | None = None
    rate_early: float | None = None
    growth: float | None = None
    scans: int | None = None
    stored: float | None = None
    targets: tuple[Target, ...] = field(default=())

    def value(self, quantity: Quantity) -> float | None:
        """The measured quantity that a target is about."""
        found: float | None = getattr(self, quantity)
        return found

    def met(self, target: Target) -> bool | None:
        """Whether the target was reached; None where it was not measured."""
        value = self.value(target.quantity)
        if value is None:
            return None
        return value <= target.bound if target.at_most else value >= target.bound


_SHORT: Final[dict[str, str]] = {
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "rate": "per s",
    "latency_a": "time/A",
    "latency_b": "time/B",
    "rate_a": "rate/A",
    "rate_one": "rate/1",
    "rate_early": "late/early",
    "growth": "time/empty",
    "scans": "seq scans",
    "stored": "stored",
}
_WHAT_WIDTH: Final = 46
_COLUMN_WIDTH: Final = 10
_DIGITS: Final = {"rate": 0, "scans": 0, "p50_ms": 3, "p95_ms": 2, "p99_ms": 2}


def progress(text: str) -> None:
    """Say on stderr what goes on, with the seconds since the start."""
    print(f"[{time.perf_counter() - _BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)


def table(rows: list[Row]) -> str:
    """All rows under their sections, each section with the columns it has; a target that was missed is marked."""
    blocks: list[str] = []
    for section in dict.fromkeys(row.section for row in rows):
        of_section = [row for row in rows if row.section == section]
        heads = [head for head in _SHORT if any(getattr(row, head) is not None for row in of_section)]
        lines = [[section, *(_SHORT[head] for head in heads), ""]]
        lines += [["  " + row.what, *(_cell(row, head) for head in heads), _targets(row)] for row in of_section]
        widths = [max(_WHAT_WIDTH, *(len(line[0]) for line in lines)), *[_COLUMN_WIDTH] * len(heads)]
        blocks.append("\n".join(_line(line, widths) for line in lines))
    return "\n\n".join(blocks)


def document(rows: list[Row], *, machine: dict[str, Any]) -> dict[str, Any]:
    """The same for programs: one object with the machine, the rows and each target with its verdict."""
    return {
        "version": 1,
        "machine": machine,
        "rows": [
            {
                **{name: value for name, value in asdict(row).items() if value is not None and name != "targets"},
                "targets": [
                    {"quantity": t.quantity, "at_most" if t.at_most else "at_least": t.bound, "met": row.met(t)}
                    for t in row.targets
                ],
            }
            for row in rows
        ],
    }


def _cell(row: Row, head: str) -> str:
    value = getattr(row, head)
    return "" if value is None else f"{value:,.{_DIGITS.get(head, 2)}f}"


def _targets(row: Row) -> str:
    return ", ".join(f"{target} {'ok' if row.met(target) else 'missed'}" for target in row.targets)


def _line(cells: list[str], widths: list[int]) -> str:
    first, *middle, last = cells
    numbers = [cell.rjust(width) for cell, width in zip(middle, widths[1:], strict=True)]
    return " ".join([first.ljust(widths[0]), *numbers, " " + last]).rstrip()
