"""The real time, chance and ids. Nothing else in Perdure reads any of them."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from uuid import UUID

import uuid_utils

from perdure.ports.environment import Environment


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> datetime:
        """The time of day in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that asks

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()


class SystemRandomness:
    """Chance from the operating system, so that workers forked from one process do not agree."""

    def __init__(self) -> None:
        self._source = random.SystemRandom()

    def random(self) -> float:
        """A number in [0, 1)."""
        return self._source.random()


class SystemIds:
    """UUIDs of version 7."""

    def new(self) -> UUID:
        """A new id."""
        # Drivers and JSON encoders know the standard library's class only.
        return UUID(int=uuid_utils.uuid7().int)


def system_environment() -> Environment:
    """The environment of a program that really runs."""
    return Environment(clock=SystemClock(), randomness=SystemRandomness(), ids=SystemIds())
