"""Short rounds of things that are compared, taken in turn, so that a busy machine disturbs all of them alike."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

Job = Any
"""What one operation needs, made before the clock runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something that is measured: ``prepare`` makes jobs, ``perform`` does one as worker number so-and-so."""

    name: str
    prepare: Callable[[int], Sequence[Job]]
    perform: Callable[[int, Job], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of one subject: how long each operation took, and all of them together, in seconds."""

    latencies_s: list[float]
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Operations a second."""
        return len(self.latencies_s) / self.elapsed_s

    @property
    def p50_s(self) -> float:
        """The median latency."""
        return median(self.latencies_s)


@dataclass(slots=True, kw_only=True)
class Series:
    """All rounds of one subject, and what each was compared with."""

    rounds: list[Round] = field(default_factory=list)
    latency_ratios: dict[str, list[float]] = field(default_factory=dict)
    rate_ratios: dict[str, list[float]] = field(default_factory=dict)

    def percentile_ms(self, share: float) -> float:
        """A percentile of the latencies of all rounds, in milliseconds."""
        return percentile([one for each in self.rounds for one in each.latencies_s], share) * 1000

    def rate(self) -> float:
        """The median rate, operations a second."""
        return median(one.rate for one in self.rounds)

    def latency_ratio(self, base: str) -> float | None:
        """The median over rounds of p50 here by p50 of ``base`` in the same round."""
        return median(found) if (found := self.latency_ratios.get(base)) else None

    def rate_ratio(self, base: str) -> float | None:
        """The median over rounds of the rate here by that of ``base`` beside it."""
        return median(found) if (found := self.rate_ratios.get(base)) else None


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``values`` lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def run_round(subject: Subject, *, workers: int, count: int) -> Round:
    """Let ``workers`` tasks do ``count`` operations between them, each taking the next job when it is free."""
    jobs = subject.prepare(count)
    waiting = iter(jobs)
    latencies_s: list[float] = []
    gc.collect()
    began = time.perf_counter()
    await asyncio.gather(*(_work(subject, number, waiting, latencies_s) for number in range(workers)))
    return Round(latencies_s=latencies_s, elapsed_s=time.perf_counter() - began)


async def _work(subject: Subject, number: int, waiting: Iterator[Job], latencies_s: list[float]) -> None:
    perform = subject.perform
    for job in waiting:
        began = time.perf_counter()
        await perform(number, job)
        latencies_s.append(time.perf_counter() - began)


async def compare_latencies(
    subjects: Sequence[Subject], *, bases: Sequence[str], rounds: int, count: int
) -> dict[str, Series]:
    """One worker; every round takes each subject once, in an order that turns, and compares the medians."""
    found = {subject.name: Series() for subject in subjects}
    for subject in subjects:
        await run_round(subject, workers=1, count=count)  # warm: connections, caches, plans
    for number in range(rounds):
        turn = number % len(subjects)
        medians: dict[str, float] = {}
        for subject in (*subjects[turn:], *subjects[:turn]):
            one = await run_round(subject, workers=1, count=count)
            found[subject.name].rounds.append(one)
            medians[subject.name] = one.p50_s
        for name, series in found.items():
            for base in bases:
                series.latency_ratios.setdefault(base, []).append(medians[name] / medians[base])
    return found


async def compare_rates(
    floor: Subject, subjects: Sequence[Subject], *, workers: int, rounds: int, round_s: float
) -> dict[str, Series]:
    """``workers`` at once; each subject's rate is compared with the floor's before and after it."""
    counts = {one.name: await _operations_in(one, workers=workers, round_s=round_s) for one in (floor, *subjects)}
    found = {one.name: Series() for one in (floor, *subjects)}
    before = await run_round(floor, workers=workers, count=counts[floor.name])
    for _ in range(rounds):
        for first in range(0, len(subjects), 2):
            pair = subjects[first : first + 2]
            taken = [await run_round(one, workers=workers, count=counts[one.name]) for one in pair]
            after = await run_round(floor, workers=workers, count=counts[floor.name])
            base = fmean((before.rate, after.rate))
            for subject, one in zip(pair, taken, strict=True):
                found[subject.name].rounds.append(one)
                found[subject.name].rate_ratios.setdefault(floor.name, []).append(one.rate / base)
            found[floor.name].rounds.append(after)
            before = after
    return found


async def _operations_in(subject: Subject, *, workers: int, round_s: float) -> int:
    """How many operations fill a round, found by doing some; that warms the subject too."""
    trial = await run_round(subject, workers=workers, count=4 * workers + 20)
    return max(2 * workers, int(trial.rate * round_s))
