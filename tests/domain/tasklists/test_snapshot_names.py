"""Names of snapshots: twenty digits, in order, and never a name that sorts below what it follows."""

from __future__ import annotations

import pytest

from perdure.domain.tasklists.failures import NamesExhausted
from perdure.domain.tasklists.snapshot_names import (
    CLOCK_REGRESSION_MS,
    TIMESTAMP_MS_MAX,
    is_clock_regressed,
    is_manifest_temporary,
    is_temporary,
    manifest_temporary_name,
    next_timestamp,
    quarantine_order,
    quarantined_name,
    snapshot_name,
    snapshot_timestamp,
    temporary_name,
)


def test_upstream_05_a_moment_and_its_name_of_twenty_digits_are_each_other():
    assert snapshot_name(42) == "00000000000000000042.snapshot"
    assert snapshot_timestamp("00000000000000000042.snapshot") == 42


@pytest.mark.parametrize(
    "name",
    [
        "42.snapshot",
        "short.snapshot",
        "00000000000000000042.tmp",
        "00000000000000000042.snapshot.tmp",
        "00000000000000000042.SNAPSHOT",
        "000000000000000000042.snapshot",
        "00000000000000000042.snapshot\n",
        " 0000000000000000042.snapshot",
        "+0000000000000000042.snapshot",
        "٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٤٢.snapshot",
        "",
    ],
)
def test_upstream_06_any_other_name_is_not_a_snapshot(name: str):
    assert snapshot_timestamp(name) is None


def test_the_greatest_name_is_all_nines_and_a_name_of_twenty_one_digits_is_never_made():
    assert snapshot_timestamp("9" * 20 + ".snapshot") == TIMESTAMP_MS_MAX
    for refused in (-1, TIMESTAMP_MS_MAX + 1):
        with pytest.raises(NamesExhausted):
            snapshot_name(refused)


@pytest.mark.parametrize(
    ("now_ms", "newest_ms", "expected"),
    [
        (100, None, 100),
        (100, 99, 100),
        (100, 100, 101),
        (100, 500, 501),
        (-5, None, 0),
        (-5, 0, 1),
        (TIMESTAMP_MS_MAX + 7, None, TIMESTAMP_MS_MAX),
        (100, TIMESTAMP_MS_MAX - 1, TIMESTAMP_MS_MAX),
    ],
)
def test_the_next_moment_is_now_and_always_after_the_newest(now_ms: int, newest_ms: int | None, expected: int):
    assert next_timestamp(now_ms, newest_ms=newest_ms) == expected


def test_after_the_last_name_there_is_none():
    with pytest.raises(NamesExhausted, match="move that file"):
        next_timestamp(100, newest_ms=TIMESTAMP_MS_MAX)


def test_a_newest_file_of_a_day_ahead_says_that_the_clock_went_back():
    assert is_clock_regressed(0, newest_ms=CLOCK_REGRESSION_MS)
    assert not is_clock_regressed(0, newest_ms=CLOCK_REGRESSION_MS - 1)


def test_only_names_that_a_writer_makes_are_swept():
    assert is_temporary(temporary_name(42, pid=7, token="0a1f"))
    assert is_manifest_temporary(manifest_temporary_name(pid=7, token="0a1f"))
    for foreign in ("00000000000000000042.tmp", ".notes.tmp", "store.manifest.json.tmp", ".x.7.0a1f.tmp"):
        assert not is_temporary(foreign)
        assert not is_manifest_temporary(foreign)


def test_names_in_quarantine_are_ordered_by_moment_and_then_by_attempt():
    names = [quarantined_name(snapshot_name(moment), attempt=attempt) for moment, attempt in ((9, 0), (10, 0), (10, 1))]

    assert sorted(names, key=lambda name: quarantine_order(name) or (0, 0)) == names
    assert names[0] == "corrupt-00000000000000000009.snapshot"
    assert quarantine_order("corrupt-notes.txt") is None
