"""Connections that are kept warm: a new one costs up to 100 ms at servers that look for it ten times a second."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any, Final, cast, overload

from perdure.adapters.cxdb.codec.requests import (
    AppendTurn,
    AttachFs,
    CreateContext,
    ForkContext,
    GetBefore,
    GetBlob,
    GetHead,
    GetLast,
    PutBlob,
    Request,
)
from perdure.adapters.cxdb.codec.responses import Answer, BlobContent, BlobStored, ContextHead, FsAttached, TurnAppended
from perdure.adapters.cxdb.codec.turn_lists import TurnList
from perdure.adapters.cxdb.connection import ANSWER_BYTES_MAX, CLIENT_TAG_DEFAULT, Connection, open_connection
from perdure.adapters.cxdb.endpoint import Endpoint
from perdure.adapters.cxdb.failures import Lost, Redact, is_change, was_lost
from perdure.errors import BackendDown, Invalid, OutcomeUnknown, TimedOut, Unavailable
from perdure.ports.environment import Clock

CONNECTIONS_MAX: Final = 8  # of one client: what one server with one lock for all writes can use
IDLE_S: Final = 240.0  # servers hang up after 300 s without a word; what is younger is still there
CONNECT_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 30.0  # of one request, so that a caller with more patience can look what became of it


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """How a pool keeps its connections. All times in seconds."""

    connections_max: int = CONNECTIONS_MAX
    idle_s: float = IDLE_S
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    request_timeout_s: float = REQUEST_TIMEOUT_S
    client_tag: str = CLIENT_TAG_DEFAULT
    answer_bytes_max: int = ANSWER_BYTES_MAX

    def __post_init__(self) -> None:
        if self.connections_max < 1:
            raise Invalid(f"connections_max is {self.connections_max}; expected at least 1")
        if not all(0 < time_s < float("inf") for time_s in (self.connect_timeout_s, self.request_timeout_s)):
            raise Invalid("connect_timeout_s and request_timeout_s are seconds, more than 0")


class Pool:
    """Connections to one endpoint; each is asked by one caller at a time."""

    def __init__(
        self, endpoint: Endpoint, *, clock: Clock, redact: Redact, settings: PoolSettings | None = None
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._redact = redact
        self._settings = settings or PoolSettings()
        self._context: ssl.SSLContext | None = None if endpoint.tls is None else endpoint.tls.context()
        self._gate = asyncio.Semaphore(self._settings.connections_max)
        self._idle: list[tuple[float, Connection]] = []  # since when, the longest first
        self._closed = False

    @property
    def idle_count(self) -> int:
        """How many connections wait to be asked."""
        return len(self._idle)

    @overload
    async def ask(self, request: CreateContext | ForkContext | GetHead, *, timeout_s: float) -> ContextHead: ...
    @overload
    async def ask(self, request: AppendTurn, *, timeout_s: float) -> TurnAppended: ...
    @overload
    async def ask(self, request: GetLast | GetBefore, *, timeout_s: float) -> TurnList: ...
    @overload
    async def ask(self, request: GetBlob, *, timeout_s: float) -> BlobContent: ...
    @overload
    async def ask(self, request: AttachFs, *, timeout_s: float) -> FsAttached: ...
    @overload
    async def ask(self, request: PutBlob, *, timeout_s: float) -> BlobStored: ...
    async def ask(self, request: Request, *, timeout_s: float) -> Answer:
        """Ask on a warm connection, or a new one; an append once, everything else again if nothing came back.

        Raises as ``Connection.ask``. An error whose reason is ``closed`` says of all but an append that the server
        closed a connection, took a new one, and closed that too: so it does with what is invalid, not when it is down.
        """
        ends_s = self._clock.monotonic() + timeout_s
        try:
            return await self._ask_once(request, ends_s=ends_s, fresh=False)
        except Unavailable as exc:
            if isinstance(request, AppendTurn) or not was_lost(exc, Lost.CLOSED):
                raise
        try:
            return await self._ask_once(request, ends_s=ends_s, fresh=True)
        except (BackendDown, TimedOut) as exc:
            if not is_change(request):
                raise
            name = request.message_type.name
            raise OutcomeUnknown(f"{name}: the answer was lost and the server not reached again") from exc

    async def close(self) -> None:
        """Hang up all connections that nobody is asking; the others when they are given back. Safe to call twice."""
        self._closed = True
        idle, self._idle = self._idle, []
        for _, connection in idle:
            await connection.close()

    async def _ask_once(self, request: Request, *, ends_s: float, fresh: bool) -> Answer:
        await self._enter(ends_s)
        try:
            connection = None if fresh else self._take()
            if connection is None:
                connection = await open_connection(
                    self._endpoint,
                    context=self._context,
                    redact=self._redact,
                    timeout_s=min(self._settings.connect_timeout_s, self._left_s(ends_s)),
                    client_tag=self._settings.client_tag,
                    answer_bytes_max=self._settings.answer_bytes_max,
                )
            try:
                timeout_s = min(self._settings.request_timeout_s, self._left_s(ends_s))
                # The overloads of ``ask`` are checked where a request is written.
                answer: Answer = await cast("Any", connection).ask(request, timeout_s=timeout_s)
            finally:
                self._give_back(connection)
            return answer
        finally:
            self._gate.release()

    async def _enter(self, ends_s: float) -> None:
        if self._closed:
            raise Invalid("the client of this server is closed; open another one")
        try:
            async with asyncio.timeout(self._left_s(ends_s)):
                await self._gate.acquire()
        except TimeoutError as exc:
            raise TimedOut(
                f"all {self._settings.connections_max} connections to {self._endpoint} were busy (connections_max); "
                "nothing was sent. Try again, or allow more"
            ) from exc

    def _left_s(self, ends_s: float) -> float:
        return max(0.0, ends_s - self._clock.monotonic())

    def _take(self) -> Connection | None:
        now_s = self._clock.monotonic()
        while self._idle:
            since_s, connection = self._idle.pop()
            if connection.is_sound and now_s - since_s <= self._settings.idle_s:
                return connection
            connection.abort()
        return None

    def _give_back(self, connection: Connection) -> None:
        now_s = self._clock.monotonic()
        while self._idle and now_s - self._idle[0][0] > self._settings.idle_s:
            self._idle.pop(0)[1].abort()
        if connection.is_sound and not self._closed:
            self._idle.append((now_s, connection))
        else:
            connection.abort()
