"""What may go, and whether another snapshot fits: every bound at its number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.tasklists.retention import (
    BudgetDecision,
    Pressure,
    SnapshotFile,
    decision_of,
    plan_write,
    pressure_of,
    surplus,
)
from perdure.domain.tasklists.settings import PersistenceMode, RetentionPolicy

STRICT, DEGRADED = PersistenceMode.STRICT, PersistenceMode.DEGRADED


def files(*moments: int, size: int = 10) -> list[SnapshotFile]:
    return [SnapshotFile(timestamp_ms=moment, size=size) for moment in sorted(moments, reverse=True)]


def moments(found: object) -> list[int]:
    assert isinstance(found, list | tuple)
    return [file.timestamp_ms for file in found]


@pytest.mark.parametrize(
    ("used", "pressure"),
    [
        (0, Pressure.NORMAL),
        (80, Pressure.NORMAL),
        (81, Pressure.WARNING),
        (90, Pressure.WARNING),
        (91, Pressure.CRITICAL),
        (100, Pressure.CRITICAL),
        (101, Pressure.AT_CAPACITY),
        (102, Pressure.AT_CAPACITY),
    ],
)
def test_upstream_69_a_budget_of_101_bytes_has_its_bounds_where_whole_numbers_put_them(used: int, pressure: Pressure):
    assert pressure_of(used, RetentionPolicy(storage_budget_bytes=101)) is pressure


@pytest.mark.parametrize(
    ("used", "pressure"),
    [(79, "normal"), (80, "warning"), (89, "warning"), (90, "critical"), (99, "critical"), (100, "at_capacity")],
)
def test_upstream_70_and_fault_14_the_default_thresholds_are_met_at_exactly_their_percentage(used: int, pressure: str):
    assert pressure_of(used, RetentionPolicy(storage_budget_bytes=100)).value == pressure


def test_a_budget_of_nothing_is_always_used_up():
    assert pressure_of(0, RetentionPolicy(storage_budget_bytes=0)) is Pressure.AT_CAPACITY


def test_upstream_68_a_full_budget_stops_strict_and_is_skipped_in_degraded_and_warnings_stop_nobody():
    assert decision_of(Pressure.AT_CAPACITY, STRICT) is BudgetDecision.STRICT_FAIL
    assert decision_of(Pressure.AT_CAPACITY, DEGRADED) is BudgetDecision.DEGRADED_SKIP
    for mode in PersistenceMode:
        assert [decision_of(pressure, mode).value for pressure in list(Pressure)[:3]] == [
            "BelowWarning",
            "Warning80",
            "Warning90",
        ]


def test_upstream_71_of_five_the_newest_three_are_kept_and_the_oldest_goes_first():
    assert moments(surplus(files(1, 2, 3, 4, 5), keep=3, verified_ms=5)) == [1, 2]


def test_upstream_71_exactly_as_many_as_are_kept_all_stay():
    assert surplus(files(1, 2, 3), keep=3, verified_ms=3) == []


def test_fault_13_the_newest_that_loads_stays_behind_three_that_do_not():
    assert moments(surplus(files(1, 2, 3, 4, 5), keep=3, verified_ms=2)) == [1]
    assert surplus(files(1, 2, 3, 4, 5), keep=3, verified_ms=None) == []


@pytest.mark.parametrize(("keep", "left"), [(0, 1), (1, 1), (2, 2), (255, 5)])
def test_fault_13_however_few_are_to_be_kept_one_is(keep: int, left: int):
    assert len(surplus(files(1, 2, 3, 4, 5), keep=keep, verified_ms=5)) == 5 - left


def test_fault_14_the_incoming_size_is_counted_and_what_the_write_makes_superfluous_is_not():
    policy = RetentionPolicy(storage_budget_bytes=100)
    old = files(1, 2, 3, size=25)
    plan = plan_write(old, incoming_bytes=24, used_bytes=75, verified_ms=3, policy=policy)
    assert (plan.projected_bytes, plan.pressure) == (74, Pressure.NORMAL)
    assert plan.delete_first == [], "it fits beside them"

    plan = plan_write(old, incoming_bytes=25, used_bytes=75, verified_ms=3, policy=policy)
    assert moments(plan.delete_first) == [1], "at capacity beside them, so one less than is kept stays"
    assert plan.pressure is Pressure.NORMAL

    plan = plan_write(old, incoming_bytes=50, used_bytes=75, verified_ms=3, policy=policy)
    assert (plan.pressure, plan.delete_first) == (Pressure.AT_CAPACITY, [])


def test_fault_14_nothing_is_deleted_for_a_write_that_will_be_refused():
    policy = RetentionPolicy(storage_budget_bytes=100)

    assert plan_write(files(1, 2, 3), incoming_bytes=90, used_bytes=99, verified_ms=3, policy=policy).delete_first == []


def test_fault_14_where_one_is_kept_it_stays_until_the_next_one_is_there():
    policy = RetentionPolicy(storage_budget_bytes=100, checkpoints_to_keep=1)
    plan = plan_write(files(1, size=60), incoming_bytes=60, used_bytes=60, verified_ms=1, policy=policy)

    assert (plan.delete_first, plan.pressure) == ([], Pressure.NORMAL)


@given(
    sizes=st.lists(st.integers(0, 50), max_size=8),
    keep=st.integers(1, 5),
    budget=st.integers(0, 300),
    incoming=st.integers(0, 60),
    verified=st.integers(0, 7),
)
def test_the_newest_that_loads_is_never_deleted_before_a_write(
    sizes: list[int], keep: int, budget: int, incoming: int, verified: int
):
    found = [SnapshotFile(timestamp_ms=moment, size=size) for moment, size in enumerate(sizes)][::-1]
    verified_ms = verified if verified < len(sizes) else None
    policy = RetentionPolicy(storage_budget_bytes=budget, checkpoints_to_keep=keep)
    plan = plan_write(found, incoming_bytes=incoming, used_bytes=sum(sizes), verified_ms=verified_ms, policy=policy)

    assert verified_ms not in moments(plan.delete_first)
    assert verified_ms is not None or plan.delete_first == []
    assert len(plan.delete_first) <= max(0, len(found) - 1)
