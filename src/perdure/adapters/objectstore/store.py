"""A store of objects over one client that speaks to memory, directories and the object stores of clouds alike."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import obstore
from obstore.store import LocalStore
from obstore.store import ObjectStore as Client

from perdure.adapters.objectstore import keys, leaving, listing
from perdure.adapters.objectstore.failures import translated
from perdure.adapters.objectstore.keys import Kept
from perdure.adapters.objectstore.local_files import LocalFiles
from perdure.domain.container import Space
from perdure.domain.object import (
    MEDIA_TYPE_DEFAULT,
    READ_CHUNK_BYTES_MAX,
    SPOOL_BYTES_MAX,
    ObjectPage,
    ObjectRef,
    check_digest,
)
from perdure.errors import Invalid, NotFound, OutcomeUnknown, PersistenceError, TimedOut
from perdure.ports import object_rules
from perdure.ports.environment import Environment
from perdure.ports.object_streams import Spool, verified
from perdure.ports.objects import OpenObject

LEFTOVER_AGE_S: Final = 86_400.0  # no put goes on for a day without writing a byte
PARTS_AT_ONCE: Final = 2  # of one upload: with the part that is read, the memory that a large put takes
SPACES_KNOWN_MAX: Final = 10_000  # whose names this process has written; forgetting one costs one small write
GET_ATTEMPTS_MAX: Final = 5  # each is lost only to a put of the same object at the same moment

_MOMENT: Final = timedelta(microseconds=1)  # the least difference that a key can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where objects go: a client of a cloud or of memory, or a directory. Clouds spool to ``spool_directory``."""

    client: Client | LocalFiles
    lists_in_order: bool
    spool_directory: Path | None = None


