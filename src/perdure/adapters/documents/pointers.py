"""What has to be looked at later: announcements in the order of time, beside what they announce.

A pointer is written before the change that it announces and removed after what it is about is done, so one may be
there for nothing, twice or too early, but none is ever missing. Whoever finds one looks at its target and judges that.

A pointer of which nothing is to be seen may announce a change that is on its way. It is withdrawn only when the one who
announced it can no longer be waiting (``settled_at``), and only in the very version that was found.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from perdure.adapters.documents import keys
from perdure.adapters.documents.removals import see_removed
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Container
from perdure.errors import Corrupt
from perdure.ports.documents import Document, Expect, ExpectationFailed, Put, Remove

GRACE_S: Final = 600.0  # beyond the announcer's patience: clocks differ, and a request may be long under way
PAGE_POINTERS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    container: Container
    detail: str
    due_at: datetime
    settled_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """An announcement: something of ``container`` is due. ``detail`` says what, in words of the queue's own."""

    container: Container
    detail: str
    due_at: datetime
    settled_at: datetime
    version: int

    @property
    def target(self) -> str:
        """What makes two pointers due at the same time the same one."""
        return keys.hashed(self.detail, keys.log_partition(self.container))


class Pointers:
    """The announcements of one queue of one (mode, env)."""

    def __init__(self, driver: ResilientDriver, *, queue: str, mode: str, env: str) -> None:
        self._driver = driver
        self._queue = queue
        self._mode = mode
        self._env = env

    async def announce(self, container: Container, *, due_at: datetime, detail: str = "", timeout_s: float) -> Pointer:
        """Write a pointer, or the same one again. ``timeout_s`` is that of the change announced, not of this alone."""
        patience_s = timedelta(seconds=timeout_s + GRACE_S)
        pointer = Pointer(
            container=container,
            detail=detail,
            due_at=due_at,
            settled_at=self._driver.environment.clock.now() + patience_s,
            version=self._driver.new_version(),
        )
        body = _Body(container=container, detail=detail, due_at=due_at, settled_at=pointer.settled_at)
        put = Put(
            sort=keys.pointer_sort(due_at, pointer.target),
            version=pointer.version,
            body=msgspec.json.encode(body),
            expect=Expect.ANY,
        )
        await self._driver.commit(self._partition_of(pointer), [put], timeout_s=timeout_s)
        return pointer

    async def withdraw(self, pointer: Pointer, *, timeout_s: float) -> None:
        """Remove a pointer, unless somebody announced the same again since. For who announced it, once it is done."""
        removal = Remove(sort=keys.pointer_sort(pointer.due_at, pointer.target), expect=pointer.version)
        try:
            await see_removed(self._driver, self._partition_of(pointer), [removal], timeout_s=timeout_s)
        except ExpectationFailed:
            return  # it is another's now, or gone already

    async def settle(self, pointer: Pointer, *, timeout_s: float) -> None:
        """Remove a pointer found that has nothing left to say; left alone while its change may be on its way."""
        if self._driver.environment.clock.now() >= pointer.settled_at:
            await self.withdraw(pointer, timeout_s=timeout_s)

    async def due(self, until: datetime, *, timeout_s: float) -> AsyncGenerator[Pointer, None]:
        """Pointers due at that moment or before: all of them, oldest first within each part of the queue."""
        patience = self._driver.patience(timeout_s)
        for shard in range(keys.POINTER_SHARDS):
            partition = keys.pointer_partition(self._queue, self._mode, self._env, shard)
            start, end = keys.pointer_range(until)
            more = True
            while more:
                page = await self._driver.scan(
                    partition, start=start, end=end, limit=PAGE_POINTERS, timeout_s=patience.left_s
                )
                for document in page.documents:
                    yield _pointer(document)
                    start = keys.after(document.sort)
                more = page.more

    def _partition_of(self, pointer: Pointer) -> str:
        space = pointer.container.space
        return keys.pointer_partition(self._queue, space.mode, space.env, keys.pointer_shard(pointer.target))


def _pointer(document: Document) -> Pointer:
    try:
        body = msgspec.json.decode(document.body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Corrupt(
            "a pointer announces nothing that this release knows; was it written by something else?",
            sort=document.sort,
        ) from exc
    return Pointer(
        container=body.container,
        detail=body.detail,
        due_at=body.due_at,
        settled_at=body.settled_at,
        version=document.version,
    )
