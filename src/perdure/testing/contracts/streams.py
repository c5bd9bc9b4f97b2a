"""Everything that streams promise on any backend, in one class.

::

    class TestStreamsOnSomething(StreamsContract):
        async def open_backend(self) -> Backend: ...

        async def advance(self, seconds: float) -> None: ...
"""

from __future__ import annotations

from perdure.testing.contracts.streams_appending import StreamAppendingContract
from perdure.testing.contracts.streams_following import StreamFollowingContract
from perdure.testing.contracts.streams_reading import StreamReadingContract


class StreamsContract(StreamAppendingContract, StreamReadingContract, StreamFollowingContract):
    """Every part of the contract; a backend's test file only says how to open it and how its time is moved."""