class ObstoreObjects:
    """An ``ObjectStore`` of one (mode, env). ``open`` it before it is used.

    A put whose caller is gone, or whose machine is, may leave parts of a large upload that no list shows; clouds remove
    them after some days if the bucket's rules say so. In a directory ``sweep`` removes what was left.
    """

    def __init__(self, place: Place, *, mode: str, env: str, environment: Environment) -> None:
        self._files = place.client if isinstance(place.client, LocalFiles) else None
        self._opened = None if isinstance(place.client, LocalFiles) else place.client
        self._lists_in_order = place.lists_in_order
        self._spool_directory = place.spool_directory if self._files is None else self._files.incoming
        self._mode = mode
        self._env = env
        self._environment = environment
        self._named: OrderedDict[str, None] = OrderedDict()

    async def open(self, *, timeout_s: float) -> None:
        """Make a directory ready, or see that a cloud answers."""
        if self._files is not None:
            with translated(doing="make the directory ready"):
                await asyncio.to_thread(self._files.prepare)
            self._opened = LocalStore(self._files.root)
        await self.probe(timeout_s=timeout_s)

    async def put(
        self,
        space: Space,
        chunks: AsyncIterable[bytes] | bytes,
        *,
        expected_digest: str | None = None,
        media_type: str = MEDIA_TYPE_DEFAULT,
        timeout_s: float,
    ) -> ObjectRef:
        """As the port promises."""
        object_rules.check_space(space, mode=self._mode, env=self._env)
        object_rules.check_put(expected_digest, media_type)
        sent = False
        patience = asyncio.timeout(timeout_s)
        try:
            async with patience, self._spool() as spool:
                await spool.fill(chunks, expected_digest=expected_digest)
                sent = True
                return await self._keep(space, spool, media_type=media_type)
        except TimeoutError as exc:
            if not patience.expired():
                raise
            if not sent:
                raise TimedOut("not all chunks came within timeout_s; nothing was sent") from exc
            raise OutcomeUnknown("not kept within timeout_s, or kept without an answer; put it again") from exc

    async def get(self, space: Space, digest: str, *, timeout_s: float) -> OpenObject:
        """As the port promises."""
        object_rules.check_space(space, mode=self._mode, env=self._env)
        async with _within(timeout_s, doing="read an object"):
            for _ in range(GET_ATTEMPTS_MAX):
                kept = await self._newest(space, check_digest(digest))
                if kept is None:
                    raise _not_found(digest)
                try:
                    found = await obstore.get_async(self._client, kept.key)
                except FileNotFoundError:
                    continue  # replaced by the same bytes since it was listed, or deleted
                chunks = verified(_stream(found, timeout_s=timeout_s), digest=digest, size_bytes=kept.ref.size_bytes)
                return OpenObject(ref=kept.ref, chunks=chunks)
        raise PersistenceError(f"object {digest} is listed and cannot be read; it is put again and again, or was lost")

    async def find(self, space: Space, digest: str, *, timeout_s: float) -> ObjectRef | None:
        """As the port promises."""
        object_rules.check_space(space, mode=self._mode, env=self._env)
        async with _within(timeout_s, doing="find an object"):
            kept = await self._newest(space, check_digest(digest))
            return None if kept is None else kept.ref

    async def list(self, space: Space, *, after: str | None = None, limit: int, timeout_s: float) -> ObjectPage:
        """As the port promises."""
        object_rules.check_space(space, mode=self._mode, env=self._env)
        object_rules.check_list(after, limit)
        each = listing.ordered if self._lists_in_order else listing.by_shards
        found: dict[str, ObjectRef] = {}
        async with _within(timeout_s, doing="list objects"):
            async for kept in each(self._client, space, after=after):
                if kept.ref.digest not in found and len(found) == limit:
                    return ObjectPage(objects=tuple(found.values()), more=True)
                # All puts of one object come together, the newest last.
                found[kept.ref.digest] = keys.merged(found.get(kept.ref.digest), kept.ref)
            if not found:
                await self._check()
        return ObjectPage(objects=tuple(found.values()), more=False)

    async def delete(self, space: Space, digest: str, *, put_before: datetime | None = None, timeout_s: float) -> bool:
        """As the port promises."""
        object_rules.check_space(space, mode=self._mode, env=self._env)
        if put_before is not None and put_before.utcoffset() is None:
            raise Invalid("put_before has no time zone; use an aware time, as in datetime.now(UTC)")
        async with _within(timeout_s, doing="delete an object", writing=True):
            puts = await self._puts(space, check_digest(digest))
            if not puts or (put_before is not None and puts[-1].ref.created_at >= put_before):
                return False
            await self._remove(puts)
        return True

    async def spaces(
        self, tenant: str, *, after: str | None = None, limit: int, timeout_s: float
    ) -> tuple[Sequence[Space], str | None]:
        """As the port promises."""
        object_rules.check_spaces_page(tenant, limit)
        if after is not None and not keys.is_mark(after):
            raise Invalid("this is not a mark of this list; hand back the one that came with the page before")
        async with _within(timeout_s, doing="list spaces"):
            listed = await listing.names(self._client, tenant, after=after, limit=limit + 1)
            if not listed:
                await self._check()
            found = await asyncio.gather(*(self._read_name(tenant, key) for key in listed[:limit]))
        return found, keys.mark_of(listed[limit - 1]) if len(listed) > limit else None

    async def sweep(self, *, limit: int, timeout_s: float) -> int:
        """As the port promises: in a directory. Elsewhere nothing of it can be listed."""
        if self._files is None:
            return 0
        before_s = self._environment.clock.now().timestamp() - LEFTOVER_AGE_S
        async with _within(timeout_s, doing="sweep"):
            return await asyncio.to_thread(partial(self._files.leftovers, before_s=before_s, limit=limit))

    async def probe(self, *, timeout_s: float) -> None:
        """As the port promises."""
        async with _within(timeout_s, doing="look into the object store"):
            await obstore.list(self._client, "probe").collect_async()
            await self._check()

    async def close(self) -> None:
        """As the port promises: nothing is held but threads of the client, which are let out of Python."""
        await asyncio.to_thread(leaving.let_threads_leave)

    @property
    def _client(self) -> Client:
        if self._opened is None:
            raise Invalid("a store in a directory is opened before it is used: await store.open(timeout_s=...)")
        return self._opened

    def _spool(self) -> Spool:
        return Spool(directory=self._spool_directory)

    async def _keep(self, space: Space, spool: Spool, *, media_type: str) -> ObjectRef:
        """Write a put of its own, then remove those that were complete before it began.

        Of puts at the same time none removes the one that was completed last, since nobody listed it before.
        """
        digest, now = spool.digest, self._environment.clock.now()
        with translated(doing="put an object", writing=True):
            before, _ = await asyncio.gather(self._puts(space, digest), self._write_name(space))
            # Clocks differ; this put is nevertheless the newest of those that it found.
            created_at = max([now, *(put.ref.created_at + _MOMENT for put in before)])
            media_type = keys.media_type_of([*(put.ref.media_type for put in before), media_type])
            put_id = self._environment.ids.new()
            key = keys.object_key(space, digest, created_at=created_at, put_id=put_id, media_type=media_type)
            await self._write(key, spool)
            await self._remove(before)
        return ObjectRef(digest=digest, size_bytes=spool.size_bytes, media_type=media_type, created_at=created_at)

    async def _write(self, key: str, spool: Spool) -> None:
        content = spool.memory
        if self._files is not None:
            await asyncio.to_thread(partial(self._files.publish, key, content=content, path=spool.path))
        elif content is not None and len(content) <= SPOOL_BYTES_MAX:
            await obstore.put_async(self._client, key, content, use_multipart=False)
        else:
            pieces = spool.pieces(SPOOL_BYTES_MAX)
            await obstore.put_async(
                self._client, key, pieces, chunk_size=SPOOL_BYTES_MAX, max_concurrency=PARTS_AT_ONCE
            )

    async def _write_name(self, space: Space) -> None:
        key = keys.name_key(space)
        if key in self._named:
            self._named.move_to_end(key)
            return
        content = keys.name_content(space)
        if self._files is not None:
            await asyncio.to_thread(partial(self._files.publish, key, content=content, path=None))
        else:
            await obstore.put_async(self._client, key, content, use_multipart=False)
        self._named[key] = None
        if len(self._named) > SPACES_KNOWN_MAX:
            self._named.popitem(last=False)

    async def _read_name(self, tenant: str, key: str) -> Space:
        found = await obstore.get_async(self._client, key)
        return keys.read_name(tenant, bytes(await found.bytes_async()))

    async def _puts(self, space: Space, digest: str) -> Sequence[Kept]:
        """All puts of an object that are there, oldest first."""
        puts = await listing.below(self._client, keys.object_prefix(space, digest))
        if not puts:
            await self._check()
        return puts

    async def _newest(self, space: Space, digest: str) -> Kept | None:
        newest: Kept | None = None
        for put in await self._puts(space, digest):
            newest = replace(put, ref=keys.merged(None if newest is None else newest.ref, put.ref))
        return newest

    async def _remove(self, puts: Sequence[Kept]) -> None:
        for put in puts:
            try:
                await obstore.delete_async(self._client, put.key)
            except FileNotFoundError:
                continue  # somebody else was faster
            if self._files is not None:
                await asyncio.to_thread(self._files.prune, put.key)

    async def _check(self) -> None:
        # A directory that is gone lists as an empty one; a cloud says so itself.
        if self._files is not None:
            await asyncio.to_thread(self._files.check)


@asynccontextmanager
async def _within(timeout_s: float, *, doing: str, writing: bool = False) -> AsyncIterator[None]:
    try:
        with translated(doing=doing, writing=writing):
            async with asyncio.timeout(timeout_s):
                yield
    except TimeoutError as exc:
        if writing:
            raise OutcomeUnknown(f"could not {doing} within timeout_s, or it is done. The same again is safe") from exc
        raise TimedOut(f"could not {doing} within timeout_s; the object store or this program is busy") from exc


async def _stream(found: obstore.GetResult, *, timeout_s: float) -> AsyncGenerator[bytes, None]:
    stream = aiter(found.stream(min_chunk_size=READ_CHUNK_BYTES_MAX))
    while True:
        try:
            async with _within(timeout_s, doing="read an object"):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        yield bytes(chunk)


def _not_found(digest: str) -> NotFound:
    return NotFound(f"no object {digest} in this space", digest=digest)
