"""What the benches of routed stores share: subjects that are numbered, and rows by the engine's bare write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Final

from bench.report import Row, Target
from bench.rounds import Series, Subject

BARE: Final = "bare write"
SYNC: Final = "write and fsync of 10 KB"
GROWTH: Final = Target(quantity="growth", bound=1.2)

numbers = count(1)


def row(section: str, what: str, series: Series, *, growth: float | None = None) -> Row:
    """The row of one subject; ``growth`` is its latency by that of the same one at the beginning."""
    return Row(
        section=section,
        what=what,
        p50_ms=series.percentile_ms(0.5),
        p95_ms=series.percentile_ms(0.95),
        p99_ms=series.percentile_ms(0.99),
        rate=series.rate(),
        latency_a=series.latency_ratio(BARE),
        growth=growth,
        targets=() if growth is None else (GROWTH,),
    )


def subject(name: str, perform: Callable[[int], Awaitable[object]]) -> Subject:
    """What is measured under that name; each time with a number that nothing had before."""

    async def one(_worker: int, number: int) -> None:
        await perform(number)

    def prepare(wanted: int) -> Sequence[int]:
        return [next(numbers) for _ in range(wanted)]

    return Subject(name=name, prepare=prepare, perform=one)
