"""Bytes on their way into a store of objects and out of it: hashed as they pass, and never all in memory.

An address is known when the last byte was seen, and no engine can be told where something goes after it was sent. So
what is put is spooled: in memory up to ``SPOOL_BYTES_MAX``, in a file beyond that.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO, Final, Self

from blake3 import blake3

from perdure.domain.object import (
    READ_CHUNK_BYTES_MAX,
    SPOOL_BYTES_MAX,
    check_object_size,
    check_same_digest,
)
from perdure.errors import DigestMismatch, Invalid, PersistenceError

_HASH_BYTES: Final = 16 * 1_048_576  # of bytes that are in memory as a whole, hashed beside the loop at once


class Spool:
    """What is about to be put. Use it as ``async with Spool() as spool``; at the end its file is gone.

    The file is one without a name, unless ``directory`` says where a file that has one should be.
    """

    def __init__(self, *, directory: Path | None = None) -> None:
        self._directory = directory
        self._hasher = blake3()
        self._lock = threading.Lock()  # a cancelled write goes on in its thread, and must not meet a closed file
        self._buffer = bytearray()
        self._whole: bytes | None = None
        self._file: IO[bytes] | None = None
        self.size_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._close)

    @property
    def digest(self) -> str:
        """The address of what is in it."""
        return self._hasher.hexdigest()

    @property
    def memory(self) -> bytes | None:
        """All of it, if it is in memory; None if it is in a file."""
        if self._file is not None:
            return None
        return self._whole if self._whole is not None else bytes(self._buffer)

    @property
    def path(self) -> Path | None:
        """Its file, if it has one with a name."""
        return None if self._file is None or self._directory is None else Path(self._file.name)

    async def fill(self, chunks: AsyncIterable[bytes] | bytes, *, expected_digest: str | None) -> None:
        """Take all of it. Raises ``LimitExceeded``, ``Invalid`` for what is no bytes, ``DigestMismatch``."""
        if isinstance(chunks, bytes):
            await self._take_whole(chunks)
        elif isinstance(chunks, AsyncIterable):
            async for chunk in chunks:
                await self._take(chunk)
        else:
            raise Invalid(f"an object is bytes or an async iterable of bytes, not {type(chunks).__name__}")
        if self._file is not None:
            with _spooling():
                await asyncio.to_thread(self._file.flush)
        if expected_digest is not None:
            check_same_digest(expected_digest, self.digest, what="the bytes of this put")

    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        """All of it from the beginning, ``size`` bytes at a time."""
        whole = self.memory
        for offset in range(0, self.size_bytes, size):
            if whole is None:
                with _spooling():
                    piece = await asyncio.to_thread(self._read, size, offset)
                yield piece
            else:
                yield whole[offset : offset + size]

    async def _take_whole(self, content: bytes) -> None:
        self.size_bytes = check_object_size(len(content))
        self._whole = content
        view = memoryview(content)
        if len(content) <= READ_CHUNK_BYTES_MAX:
            self._hasher.update(view)
            return
        for offset in range(0, len(content), _HASH_BYTES):
            await asyncio.to_thread(self._hasher.update, view[offset : offset + _HASH_BYTES])

    async def _take(self, chunk: bytes) -> None:
        if not isinstance(chunk, bytes):
            raise Invalid(f"a chunk of an object is bytes, not {type(chunk).__name__}")
        self.size_bytes = check_object_size(self.size_bytes + len(chunk))
        if self._file is None and self.size_bytes <= SPOOL_BYTES_MAX:
            self._hasher.update(chunk)
            self._buffer += chunk
        else:
            with _spooling():
                await asyncio.to_thread(self._write, chunk)

    def _write(self, chunk: bytes) -> None:
        with self._lock:
            if self._file is None:
                self._file = self._open()
                self._file.write(self._buffer)
                self._buffer = bytearray()
            elif self._file.closed:
                return
            self._hasher.update(chunk)
            self._file.write(chunk)

    def _open(self) -> IO[bytes]:
        if self._directory is None:
            return tempfile.TemporaryFile()
        return tempfile.NamedTemporaryFile(dir=self._directory, delete=False)

    def _read(self, size: int, offset: int) -> bytes:
        with self._lock:
            if self._file is None or self._file.closed:
                raise ValueError("the spool was closed while it was read")
            return os.pread(self._file.fileno(), size, offset)

    def _close(self) -> None:
        with self._lock:
            if self._file is None:
                return
            self._file.close()
            if self._directory is not None:
                Path(self._file.name).unlink(missing_ok=True)


async def verified(chunks: AsyncGenerator[bytes, None], *, digest: str, size_bytes: int) -> AsyncGenerator[bytes, None]:
    """The same bytes in chunks of 1 to ``READ_CHUNK_BYTES_MAX``, the last one only if all hash to ``digest``.

    Raises ``DigestMismatch`` instead of it; also as soon as there are more bytes than ``size_bytes``.
    """
    hasher = blake3()
    held = b""
    left = size_bytes
    async with aclosing(chunks):
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise _damaged(digest)
            for offset in range(0, len(chunk), READ_CHUNK_BYTES_MAX):
                if held:
                    yield held
                held = chunk[offset : offset + READ_CHUNK_BYTES_MAX]
                hasher.update(held)
    if left or hasher.hexdigest() != digest:
        raise _damaged(digest)
    if held:
        yield held


@contextmanager
def _spooling() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise PersistenceError(
            f"the file that an object is spooled to failed ({exc.strerror}); nothing was put. Free some space there, "
            "or spool to another directory",
            errno=exc.errno,
        ) from exc


def _damaged(digest: str) -> DigestMismatch:
    return DigestMismatch(
        f"the kept bytes of {digest} are not those that were put: the store lost or changed some. Put them again",
        expected=digest,
    )
