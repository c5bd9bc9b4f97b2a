"""No two things have the same key, every key is one that a driver takes, and order is kept where it means something."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.documents import keys
from perdure.domain.container import Container, Space, board_container, make_space, session_container, stream_container
from perdure.domain.ids import MODES
from perdure.domain.kinds import Kind
from perdure.domain.log import ENTRY_ID_BYTES_MAX, SEQUENCE_MAX
from perdure.domain.route import RouteKey
from perdure.domain.versioned import KEY_BYTES_MAX
from perdure.ports.document_rules import check_get, check_scan
from perdure.ports.documents import PARTITION_CHARS_MAX
from perdure.ports.log_rules import EPOCH_MAX

# Few characters, so that texts that are alike come often; separators, order's edges, and characters of 1 to 4 bytes.
ALIKE = st.text(st.sampled_from("ab./#-~_ \u00fc\ud7ff\ue000\uffff\U00010000\U0010ffff"), max_size=6)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TEXT = ALIKE | ANY
PART = TEXT | st.none()
COMPONENTS = st.lists(PART, min_size=1, max_size=5)
SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")


@given(TEXT)
def test_a_component_can_be_read_back(text: str) -> None:
    assert keys.decode(keys.encode(text)) == text


@pytest.mark.parametrize("component", ["C4", "c5", "c", "w", "c4.c4", "c4 ", "\u00fc"])
def test_what_is_no_component_is_refused(component: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        keys.decode(component)


@given(TEXT, TEXT)
def test_components_are_in_the_order_of_their_bytes(one: str, other: str) -> None:
    assert (keys.encode(one) < keys.encode(other)) == (one.encode() < other.encode())
    assert (keys.row_sort(one) < keys.row_sort(other)) == (one.encode() < other.encode())


@given(ALIKE, ALIKE)
def test_a_prefix_is_a_range(prefix: str, text: str) -> None:
    start, end = keys.row_range(prefix)
    assert (start <= keys.row_sort(text) < end) == text.startswith(prefix)


@given(ANY, ANY)
def test_a_range_holds_whatever_begins_with_its_prefix(prefix: str, rest: str) -> None:
    start, end = keys.row_range(prefix)
    assert start <= keys.row_sort(prefix + rest) < end


@given(TEXT, TEXT)
def test_nothing_is_between_a_key_and_what_comes_after_it(one: str, other: str) -> None:
    assert (keys.after(keys.row_sort(one)) <= keys.row_sort(other)) == (one.encode() < other.encode())


@given(COMPONENTS, COMPONENTS)
def test_different_components_give_different_names(one: list[str | None], other: list[str | None]) -> None:
    assert (keys.join(*one) == keys.join(*other)) == (one == other)
    assert (keys.hashed(*one) == keys.hashed(*other)) == (one == other)


def test_none_empty_and_a_hyphen_are_different() -> None:
    assert len({keys.join(None), keys.join(""), keys.join("-")}) == 3


@st.composite
def containers(draw: st.DrawFn) -> Container:
    space = Space(
        tenant=draw(st.sampled_from(["t_a", "t_b"])),
        mode=draw(st.sampled_from(MODES)),
        env=draw(st.sampled_from(["dev", "prod"])),
        project=draw(ALIKE),
        surface=draw(st.none() | ALIKE),
        app=draw(st.none() | ALIKE),
    )
    name = tuple(draw(st.lists(ALIKE, min_size=1, max_size=4)))
    return Container(kind=draw(st.sampled_from([Kind.STREAMS, Kind.TABLES, Kind.MEMORY])), space=space, name=name)


@given(containers(), containers())
def test_different_containers_are_in_different_partitions(one: Container, other: Container) -> None:
    for name in (keys.log_partition, keys.rows_partition, keys.directory_sort):
        assert (name(one) == name(other)) == (one == other)
    assert keys.log_partition(one) != keys.rows_partition(other)


def test_a_name_beyond_the_cap_is_hashed_and_stays_apart_from_all_others() -> None:
    names = set()
    for length in range(400, 600):
        for letter in "ab":
            container = Container(kind=Kind.STREAMS, space=SPACE, name=(letter + "x" * (length - 1),))
            names |= {keys.log_partition(container), keys.rows_partition(container)}
    assert len(names) == 800
    assert 100 < sum(".~" in name for name in names) < 700
    assert all(len(name) <= PARTITION_CHARS_MAX for name in names)
    for name in names:
        check_get(name, [])


def test_partitions_of_any_container_are_names_that_drivers_take() -> None:
    wide = "\U0001f98a" * 128
    space = make_space(tenant="t_" + "x" * 62, mode="enterprise", env="e" * 63, project=wide, surface=wide, app=wide)
    for container in (
        stream_container(space, "\U0001f98a" * 512),
        session_container(space, user=wide, session=wide),
        board_container(space, user=wide, session=wide),
    ):
        check_get(keys.log_partition(container), [keys.directory_sort(container)])
        check_get(keys.rows_partition(container), [])
    for partition in (
        keys.directory_partition("log", Kind.MEMORY, tenant=space.tenant, mode=space.mode, env=space.env),
        keys.routes_partition(space.mode, space.env),
        keys.pointer_partition("logs", space.mode, space.env, 3),
    ):
        check_get(partition, [])


@pytest.mark.parametrize("text", ["\U0001f98a" * 128, "x" * 512, "\x01" * 512])
def test_the_longest_ids_and_keys_fit_a_sort_key(text: str) -> None:
    assert len(text.encode()) == ENTRY_ID_BYTES_MAX == KEY_BYTES_MAX
    check_get("p", [keys.marker_sort(EPOCH_MAX, text), keys.row_sort(text)])
    start, end = keys.row_range(text)
    check_scan("p", start, end, 1)
    check_scan("p", keys.after(keys.row_sort(text)), keys.LAST, 1)


def test_epochs_and_numbers_are_in_their_order() -> None:
    places = [(epoch, number) for epoch in (0, 9, 10, EPOCH_MAX) for number in (0, 1, 9, 10, 99, 100, SEQUENCE_MAX)]
    sorts = [keys.entry_sort(epoch, number) for epoch, number in places]
    assert sorts == sorted(sorts)
    assert [(keys.epoch_of(sort), keys.entry_number(sort)) for sort in sorts] == places
    start, end = keys.entry_range(9, first=10)
    assert [place for place, sort in zip(places, sorts, strict=True) if start <= sort < end] == [
        (9, number) for number in (10, 99, 100, SEQUENCE_MAX)
    ]
    start, end = keys.epochs_before_range(10)
    assert {epoch for (epoch, _), sort in zip(places, sorts, strict=True) if start <= sort < end} == {0, 9}


@given(TEXT, st.integers(0, EPOCH_MAX))
def test_the_ranges_of_a_log_hold_all_of_it_but_header_and_audit_records(entry_id: str, epoch: int) -> None:
    inside = [keys.marker_sort(epoch, entry_id), keys.entry_sort(epoch, 7), keys.gate_sort(epoch, 2**53 - 1)]
    for sort in inside:
        assert sum(start <= sort < end for start, end in keys.log_ranges()) == 1
        assert keys.epoch_of(sort) == epoch
    for sort in (keys.HEADER, keys.audit_sort(UUID(int=epoch))):
        assert not any(start <= sort < end for start, end in keys.log_ranges())


def test_a_user_s_names_are_one_range_and_nobody_else_s_are_in_it() -> None:
    users = ["ann", "an", "ann.", "-", "a/b"]
    for user in users:
        start, end = keys.directory_range(user)
        for other in users:
            sort = keys.directory_sort(session_container(SPACE, user=other, session="s"))
            assert (start <= sort < end) == (user == other)
        assert not start <= keys.directory_sort(stream_container(SPACE, user)) < end
    start, end = keys.directory_range(None)
    assert start <= keys.directory_sort(stream_container(SPACE, "s")) < end


@st.composite
def route_keys(draw: st.DrawFn) -> RouteKey:
    return RouteKey(
        kind=draw(st.sampled_from([Kind.STREAMS, Kind.TABLES])),
        tenant=draw(st.sampled_from(["t_a", "t_b"])),
        mode="lab",
        env="dev",
        project=draw(st.none() | ALIKE),
        surface=draw(st.none() | ALIKE),
    )


@given(route_keys(), route_keys(), st.integers(0, 9_999), st.integers(1, 9_999))
def test_different_routes_have_different_keys_and_histories(
    one: RouteKey, other: RouteKey, after: int, version: int
) -> None:
    assert (keys.route_sort(one) == keys.route_sort(other)) == (one == other)
    start, end = keys.history_range(one, after_version=after)
    assert (start <= keys.history_sort(other, version) < end) == (one == other and version > after)


def test_a_route_of_the_longest_names_fits_a_sort_key() -> None:
    wide = "\U0001f98a" * 128
    key = RouteKey(kind=Kind.MEMORY, tenant="t_" + "x" * 62, mode="lab", env="dev", project=wide, surface=wide)
    check_get("p", [keys.route_sort(key), keys.history_sort(key, 10**10 - 1), keys.outbox_sort(10**19 - 1)])
    start, end = keys.routes_range()
    assert start <= keys.route_sort(key) < end
    start, end = keys.history_range(key, after_version=0)
    assert start <= keys.history_sort(key, 1) < end


MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(MOMENTS, MOMENTS, TEXT)
def test_pointers_are_in_the_order_of_time(one: datetime, other: datetime, target: str) -> None:
    later = max(one, other, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=1))
    start, end = keys.pointer_range(one)
    assert start <= keys.pointer_sort(min(one, other), target) < end
    if later > one:
        assert not start <= keys.pointer_sort(later, target) < end
    assert 0 <= keys.pointer_shard(target) < keys.POINTER_SHARDS


def test_names_that_are_known_are_those_that_would_be_made() -> None:
    keys.known_partition.cache_clear()
    containers = [stream_container(SPACE, f"s{number}") for number in range(keys.NAMES_KNOWN_MAX + 2)]
    first = [keys.log_partition(container) for container in containers]
    assert keys.known_partition.cache_info().currsize == keys.NAMES_KNOWN_MAX
    assert [keys.log_partition(container) for container in containers] == first
    assert len(set(first)) == len(containers)
    assert keys.rows_partition(containers[-1]) != keys.log_partition(containers[-1])
