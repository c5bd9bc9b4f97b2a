"""How a server of the protocol behaves and what it allows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX
from perdure.errors import Invalid

PORT_DEFAULT: Final = 9009  # where the protocol's clients look
CONNECTIONS_MAX: Final = 512  # each may hold a frame or two in memory; the protocol's own servers allow as many
IDLE_S: Final = 300.0  # a connection on which nothing comes so long is closed, as the protocol's own servers do
WRITE_S: Final = 30.0  # a client that takes nothing of an answer so long is gone
REQUEST_S: Final = 30.0  # the patience of one call to the store; official clients give up then
SHUTDOWN_S: Final = 10.0  # what is under way may take so long to finish when the server stops
ANSWER_TURNS_MAX: Final = 10_000  # turns of one answer, all in memory at once; a frame may hold fewer


class Profile(Enum):
    """What clients see."""

    IMPROVED = "improved"  # every failure is an answer, keys are kept, and there is a message for older turns
    STRICT = "strict"  # as the protocol's own servers do, closed connections and ignored keys included


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What a server is told. ``port`` 0 takes any that is free; None for a time turns its limit off.

    ``request_s`` is the patience of each call to the store, of which a long answer makes several.
    ``payload_bytes_max`` bounds the frames of both directions. With ``payload_blobs`` the payload of every turn that is
    appended is kept as a blob too, so that its hash is found whatever its size; without it (improved only) that is so
    for large payloads alone, and an append is one write less.
    """

    profile: Profile = Profile.IMPROVED
    host: str = "127.0.0.1"
    port: int = PORT_DEFAULT
    connections_max: int = CONNECTIONS_MAX
    idle_s: float | None = IDLE_S
    write_s: float | None = WRITE_S
    request_s: float = REQUEST_S
    shutdown_s: float = SHUTDOWN_S
    payload_bytes_max: int = PAYLOAD_BYTES_MAX
    answer_turns_max: int = ANSWER_TURNS_MAX
    payload_blobs: bool = False

    def __post_init__(self) -> None:
        for name in ("connections_max", "payload_bytes_max", "answer_turns_max"):
            if getattr(self, name) < 1:
                raise Invalid(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("idle_s", "write_s", "request_s", "shutdown_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise Invalid(f"{name} is {value}; expected seconds above 0")
        if self.payload_bytes_max > PAYLOAD_BYTES_MAX:
            raise Invalid(
                f"payload_bytes_max is {self.payload_bytes_max}; the protocol's frames hold {PAYLOAD_BYTES_MAX} at most"
            )
