"""From the bytes of a connection, cut anywhere, to frames.

What arrives is kept as it arrives: a declared length makes no room before its bytes are there, a frame that lies in one
chunk is handed out as a view of it, and one that lies in several is assembled once.
"""

from __future__ import annotations

from collections.abc import Iterator

from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX, U32
from perdure.adapters.cxdb.codec.frames import HEADER, HEADER_BYTES, Frame
from perdure.errors import LimitExceeded


class FrameBuffer:
    """One direction of one connection. Feed it, then take all of ``frames()``, and so on.

    ``payload_bytes_max`` is the longest payload that is accepted. A client may need more than the protocol's limit,
    because servers do not keep to it in their answers. After a refusal nothing can be read any more: hang up.
    """

    __slots__ = ("_at", "_held", "_payload_bytes_max")

    def __init__(self, *, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        self._payload_bytes_max = payload_bytes_max
        self._held: bytes | bytearray = b""
        self._at = 0  # what lies before it was handed out

    @property
    def pending_bytes(self) -> int:
        """Bytes that came and are in no frame yet; not 0 at the end of a connection: it was cut within a frame."""
        return len(self._held) - self._at

    @property
    def pending_req_id(self) -> int | None:
        """The request id of the frame that waits, one that was refused included; None until its header is there."""
        if self.pending_bytes < HEADER_BYTES:
            return None
        req_id: int = HEADER.unpack_from(self._held, self._at)[3]
        return req_id

    def feed(self, data: bytes) -> None:
        """Take what a read returned.

        Raises ``LimitExceeded`` if the longest frame is waiting already: whoever does not take frames must not read.
        """
        frame_bytes_max = HEADER_BYTES + self._payload_bytes_max
        if self.pending_bytes >= frame_bytes_max:
            raise LimitExceeded(
                f"{self.pending_bytes} bytes are waiting to be taken, at most {frame_bytes_max} (frame_bytes_max) "
                "before more is fed; take the frames first",
                limit="frame_bytes_max",
                allowed=frame_bytes_max,
                actual=self.pending_bytes,
            )
        if self.pending_bytes == 0:
            self._held = data
        elif isinstance(self._held, bytearray) and self._at == 0:
            self._held += data
        else:
            # Frames may still look at what is held, so the rest moves to a place that can grow.
            self._held = bytearray(memoryview(self._held)[self._at :])
            self._held += data
        self._at = 0

    def next_frame(self) -> Frame | None:
        """The next frame that is complete, or None.

        Raises ``LimitExceeded`` for a length above the limit, as soon as the four bytes that declare it are there.
        """
        pending_bytes = self.pending_bytes
        if pending_bytes < U32.size:
            return None
        (size,) = U32.unpack_from(self._held, self._at)
        if size > self._payload_bytes_max:
            raise LimitExceeded(
                f"frame size {size} exceeds maximum {self._payload_bytes_max} (payload_bytes_max); "
                "hang up, and have the other side send less at once",
                limit="payload_bytes_max",
                allowed=self._payload_bytes_max,
                actual=size,
            )
        if pending_bytes < HEADER_BYTES + size:
            return None
        _, msg_type, flags, req_id = HEADER.unpack_from(self._held, self._at)
        start = self._at + HEADER_BYTES
        end = start + size
        # Of an empty payload there is nothing to look at, and a view would keep the whole chunk alive.
        payload = memoryview(self._held)[start:end].toreadonly() if size else b""
        self._at = end
        if pending_bytes == HEADER_BYTES + size:
            self._held, self._at = b"", 0
        return Frame(msg_type=msg_type, flags=flags, req_id=req_id, payload=payload)

    def frames(self) -> Iterator[Frame]:
        """Every frame that is complete. Raises as ``next_frame``, after all frames that came before."""
        while (frame := self.next_frame()) is not None:
            yield frame
