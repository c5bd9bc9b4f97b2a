"""One connection of the binary protocol: one request at a time, and never used again after the slightest doubt."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast, overload

from perdure.adapters.cxdb.codec.buffer import FrameBuffer
from perdure.adapters.cxdb.codec.fields import MalformedMessage
from perdure.adapters.cxdb.codec.frames import Frame
from perdure.adapters.cxdb.codec.requests import (
    AppendTurn,
    AttachFs,
    CreateContext,
    ForkContext,
    GetBefore,
    GetBlob,
    GetHead,
    GetLast,
    Hello,
    PutBlob,
    Request,
    encode_request,
)
from perdure.adapters.cxdb.codec.responses import (
    Answer,
    BlobContent,
    BlobStored,
    ContextHead,
    Failure,
    FsAttached,
    HelloAnswer,
    TurnAppended,
    decode_answer,
)
from perdure.adapters.cxdb.codec.turn_lists import TurnList
from perdure.adapters.cxdb.endpoint import Endpoint
from perdure.adapters.cxdb.failures import Lost, Redact, lost_answer, refusal
from perdure.errors import BackendDown, LimitExceeded, PerdureError

ANSWER_BYTES_MAX: Final = 256 * 1_048_576  # servers do not keep to 64 MiB in answers; this is what a page may take
CLIENT_TAG_DEFAULT: Final = "perdure"

_READ_BYTES: Final = 262_144  # at once
_QUICK_ACK: Final = getattr(socket, "TCP_QUICKACK", None)  # Linux has it
_SOUND_REFUSALS: Final = frozenset({404, 409, 422, 429})  # an ERROR that says clearly what it is


class Connection:
    """A connection that said HELLO. Made by ``open_connection``; ``is_sound`` says whether it may be asked again."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, redact: Redact, answer_bytes_max: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._redact = redact
        self._buffer = FrameBuffer(payload_bytes_max=answer_bytes_max)
        self._last_req_id = 0
        self._sound = True
        self._socket = cast("socket.socket | None", writer.get_extra_info("socket"))
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def is_sound(self) -> bool:
        """Whether the next answer can only be that of the next request, as far as this side knows."""
        return self._sound and not self._reader.at_eof() and not self._writer.is_closing()

    @overload
    async def ask(self, request: Hello, *, timeout_s: float) -> HelloAnswer: ...
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
        """Send a request and wait for its answer.

        Raises what an ERROR frame means; ``OutcomeUnknown`` for a change whose answer was lost, for the rest
        ``BackendDown`` or ``TimedOut``, each with ``Lost`` as ``reason``; and ``LimitExceeded`` before anything is sent
        for what fits no frame.
        """
        self._last_req_id += 1
        sent = encode_request(request, req_id=self._last_req_id)
        # Until its answer is in hand, also if this is cancelled: a late answer would be taken for the next one's.
        self._sound = False
        try:
            answer = await self._exchange(sent, request, timeout_s=timeout_s)
        except BaseException:
            self.abort()
            raise
        if isinstance(answer, Failure):
            self._sound = answer.code in _SOUND_REFUSALS
            if not self._sound:
                self.abort()
            raise refusal(answer, request, redact=self._redact)
        self._sound = True
        return answer

    def abort(self) -> None:
        """Hang up without a word."""
        self._sound = False
        self._writer.transport.abort()

    async def close(self) -> None:
        """Hang up and wait until it is done."""
        self.abort()
        with contextlib.suppress(OSError):  # the server hung up first, and rudely: it is closed all the same
            await self._writer.wait_closed()

    async def _exchange(self, sent: bytes, request: Request, *, timeout_s: float) -> Answer | Failure:
        try:
            async with asyncio.timeout(timeout_s):
                self._writer.write(sent)
                self._acknowledge_at_once()
                await self._writer.drain()
                frame = await self._next_frame()
        except TimeoutError as exc:
            raise lost_answer(Lost.TIMED_OUT, request) from exc
        except OSError as exc:
            raise lost_answer(Lost.CLOSED, request) from exc
        except EOFError as exc:
            raise lost_answer(Lost.CUT if self._buffer.pending_bytes else Lost.CLOSED, request) from exc
        except LimitExceeded as exc:
            raise lost_answer(Lost.OVERSIZE, request) from exc
        if frame.req_id != self._last_req_id or self._buffer.pending_bytes:
            raise lost_answer(Lost.MALFORMED, request)  # it answers something else, or more than was asked
        try:
            return _decode(frame, request)
        except MalformedMessage as exc:
            raise lost_answer(Lost.MALFORMED, request) from exc

    async def _next_frame(self) -> Frame:
        while (frame := self._buffer.next_frame()) is None:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise EOFError
            self._buffer.feed(data)
        return frame

    def _acknowledge_at_once(self) -> None:
        # Servers write a header in four pieces with Nagle on: a delayed acknowledgement costs 44 ms a request.
        if _QUICK_ACK is not None and self._socket is not None and not self._writer.is_closing():
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)


async def open_connection(
    endpoint: Endpoint,
    *,
    context: ssl.SSLContext | None,
    redact: Redact,
    timeout_s: float,
    client_tag: str = CLIENT_TAG_DEFAULT,
    answer_bytes_max: int = ANSWER_BYTES_MAX,
) -> Connection:
    """Connect and say HELLO; ``context`` is that of the endpoint's ``tls``.

    Raises ``BackendDown``: nothing was asked yet, so nothing happened.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                endpoint.host,
                endpoint.port,
                limit=_READ_BYTES,
                ssl=context,
                server_hostname=None if endpoint.tls is None else endpoint.tls.server_name or endpoint.host,
            )
            connection = Connection(reader, writer, redact=redact, answer_bytes_max=answer_bytes_max)
            await _greet(connection, Hello(client_tag=client_tag), timeout_s=timeout_s)
    except TimeoutError as exc:
        raise BackendDown(f"{endpoint} did not take a connection in {timeout_s:g} s; is it up?") from exc
    except OSError as exc:
        raise BackendDown(f"{endpoint} was not reached ({type(exc).__name__}); is it up, and is TLS as it is?") from exc
    except PerdureError as exc:
        raise BackendDown(f"{endpoint} took a connection and no HELLO: {exc.message}") from exc
    return connection


async def _greet(connection: Connection, hello: Hello, *, timeout_s: float) -> None:
    try:
        await connection.ask(hello, timeout_s=timeout_s)
    except BaseException:
        connection.abort()  # also one that refused in good order
        raise


def _decode(frame: Frame, request: Request) -> Answer | Failure:
    decode = cast("Callable[..., Answer | Failure]", decode_answer)
    return decode(frame, to=request)
