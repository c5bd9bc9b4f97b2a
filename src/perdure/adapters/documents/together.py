"""Several things at the same time, but not too many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

TOGETHER_MAX: Final = 16  # requests of one call under way at the same time; more would starve other callers

Result = TypeVar("Result")


async def together(calls: Sequence[Callable[[], Awaitable[Result]]]) -> Sequence[Result]:
    """What these calls return, in their order. If one raises, those begun with it end first, and then it is raised."""
    results: list[Result] = []
    for first in range(0, len(calls), TOGETHER_MAX):
        some = calls[first : first + TOGETHER_MAX]
        # A task nobody waits for would go on behind the caller's back.
        answers = await asyncio.gather(*(call() for call in some), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            results.append(answer)
    return results
