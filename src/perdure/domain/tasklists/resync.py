"""How two replicas of a list find out what the other lacks: an anti-entropy protocol without I/O.

A round begins with a ``Greeting``: the list, the sender's vector and the digest of its view. Whoever hears it answers
with a ``Delta`` of what the greeter lacks, and with a greeting of its own if the greeter has something in turn. It
goes on until the digests agree and nothing is missing on either side. Messages may be lost, doubled, reordered and
late: each stands for itself, and a greeting sent again later repairs whatever was lost.

``Schedule`` says when to greet: at once after a start, in quick succession until some peer's digest agreed, and then
now and then, with chance added so that nodes that started together do not greet together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from perdure.domain.tasklists.entity_ids import check_entity_id
from perdure.errors import Invalid, LimitExceeded

MESSAGE_BYTES_MAX: Final = 65 * 1_048_576  # the largest update, and what stands around it
BURST_S: Final = (0.0, 1.0, 5.0, 15.0, 30.0)  # after a start, until a digest agreed
STEADY_S: Final = 45.0  # between greetings once it did
BACKOFF_S_MAX: Final = 300.0  # between greetings of a node that nobody answers
JITTER: Final = 0.2  # share by which each wait is longer or shorter

_DIGEST_CHARS: Final = 64


class Greeting(msgspec.Struct, frozen=True, kw_only=True, tag="greeting", forbid_unknown_fields=True):
    """What the sender has: by its vector, and by the digest of what it shows."""

    list_id: str
    sender: str
    vector: bytes
    view_digest: str


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag="delta", forbid_unknown_fields=True):
    """What somebody lacked. Good for whoever gets it."""

    list_id: str
    sender: str
    update: bytes


Message: TypeAlias = Greeting | Delta

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """A message as it travels. Raises ``LimitExceeded`` beyond ``MESSAGE_BYTES_MAX``."""
    encoded = _ENCODER.encode(message)
    _refuse_large(len(encoded))
    return encoded


def decode_message(source: bytes) -> Message:
    """The message of these bytes. Raises ``Invalid`` for what is none, ``LimitExceeded`` before reading too much."""
    _refuse_large(len(source))
    try:
        message = _DECODER.decode(source)
    except msgspec.MsgspecError as exc:
        raise Invalid("this is no message of a task list's resync") from exc
    check_entity_id(message.list_id)
    if isinstance(message, Greeting) and len(message.view_digest) != _DIGEST_CHARS:
        raise Invalid("this is no message of a task list's resync")
    return message


@dataclass(slots=True)
class Schedule:
    """When a node greets next, on a monotonic clock in seconds."""

    started_at: float
    greetings: int = 0
    greeted_at: float | None = None
    matched_at: float | None = None

    def due_at(self, chance: float) -> float:
        """The moment of the next greeting; ``chance`` in [0, 1) spreads it."""
        if self.greeted_at is None:
            return self.started_at
        if self.matched_at is not None:
            wait = STEADY_S
        elif self.greetings < len(BURST_S):
            wait = BURST_S[self.greetings] - BURST_S[self.greetings - 1]
        else:
            doublings = self.greetings - len(BURST_S)
            wait = min(BURST_S[-1] * 2.0 ** min(doublings, 16), BACKOFF_S_MAX)
        return self.greeted_at + wait * (1 - JITTER + 2 * JITTER * chance)

    def greeted(self, now: float) -> None:
        """A greeting left."""
        self.greetings += 1
        self.greeted_at = now

    def matched(self, now: float) -> None:
        """A peer's digest was this node's own."""
        self.matched_at = now


def _refuse_large(size: int) -> None:
    if size > MESSAGE_BYTES_MAX:
        raise LimitExceeded(
            f"a message of {size} bytes, at most {MESSAGE_BYTES_MAX} (message_bytes_max)",
            limit="message_bytes_max",
            allowed=MESSAGE_BYTES_MAX,
            actual=size,
        )
