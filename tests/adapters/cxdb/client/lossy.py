"""A way to one of our servers on which answers to appends get lost, as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from perdure.adapters.cxdb.backend import CxdbAddress, CxdbBackend
from perdure.adapters.cxdb.codec.buffer import FrameBuffer
from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX
from perdure.adapters.cxdb.codec.frames import Frame, MessageType, encode_frame
from perdure.adapters.cxdb.endpoint import Endpoint, parse_endpoint
from perdure.adapters.cxdb.pool import PoolSettings
from perdure.adapters.cxdb.server import Profile
from perdure.adapters.cxdb.turns import CxdbTurns, TurnSettings
from perdure.core.environment import SystemClock
from perdure.domain.container import Space
from perdure.domain.turn import NewTurn
from perdure.domain.turn_records.codec import encode
from perdure.domain.turn_records.envelope import record
from perdure.domain.turn_records.fields import Field
from perdure.testing.contracts.stores import new_space
from perdure.testing.contracts.turns_opening import Talk
from tests.contracts.cxdb_servers import OnOurServer

Fault: TypeAlias = Literal["lose the request", "lose the answer", "hang before", "hang after"]

NOTE: Final = record("test.record", Field(tag=31, name="text", type="string"), event_kinds=("said",))


class _Server(OnOurServer):
    """Our server, without a test around it."""


class LossyWay:
    """Passes frames on, one connection for each, until the next fault is due: one for each append, in order."""

    def __init__(self, beyond: Endpoint) -> None:
        self._beyond = beyond
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.faults: list[Fault | None] = []
        self.appends = 0
        self.asked: list[MessageType] = []
        self.hanging = asyncio.Event()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self._writers.append(writer)
        self._tasks.append(asyncio.create_task(self._pass(reader, writer)))

    def cut(self) -> None:
        """Close every connection, as a server does that starts again."""
        for writer in self._writers:
            writer.transport.abort()

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
        try:
            while (asked := await _frame(reader, near)) is not None:
                fault = self._fault(asked)
                if fault == "hang before":
                    self.hanging.set()
                    await asyncio.Event().wait()
                if fault == "lose the request":
                    return
                far_writer.write(_bytes(asked))
                answer = await _frame(far_reader, far)
                if fault == "hang after":
                    self.hanging.set()
                    await asyncio.Event().wait()
                if answer is None or fault == "lose the answer":
                    return
                writer.write(_bytes(answer))
        finally:
            writer.close()
            far_writer.close()

    def _fault(self, frame: Frame) -> Fault | None:
        if frame.msg_type != MessageType.HELLO:
            self.asked.append(MessageType(frame.msg_type))
        if frame.msg_type != MessageType.APPEND_TURN:
            return None
        self.appends += 1
        return self.faults.pop(0) if self.faults else None


class Lossy:
    """Clients of one server: those on the way that loses answers, and those that have a good one."""

    def __init__(self, stack: AsyncExitStack, space: Space, address: CxdbAddress, way: LossyWay, port: int) -> None:
        self._stack = stack
        self._address = address
        self._lossy = replace(address, binary=Endpoint(host="127.0.0.1", port=port))
        self.space = space
        self.way = way

    def talk(
        self,
        *,
        lossy: bool = False,
        http: bool = True,
        settings: TurnSettings | None = None,
        request_timeout_s: float = 30.0,
    ) -> Talk:
        """A new client."""
        address = self._lossy if lossy else self._address
        backend = CxdbBackend(
            address if http else replace(address, http=None),
            space=self.space,
            clock=SystemClock(),
            redact=str,
            pool=PoolSettings(request_timeout_s=request_timeout_s),
            turns=settings,
        )
        self._stack.push_async_callback(backend.close)
        return Talk(store=backend.turns, space=self.space)


@asynccontextmanager
async def lossy_server(profile: Profile, *, frame_bytes_max: int = PAYLOAD_BYTES_MAX) -> AsyncIterator[Lossy]:
    """A server of a new space, and the two ways to it."""
    server = _Server()
    server.frame_bytes_max = frame_bytes_max  # type: ignore[misc]  # as below
    server.profile = profile  # type: ignore[misc]  # a test class says it once
    server.space = new_space()
    async with AsyncExitStack() as stack:
        address = await server.serve(stack)
        way = LossyWay(address.binary)
        listening = await asyncio.start_server(way.accept, "127.0.0.1", 0)
        stack.push_async_callback(way.stop)
        stack.callback(listening.close)
        port = parse_endpoint(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}").port
        yield Lossy(stack, server.space, address, way, port)


def note(text: str, *, key: str, parent: str | None = None, labels: tuple[str, ...] = ()) -> NewTurn:
    """A record, which carries its key in its payload, and labels of its context if there are any."""
    values: dict[str, object] = {
        "text": text,
        "event_kind": "said",
        "idempotency_key": key,
        "timestamp": 1_700_000_000_000,
        "sequence_no": 1,
        "schema_version": 1,
    }
    if labels:
        values["context_metadata"] = {"labels": list(labels)}
    return NewTurn(
        type_id=NOTE.type_id,
        type_version=NOTE.version,
        payload=encode(NOTE, values),
        idempotency_key=key,
        parent_turn_id=parent,
    )


def store_of(talk: Talk) -> CxdbTurns:
    """The store itself."""
    assert isinstance(talk.store, CxdbTurns)
    return talk.store


def _bytes(frame: Frame) -> bytes:
    return encode_frame(frame.msg_type, req_id=frame.req_id, flags=frame.flags, parts=[bytes(frame.payload)])


async def _frame(reader: asyncio.StreamReader, buffer: FrameBuffer) -> Frame | None:
    while (frame := buffer.next_frame()) is None:
        data = await reader.read(65_536)
        if not data:
            return None
        buffer.feed(data)
    return frame
