"""A way to a server on which an answer is spoiled when a test says so, and that remembers every byte that was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from perdure.adapters.cxdb.codec.buffer import FrameBuffer
from perdure.adapters.cxdb.codec.frames import HEADER, Frame, MessageType, encode_frame
from perdure.adapters.cxdb.codec.responses import Failure, encode_failure
from perdure.adapters.cxdb.connection import ANSWER_BYTES_MAX
from perdure.adapters.cxdb.endpoint import Endpoint

Spoil: TypeAlias = Callable[[Frame], bytes]
"""What arrives instead of an answer."""

SPOILED: Final[dict[str, Spoil]] = {
    "malformed": lambda frame: encode_frame(frame.msg_type, req_id=frame.req_id, parts=[b"\xff\xff\xff"]),
    "oversize": lambda frame: HEADER.pack(ANSWER_BYTES_MAX + 1, frame.msg_type, 0, frame.req_id),
    "wrong id": lambda frame: encode_frame(frame.msg_type, req_id=frame.req_id + 1, parts=[bytes(frame.payload)]),
    "early end": lambda frame: whole(frame)[:20],
    "no answer": lambda _frame: b"",
    "garbage": lambda _frame: b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


def whole(frame: Frame) -> bytes:
    """A frame as it is."""
    return encode_frame(frame.msg_type, req_id=frame.req_id, flags=frame.flags, parts=[bytes(frame.payload)])


def error(code: int, detail: str) -> Spoil:
    """An ERROR instead of the answer."""
    return lambda frame: encode_failure(Failure(code=code, detail=detail), req_id=frame.req_id)


class SpoilingWay:
    """Passes frames on. ``spoil`` says for the ``n``-th request of a type, from 1, what arrives instead of its answer.

    ``used_after`` counts requests that came on a connection after a spoiled answer.
    """

    def __init__(self, beyond: Endpoint) -> None:
        self.spoil: Callable[[MessageType, int], Spoil | None] = lambda _kind, _number: None
        self.asked: list[MessageType] = []
        self.seen = bytearray()
        self.connections = 0
        self.used_after = 0
        self.port = 0
        self._beyond = beyond
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self.connections += 1
        self._tasks.add(asyncio.create_task(self._pass(reader, writer)))

    async def stop(self) -> None:
        """Close everything. Raises what went wrong here."""
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, ConnectionError):
                raise ended

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._beyond.host, self._beyond.port)
        near, far = FrameBuffer(), FrameBuffer()
        was_spoiled = False
        try:
            while (asked := await self._frame(reader, near)) is not None:
                self.used_after += was_spoiled
                kind = MessageType(asked.msg_type)
                self.asked.append(kind)
                self.seen += asked.payload
                far_writer.write(whole(asked))
                answer = await self._frame(far_reader, far)
                if answer is None:
                    return
                spoil = self.spoil(kind, self.asked.count(kind))
                writer.write(whole(answer) if spoil is None else spoil(answer))
                was_spoiled = was_spoiled or spoil is not None
                if spoil is SPOILED["early end"] or spoil is SPOILED["no answer"]:
                    return
        finally:
            writer.close()
            far_writer.close()

    async def _frame(self, reader: asyncio.StreamReader, buffer: FrameBuffer) -> Frame | None:
        while (frame := buffer.next_frame()) is None:
            data = await reader.read(65_536)
            if not data:
                return None
            buffer.feed(data)
        return frame


@asynccontextmanager
async def spoiling(beyond: Endpoint) -> AsyncIterator[SpoilingWay]:
    """A way for as long as the block lasts."""
    way = SpoilingWay(beyond)
    listening = await asyncio.start_server(way.accept, "127.0.0.1", 0)
    way.port = listening.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        listening.close()
        await way.stop()
