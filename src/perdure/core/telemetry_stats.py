"""What a buffer of telemetry and its flusher counted, in numbers that always add up."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

BreakerState: TypeAlias = Literal["closed", "open"]

# Upper bounds of the classes of flush latency; what takes longer than the last is in a class of its own.
LATENCY_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """How long flushes took: ``counts[i]`` of them at most ``LATENCY_BOUNDS_S[i]`` seconds, the last ones longer."""

    counts: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_S) + 1)
    total_s: float = 0.0
    longest_s: float = 0.0

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def at_most_s(self, share: float) -> float:
        """A bound that so large a share of them kept (0.99: all but one of a hundred); 0 if there were none."""
        wanted, seen = share * self.count, 0
        for bound, count in zip((*LATENCY_BOUNDS_S, self.longest_s), self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return min(bound, self.longest_s)
        return 0.0

    def with_one(self, seconds: float) -> Latencies:
        """These and another one."""
        counts = list(self.counts)
        counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        return Latencies(counts=tuple(counts), total_s=self.total_s + seconds, longest_s=max(self.longest_s, seconds))

    def __add__(self, other: Latencies) -> Latencies:
        return Latencies(
            counts=tuple(one + two for one, two in zip(self.counts, other.counts, strict=True)),
            total_s=self.total_s + other.total_s,
            longest_s=max(self.longest_s, other.longest_s),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryStats:
    """What became of everything that was recorded.

    ``accepted == flushed + pending + in_flight + dropped_after_accept + dead_lettered``, whenever it is looked at.
    ``refused`` were never accepted, by reason: ``full`` (entries), ``full_bytes``, ``closed``, ``invalid``.
    ``dropped`` were accepted first, by reason: ``displaced`` by something urgent, ``forbidden`` (its user is no member
    of the tenant), ``poison`` that no dead-letter file would take, and when time to stop was over ``lost``, or
    ``spilled`` to be written at the next start.
    """

    accepted: int = 0
    flushed: int = 0
    pending: int = 0
    in_flight: int = 0
    dead_lettered: int = 0
    dropped: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    refused: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    retried: int = 0
    unserialisable: int = 0
    oversized: int = 0
    redacted: int = 0
    held_bytes: int = 0
    entries_max: int = 0
    bytes_max: int = 0
    high_water: int = 0
    flushes: int = 0
    failures: int = 0
    breaker: BreakerState = "closed"
    last_flush_age_s: float | None = None
    latencies: Latencies = field(default_factory=Latencies)
    spilled: int = 0
    unspilled: int = 0
    replayed: int = 0

    @property
    def dropped_after_accept(self) -> int:
        """How many were accepted and are lost."""
        return sum(self.dropped.values())

    @property
    def refused_in_all(self) -> int:
        """How many were never accepted."""
        return sum(self.refused.values())

    @property
    def utilisation(self) -> float:
        """How full it is, from 0 to 1: by entries or by bytes, whichever is more."""
        held = self.pending + self.in_flight
        by_entries = held / self.entries_max if self.entries_max else 0.0
        return max(by_entries, self.held_bytes / self.bytes_max if self.bytes_max else 0.0)

    @property
    def is_balanced(self) -> bool:
        """Whether the numbers add up. They do."""
        return self.accepted == (
            self.flushed + self.pending + self.in_flight + self.dropped_after_accept + self.dead_lettered
        )


_GREATEST: Final = frozenset({"high_water"})
_MAPPED: Final = frozenset({"dropped", "refused"})


def sum_of(stats: Sequence[TelemetryStats]) -> TelemetryStats:
    """All of them as one: counts added, the highest water, an open breaker if one is open, the oldest flush."""
    total = TelemetryStats()
    for one in stats:
        merged: dict[str, Any] = {item.name: _merged(item.name, total, one) for item in fields(total)}
        total = TelemetryStats(**merged)
    return total


def _merged(name: str, total: TelemetryStats, one: TelemetryStats) -> object:
    before, more = getattr(total, name), getattr(one, name)
    if name in _MAPPED:
        return dict(Counter(before) + Counter(more))
    if name in _GREATEST:
        return max(before, more)
    if name == "breaker":
        return "open" if "open" in (before, more) else "closed"
    if name == "last_flush_age_s":
        return max((age for age in (before, more) if age is not None), default=None)
    return before + more
