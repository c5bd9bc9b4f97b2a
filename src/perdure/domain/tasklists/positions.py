"""Positions between positions: text of which there is always one more between any two.

The idea is fractional indexing (D. Greenspan, "Implementing Fractional Indexing", 2020): a position is the digits of a
fraction in (0, 1), most significant first, compared as text. It never ends in the lowest digit, so that there is room
below each.
"""

from __future__ import annotations

from typing import Final

from perdure.errors import Invalid, LimitExceeded

POSITION_CHARS_MAX: Final = 512  # five bits a digit: thousands of moves to the very same gap
STEP_DIGITS: Final = 8  # in which lists grow at their ends: counted and not halved, so that no list is too long for it

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUES: Final = {digit: value for value, digit in enumerate(_DIGITS)}


def position_between(before: str | None, after: str | None) -> str:
    """A position above ``before`` and below ``after``; None is the beginning, or the end.

    Raises ``Invalid`` for what is no position, or if ``before`` is not below ``after``; ``LimitExceeded`` when the gap
    was halved so often that a position would have more than ``POSITION_CHARS_MAX`` digits.
    """
    low = "" if before is None else _checked(before)
    high = None if after is None else _checked(after)
    if high is not None and low >= high:
        raise Invalid("no position is between these: the first is not before the second")
    made = _stepped(low, high) or _between(low, high)
    if len(made) > POSITION_CHARS_MAX:
        raise LimitExceeded(
            f"no more room between these two tasks (position_chars_max, {POSITION_CHARS_MAX}); move one of them away",
            limit="position_chars_max",
            allowed=POSITION_CHARS_MAX,
            actual=len(made),
        )
    return made


def is_position(text: str) -> bool:
    """Whether a text is a position that ``position_between`` could have made."""
    return bool(text) and all(digit in _VALUES for digit in text) and not text.endswith(_DIGITS[0])


def _checked(position: str) -> str:
    if not is_position(position):
        raise Invalid("this is no position of a task list")
    return position


def _stepped(low: str, high: str | None) -> str | None:
    """The next one at the end, or before the beginning, by counting; None in between, and where counting ends."""
    if low and high is None:
        number = _counted(low) + 1
        # One that would end in the lowest digit has no room below it, and is skipped.
        number += number % len(_DIGITS) == 0
    elif high is not None and not low:
        # A longer one is above its own beginning already.
        number = _counted(high) - (len(high) <= STEP_DIGITS)
        number -= number % len(_DIGITS) == 0
    else:
        return None
    return _digits_of(number) if 0 < number < len(_DIGITS) ** STEP_DIGITS else None


def _counted(position: str) -> int:
    number = 0
    for digit in position[:STEP_DIGITS].ljust(STEP_DIGITS, _DIGITS[0]):
        number = number * len(_DIGITS) + _VALUES[digit]
    return number


def _digits_of(number: int) -> str:
    digits = ""
    for _ in range(STEP_DIGITS):
        number, value = divmod(number, len(_DIGITS))
        digits = _DIGITS[value] + digits
    return digits


def _between(low: str, high: str | None) -> str:
    digits: list[str] = []
    place = 0
    while True:
        floor = _VALUES[low[place]] if place < len(low) else 0
        ceiling = _VALUES[high[place]] if high is not None and place < len(high) else len(_DIGITS)
        if ceiling - floor > 1:
            digits.append(_DIGITS[(floor + ceiling) // 2])
            return "".join(digits)
        digits.append(_DIGITS[floor])
        if ceiling > floor:
            # From here on anything is below ``high``; only ``low`` has to be passed.
            high = None
        place += 1
