"""Positions: one more between any two, and as many at the ends as a list can have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.tasklists.positions import POSITION_CHARS_MAX, STEP_DIGITS, is_position, position_between
from perdure.domain.tasklists.tasks import TASKS_MAX
from perdure.errors import Invalid, LimitExceeded

pytestmark = pytest.mark.fast

POSITIONS = st.text("0123456789ABCxyz", min_size=1, max_size=12).filter(lambda text: not text.endswith("0"))


@given(POSITIONS, POSITIONS)
def test_there_is_a_position_between_any_two(one: str, other: str):
    if one != other:
        low, high = sorted((one, other))
        made = position_between(low, high)
        assert low < made < high
        assert is_position(made)


@given(POSITIONS)
def test_there_is_a_position_above_and_below_each(position: str):
    above, below = position_between(position, None), position_between(None, position)
    assert below < position < above
    assert is_position(above)
    assert is_position(below)


def test_the_first_position_has_room_on_both_sides():
    first = position_between(None, None)
    assert position_between(None, first) < first < position_between(first, None)


@pytest.mark.parametrize("at_the_end", [True, False])
def test_the_longest_list_grows_at_an_end_without_longer_positions(*, at_the_end: bool):
    position = position_between(None, None)
    for _ in range(TASKS_MAX):
        made = position_between(position, None) if at_the_end else position_between(None, position)
        assert (made > position) is at_the_end
        assert len(made) == STEP_DIGITS
        position = made


def test_counting_ends_at_the_outermost_positions_and_halving_goes_on():
    highest, lowest = "z" * STEP_DIGITS, "0" * (STEP_DIGITS - 1) + "1"
    assert highest < position_between(highest, None)
    assert position_between(None, lowest) < lowest
    assert is_position(position_between(None, lowest))


def test_no_position_ends_in_the_lowest_digit_when_counting_would():
    assert position_between("0000000z", None) == "00000011"
    assert position_between(None, "00000011") == "0000000z"


def test_a_gap_can_be_halved_until_the_limit_and_not_beyond():
    low, high, halvings = "V", "W", 0
    while len(high) < POSITION_CHARS_MAX or high[-1] != "1":
        high = position_between(low, high)
        halvings += 1
    assert halvings > 2_000
    assert len(high) == POSITION_CHARS_MAX
    with pytest.raises(LimitExceeded) as raised:
        position_between(low, high)
    assert (raised.value.detail["allowed"], raised.value.detail["actual"]) == (
        POSITION_CHARS_MAX,
        POSITION_CHARS_MAX + 1,
    )


@pytest.mark.parametrize(("low", "high"), [("V", "V"), ("W", "V"), ("V1", "V")])
def test_nothing_is_between_what_is_not_in_order(low: str, high: str):
    with pytest.raises(Invalid):
        position_between(low, high)


@pytest.mark.parametrize("text", ["", "V0", "0", "a b", "é", "-", "\u0661"])
def test_what_is_no_position_is_refused(text: str):
    assert not is_position(text)
    with pytest.raises(Invalid):
        position_between(text, None)
    with pytest.raises(Invalid):
        position_between(None, text)
