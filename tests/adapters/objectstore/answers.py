"""An object store that answers what a test says: a server on a loopback port that counts what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Scripted:
    """Answers every request with one status and body; with ``status`` None it takes requests and never answers."""

    def __init__(self, status: int | None, body: str) -> None:
        self._status = status
        self._body = body.encode()
        self._held = asyncio.Event()
        self.requests: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head.decode("latin-1"))
            if self._status is None:
                await self._held.wait()
            else:
                answer = (
                    f"HTTP/1.1 {self._status} Said\r\nContent-Length: {len(self._body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(answer.encode() + self._body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def let_go(self) -> None:
        """End the requests that wait."""
        self._held.set()


@asynccontextmanager
async def answering(status: int | None, body: str = "") -> AsyncIterator[Scripted]:
    """A server for as long as the block lasts."""
    scripted = Scripted(status, body)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        scripted.let_go()
        server.close()
        await server.wait_closed()
