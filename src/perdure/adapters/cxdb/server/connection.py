"""One connection: requests in the order in which they come, one at a time, each answered by one write.

While a request is being answered nothing more is read, and while the client does not take its answers nothing more is
answered: what a connection holds is one frame that comes, one that is answered, and its answer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from perdure.adapters.cxdb.codec.buffer import FrameBuffer
from perdure.adapters.cxdb.codec.frames import HEADER_BYTES, Frame
from perdure.adapters.cxdb.codec.requests import Request, decode_request
from perdure.adapters.cxdb.codec.responses import ErrorCode, Failure, encode_answer, encode_failure
from perdure.adapters.cxdb.server.answering import Answering
from perdure.adapters.cxdb.server.settings import ServerSettings
from perdure.errors import LimitExceeded, PerdureError

READ_BYTES: Final = 262_144  # taken from the socket at once, and waiting before it is not read any more
CLOSE_S: Final = 2.0  # how long a client may take for what is left when its connection is closed

_log: Final = logging.getLogger("perdure.cxdb")


class Connection:
    """A client that is connected. ``run`` it in a task of its own."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        session_id: int,
        answers: Answering,
        settings: ServerSettings,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._session_id = session_id
        self._answers = answers
        self._settings = settings
        self._buffer = FrameBuffer(payload_bytes_max=settings.payload_bytes_max)
        self._stopping = False
        self._idle = False
        self._idle_since_s = 0.0
        self._idle_over = False
        self._watch: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until the client goes, is idle for too long or sends what cannot be read, or until ``stop``."""
        self._task = asyncio.current_task()
        reason = "error"
        try:
            self._watch_idle()
            reason = await self._serve()
        except OSError as exc:
            # The client is gone, or takes nothing: there is nobody to tell.
            reason = type(exc).__name__
            self._writer.transport.abort()
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            reason = "stopped"
        finally:
            if self._watch is not None:
                self._watch.cancel()
            await self._close()
            self._note(logging.DEBUG, "a connection ended", reason=reason)

    def stop(self) -> None:
        """Finish what is being answered, and answer nothing after it."""
        self._stopping = True
        if self._idle and self._task is not None:
            self._task.cancel()

    async def _serve(self) -> str:
        while data := await self._received():
            self._buffer.feed(data)
            try:
                if not await self._answer_all():
                    return "hung up"
            except LimitExceeded as exc:
                await self._refuse(exc)
                return "oversize"
        return "stopped" if self._stopping else "closed"

    async def _received(self) -> bytes:
        """The next bytes; none at the end, after a time without any, or if the server stops."""
        if self._stopping:
            return b""
        self._idle = True
        self._idle_since_s = asyncio.get_running_loop().time()
        try:
            return await self._reader.read(READ_BYTES)
        except asyncio.CancelledError:
            if not self._idle_over or self._task is None or self._task.uncancel():
                raise
            self._note(logging.INFO, "a connection was idle for too long", idle_s=self._settings.idle_s)
            return b""
        finally:
            self._idle = False

    def _watch_idle(self) -> None:
        """End the wait for bytes that has lasted too long, and look again when the one of now may have.

        One timer for a connection: one for each read takes longer than to read a request.
        """
        idle_s = self._settings.idle_s
        if idle_s is None:
            return
        loop = asyncio.get_running_loop()
        waited_s = loop.time() - self._idle_since_s if self._idle else 0.0
        if waited_s < idle_s:
            self._watch = loop.call_later(idle_s - waited_s, self._watch_idle)
        elif self._task is not None:
            self._idle_over = True
            self._task.cancel()

    async def _answer_all(self) -> bool:
        """Answer every frame that is complete; False: hang up. Raises ``LimitExceeded`` for one that is too large."""
        while not self._stopping and (frame := self._buffer.next_frame()) is not None:
            answer = await self._answered(frame)
            if answer is None:
                return False
            await self._write(answer)
            if self._buffer.pending_bytes:
                await asyncio.sleep(0)  # a client that has sent a lot at once is not alone here
        return True

    async def _answered(self, frame: Frame) -> bytes | None:
        request: Request | None = None
        try:
            request = decode_request(frame, extensions=self._answers.extensions)
            answer = await self._answers.answer(request, session_id=self._session_id)
            encoded = encode_answer(answer, to=request.message_type, req_id=frame.req_id)
            _refuse_large(len(encoded) - HEADER_BYTES, allowed=self._settings.payload_bytes_max)
        except Exception as exc:  # noqa: BLE001 - a request that fails must not end the server, and is answered or logged
            failure = self._answers.failure(exc, request)
            self._note_failure(exc, failure, frame)
            return None if failure is None else encode_failure(failure, req_id=frame.req_id)
        return encoded

    async def _refuse(self, exc: LimitExceeded) -> None:
        """Say that a frame is too large, if anything is said; where the next one begins cannot be known."""
        size, allowed = exc.detail["actual"], exc.detail["allowed"]
        self._note(logging.INFO, "a frame was too large", bytes=size)
        told = (
            f"frame size {size} exceeds maximum {allowed} (payload_bytes_max); this connection ends, send less at once"
        )
        failure = self._answers.failure(LimitExceeded(told), None)
        if failure is None:
            return
        while (req_id := self._buffer.pending_req_id) is None:
            data = await self._received()
            if not data:
                return
            self._buffer.feed(data)
        await self._write(encode_failure(failure, req_id=req_id))
        # With its bytes unread the close would be a reset, which takes the answer from the client as well.
        self._writer.write_eof()
        try:
            async with asyncio.timeout(CLOSE_S):
                while await self._reader.read(READ_BYTES):
                    pass
        except TimeoutError:
            self._note(logging.DEBUG, "a client goes on sending what was refused")

    async def _write(self, frame: bytes) -> None:
        """Send a frame, and wait until the client has taken most of it. Raises ``TimeoutError`` if it takes nothing."""
        transport = self._writer.transport
        self._writer.write(frame)
        if transport.is_closing():
            raise ConnectionResetError("the client is gone, and so is what it still asked for")
        left = transport.get_write_buffer_size()
        while left:  # else the system has taken all of it
            try:
                async with asyncio.timeout(self._settings.write_s):
                    await self._writer.drain()
            except TimeoutError:
                still = transport.get_write_buffer_size()
                if still >= left:
                    self._note(logging.INFO, "a client takes no answers", waiting_bytes=still)
                    raise
                left = still
            else:
                return

    async def _close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._writer.wait_closed()
        except OSError:  # what is left is not wanted
            self._writer.transport.abort()

    def _note_failure(self, exc: Exception, failure: Failure | None, frame: Frame) -> None:
        code = ErrorCode.FAILED if failure is None else failure.code
        expected = isinstance(exc, PerdureError)
        if not expected:
            level = logging.ERROR
        elif failure is not None and code >= ErrorCode.FAILED:
            level = logging.WARNING
        else:
            level = logging.INFO
        self._note(
            level,
            "a request failed",
            exc_info=None if expected else exc,
            msg_type=frame.msg_type,
            req_id=frame.req_id,
            error=exc.code if isinstance(exc, PerdureError) else type(exc).__name__,
            answered=None if failure is None else int(failure.code),
        )

    def _note(self, level: int, message: str, *, exc_info: Exception | None = None, **facts: object) -> None:
        # Numbers, names and codes: nothing that a client sent is in a log.
        facts = {"session": self._session_id, **facts}
        said = ", ".join(f"{name} {value}" for name, value in facts.items())
        _log.log(level, "%s (%s)", message, said, exc_info=exc_info, extra={"cxdb": facts})


def _refuse_large(size: int, *, allowed: int) -> None:
    if size > allowed:
        raise LimitExceeded(
            f"the answer has {size} bytes, at most {allowed} (payload_bytes_max); ask for less",
            limit="payload_bytes_max",
            allowed=allowed,
            actual=size,
        )
