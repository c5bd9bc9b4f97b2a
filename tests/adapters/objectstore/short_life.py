"""A program that uses the client and ends at once: python -m tests.adapters.objectstore.short_life."""

from __future__ import annotations

import asyncio
import sys

import obstore
from obstore.store import MemoryStore

from perdure.adapters.objectstore import leaving

WRITES = 20


async def live() -> int:
    """Many requests at the same time, and nothing that would delay the end after them."""
    client = MemoryStore()
    await asyncio.gather(*(obstore.put_async(client, str(n), b"abc" * 100_000) for n in range(WRITES)))
    return len(await obstore.list(client).collect_async())


if __name__ == "__main__":
    assert leaving.let_threads_leave is not None, "imported for what it does at the end"
    sys.stdout.write(f"{asyncio.run(live())}\n")
