"""A server that says what a test wrote down, one script for each connection, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import httpx

from perdure.adapters.cxdb.codec.buffer import FrameBuffer
from perdure.adapters.cxdb.codec.frames import Frame, MessageType, encode_frame
from perdure.adapters.cxdb.codec.requests import Request, decode_request
from perdure.adapters.cxdb.codec.responses import Answer, Failure, HelloAnswer, encode_answer, encode_failure
from perdure.adapters.cxdb.endpoint import Endpoint, parse_endpoint

WAIT_S: Final = 20.0  # a test that waits longer has failed
LOOKS_MAX: Final = 1_000_000
SOON_S: Final = 0.05  # the patience of a caller who will be disappointed


class Peer:
    """One connection as the server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: list[Frame]) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = FrameBuffer()
        self._frames = frames

    async def frame(self) -> Frame | None:
        """The next frame; None when the client hung up."""
        while (frame := self._buffer.next_frame()) is None:
            data = await self._reader.read(65_536)
            if not data:
                return None
            self._buffer.feed(data)
        self._frames.append(frame)
        return frame

    async def request(self) -> tuple[Frame, Request]:
        """The next request, which must come."""
        frame = await self.frame()
        assert frame is not None
        return frame, decode_request(frame, extensions=True)

    def say(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    def answer(self, frame: Frame, answer: Answer) -> None:
        """Answer a frame as it should be."""
        self.say(encode_answer(answer, to=MessageType(frame.msg_type), req_id=frame.req_id))

    def fail(self, frame: Frame, code: int, detail: str = "") -> None:
        """Answer a frame by an ERROR."""
        self.say(encode_failure(Failure(code=code, detail=detail), req_id=frame.req_id))

    async def hello(self) -> None:
        """Greet."""
        frame, _ = await self.request()
        self.answer(frame, HelloAnswer(session_id=1))

    def reset(self) -> None:
        """Hang up rudely."""
        linger = struct.pack("ii", 1, 0)
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing until the client hangs up."""
        while await self.frame() is not None:
            pass


AnswerHttp: TypeAlias = Callable[[httpx.Request], httpx.Response]
Script: TypeAlias = Callable[[Peer], Awaitable[None]]


class Scripted:
    """A server that listens. A script is over when the connection should be closed."""

    def __init__(self, scripts: list[Script]) -> None:
        self._scripts = scripts
        self.accepted = 0
        self.frames: list[Frame] = []
        self.endpoint: Endpoint = Endpoint(host="", port=0)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def asked(self) -> list[MessageType]:
        """The types of all requests, greetings left out."""
        return [MessageType(frame.msg_type) for frame in self.frames if frame.msg_type != MessageType.HELLO]

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self._tasks.append(asyncio.create_task(self._serve(reader, writer)))

    async def stop(self) -> None:
        """End every script. Raises what a script asserted in vain."""
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, ConnectionError):
                raise ended

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Connections beyond the last script follow that again.
        script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
        self.accepted += 1
        try:
            await script(Peer(reader, writer, self.frames))
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*scripts: Script, **options: Any) -> AsyncIterator[Scripted]:
    """A server for as long as the block lasts."""
    server = Scripted(list(scripts))
    listening = await asyncio.start_server(server.accept, "127.0.0.1", 0, **options)
    server.endpoint = parse_endpoint(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    try:
        yield server
    finally:
        listening.close()
        await server.stop()


async def until(happened: Callable[[], bool]) -> None:
    """Let everybody else go on until something happened."""
    for _ in range(LOOKS_MAX):
        if happened():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


def polite(*steps: Callable[[Peer, Frame], None]) -> Script:
    """Greet, then answer each request by the next step, then go on listening."""

    async def script(peer: Peer) -> None:
        await peer.hello()
        for step in steps:
            frame = await peer.frame()
            if frame is None:
                return
            step(peer, frame)
        await peer.hang()

    return script


def leaving(*steps: Callable[[Peer, Frame], None]) -> Script:
    """Greet, answer each request by the next step, and hang up."""

    async def script(peer: Peer) -> None:
        await peer.hello()
        for step in steps:
            frame = await peer.frame()
            if frame is None:
                return
            step(peer, frame)

    return script


def says(answer: Answer) -> Callable[[Peer, Frame], None]:
    """A step that answers as it should be."""
    return lambda peer, frame: peer.answer(frame, answer)


def fails(code: int, detail: str = "") -> Callable[[Peer, Frame], None]:
    """A step that answers by an ERROR."""
    return lambda peer, frame: peer.fail(frame, code, detail)


def says_nothing(peer: Peer, frame: Frame) -> None:
    """A step without an answer."""
    del peer, frame


def raw(make: Callable[[Frame], bytes]) -> Callable[[Peer, Frame], None]:
    """A step that answers by any bytes."""
    return lambda peer, frame: peer.say(make(frame))


def bare(frame: Frame, payload: bytes, **changed: int) -> bytes:
    """An answer with a payload of the test's own."""
    req_id = changed.get("req_id", frame.req_id)
    return encode_frame(changed.get("msg_type", frame.msg_type), req_id=req_id, parts=[payload])


class Answering(httpx.AsyncBaseTransport):
    """A server that answers as a test says, in bytes that are still to be read."""

    def __init__(self, answer: AnswerHttp) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        made = self._answer(request)
        if not made.is_stream_consumed:
            return made
        return httpx.Response(made.status_code, headers=made.headers, stream=httpx.ByteStream(made.content))
