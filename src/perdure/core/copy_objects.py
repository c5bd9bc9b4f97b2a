"""Making the objects of one space the same on another backend.

An object never changes and is named by its content, so one that is there is the same one: it was hashed when it was put
and is hashed whenever it is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from perdure.core.copy_sync import Guard, Tally
from perdure.domain.container import Space
from perdure.domain.object import OBJECTS_PAGE_MAX, ObjectRef
from perdure.errors import NotFound
from perdure.ports.objects import ObjectStore


class ObjectCopier:
    """Copies objects from one store to another. ``guard`` raises when the target must not be written to any more."""

    def __init__(
        self, source: ObjectStore, target: ObjectStore, *, tally: Tally, guard: Guard, timeout_s: float
    ) -> None:
        self._source = source
        self._target = target
        self._tally = tally
        self._guard = guard
        self._timeout_s = timeout_s

    async def sync(self, space: Space, *, still: bool) -> None:
        """Put every object of the source to the target; when nobody writes (``still``), those that are not there.

        Each is verified on its way: by the source's reading, and by the target, which is told the address to expect.
        """
        async for ref in self._all(self._source, space):
            kept = await self._target.find(space, ref.digest, timeout_s=self._timeout_s) if still else None
            if kept is None or (kept.size_bytes, kept.media_type) != (ref.size_bytes, ref.media_type):
                await self._put(space, ref)
            if still:
                self._tally.objects += 1
                self._tally.absorb(f"{ref.digest} {ref.size_bytes}".encode())

    async def remove_surplus(self, space: Space) -> int:
        """Remove from the target what the source no longer has; how many."""
        removed = 0
        async for ref in self._all(self._target, space):
            if await self._source.find(space, ref.digest, timeout_s=self._timeout_s) is None:
                await self._guard()
                removed += await self._target.delete(space, ref.digest, timeout_s=self._timeout_s)
        return removed

    async def _put(self, space: Space, ref: ObjectRef) -> None:
        try:
            opened = await self._source.get(space, ref.digest, timeout_s=self._timeout_s)
            async with aclosing(opened.chunks) as chunks:
                await self._guard()
                await self._target.put(
                    space, chunks, expected_digest=ref.digest, media_type=ref.media_type, timeout_s=self._timeout_s
                )
        except NotFound:
            # Deleted meanwhile, perhaps while it was read.
            if await self._source.find(space, ref.digest, timeout_s=self._timeout_s) is not None:
                raise

    async def _all(self, store: ObjectStore, space: Space) -> AsyncIterator[ObjectRef]:
        after: str | None = None
        while True:
            page = await store.list(space, after=after, limit=OBJECTS_PAGE_MAX, timeout_s=self._timeout_s)
            for ref in page.objects:
                yield ref
            if not page.more:
                return
            after = page.objects[-1].digest
