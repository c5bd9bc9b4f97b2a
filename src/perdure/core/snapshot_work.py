"""How snapshots work: so many things at once, and nothing that is left behind when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, ParamSpec, TypeVar

WORKERS: Final = 8  # each holds one file in memory: at most eight of the largest, half a gigabyte

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


async def each(items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]]) -> None:
    """Do something with every item, ``WORKERS`` at once; the first failure ends the others, and is raised."""
    waiting = iter(items)

    async def worker() -> None:
        """One after the other, of what is still waiting."""
        for item in waiting:
            await work(item)

    workers = [asyncio.ensure_future(worker()) for _ in range(WORKERS)]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def in_thread(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    """Call what blocks in a thread. Cancelled, it returns when the thread is done, so that nobody tidies under it."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()  # looked at, so that nobody complains: being cancelled is what the caller hears
        raise
