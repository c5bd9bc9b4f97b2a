"""A process that puts objects into a directory is killed: what it acknowledged is there, and nothing is half there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from perdure.adapters.objectstore import opening
from perdure.adapters.objectstore.store import LEFTOVER_AGE_S
from perdure.core.environment import system_environment
from perdure.domain.object import object_digest
from tests.faults.object_writer import SPACE, TIMEOUT_S, content
from tests.support.children import child

KILLED_AFTER = (0, 3, 5, 8)  # acknowledgements: between a small object and a large one, or amid one


async def test_a_killed_put_leaves_the_whole_object_or_none(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    first = 0
    for count in KILLED_AFTER:
        async with child("tests.faults.object_writer", {"directory": str(tmp_path / "o"), "first": first}) as writer:
            said = await writer.said(count)
            writer.kill()
            said += await writer.said()
            assert await writer.ended() == -signal.SIGKILL
        assert [n for n, _ in said] == list(range(first, first + len(said)))
        acknowledged |= {digest: n for n, digest in said}
        first += len(said)
        await check(tmp_path / "o", acknowledged, first=first)
    assert len(acknowledged) == first >= sum(KILLED_AFTER)


async def check(directory: Path, acknowledged: dict[str, int], *, first: int) -> None:
    """All that was acknowledged is read to its end; the put under way may be there, whole; the rest is swept."""
    store = opening.local(directory, mode="lab", env="dev", environment=system_environment())
    await store.open(timeout_s=TIMEOUT_S)
    page = await store.list(SPACE, limit=500, timeout_s=TIMEOUT_S)
    kept = {ref.digest for ref in page.objects}
    assert set(acknowledged) <= kept <= {*acknowledged, object_digest(content(first))}
    for digest in kept:
        found = await store.get(SPACE, digest, timeout_s=TIMEOUT_S)
        whole = b"".join([chunk async for chunk in found.chunks])
        assert whole == content(acknowledged.get(digest, first))
    left = list((directory / "incoming").iterdir())
    long_ago_s = system_environment().clock.now().timestamp() - LEFTOVER_AGE_S - 1
    for path in left:
        os.utime(path, (long_ago_s, long_ago_s))
    assert await store.sweep(limit=100, timeout_s=TIMEOUT_S) == len(left)
    assert list((directory / "incoming").iterdir()) == []
