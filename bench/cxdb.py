"""CXDB's protocol by a bare echo of as many bytes: what a round trip costs over what the socket costs.

Servers and clients share a loop, and the store is in memory: what is left is the protocol, and the way to the store.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from blake3 import blake3

from bench.report import Row, progress
from bench.rounds import Subject, compare_latencies
from bench.server import Server
from bench.settings import Settings
from perdure.adapters.cxdb.codec.frames import HEADER_BYTES
from perdure.adapters.cxdb.codec.requests import AppendTurn, CreateContext, GetHead, Hello, Request, encode_request
from perdure.adapters.cxdb.server import Profile, ServerSettings, serving
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.environment import system_environment
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import Space, make_space
from perdure.domain.turn import content_hash

SPACE: Final = make_space(tenant="t_bench", mode="lab", env="dev", project="default")
ECHO: Final = "echo"
CONTENT: Final = bytes(1_024)

_contents = count(1)


class _Blobs:
    """Objects in memory."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    async def put(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes."""
        del space, timeout_s
        digest = content_hash(payload)
        self._blobs[digest] = payload
        return digest

    async def find(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes, or None."""
        del space, timeout_s
        return self._blobs.get(digest)


class _Client:
    """A connection with one request in flight."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> bytes:
        """The payload of the answer."""
        self._writer.write(request)
        header = await self._reader.readexactly(HEADER_BYTES)
        return await self._reader.readexactly(struct.unpack_from("<I", header)[0])


async def measure(server: Server, settings: Settings) -> list[Row]:
    """A greeting, a head and an append of 1 KB in both profiles."""
    del server
    progress("cxdb")
    async with _echo() as echo, _client(Profile.IMPROVED) as improved, _client(Profile.STRICT) as strict:
        head = _encoded(GetHead(context_id=1))
        subjects = [_subject(ECHO, echo, lambda: head)]
        for profile, client in ((Profile.IMPROVED, improved), (Profile.STRICT, strict)):
            await client.ask(_encoded(CreateContext()))
            subjects += [
                _subject(f"HELLO, {profile.value}", client, lambda: _encoded(Hello())),
                _subject(f"GET_HEAD, {profile.value}", client, lambda: head),
                _subject(f"APPEND_TURN of 1 KB, {profile.value}", client, _append),
            ]
        found = await compare_latencies(
            subjects, bases=(ECHO,), rounds=settings.store_rounds, count=settings.store_count
        )
    return [
        Row(
            section="cxdb",
            what=name,
            p50_ms=series.percentile_ms(0.5),
            p95_ms=series.percentile_ms(0.95),
            p99_ms=series.percentile_ms(0.99),
            rate=series.rate(),
            latency_a=series.latency_ratio(ECHO),
        )
        for name, series in found.items()
    ]


def _subject(name: str, client: _Client, request: Callable[[], bytes]) -> Subject:
    async def perform(_worker: int, asked: bytes) -> None:
        await client.ask(asked)

    def prepare(wanted: int) -> Sequence[bytes]:
        return [request() for _ in range(wanted)]

    return Subject(name=name, prepare=prepare, perform=perform)


def _append() -> bytes:
    content = struct.pack("<Q", next(_contents)) + CONTENT
    turn = AppendTurn(
        context_id=1,
        declared_type_id="bench.Note",
        declared_type_version=1,
        uncompressed_len=len(content),
        content_hash=blake3(content).digest(),
        payload=content,
    )
    return _encoded(turn)


def _encoded(request: Request) -> bytes:
    return encode_request(request, req_id=1)


@asynccontextmanager
async def _client(profile: Profile) -> AsyncIterator[_Client]:
    environment = system_environment()
    backend = DocumentBackend(MemoryDriver(MemoryStore()), mode="lab", env="dev", environment=environment)
    await backend.open()
    parts = TurnParts(backend.logs, backend.rows, environment=environment, sleep=asyncio.sleep)
    settings = ServerSettings(port=0, profile=profile)
    async with (
        serving(StoredTurns(parts, _Blobs()), SPACE, settings=settings, rows=backend.rows) as server,
        _connected(server.port) as client,
    ):
        yield client
    await backend.close()


@asynccontextmanager
async def _echo() -> AsyncIterator[_Client]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening, _connected(listening.sockets[0].getsockname()[1]) as client:
        yield client


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[_Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield _Client(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()
