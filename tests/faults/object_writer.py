"""A process that puts objects into a directory until it is killed: python -m tests.faults.object_writer TASK.

The ``n``-th object follows from ``n``, so that whoever finds one knows what it has to be. Each acknowledgement is
printed as soon as it is there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from perdure.adapters.objectstore import opening
from perdure.core.environment import system_environment
from perdure.domain.container import Space, make_space
from perdure.domain.object import SPOOL_BYTES_MAX

SPACE: Space = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
SIZES = (10, 1000, 100_000, SPOOL_BYTES_MAX + 100_000)
TIMEOUT_S = 60.0


def content(n: int) -> bytes:
    """What the ``n``-th object is: small ones, and every fourth one larger than what is kept in memory."""
    size = SIZES[n % len(SIZES)]
    return (f"{n}-".encode() * size)[:size]


async def in_chunks(whole: bytes) -> AsyncIterator[bytes]:
    """The bytes as a stream."""
    for offset in range(0, len(whole), 500_000):
        yield whole[offset : offset + 500_000]


async def write(directory: str, first: int) -> None:
    """Put object after object."""
    store = opening.local(directory, mode="lab", env="dev", environment=system_environment())
    await store.open(timeout_s=TIMEOUT_S)
    n = first
    while True:
        ref = await store.put(SPACE, in_chunks(content(n)), timeout_s=TIMEOUT_S)
        sys.stdout.write(json.dumps([n, ref.digest]) + "\n")
        sys.stdout.flush()
        n += 1


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    asyncio.run(write(task["directory"], task["first"]))
