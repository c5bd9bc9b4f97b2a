"""A few threads of our own for a client that blocks, so that nobody else's threads are used up by a slow database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class GaveUp(Exception):
    """The caller's time was over before there was a result. ``began`` says whether a thread had taken the call up."""

    def __init__(self, *, began: bool) -> None:
        super().__init__("the time was over")
        self.began = began


class Threads:
    """At most ``threads_max`` blocking calls at a time; the others wait for their turn, or for the end of their time.

    A call that began cannot be interrupted. It keeps its thread until its own timeouts end it, so the number of
    threads is bounded whatever the callers do.
    """

    def __init__(self, *, threads_max: int) -> None:
        self._executor = ThreadPoolExecutor(threads_max, thread_name_prefix="perdure-dynamodb")
        self._under_way: set[Future[Any]] = set()

    async def run(self, call: Callable[[], T], *, timeout_s: float) -> T:
        """What the call returns or raises.

        Raises ``GaveUp`` after ``timeout_s``. A call that did not begin until then, or until the waiting task was
        cancelled, never will.
        """
        if timeout_s <= 0:
            raise GaveUp(began=False)
        future = self._executor.submit(call)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        waiter = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait((waiter,), timeout=timeout_s)
        except asyncio.CancelledError:
            future.cancel()
            waiter.cancel()
            raise
        if done:
            return waiter.result()
        never_began = future.cancel()
        waiter.cancel()
        if not never_began and future.done():
            return future.result()  # it ended in this very moment, and an answer is better than a doubt
        raise GaveUp(began=not never_began)

    async def close(self) -> None:
        """Take no more calls and wait for those under way."""
        self._executor.shutdown(wait=False)
        left = [asyncio.wrap_future(future) for future in tuple(self._under_way)]
        await asyncio.gather(*left, return_exceptions=True)
        self._executor.shutdown(wait=True)  # nothing is under way, so the threads leave at once
