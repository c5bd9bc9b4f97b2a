"""How long a caller waits for stores, and the pauses between attempts meanwhile; adapters try again by these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from perdure.ports.environment import Environment

Sleep: TypeAlias = Callable[[float], Awaitable[object]]

_DOUBLINGS_MAX: Final = 16  # beyond any longest pause, and before the power overflows


class Patience:
    """How long a caller still waits, and the pauses between its attempts: full jitter, doubled each time."""

    def __init__(
        self, timeout_s: float, *, environment: Environment, sleep: Sleep, base_s: float, pause_s_max: float
    ) -> None:
        self._environment = environment
        self._sleep = sleep
        self._base_s = base_s
        self._pause_s_max = pause_s_max
        self._ends_s = environment.clock.monotonic() + timeout_s
        self._pauses = 0

    @property
    def left_s(self) -> float:
        """Seconds left, 0 if none are."""
        return max(0.0, self._ends_s - self._environment.clock.monotonic())

    async def rest(self, seconds: float) -> None:
        """Wait so long, but not beyond the end."""
        await self._sleep(min(seconds, self.left_s))

    async def pause(self, *, at_least_s: float = 0.0, at_most_s: float | None = None) -> bool:
        """Wait before the next attempt; False, at once, if there is no time for one.

        ``at_most_s`` is the longest pause, where that is shorter than usual.
        """
        left_s = self.left_s
        if left_s <= max(at_least_s, self._base_s):
            return False
        longest_s = self._pause_s_max if at_most_s is None else min(at_most_s, self._pause_s_max)
        cap_s = min(longest_s, self._base_s * 2 ** min(self._pauses, _DOUBLINGS_MAX))
        self._pauses += 1
        jitter_s = self._environment.randomness.random() * min(cap_s, left_s - at_least_s)
        await self._sleep(at_least_s + jitter_s)
        return True
