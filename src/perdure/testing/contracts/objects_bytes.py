"""Bytes of objects: what is put comes back as it was, under its own address, or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from perdure.domain.object import (
    MEDIA_TYPE_CHARS_MAX,
    MEDIA_TYPE_DEFAULT,
    MEDIA_TYPE_OF_TURNS,
    READ_CHUNK_BYTES_MAX,
    SPOOL_BYTES_MAX,
    object_digest,
)
from perdure.errors import DigestMismatch, Invalid, LimitExceeded, NotFound
from perdure.testing.contracts.objects_opening import Cabinet, ObjectsOpening, OpenAnother, collect, content, in_chunks

ABSENT = object_digest(b"nobody ever put this")

SIZES = (
    0,
    1,
    255,
    READ_CHUNK_BYTES_MAX - 1,
    READ_CHUNK_BYTES_MAX,
    READ_CHUNK_BYTES_MAX + 1,
    SPOOL_BYTES_MAX,
    SPOOL_BYTES_MAX + 1,
    2 * SPOOL_BYTES_MAX + 77_777,
)


class ObjectBytesContract(ObjectsOpening):
    """Round trips, addresses, damage, what is refused."""

    @pytest.mark.parametrize("size", SIZES)
    async def test_bytes_come_back_as_they_were(self, cabinet: Cabinet, open_another: OpenAnother, size: int) -> None:
        whole = content(size)
        ref = await cabinet.put(whole, expected=object_digest(whole))
        assert (ref.digest, ref.size_bytes, ref.media_type) == (object_digest(whole), size, MEDIA_TYPE_DEFAULT)
        other = cabinet.seen_by(await open_another())
        assert await other.find(ref.digest) == ref
        assert await other.read(ref.digest) == whole

    @pytest.mark.parametrize("size", SIZES)
    async def test_a_stream_is_kept_as_the_same_bytes_at_once_are(self, cabinet: Cabinet, size: int) -> None:
        whole = content(size)
        ref = await cabinet.put(in_chunks(whole, 700_001))
        assert (ref.digest, ref.size_bytes) == (object_digest(whole), size)
        assert await cabinet.read(ref.digest) == whole

    async def test_a_stream_may_hold_empty_chunks(self, cabinet: Cabinet) -> None:
        async def odd() -> Any:
            for chunk in (b"", b"a", b"", b"b", b""):
                yield chunk

        ref = await cabinet.put(odd())
        assert await cabinet.read(ref.digest) == b"ab"

    async def test_bytes_that_are_no_text_are_bytes(self, cabinet: Cabinet) -> None:
        for whole in (b"\xff\xfe\x00\x80", bytes(range(256)), b"\0" * 1000, b"\r\n", b"{}"):
            ref = await cabinet.put(whole)
            assert await cabinet.read(ref.digest) == whole

    async def test_no_chunk_is_empty_or_larger_than_is_promised(self, cabinet: Cabinet) -> None:
        for size in (1, 3 * READ_CHUNK_BYTES_MAX + 5, SPOOL_BYTES_MAX + 1):
            ref = await cabinet.put(content(size))
            chunks = await cabinet.chunks(ref.digest)
            assert all(0 < len(chunk) <= READ_CHUNK_BYTES_MAX for chunk in chunks)
        empty = await cabinet.put(b"")
        assert await cabinet.chunks(empty.digest) == []

    async def test_putting_again_changes_nothing_but_its_time(self, cabinet: Cabinet) -> None:
        first = await cabinet.put(b"the same")
        again = await cabinet.put(b"the same")
        assert (again.digest, again.size_bytes) == (first.digest, first.size_bytes)
        assert again.created_at > first.created_at
        assert await cabinet.all() == [again]
        assert await cabinet.read(first.digest) == b"the same"

    async def test_the_media_type_is_that_of_the_last_put(self, cabinet: Cabinet) -> None:
        longest = "application/" + "x" * (MEDIA_TYPE_CHARS_MAX - len("application/"))
        for media_type in ("text/plain", "application/vnd.a+json", "image/x-b.c-d_e!#$&^", longest, "text/plain"):
            ref = await cabinet.put(b"{}", media_type=media_type)
            assert ref.media_type == media_type
            assert await cabinet.find(ref.digest) == ref
            assert await cabinet.all() == [ref]

    async def test_what_somebody_put_is_called_what_they_said_whatever_turns_put(self, cabinet: Cabinet) -> None:
        await cabinet.put(b"1", media_type=MEDIA_TYPE_OF_TURNS)
        first = await cabinet.put(b"1", media_type="text/plain")
        assert await cabinet.find(first.digest) == first
        again = await cabinet.put(b"1", media_type=MEDIA_TYPE_OF_TURNS)
        assert again.created_at > first.created_at
        expected = replace(first, created_at=again.created_at)
        assert await cabinet.find(first.digest) == expected
        assert await cabinet.all() == [expected]
        assert (await cabinet.put(b"1", media_type="image/png")).media_type == "image/png"
        assert [ref.media_type for ref in await cabinet.all()] == ["image/png"]

    async def test_of_puts_at_the_same_time_that_of_turns_gives_no_name(self, cabinet: Cabinet) -> None:
        for number in range(8):
            whole = content(2_000 + number)
            puts = [cabinet.put(whole, media_type=each) for each in (MEDIA_TYPE_OF_TURNS, "text/plain")]
            (ref, _) = await asyncio.gather(*(puts if number % 2 else reversed(puts)))
            found = await cabinet.find(ref.digest)
            assert found is not None
            assert found.media_type == "text/plain"
            assert [one.media_type for one in await cabinet.all()] == ["text/plain"] * (number + 1)
            assert await cabinet.read(ref.digest) == whole

    async def test_what_is_not_there_is_none_or_not_found(self, cabinet: Cabinet) -> None:
        assert await cabinet.find(ABSENT) is None
        with pytest.raises(NotFound):
            await cabinet.read(ABSENT)

    async def test_bytes_of_another_address_are_refused_and_nothing_is_kept(self, cabinet: Cabinet) -> None:
        whole = content(SPOOL_BYTES_MAX + 1)
        for chunks in (b"other bytes", whole, in_chunks(whole, 1_000_000)):
            with pytest.raises(DigestMismatch):
                await cabinet.put(chunks, expected=ABSENT)
        for digest in (ABSENT, object_digest(whole), object_digest(b"other bytes")):
            assert await cabinet.find(digest) is None
        assert await cabinet.all() == []

    @pytest.mark.parametrize("size", [1, 1000, 3 * READ_CHUNK_BYTES_MAX, SPOOL_BYTES_MAX + 1])
    async def test_a_damaged_object_is_never_read_to_its_end(self, cabinet: Cabinet, size: int) -> None:
        whole = content(size)
        ref = await cabinet.put(whole)
        await self.damage(cabinet.space, ref.digest)
        found = await cabinet.store.get(cabinet.space, ref.digest, timeout_s=60)
        got: list[bytes] = []
        with pytest.raises(DigestMismatch) as caught:
            await collect(found, got)
        assert len(b"".join(got)) < size
        assert caught.value.detail["expected"] == ref.digest

    @pytest.mark.parametrize("size", [10, SPOOL_BYTES_MAX + 1])
    async def test_putting_the_bytes_again_heals_a_damaged_object(self, cabinet: Cabinet, size: int) -> None:
        whole = content(size)
        ref = await cabinet.put(whole)
        await self.damage(cabinet.space, ref.digest)
        await cabinet.put(in_chunks(whole, 1_000_000))
        assert await cabinet.read(ref.digest) == whole

    async def test_what_is_no_bytes_is_refused(self, cabinet: Cabinet) -> None:
        async def texts() -> Any:
            yield b"a"
            yield "b"

        wrong: list[Any] = ["text", bytearray(b"a"), [b"a"], None, texts()]
        for chunks in wrong:
            with pytest.raises(Invalid):
                await cabinet.put(chunks)
        assert await cabinet.all() == []

    async def test_what_is_no_address_is_refused(self, cabinet: Cabinet) -> None:
        for digest in ("", ABSENT.upper(), ABSENT[:-1], ABSENT + "0", ABSENT[:-1] + "g", "../" + ABSENT[3:]):
            for attempt in (
                cabinet.put(b"", expected=digest),
                cabinet.find(digest),
                cabinet.read(digest),
                cabinet.delete(digest),
                cabinet.all(after=digest),
            ):
                with pytest.raises(Invalid):
                    await attempt

    async def test_what_is_no_media_type_is_refused(self, cabinet: Cabinet) -> None:
        for wrong in ("", "text", "text/", "/plain", "Text/Plain", "text/plain; charset=utf-8", "text/a/b", "text/é"):
            with pytest.raises(Invalid):
                await cabinet.put(b"", media_type=wrong)
        with pytest.raises(LimitExceeded) as caught:
            await cabinet.put(b"", media_type="text/" + "x" * (MEDIA_TYPE_CHARS_MAX - 4))
        assert caught.value.detail["limit"] == "media_type_chars_max"
        assert await cabinet.all() == []
