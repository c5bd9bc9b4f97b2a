"""Time, chance and ids that a test owns: nothing sleeps, and every run of a test is the same run."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from perdure.errors import Invalid
from perdure.ports.environment import Environment

START_DEFAULT: Final = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is advanced; both kinds of time move together."""

    def __init__(self, start: datetime = START_DEFAULT) -> None:
        if start.tzinfo is None:
            raise Invalid("a clock starts at an aware time, as in datetime(2026, 1, 1, tzinfo=UTC)")
        self._start = start.astimezone(UTC)
        self._elapsed = timedelta()

    def now(self) -> datetime:
        """The start and all that was advanced since."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._elapsed.total_seconds()

    def advance(self, seconds: float) -> datetime:
        """Let ``seconds`` pass, 0 or more, and return the new time. Raises ``Invalid`` for a step back."""
        if not seconds >= 0:
            raise Invalid(f"time does not go back: advance({seconds})")
        self._elapsed += timedelta(seconds=seconds)
        return self.now()


class SeededRandomness:
    """Chance that is the same every time for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._source = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def random(self) -> float:
        """The next number in [0, 1)."""
        return self._source.random()


class CountingIds:
    """Ids of version 7 that count from 1, so that a failure prints the same ids every time.

    ``space`` keeps the ids of two sources apart that write to the same place; it is at most 65 535.
    """

    def __init__(self, space: int = 0) -> None:
        if not 0 <= space < 2**16:
            raise Invalid(f"space is {space}; expected 0 to 65535")
        self._space = space
        self._count = 0

    def new(self) -> UUID:
        """The next id; it sorts after all earlier ones of this source."""
        self._count += 1
        # 48 bits of count where the time goes, the version, the variant, and the space at the end.
        return UUID(int=(self._count << 80) | (7 << 76) | (2 << 62) | self._space)


def fake_environment(*, start: datetime = START_DEFAULT, seed: int = 0, space: int = 0) -> Environment:
    """An environment that a test owns. Keep the clock at hand to move it: ``clock = FakeClock()``."""
    return Environment(clock=FakeClock(start), randomness=SeededRandomness(seed), ids=CountingIds(space))
