"""Streams of objects: little memory, puts that end half way, and many at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import ClassVar, Final, Self

import pytest

from perdure.domain.object import READ_CHUNK_BYTES_MAX, SPOOL_BYTES_MAX, object_digest
from perdure.errors import NotFound, TimedOut
from perdure.testing.contracts.objects_opening import Cabinet, ObjectsOpening, OpenAnother, content, in_chunks
from perdure.testing.contracts.stores import TIMEOUT_S

MOMENT: Final = timedelta(microseconds=1)
WRITERS: Final = 8
ROUNDS: Final = 10
OUTSTANDING_MAX: Final = 4  # the chunk that is taken, the one before it, and what two frames hold


class Counted(bytes):
    """A chunk that tells how many like it there are."""

    alive: ClassVar[int] = 0

    def __new__(cls, value: bytes) -> Self:
        """One more."""
        cls.alive += 1
        return super().__new__(cls, value)

    def __del__(self) -> None:
        type(self).alive -= 1


class Broken(Exception):
    """What a caller's own stream raises."""


async def until(event: asyncio.Event, whole: bytes, arrived: asyncio.Event) -> AsyncIterator[bytes]:
    """A stream that stops before its last byte and waits."""
    async for chunk in in_chunks(whole[:-1], READ_CHUNK_BYTES_MAX):
        yield chunk
    arrived.set()
    await event.wait()
    yield whole[-1:]


class ObjectStreamsContract(ObjectsOpening):
    """Memory, cancellation, errors half way, puts at the same time."""

    async def test_no_more_than_a_few_chunks_are_held_at_once(self, cabinet: Cabinet) -> None:
        most = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal most
            for number in range(4 * SPOOL_BYTES_MAX // READ_CHUNK_BYTES_MAX):
                yield Counted(bytes([number]) * READ_CHUNK_BYTES_MAX)
                most = max(most, Counted.alive)

        ref = await cabinet.put(counted())
        assert 0 < most <= OUTSTANDING_MAX
        assert ref.size_bytes == 4 * SPOOL_BYTES_MAX
        found = await cabinet.store.get(cabinet.space, ref.digest, timeout_s=TIMEOUT_S)
        number = 0
        async for chunk in found.chunks:
            for offset in range(0, len(chunk), 4096):
                assert chunk[offset] == (number + offset) // READ_CHUNK_BYTES_MAX
            number += len(chunk)
        assert number == ref.size_bytes

    @pytest.mark.parametrize("size", [1000, SPOOL_BYTES_MAX + READ_CHUNK_BYTES_MAX])
    async def test_a_put_that_is_cancelled_half_way_leaves_nothing(self, cabinet: Cabinet, size: int) -> None:
        whole = content(size)
        arrived = asyncio.Event()
        task = asyncio.create_task(cabinet.put(until(asyncio.Event(), whole, arrived)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for digest in (object_digest(whole), object_digest(whole[:-1])):
            assert await cabinet.find(digest) is None
        assert await cabinet.all() == []

    async def test_chunks_that_do_not_come_in_time_are_timed_out(self, cabinet: Cabinet) -> None:
        chunks = until(asyncio.Event(), b"never", asyncio.Event())
        with pytest.raises(TimedOut):
            await cabinet.put(chunks, timeout_s=0.05)
        assert await cabinet.all() == []

    @pytest.mark.parametrize("error", [Broken, TimeoutError, FileNotFoundError], ids=lambda error: error.__name__)
    @pytest.mark.parametrize("size", [1000, SPOOL_BYTES_MAX + 1])
    async def test_an_error_of_the_stream_is_the_callers_own_and_nothing_is_kept(
        self, cabinet: Cabinet, error: type[Exception], size: int
    ) -> None:
        async def broken() -> AsyncIterator[bytes]:
            async for chunk in in_chunks(content(size), READ_CHUNK_BYTES_MAX):
                yield chunk
            raise error

        with pytest.raises(error) as caught:
            await cabinet.put(broken())
        assert type(caught.value) is error
        assert await cabinet.find(object_digest(content(size))) is None
        assert await cabinet.all() == []

    @pytest.mark.parametrize("size", [1000, SPOOL_BYTES_MAX + 1])
    async def test_puts_of_the_same_bytes_at_the_same_time_are_one_object(
        self, cabinet: Cabinet, open_another: OpenAnother, size: int
    ) -> None:
        whole = content(size)
        others = [cabinet, cabinet.seen_by(await open_another())]
        refs = await asyncio.gather(*(others[number % 2].put(whole) for number in range(WRITERS)))
        assert {ref.digest for ref in refs} == {object_digest(whole)}
        (kept,) = await cabinet.all()
        assert kept.created_at == max(ref.created_at for ref in refs)
        assert await cabinet.find(kept.digest) == kept
        assert await cabinet.read(kept.digest) == whole
        assert await cabinet.delete(kept.digest)
        assert await cabinet.find(kept.digest) is None
        assert await cabinet.all() == []

    async def test_puts_of_different_bytes_at_the_same_time_are_all_kept(self, cabinet: Cabinet) -> None:
        wholes = [content(5000, seed=number) for number in range(4 * WRITERS)]
        refs = await asyncio.gather(*(cabinet.put(whole) for whole in wholes))
        assert await cabinet.all() == sorted(refs, key=lambda ref: ref.digest)
        assert await asyncio.gather(*(cabinet.read(ref.digest) for ref in refs)) == wholes

    async def test_an_object_that_is_put_again_while_it_is_read_is_read_to_its_end(self, cabinet: Cabinet) -> None:
        whole = content(3 * SPOOL_BYTES_MAX)
        ref = await cabinet.put(whole)
        found = await cabinet.store.get(cabinet.space, ref.digest, timeout_s=TIMEOUT_S)
        got = [await anext(found.chunks)]
        await cabinet.put(whole)
        got += [chunk async for chunk in found.chunks]
        assert b"".join(got) == whole

    async def test_an_object_that_is_deleted_while_it_is_read_comes_whole_or_is_not_found(
        self, cabinet: Cabinet
    ) -> None:
        whole = content(3 * SPOOL_BYTES_MAX)
        ref = await cabinet.put(whole)
        found = await cabinet.store.get(cabinet.space, ref.digest, timeout_s=TIMEOUT_S)
        got = [await anext(found.chunks)]
        assert await cabinet.delete(ref.digest)
        try:
            got += [chunk async for chunk in found.chunks]
        except NotFound:
            assert len(b"".join(got)) < len(whole)
        else:
            assert b"".join(got) == whole

    async def test_a_reader_who_stops_half_way_holds_nothing_up(self, cabinet: Cabinet) -> None:
        ref = await cabinet.put(content(3 * SPOOL_BYTES_MAX))
        for _ in range(WRITERS):
            found = await cabinet.store.get(cabinet.space, ref.digest, timeout_s=TIMEOUT_S)
            await anext(found.chunks)
            await found.chunks.aclose()
        assert await cabinet.delete(ref.digest)

    async def test_an_object_that_is_put_while_a_collector_deletes_it_stays(
        self, cabinet: Cabinet, open_another: OpenAnother
    ) -> None:
        collector = cabinet.seen_by(await open_another())
        for number in range(ROUNDS):
            whole = content(100, seed=number)
            old = await cabinet.put(whole)
            new, *_ = await asyncio.gather(
                cabinet.put(whole),
                collector.delete(old.digest, put_before=old.created_at.replace(year=old.created_at.year - 1)),
                collector.delete(old.digest, put_before=old.created_at + MOMENT),
            )
            assert await cabinet.find(old.digest) == new
            assert await cabinet.read(old.digest) == whole
