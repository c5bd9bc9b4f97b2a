"""Units of work: nothing shares a key, every key is one that drivers take, and lists are in the order they promise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.documents import keys, work_keys
from perdure.domain.container import make_space
from perdure.domain.work import ATTRIBUTE_KEY_BYTES_MAX, HOST_ID_CHARS_MAX, WorkStatus
from perdure.ports.document_rules import check_get, check_scan

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
UNIT = UUID(int=7)
LIKE = st.text(st.sampled_from("ab./-~_ \u00fc\ue000\U0010ffff"), max_size=5)
WIDE = "\U0001f98a" * HOST_ID_CHARS_MAX


@given(LIKE, LIKE)
def test_different_instances_and_actors_are_in_different_partitions(one: str, other: str) -> None:
    for name in (work_keys.instance_partition, work_keys.actor_partition):
        assert (name(SPACE, one) == name(SPACE, other)) == (one == other)
    assert work_keys.instance_partition(SPACE, one) != work_keys.actor_partition(SPACE, other)
    assert work_keys.space_partition(SPACE) not in {
        work_keys.instance_partition(SPACE, one),
        work_keys.actor_partition(SPACE, one),
    }


@given(LIKE, LIKE, st.integers(1, 200), st.integers(1, 200))
def test_versions_of_attributes_are_in_the_order_of_key_and_number(one: str, other: str, low: int, high: int) -> None:
    left, right = work_keys.version_sort(1, one, low), work_keys.version_sort(1, other, high)
    assert (left < right) == ((one.encode(), low) < (other.encode(), high))
    assert work_keys.version_of(left) == (one, low)
    start, end = work_keys.version_range(1)
    assert start <= left < end
    assert not start <= work_keys.version_sort(2, one, low) < end


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 2**128 - 1)), min_size=2, max_size=2))
def test_listings_are_in_the_order_of_time_and_id(places: list[tuple[int, int]]) -> None:
    stem = work_keys.units_stem(None)
    moments = [(MOMENT + timedelta(microseconds=time), UUID(int=number)) for time, number in places]
    one, other = (work_keys.listing_sort(stem, moment, unit_id, "token") for moment, unit_id in moments)
    assert (one < other) == (moments[0] < moments[1])


def test_a_range_of_listings_begins_with_a_moment_and_ends_before_another() -> None:
    stem = work_keys.history_stem("ann")
    moments = [MOMENT + timedelta(microseconds=number) for number in range(5)]
    sorts = [work_keys.listing_sort(stem, moment, UNIT, UNIT.hex, "1", "token") for moment in moments]
    start, end = work_keys.listing_range(stem, since=moments[1], until=moments[3], mark=None)
    assert [sort for sort in sorts if start <= sort < end] == sorts[1:3]
    mark = work_keys.listing_of(sorts[1], stem)[0]
    start, end = work_keys.listing_range(stem, since=moments[1], until=None, mark=mark)
    assert [sort for sort in sorts if start <= sort < end] == sorts[2:]


def test_no_list_is_part_of_another() -> None:
    stems = [
        work_keys.units_stem(None),
        *(work_keys.units_stem(status) for status in WorkStatus),
        work_keys.history_stem(None),
        work_keys.history_stem("ann"),
        work_keys.history_stem("an"),
        work_keys.children_stem(),
        work_keys.LEASES,
        work_keys.UNFINISHED,
    ]
    for stem in stems:
        assert [one for one in stems if one.startswith(stem)] == [stem]


@pytest.mark.parametrize("text", ["\U0001f98a" * 128, "x" * 512])
def test_the_longest_names_fit(text: str) -> None:
    assert len(text.encode()) == ATTRIBUTE_KEY_BYTES_MAX
    space = make_space(tenant="t_" + "x" * 62, mode="saas", env="e" * 63, project=WIDE, surface=WIDE, app=WIDE)
    sorts = [
        work_keys.UNIT,
        work_keys.ATTRIBUTES,
        work_keys.version_sort(10**15, text, work_keys.SEQUENCE_MAX),
        work_keys.request_sort(10**15, WIDE),
        work_keys.child_sort(10**15, UNIT, 10**15),
        work_keys.entry_sort(work_keys.SEQUENCE_MAX),
        work_keys.listing_sort(work_keys.history_stem(WIDE), MOMENT, UNIT, UNIT.hex, "9" * 19, UNIT.hex),
        work_keys.listing_sort(work_keys.units_stem(max(WorkStatus, key=len)), MOMENT, UNIT, UNIT.hex),
    ]
    for name in (
        work_keys.unit_partition(space, UNIT),
        work_keys.space_partition(space),
        work_keys.instance_partition(space, WIDE),
        work_keys.actor_partition(space, WIDE),
    ):
        check_get(name, sorts)
        for start, end in (work_keys.entry_range(above=0), work_keys.version_range(1), work_keys.request_range(1)):
            check_scan(name, start, end, 1)
    check_scan("p", keys.after(sorts[2]), keys.LAST, 1)


def test_entries_are_in_the_order_of_their_numbers() -> None:
    sorts = [work_keys.entry_sort(number) for number in (1, 2, 9, 10, 99, 100, 2**63)]
    assert sorts == sorted(sorts)
    start, end = work_keys.entry_range(above=2, below=100)
    assert [sort for sort in sorts if start <= sort < end] == sorts[2:5]
