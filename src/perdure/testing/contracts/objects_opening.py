"""What each part of the contract of objects stands on: a space that nobody used, and few words to keep bytes in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

import pytest

from perdure.domain.container import Space
from perdure.domain.object import MEDIA_TYPE_DEFAULT, ObjectRef
from perdure.ports.objects import ObjectStore, OpenObject
from perdure.testing.contracts.stores import TIMEOUT_S, new_space

OpenAnother: TypeAlias = Callable[[], Awaitable[ObjectStore]]


def content(size: int, *, seed: int = 0) -> bytes:
    """So many bytes that are neither text nor repeated; another seed gives others."""
    block = bytes((number * 131 + number // 256 * 17 + seed * 7) % 256 for number in range(4099))
    return (block * (size // len(block) + 1))[:size]


async def in_chunks(whole: bytes, size: int) -> AsyncIterator[bytes]:
    """The bytes as a stream."""
    for offset in range(0, len(whole), size):
        yield whole[offset : offset + size]


async def collect(found: OpenObject, got: list[bytes]) -> None:
    """Read an object to its end into a list, which holds what came before an error."""
    async for chunk in found.chunks:
        got.append(chunk)  # noqa: PERF401 - a comprehension would lose what came before an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Cabinet:
    """The objects of one space, as one client sees them."""

    store: ObjectStore
    space: Space

    def seen_by(self, store: ObjectStore) -> Cabinet:
        """The same objects, in the hands of another client."""
        return replace(self, store=store)

    def beside(self, space: Space) -> Cabinet:
        """Another space."""
        return replace(self, space=space)

    async def put(
        self,
        chunks: AsyncIterable[bytes] | bytes,
        *,
        expected: str | None = None,
        media_type: str = MEDIA_TYPE_DEFAULT,
        timeout_s: float = TIMEOUT_S,
    ) -> ObjectRef:
        """One put."""
        return await self.store.put(
            self.space, chunks, expected_digest=expected, media_type=media_type, timeout_s=timeout_s
        )

    async def read(self, digest: str) -> bytes:
        """All bytes of an object."""
        return b"".join(await self.chunks(digest))

    async def chunks(self, digest: str) -> list[bytes]:
        """The chunks in which an object comes."""
        found = await self.store.get(self.space, digest, timeout_s=TIMEOUT_S)
        return [chunk async for chunk in found.chunks]

    async def find(self, digest: str) -> ObjectRef | None:
        """What is known of an object."""
        return await self.store.find(self.space, digest, timeout_s=TIMEOUT_S)

    async def delete(self, digest: str, *, put_before: datetime | None = None) -> bool:
        """One deletion."""
        return await self.store.delete(self.space, digest, put_before=put_before, timeout_s=TIMEOUT_S)

    async def all(self, *, limit: int = 100, after: str | None = None) -> list[ObjectRef]:
        """Every object, read page by page."""
        found: list[ObjectRef] = []
        while True:
            page = await self.store.list(self.space, after=after, limit=limit, timeout_s=TIMEOUT_S)
            assert len(page.objects) <= limit
            assert page.objects or not page.more
            found += page.objects
            if not page.more:
                return found
            after = page.objects[-1].digest

    async def spaces(self, *, limit: int = 100) -> Sequence[Space]:
        """Every space of the tenant, read page by page."""
        found: list[Space] = []
        mark: str | None = None
        while True:
            page, mark = await self.store.spaces(self.space.tenant, after=mark, limit=limit, timeout_s=TIMEOUT_S)
            assert len(page) <= limit
            found += page
            if mark is None:
                return found


class ObjectsOpening(ABC):
    """What a backend says: how to open a store of (lab, dev), and how what it keeps is damaged."""

    @abstractmethod
    async def open_store(self) -> ObjectStore:
        """A store of (lab, dev); called again in one test, another client on the same data."""

    @abstractmethod
    async def damage(self, space: Space, digest: str) -> None:
        """Change one byte of an object where it is kept, past the store."""

    @pytest.fixture
    async def open_another(self) -> AsyncIterator[OpenAnother]:
        """Opens stores and closes them after the test."""
        opened: list[ObjectStore] = []

        async def open_another() -> ObjectStore:
            opened.append(await self.open_store())
            return opened[-1]

        yield open_another
        for store in reversed(opened):
            await store.close()

    @pytest.fixture
    async def cabinet(self, open_another: OpenAnother) -> Cabinet:
        """A space of a tenant that nobody used, as the client sees it that most tests are about."""
        return Cabinet(store=await open_another(), space=new_space())
