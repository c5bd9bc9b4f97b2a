"""How much is measured: enough to be believed, or enough to see that the bench works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Sizes of a run of the bench; times are in seconds."""

    quick: bool
    sync_probes: int
    single_rounds: int
    single_count: int
    rate_rounds: int
    rate_round_s: float
    workers: tuple[int, ...]
    fresh_changes: int
    deliveries: int
    story_events: int
    story_traces: int
    store_rounds: int
    store_count: int
    store_histories: tuple[int, ...]
    turn_rounds: int
    turn_count: int


FULL = Settings(
    quick=False,
    sync_probes=2_000,
    single_rounds=60,
    single_count=60,
    rate_rounds=5,
    rate_round_s=0.35,
    workers=(1, 8, 32),
    fresh_changes=20_000,
    deliveries=1_000,
    story_events=1_000_000,
    story_traces=200,
    store_rounds=20,
    store_count=25,
    store_histories=(10, 1_000, 10_000),
    turn_rounds=12,
    turn_count=12,
)

QUICK = Settings(
    quick=True,
    sync_probes=300,
    single_rounds=12,
    single_count=30,
    rate_rounds=1,
    rate_round_s=0.15,
    workers=(1, 32),
    fresh_changes=4_000,
    deliveries=100,
    story_events=50_000,
    story_traces=30,
    store_rounds=5,
    store_count=10,
    store_histories=(10, 1_000),
    turn_rounds=4,
    turn_count=6,
)
