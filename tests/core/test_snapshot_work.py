"""Work that fails or is cancelled leaves nothing that still runs."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest

from perdure.core.snapshot_work import WORKERS, each, in_thread


async def test_no_more_is_done_at_once_than_there_are_workers():
    running = most = 0

    async def work(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await each(range(40), work)
    assert (most, running) == (WORKERS, 0)


async def test_the_first_failure_ends_the_others():
    begun: list[int] = []
    ended: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        try:
            if number == 2:
                raise ValueError(number)
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(ValueError, match="2"):
        await each(range(40), work)
    assert len(begun) == WORKERS
    assert sorted(ended) == sorted(begun)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_waits_for_the_thread(*, fails: bool):
    begun, may_end, has_ended = Event(), Event(), Event()

    def block() -> None:
        begun.set()
        may_end.wait()
        has_ended.set()
        if fails:
            raise OSError(28, "No space left on device")

    call = asyncio.create_task(in_thread(block))
    assert await asyncio.to_thread(begun.wait, 60)
    call.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not call.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert has_ended.is_set()
