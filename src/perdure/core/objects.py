"""Objects of one tenant's scope: bytes under the address of their content."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from perdure.core.object_collecting import ObjectCollector
from perdure.core.stores import Call, Stores
from perdure.core.turn_backends import TurnBackends
from perdure.domain.change_values import refuse_above
from perdure.domain.container import Container, Space
from perdure.domain.kinds import Kind
from perdure.domain.object import (
    MEDIA_TYPE_DEFAULT,
    MEDIA_TYPE_OF_TURNS,
    OBJECTS_PAGE_MAX,
    READ_CHUNK_BYTES_MAX,
    ObjectRef,
    check_digest,
)
from perdure.domain.records import Page
from perdure.domain.scope import Scope
from perdure.errors import Invalid, LimitExceeded, NotFound, Unsupported
from perdure.ports.objects import ObjectStore, OpenObject

PAGE_OBJECTS_DEFAULT: Final = 100
GRACE_S_DEFAULT: Final = 86_400.0  # what was put within a day may be about to be referred to
GRACE_S_MIN: Final = 300.0  # longer than any put or append, and than what clocks differ by
READ_BYTES_MAX: Final = 256 * 1_048_576  # an object in memory as a whole; larger ones are read in chunks


class Objects:
    """Objects: bytes that are found by their BLAKE3-256 address, kept once in each scope, verified when read."""

    def __init__(self, scope: Scope, *, stores: Stores) -> None:
        self._scope = scope
        self._stores = stores

    async def put(
        self,
        content: bytes,
        *,
        expected_digest: str | None = None,
        media_type: str = MEDIA_TYPE_DEFAULT,
        timeout_s: float | None = None,
    ) -> ObjectRef:
        """Keep bytes under their address; again is fine.

        With ``expected_digest`` other bytes are ``DigestMismatch`` and nothing is kept. Whether anybody else has the
        same bytes cannot be seen. Raises ``LimitExceeded``, ``NoRoute``, ``Unavailable``; after ``OutcomeUnknown`` the
        same put again is safe.
        """
        return await self._put(content, expected_digest, media_type, timeout_s)

    async def put_chunks(
        self,
        chunks: AsyncIterable[bytes],
        *,
        expected_digest: str | None = None,
        media_type: str = MEDIA_TYPE_DEFAULT,
        timeout_s: float | None = None,
    ) -> ObjectRef:
        """As ``put``, of chunks as they come, together at most ``object_bytes_max`` (5 GiB)."""
        return await self._put(chunks, expected_digest, media_type, timeout_s)

    async def put_file(
        self,
        path: str | Path,
        *,
        expected_digest: str | None = None,
        media_type: str = MEDIA_TYPE_DEFAULT,
        timeout_s: float | None = None,
    ) -> ObjectRef:
        """As ``put``, of a file's bytes. Raises ``NotFound`` for a file that cannot be read."""
        async with aclosing(_read_file(Path(path))) as chunks:
            return await self._put(chunks, expected_digest, media_type, timeout_s)

    async def get(self, digest: str, *, timeout_s: float | None = None) -> bytes:
        """The bytes of an address, verified. Raises ``NotFound``, ``DigestMismatch``.

        ``LimitExceeded`` above ``read_bytes_max`` (256 MiB): ``read`` such an object in chunks.
        """
        async with self._opened(digest, timeout_s) as opened:
            return await _whole(opened)

    async def read(self, digest: str, *, timeout_s: float | None = None) -> AsyncIterator[bytes]:
        """The bytes of an address in chunks of at most 1 MiB.

        Who has all chunks has the right bytes: ``DigestMismatch`` comes instead of the last one. Raises ``NotFound``.
        """
        async with self._opened(digest, timeout_s) as opened:
            async for chunk in opened.chunks:
                yield chunk

    async def find(self, digest: str, *, timeout_s: float | None = None) -> ObjectRef | None:
        """What is known of an object without reading it, or None."""
        async with self._stores.reading(self._scope, Kind.OBJECTS, timeout_s=timeout_s) as call:
            return await _objects(call).find(self._scope.space, check_digest(digest), timeout_s=call.timeout_s)

    async def list(
        self, *, cursor: str | None = None, limit: int = PAGE_OBJECTS_DEFAULT, timeout_s: float | None = None
    ) -> Page[ObjectRef]:
        """Objects of this scope in the order of their addresses; at most 500 a page."""
        if limit < 1:
            raise Invalid(f"a page of {limit} objects; at least 1 is expected")
        refuse_above("objects_page_max", OBJECTS_PAGE_MAX, limit)
        after = None if cursor is None else check_digest(cursor)
        async with self._stores.reading(self._scope, Kind.OBJECTS, timeout_s=timeout_s) as call:
            page = await _objects(call).list(self._scope.space, after=after, limit=limit, timeout_s=call.timeout_s)
        return Page(items=tuple(page.objects), next_cursor=page.objects[-1].digest if page.more else None)

    async def delete(self, digest: str, *, timeout_s: float | None = None) -> bool:
        """Remove an object; False if it is not there. What refers to it, a turn or a tree, cannot be read any more."""
        async with self._stores.writing(self._scope, self._container(), "delete", timeout_s=timeout_s) as call:
            return await _objects(call).delete(self._scope.space, check_digest(digest), timeout_s=call.timeout_s)

    async def collect(
        self, *, grace_s: float = GRACE_S_DEFAULT, dry_run: bool = False, timeout_s: float | None = None
    ) -> AsyncIterator[ObjectRef]:
        """Remove the objects that only turns put and no turn needs any more; each of them, when it is removed.

        An object that anybody put here stays, and so does what was put within the last ``grace_s`` seconds (a day, at
        least 300): put again what is about to be referred to. All turns of this scope are read to find what they need.
        With ``dry_run`` the same objects are told and none is removed. ``timeout_s`` is for each call of a backend.

        Raises ``LimitExceeded`` above ``collect_objects_max`` objects, ``NoRoute`` without a route for turns,
        ``Unsupported`` where it cannot be found out what they need.
        """
        if not grace_s >= GRACE_S_MIN:
            raise Invalid(f"grace_s is {grace_s}; at least {GRACE_S_MIN} is expected (grace_s_min)")
        try:
            put_before = self._stores.environment.clock.now() - timedelta(seconds=grace_s)
        except OverflowError as exc:
            raise Invalid(f"grace_s is {grace_s}; that is before time began") from exc
        async with (
            self._stores.reading(self._scope, Kind.TURNS, timeout_s=timeout_s) as of_turns,
            self._stores.reading(self._scope, Kind.OBJECTS, timeout_s=timeout_s) as call,
        ):
            if of_turns.backend.turns is not None:
                backend = of_turns.resolved.route.backend
                raise Unsupported(
                    f"backend {backend} keeps turns by itself and does not say what they all need; nothing was removed",
                    code="objects.cannot_collect",
                    backend=backend,
                )
            parts = TurnBackends(self._stores, sleep=self._stores.sleep).parts(of_turns.backend)
            collector = ObjectCollector(_objects(call), parts, self._scope.space, timeout_s=call.timeout_s)
            garbage = await collector.garbage(put_before=put_before)
        for ref in garbage:
            if dry_run or await self._collected(ref, put_before=put_before, timeout_s=timeout_s):
                yield ref

    async def _collected(self, ref: ObjectRef, *, put_before: datetime, timeout_s: float | None) -> bool:
        async with self._stores.writing(self._scope, self._container(), "collect", timeout_s=timeout_s) as call:
            # One that was put since, by turns or by anybody, is left alone.
            return await _objects(call).delete(
                self._scope.space, ref.digest, put_before=put_before, timeout_s=call.timeout_s
            )

    async def _put(
        self,
        content: AsyncIterable[bytes] | bytes,
        expected_digest: str | None,
        media_type: str,
        timeout_s: float | None,
    ) -> ObjectRef:
        if media_type == MEDIA_TYPE_OF_TURNS:
            raise Invalid(f"{MEDIA_TYPE_OF_TURNS} is what turns put, and may be removed; say what it is")
        async with self._stores.writing(self._scope, self._container(), "put", timeout_s=timeout_s) as call:
            return await _objects(call).put(
                self._scope.space,
                content,
                expected_digest=expected_digest,
                media_type=media_type,
                timeout_s=call.timeout_s,
            )

    @asynccontextmanager
    async def _opened(self, digest: str, timeout_s: float | None) -> AsyncIterator[OpenObject]:
        async with self._stores.reading(self._scope, Kind.OBJECTS, timeout_s=timeout_s) as call:
            opened = await _objects(call).get(self._scope.space, check_digest(digest), timeout_s=call.timeout_s)
            async with aclosing(opened.chunks):
                yield opened

    def _container(self) -> Container:
        return _container(self._scope.space)


