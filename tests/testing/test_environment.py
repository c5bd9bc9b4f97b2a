"""The environment that a test owns stands still and repeats itself; the real one keeps the promises of its port."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from perdure.core.environment import system_environment
from perdure.errors import Invalid
from perdure.testing.environment import START_DEFAULT, CountingIds, FakeClock, SeededRandomness, fake_environment

pytestmark = pytest.mark.fast


def test_a_fake_clock_stands_still_until_it_is_advanced():
    clock = FakeClock()
    assert clock.now() == clock.now() == START_DEFAULT
    assert clock.advance(90.5) == START_DEFAULT + timedelta(seconds=90.5)
    assert clock.monotonic() == 90.5


def test_a_fake_clock_tells_utc_and_never_goes_back():
    clock = FakeClock(datetime(2026, 1, 1, 5, tzinfo=timezone(timedelta(hours=5))))
    assert clock.now() == datetime(2026, 1, 1, tzinfo=UTC)
    assert clock.now().tzinfo is UTC
    for back in (-1.0, float("nan")):
        with pytest.raises(Invalid, match="does not go back"):
            clock.advance(back)
    with pytest.raises(Invalid, match="aware"):
        FakeClock(datetime(2026, 1, 1))  # noqa: DTZ001 - what must be refused


def test_the_same_seed_is_the_same_chance():
    one, same, other = SeededRandomness(1), SeededRandomness(1), SeededRandomness(2)
    drawn = [one.random() for _ in range(20)]
    assert drawn == [same.random() for _ in range(20)]
    assert drawn != [other.random() for _ in range(20)]


def test_counted_ids_are_version_7_in_order_and_apart_from_those_of_another_space():
    ids, others = CountingIds(), CountingIds(space=2**16 - 1)
    made = [ids.new() for _ in range(50)]
    assert made == sorted(set(made))
    assert all(one.version == 7 and one.variant == "specified in RFC 4122" for one in made)
    assert not set(made) & {others.new() for _ in range(50)}
    assert str(CountingIds().new()) == "00000000-0001-7000-8000-000000000000"
    with pytest.raises(Invalid, match="65535"):
        CountingIds(space=2**16)


def test_two_fake_environments_are_alike():
    one, same = fake_environment(seed=3, space=4), fake_environment(seed=3, space=4)
    assert (one.clock.now(), one.randomness.random(), one.ids.new()) == (
        same.clock.now(),
        same.randomness.random(),
        same.ids.new(),
    )


def test_the_real_environment_keeps_its_ports_promises():
    environment = system_environment()
    assert environment.clock.now().utcoffset() == timedelta()
    assert environment.clock.monotonic() <= environment.clock.monotonic()
    assert all(0 <= environment.randomness.random() < 1 for _ in range(100))
    made = [environment.ids.new() for _ in range(1_000)]
    assert len(set(made)) == 1_000
    assert {one.version for one in made} == {7}
    milliseconds = [one.int >> 80 for one in made]
    assert milliseconds == sorted(milliseconds)
