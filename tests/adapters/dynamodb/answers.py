"""A server that speaks as much of the engine's protocol as is needed to give answers that no engine gives on demand."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

ENGINES = "x-amzn-RequestId: from-the-engine"
DESCRIBED = {
    "Table": {
        "TableStatus": "ACTIVE",
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that arrived."""

    operation: str
    parameters: dict[str, Any]


class Answers:
    """An async context manager; answers are given in the order in which they were arranged, then ``{}`` forever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.arrived = asyncio.Event()
        """A request is there, after ``hold``."""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._answers: defaultdict[str, deque[tuple[int, bytes, str]]] = defaultdict(deque)
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None, "entered before left"
        self._server.close()
        self.release()
        for writer in self._talks.values():
            writer.transport.abort()
        await asyncio.gather(*self._talks)

    @property
    def endpoint(self) -> str:
        """The server's address."""
        assert self._server is not None, "the address exists inside `async with` only"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def give(self, operation: str, body: dict[str, Any] | bytes, *, status: int = 200, header: str = ENGINES) -> None:
        """Arranges one answer, with one header besides those of HTTP."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._answers[operation].append((status, raw, header))

    def refuse(self, operation: str, code: str, *, status: int = 400, header: str = ENGINES, **body: Any) -> None:
        """Arranges an error as the engine words it."""
        body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "of vendors/secret", **body}
        self.give(operation, body, status=status, header=header)

    def hold(self) -> None:
        """From now on requests are taken and not answered."""
        self.arrived.clear()
        self._flowing.clear()

    def release(self) -> None:
        """Answers what was held."""
        self._flowing.set()

    def operations(self) -> list[str]:
        """What was asked since the table was looked at."""
        return [asked.operation for asked in self.asked if asked.operation != "DescribeTable"]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio starts a task for each connection"
        self._talks[task] = writer
        try:
            while head := await self._read_head(reader):
                await self._answer(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            del self._talks[task]
            writer.close()

    async def _read_head(self, reader: asyncio.StreamReader) -> dict[str, str]:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:-2]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    async def _answer(self, head: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        operation = head.get("x-amz-target", ".").rpartition(".")[2]
        parameters = json.loads(await reader.readexactly(int(head.get("content-length", "0"))) or "{}")
        self.asked.append(Asked(operation=operation, parameters=parameters))
        self.arrived.set()
        await self._flowing.wait()
        status, body, header = 200, json.dumps(DESCRIBED if operation == "DescribeTable" else {}).encode(), ENGINES
        if self._answers[operation]:
            status, body, header = self._answers[operation].popleft()
        lines = [f"HTTP/1.1 {status} Said", "Content-Type: application/x-amz-json-1.0", f"Content-Length: {len(body)}"]
        lines += [header] if header else []
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
