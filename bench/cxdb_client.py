"""Clients of CXDB's protocol for the benches: one request in flight, and nothing between the bytes and the clock."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, Self

from blake3 import blake3

from perdure.adapters.cxdb.codec.frames import HEADER_BYTES
from perdure.adapters.cxdb.codec.requests import AppendTurn, CreateContext, GetHead, Request, encode_request

_HEAD: Final = struct.Struct("<QQI")
_contents = count(1)


def encoded(request: Request) -> bytes:
    """The frame of a request."""
    return encode_request(request, req_id=1)


def head_request(context_id: int) -> bytes:
    """GET_HEAD of a context."""
    return encoded(GetHead(context_id=context_id))


def append_request(context_id: int, size: int) -> bytes:
    """APPEND_TURN of content that was never appended before."""
    content = struct.pack("<Q", next(_contents)) + bytes(size - 8)
    turn = AppendTurn(
        context_id=context_id,
        declared_type_id="bench.Note",
        declared_type_version=1,
        uncompressed_len=len(content),
        content_hash=blake3(content).digest(),
        payload=content,
    )
    return encoded(turn)


class Client:
    """A connection of this loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> bytes:
        """The payload of the answer."""
        self._writer.write(request)
        header = await self._reader.readexactly(HEADER_BYTES)
        return await self._reader.readexactly(struct.unpack_from("<I", header)[0])

    async def create(self) -> int:
        """A new context."""
        context_id: int = _HEAD.unpack(await self.ask(encoded(CreateContext())))[0]
        return context_id


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """A connection to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


class BlockingClient:
    """A connection that blocks, as the plainest client there is."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        """The payload of the answer."""
        self._socket.sendall(request)
        header = self._received(HEADER_BYTES)
        return self._received(struct.unpack_from("<I", header)[0])

    def create(self) -> int:
        """A new context."""
        context_id: int = _HEAD.unpack(self.ask(encoded(CreateContext())))[0]
        return context_id

    def _received(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            some = self._socket.recv(size - len(data))
            if not some:
                raise ConnectionResetError("the server is gone")
            data += some
        return data
