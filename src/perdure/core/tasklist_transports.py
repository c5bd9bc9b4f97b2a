"""Two ways for the resync of task lists: within a process, and through a stream of any routed backend."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from perdure.core.streams import Streams
from perdure.domain.stream import StreamEvent
from perdure.domain.tasklists.resync import MESSAGE_BYTES_MAX
from perdure.errors import LimitExceeded
from perdure.ports.environment import Environment

QUEUED_MESSAGES_MAX: Final = 256  # of one member of a hub that does not listen; the oldest go, as on any lossy channel
PART_BYTES: Final = 131_072  # of a message in one event: with base64 and names below what an event may hold
PARTS_AT_ONCE: Final = 5  # of one append, which takes a mebibyte
PARTS_MAX: Final = -(-MESSAGE_BYTES_MAX // PART_BYTES)
UNFINISHED_MAX: Final = 8  # messages of which parts are missing; the oldest are given up, and asked for again in time
EVENT_TYPE: Final = "tasklist.resync"


class Hub:
    """A transport between lists of one process."""

    def __init__(self) -> None:
        self._members: list[HubTransport] = []

    def join(self) -> HubTransport:
        """A member, who hears what all others send from now on."""
        member = HubTransport(self)
        self._members.append(member)
        return member

    def deliver(self, message: bytes, *, sender: HubTransport) -> None:
        """Give a message to all but its sender."""
        for member in self._members:
            if member is not sender:
                member.hand(message)


class HubTransport:
    """A member of a hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(QUEUED_MESSAGES_MAX)

    async def send(self, message: bytes) -> None:
        """As the port promises."""
        self._hub.deliver(message, sender=self)

    async def receive(self) -> AsyncIterator[bytes]:
        """As the port promises."""
        while True:
            yield await self._waiting.get()

    def hand(self, message: bytes) -> None:
        """Queue a message; if nobody listens, the oldest one goes."""
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(message)


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    sender: str
    message: str
    part: int
    parts: int
    data: str


class StreamTransport:
    """A transport over a stream, and so over every backend that streams are routed to. Large messages come in parts.

    ``sender`` names this node's life, so that it does not hear itself.
    """

    def __init__(self, streams: Streams, stream: str, *, sender: str, environment: Environment) -> None:
        self._streams = streams
        self._stream = stream
        self._sender = sender
        self._environment = environment
        self._unfinished: OrderedDict[tuple[str, str], dict[int, bytes]] = OrderedDict()

    async def send(self, message: bytes) -> None:
        """As the port promises."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise LimitExceeded(
                f"a message of {len(message)} bytes, at most {MESSAGE_BYTES_MAX} (message_bytes_max)",
                limit="message_bytes_max",
                allowed=MESSAGE_BYTES_MAX,
                actual=len(message),
            )
        name = self._environment.ids.new().hex
        pieces = [message[start : start + PART_BYTES] for start in range(0, len(message), PART_BYTES)] or [b""]
        parts = [
            _Part(
                sender=self._sender, message=name, part=number, parts=len(pieces), data=base64.b64encode(piece).decode()
            )
            for number, piece in enumerate(pieces)
        ]
        for first in range(0, len(parts), PARTS_AT_ONCE):
            some = [
                StreamEvent(event_id=f"{name}-{part.part}", type=EVENT_TYPE, data=msgspec.to_builtins(part))
                for part in parts[first : first + PARTS_AT_ONCE]
            ]
            await self._streams.append(self._stream, *some)

    async def receive(self) -> AsyncIterator[bytes]:
        """As the port promises."""
        head = await self._streams.head(self._stream)
        async for event in self._streams.follow(self._stream, after=head.cursor):
            message = self._take(event)
            if message is not None:
                yield message

    def _take(self, event: StreamEvent) -> bytes | None:
        if event.type != EVENT_TYPE:
            return None
        try:
            part = msgspec.convert(event.data, _Part)
            data = base64.b64decode(part.data, validate=True)
        except (msgspec.ValidationError, binascii.Error):
            return None  # somebody else's event; what is lost of ours is asked for again
        if part.sender == self._sender or not 0 <= part.part < part.parts <= PARTS_MAX or len(data) > PART_BYTES:
            return None
        key = (part.sender, part.message)
        pieces = self._unfinished.setdefault(key, {})
        pieces[part.part] = data
        if len(pieces) == part.parts:
            del self._unfinished[key]
            return b"".join(pieces[number] for number in range(part.parts))
        while len(self._unfinished) > UNFINISHED_MAX:
            self._unfinished.popitem(last=False)
        return None