class ObjectBlobs:
    """The objects of a scope as the place where its turns keep bytes; there is no other space to be asked for."""

    def __init__(self, objects: Objects, scope: Scope, *, stores: Stores) -> None:
        self._objects = objects
        self._scope = scope
        self._stores = stores
        self._space = scope.space

    async def put(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes; their address. What nobody else put may be collected when no turn needs it."""
        assert space == self._space, "turns and objects are of one scope"
        async with self._stores.writing(self._scope, _container(space), "put", timeout_s=timeout_s) as call:
            ref = await _objects(call).put(space, payload, media_type=MEDIA_TYPE_OF_TURNS, timeout_s=call.timeout_s)
        return ref.digest

    async def find(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes of an address, verified, or None."""
        assert space == self._space, "turns and objects are of one scope"
        try:
            return await self._objects.get(digest, timeout_s=timeout_s)
        except NotFound:
            return None


def _container(space: Space) -> Container:
    return Container(kind=Kind.OBJECTS, space=space, name=("object",))


async def _read_file(path: Path) -> AsyncGenerator[bytes, None]:
    with _reading(path):
        opened = await asyncio.to_thread(path.open, "rb")
    try:
        while True:
            with _reading(path):
                chunk = await asyncio.to_thread(opened.read, READ_CHUNK_BYTES_MAX)
            if not chunk:
                return
            yield chunk
    finally:
        await asyncio.to_thread(opened.close)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise NotFound(f"{path} cannot be read: {exc.strerror}") from exc


class StoreBlobs:
    """A store of objects as the place where turns keep bytes, without a route."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def put(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes; their address."""
        ref = await self._objects.put(space, payload, media_type=MEDIA_TYPE_OF_TURNS, timeout_s=timeout_s)
        return ref.digest

    async def find(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes of an address, verified, or None."""
        try:
            opened = await self._objects.get(space, digest, timeout_s=timeout_s)
        except NotFound:
            return None
        return await _whole(opened)


async def _whole(opened: OpenObject) -> bytes:
    size = opened.ref.size_bytes
    async with aclosing(opened.chunks) as chunks:
        if size > READ_BYTES_MAX:
            raise LimitExceeded(
                f"an object of {size} bytes, at most {READ_BYTES_MAX} at once (read_bytes_max); read it in chunks",
                limit="read_bytes_max",
                allowed=READ_BYTES_MAX,
                actual=size,
            )
        return b"".join([chunk async for chunk in chunks])


def _objects(call: Call) -> ObjectStore:
    objects = call.backend.objects
    if objects is None:
        backend = call.resolved.route.backend
        raise Unsupported(
            f"backend {backend} keeps objects by a client that is not installed; install it with: "
            "pip install 'perdure[objects]'",
            code="objects.unsupported_backend",
            backend=backend,
            extra="objects",
        )
    return objects
