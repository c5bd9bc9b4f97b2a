"""A network that fails on purpose: a TCP proxy to put between a program and its database.

::

    async with FaultProxy("127.0.0.1", 5432) as proxy:
        plane = perdure.open(f"postgresql://app@127.0.0.1:{proxy.port}/ledger")
        ...
        proxy.lose_reply()  # what is sent next is done, and its answer never arrives

Faults are those of a real network: bytes come late, not at all, or the connection is reset. Nothing is ever altered,
reordered or doubled, because TCP promises that.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Literal, Self

__all__ = ["FaultProxy"]

_CHUNK_BYTES_MAX = 65_536
_QUEUE_CHUNKS_MAX = 64

_Side = Literal["client", "server"]


class FaultProxy:
    """Forwards a loopback port to ``host:port``, as badly as it is told to; an async context manager.

    ``latency_s`` is how long every byte is under way in each direction, in seconds; it may be set at any time and holds
    for what arrives from then on. It delays, it does not throttle.
    """

    def __init__(self, host: str, port: int, *, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut = asyncio.Event()
        self._budgets: dict[_Side, int | None] = {"client": None, "server": None}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None, "entered before left"
        self._server.close()
        self.reset_all()
        while self._links:
            await asyncio.wait([link.ended for link in self._links])

    @property
    def port(self) -> int:
        """The loopback port to connect to; known once entered."""
        assert self._server is not None, "the port exists inside `async with` only"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many client connections are open now."""
        return len(self._links)

    def black_hole(self) -> None:
        """From now on nothing passes in either direction, and nobody is told; new connections are taken and ignored.

        What was under way is held, as by a partition: it arrives after ``heal``.
        """
        self._flowing.clear()

    def heal(self) -> None:
        """Ends the black hole and disarms the cuts; the latency stays."""
        self._flowing.set()
        self._budgets = {"client": None, "server": None}

    def lose_reply(self, *, after_bytes: int = 0) -> None:
        """Lets ``after_bytes`` more bytes of the server pass, then resets everything at its next byte, once.

        With 0, the next request is carried out and its answer is lost: the acknowledgement that never came.
        """
        self._arm("server", after_bytes)

    def lose_request(self, *, after_bytes: int = 0) -> None:
        """Lets ``after_bytes`` more bytes of the clients pass, then resets everything at their next byte, once.

        With 0, the next request never reaches the server.
        """
        self._arm("client", after_bytes)

    async def wait_cut(self) -> None:
        """Returns when the cut that was armed last has happened."""
        await self._cut.wait()

    def reset_all(self) -> None:
        """Resets every connection, on both sides, with whatever was under way; new ones are served as before."""
        for link in tuple(self._links):
            link.reset()

    def _arm(self, side: _Side, after_bytes: int) -> None:
        assert after_bytes >= 0, "bytes still to pass cannot be fewer than none"
        self._cut.clear()
        self._budgets[side] = after_bytes

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                reset = tasks.create_task(link.raise_when_reset())
                await self._flowing.wait()
                upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
                link.join(upstream_writer)
                await asyncio.gather(
                    *self._carry("client", reader, upstream_writer, tasks),
                    *self._carry("server", upstream_reader, writer, tasks),
                )
                reset.cancel()
        except* OSError:
            link.reset()  # one side failed, or the server is not there: the other side learns it as it would by itself
        finally:
            await link.close()
            self._links.discard(link)

    def _carry(
        self, side: _Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tasks: asyncio.TaskGroup
    ) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        # Two tasks, so that what arrives while something is under way has its own time of arrival: latency would
        # otherwise become a limit on throughput.
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE_CHUNKS_MAX)
        return (
            tasks.create_task(self._take(reader, under_way)),
            tasks.create_task(self._deliver(side, under_way, writer)),
        )

    async def _take(self, reader: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        chunk = b"?"
        while chunk:
            chunk = await reader.read(_CHUNK_BYTES_MAX)  # empty at the end, which takes its time like everything else
            await under_way.put((loop.time() + self.latency_s, chunk))

    async def _deliver(
        self, side: _Side, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, chunk = await under_way.get()
            if (left_s := due - loop.time()) > 0:
                await asyncio.sleep(left_s)
            await self._flowing.wait()
            if not chunk:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            passing = self._spend(side, chunk)
            writer.write(passing)
            await writer.drain()
            if len(passing) < len(chunk):
                self.reset_all()
                self._cut.set()
                return

    def _spend(self, side: _Side, chunk: bytes) -> bytes:
        """What of the chunk still passes; a shorter answer fires the cut and disarms it."""
        budget = self._budgets[side]
        if budget is None:
            return chunk
        self._budgets[side] = budget - len(chunk) if len(chunk) <= budget else None
        return chunk[:budget]


class _Link:
    """One client connection and the server connection that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writers = [client]
        self._was_reset = asyncio.Event()

    def join(self, upstream: asyncio.StreamWriter) -> None:
        self._writers.append(upstream)

    async def raise_when_reset(self) -> None:
        await self._was_reset.wait()
        raise ConnectionResetError

    def reset(self) -> None:
        self._was_reset.set()
        for writer in self._writers:
            _reset(writer)

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if not self.ended.done():
            self.ended.set_result(None)


def _reset(writer: asyncio.StreamWriter) -> None:
    # Lingering for no time makes the kernel send RST instead of FIN: the peer sees a failure, not an ending.
    peer = writer.get_extra_info("socket")
    if peer is not None:
        with contextlib.suppress(OSError):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
