"""A server in a thread of its own, and a client of plain blocking sockets that writes every byte by hand."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, TypeVar

from blake3 import blake3

from perdure.adapters.cxdb.server import CxdbServer, ServerSettings, serving
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.environment import system_environment
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import Space, make_space
from perdure.ports.turns import TurnStore
from tests.contracts.document_stores import no_sleep
from tests.contracts.turn_stores import BlobsInMemory

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
WAIT_S = 20.0  # a test that waits longer has failed

HELLO, CREATE, FORK, HEAD, APPEND, LAST, BEFORE, RANGE, BLOB, ATTACH, PUT = range(1, 12)
ERROR = 255

Result = TypeVar("Result")


class Answer(NamedTuple):
    """A frame as it came."""

    msg_type: int
    flags: int
    req_id: int
    payload: bytes

    @property
    def error(self) -> tuple[int, str]:
        """The code and the text of an ERROR."""
        assert self.msg_type == ERROR, self
        code, size = struct.unpack_from("<II", self.payload)
        assert len(self.payload) == 8 + size
        return code, self.payload[8:].decode()


class Client:
    """A connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, msg_type: int, payload: bytes = b"", *, flags: int = 0, req_id: int = 1) -> None:
        """One request."""
        self.socket.sendall(frame(msg_type, payload, flags=flags, req_id=req_id))

    def receive(self) -> Answer | None:
        """The next answer; None if the connection was closed without a byte of one."""
        header = self._exactly(16)
        if header is None:
            return None
        size, msg_type, flags, req_id = struct.unpack("<IHHQ", header)
        payload = self._exactly(size)
        assert payload is not None, "cut within a frame"
        return Answer(msg_type, flags, req_id, payload)

    def ask(self, msg_type: int, payload: bytes = b"", *, flags: int = 0, req_id: int = 1) -> Answer | None:
        """One request and what comes back."""
        self.send(msg_type, payload, flags=flags, req_id=req_id)
        return self.receive()

    def answer(self, msg_type: int, payload: bytes = b"", *, flags: int = 0) -> bytes:
        """The payload of an answer that is no ERROR."""
        answer = self.ask(msg_type, payload, flags=flags, req_id=99)
        assert answer is not None, "closed"
        assert (answer.msg_type, answer.flags, answer.req_id) == (msg_type, 0, 99), answer
        return answer.payload

    def error(self, msg_type: int, payload: bytes = b"", *, flags: int = 0) -> tuple[int, str]:
        """The code and text of an ERROR."""
        answer = self.ask(msg_type, payload, flags=flags, req_id=77)
        assert answer is not None, "closed"
        assert (answer.msg_type, answer.flags, answer.req_id) == (ERROR, 0, 77), answer
        return answer.error

    def new_context(self) -> int:
        """A new context."""
        context_id: int
        context_id, head, depth = struct.unpack("<QQI", self.answer(CREATE, struct.pack("<Q", 0)))
        assert (head, depth) == (0, 0)
        return context_id

    def append(self, context_id: int, content: bytes, **more: Any) -> tuple[int, int]:
        """The id and depth of a new turn."""
        turn_id, depth, replayed = self.append_again(context_id, content, **more)
        assert not replayed
        return turn_id, depth

    def append_again(self, context_id: int, content: bytes, *, flags: int = 0, **more: Any) -> tuple[int, int, bool]:
        """The id and depth of a turn, and whether it was there before."""
        flags |= 1 if more.get("root") is not None else 0
        answer = self.ask(APPEND, append_turn(context_id, content, **more), flags=flags, req_id=2**64 - 1)
        assert answer is not None, "closed"
        assert (answer.msg_type, answer.req_id) == (APPEND, 2**64 - 1), answer
        found, turn_id, depth, content_hash = struct.unpack("<QQI32s", answer.payload)
        assert (found, content_hash) == (context_id, digest(content))
        return turn_id, depth, answer.flags == 1

    def head(self, context_id: int) -> tuple[int, int]:
        """The head of a context and its depth."""
        found, turn_id, depth = struct.unpack("<QQI", self.answer(HEAD, struct.pack("<Q", context_id)))
        assert found == context_id
        return turn_id, depth

    def put_blob(self, content: bytes) -> int:
        """Whether a blob was new."""
        answer = self.answer(PUT, put_blob(content))
        assert answer[:32] == digest(content)
        assert len(answer) == 33
        return answer[32]

    def closed(self) -> bool:
        """Whether the server has closed the connection, and sent nothing before."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                assert not data, "cut within a frame"
                return None
            data += chunk
        return bytes(data)


@dataclass
class Storage:
    """What servers after each other have in common."""

    store: MemoryStore = field(default_factory=MemoryStore)
    blobs: BlobsInMemory = field(default_factory=BlobsInMemory)

    def backend(self) -> DocumentBackend:
        """Another client of it."""
        environment = system_environment()
        return DocumentBackend(MemoryDriver(self.store), mode="lab", env="dev", environment=environment, sleep=no_sleep)

    def turns(self, backend: DocumentBackend) -> StoredTurns:
        """Turns over a client."""
        parts = TurnParts(backend.logs, backend.rows, environment=system_environment(), sleep=no_sleep)
        return StoredTurns(parts, self.blobs)


@dataclass
class Served:
    """A server that runs in a thread."""

    server: CxdbServer
    loop: asyncio.AbstractEventLoop
    store: TurnStore
    space: Space = SPACE

    def client(self) -> Client:
        """A new connection."""
        return Client(self.server.port)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)


@contextmanager
def served(storage: Storage | None = None, *, wrap: Any = lambda store: store, **settings: Any) -> Iterator[Served]:
    """A server, on any port, with what a test changes of the settings; ``wrap`` may stand before the store."""
    storage = storage or Storage()
    started: list[Served] = []
    failed: list[BaseException] = []
    ready = threading.Event()

    async def serve(ended: asyncio.Event) -> None:
        backend = storage.backend()
        await backend.open()
        store = wrap(storage.turns(backend))
        try:
            async with serving(store, SPACE, settings=ServerSettings(port=0, **settings), rows=backend.rows) as server:
                started.append(Served(server, asyncio.get_running_loop(), store))
                stop.append(ended)
                ready.set()
                await ended.wait()
        finally:
            await backend.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, f"tasks were left behind: {others}"

    def main() -> None:
        try:
            asyncio.run(serve(asyncio.Event()))
        except BaseException as exc:  # noqa: BLE001 - told to the test
            failed.append(exc)
        finally:
            ready.set()

    stop: list[asyncio.Event] = []
    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        if not failed:
            yield started[0]
    finally:
        if started and not started[0].loop.is_closed():
            started[0].loop.call_soon_threadsafe(stop[0].set)
        thread.join(WAIT_S)
        assert not thread.is_alive(), "the server does not stop"
        if failed:
            raise failed[0]


def frame(msg_type: int, payload: bytes = b"", *, flags: int = 0, req_id: int = 1) -> bytes:
    """The bytes of a frame."""
    return struct.pack("<IHHQ", len(payload), msg_type, flags, req_id) + payload


def digest(content: bytes) -> bytes:
    """BLAKE3-256."""
    return blake3(content).digest()


def append_turn(
    context_id: int,
    content: bytes,
    *,
    parent: int = 0,
    type_id: bytes = b"com.example.Note",
    version: int = 1,
    encoding: int = 1,
    compression: int = 0,
    length: int | None = None,
    content_hash: bytes | None = None,
    sent: bytes | None = None,
    key: bytes = b"",
    root: bytes | None = None,
) -> bytes:
    """The payload of APPEND_TURN; what is left out is right. ``sent`` is what travels instead of the content."""
    sent = content if sent is None else sent
    return b"".join(
        (
            struct.pack("<QQI", context_id, parent, len(type_id)),
            type_id,
            struct.pack("<IIII", version, encoding, compression, len(content) if length is None else length),
            digest(content) if content_hash is None else content_hash,
            struct.pack("<I", len(sent)),
            sent,
            struct.pack("<I", len(key)),
            key,
            root or b"",
        )
    )


def get_last(context_id: int, limit: int, *, payload: int = 1) -> bytes:
    """The payload of GET_LAST."""
    return struct.pack("<QII", context_id, limit, payload)


def get_before(context_id: int, before: int, limit: int, *, payload: int = 1) -> bytes:
    """The payload of GET_BEFORE."""
    return struct.pack("<QQII", context_id, before, limit, payload)


def put_blob(content: bytes) -> bytes:
    """The payload of PUT_BLOB."""
    return digest(content) + struct.pack("<I", len(content)) + content


def item(
    turn_id: int,
    parent: int,
    depth: int,
    content: bytes,
    *,
    type_id: bytes = b"com.example.Note",
    version: int = 1,
    encoding: int = 1,
    compression: int = 0,
    tail: bytes | None = None,
) -> bytes:
    """One turn of a list; ``tail`` is what stands where the payload would."""
    return b"".join(
        (
            struct.pack("<QQI", turn_id, parent, depth),
            struct.pack("<I", len(type_id)),
            type_id,
            struct.pack("<IIII", version, encoding, compression, len(content)),
            digest(content),
            struct.pack("<I", len(content)) + content if tail is None else tail,
        )
    )


def turn_list(*items: bytes) -> bytes:
    """The payload of a list of turns."""
    return struct.pack("<I", len(items)) + b"".join(items)
