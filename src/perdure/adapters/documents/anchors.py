"""How a set of rows gets into the directory, and stays there for as long as anything of it is there.

The directory is in another partition, so no commit can write a row and its container's name together. Instead each
container has an anchor, a document of its own partition, and whatever adds a document to the partition requires the
anchor in the same commit. An anchor is used only by who announced the name after the anchor was there, and an erasing
removes the anchors before it removes anything else, and the name, in the version that it found in the beginning, last:

* While the anchor is there, the name is: an erasing that found the name before it was announced does not remove it,
  and one that found it afterwards removes the anchor first.
* Once the anchor is gone, nothing can be added any more, and what is there can be removed in one pass.

So a process that knows an anchor need not look at the directory again: its commit fails when the anchor is gone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final
from weakref import WeakValueDictionary

from perdure.adapters.documents import keys
from perdure.adapters.documents.directory import Directory
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Container
from perdure.errors import TimedOut
from perdure.ports.documents import COMMIT_WRITES_MAX, Expect, Put, Remove
from perdure.ports.patience import Patience

KNOWN_MAX: Final = 10_000  # containers that one process remembers; one that is forgotten costs a few reads


class Anchors:
    """The anchors that this process knows of."""

    def __init__(self, driver: ResilientDriver, directory: Directory) -> None:
        self._driver = driver
        self._directory = directory
        self._known: OrderedDict[str, str] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def known(self, partition: str) -> str | None:
        """The anchor to require, if it was seen before; it may be gone since."""
        return self._known.get(partition)

    def forget(self, partition: str) -> None:
        """Look again the next time."""
        self._known.pop(partition, None)

    async def ensure(self, rows: Container, partition: str, *, timeout_s: float) -> str:
        """The anchor to require, made if there is none; the container's name is in the directory."""
        patience = self._driver.patience(timeout_s)
        if (known := self._use(partition)) is not None:
            return known
        # One look for all that begin to write to the same rows at once.
        lock = self._locks.setdefault(partition, asyncio.Lock())
        try:
            async with asyncio.timeout(timeout_s):
                await lock.acquire()
        except TimeoutError as exc:
            raise TimedOut(f"somebody else was looking for these rows for {timeout_s} s; try again") from exc
        try:
            return self._use(partition) or await self._find(rows, partition, patience)
        finally:
            lock.release()

    async def remove(self, partition: str, *, timeout_s: float) -> None:
        """Remove all anchors, so that nothing can be added."""
        self.forget(partition)
        patience = self._driver.patience(timeout_s)
        start, end = keys.anchor_range()
        more = True
        while more:
            page = await self._driver.scan(
                partition, start=start, end=end, limit=COMMIT_WRITES_MAX, timeout_s=patience.left_s
            )
            if page.documents:
                removals = [Remove(sort=document.sort, expect=Expect.ANY) for document in page.documents]
                await self._driver.commit(partition, removals, timeout_s=patience.left_s)
            more = page.more

    def _use(self, partition: str) -> str | None:
        known = self._known.get(partition)
        if known is not None:
            self._known.move_to_end(partition)
        return known

    async def _find(self, rows: Container, partition: str, patience: Patience) -> str:
        start, end = keys.anchor_range()
        page = await self._driver.scan(partition, start=start, end=end, limit=1, timeout_s=patience.left_s)
        if page.documents:
            anchor = page.documents[0].sort
        else:
            await self._directory.announce(rows, timeout_s=patience.left_s)
            anchor = keys.anchor_sort(self._driver.new_commit_id())
            put = Put(sort=anchor, version=1, body=b"{}", expect=Expect.ABSENT)
            await self._driver.commit(partition, [put], timeout_s=patience.left_s)
        # Always, and not only if the name is missing: an erasing may be about to remove the very version that is there.
        await self._directory.announce(rows, timeout_s=patience.left_s)
        self._known[partition] = anchor
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return anchor
