"""How messages of a task list's resync get from node to node: carried if possible, and never waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class Transport(Protocol):
    """A channel that all nodes of a list share. Messages may be lost, doubled, reordered and late."""

    async def send(self, message: bytes) -> None:
        """Send to all others. Raises ``Unavailable`` if it surely was not sent, and ``LimitExceeded``."""
        ...

    def receive(self) -> AsyncIterator[bytes]:
        """What others send, from now on; never ends. Raises what reading raises."""
        ...
