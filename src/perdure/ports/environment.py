"""What the outside gives to everything else: time, chance and ids. Whoever needs one is handed it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


class Clock(Protocol):
    """Time, in two kinds that must not be mixed."""

    def now(self) -> datetime:
        """The time of day, aware and in UTC. It may jump: never measure with it."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment. It never goes back; only differences mean anything."""
        ...


class Randomness(Protocol):
    """Chance."""

    def random(self) -> float:
        """A number in [0, 1), each as likely as the others."""
        ...


class IdSource(Protocol):
    """Ids of rows and events."""

    def new(self) -> UUID:
        """A UUID of version 7 that nobody had before; later ones sort after earlier ones, to the millisecond."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The three together, so that one argument makes a program repeatable."""

    clock: Clock
    randomness: Randomness
    ids: IdSource
