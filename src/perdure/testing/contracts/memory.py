"""Everything that memory promises on any backend, in one class.

::

    class TestMemoryOnSomething(MemoryContract):
        async def open_backend(self) -> Backend: ...

        async def advance(self, seconds: float) -> None: ...
"""

from __future__ import annotations

from perdure.testing.contracts.memory_boards import BlackboardsContract
from perdure.testing.contracts.memory_sessions import SessionsContract
from perdure.testing.contracts.memory_users import MemoryUsersContract


class MemoryContract(SessionsContract, BlackboardsContract, MemoryUsersContract):
    """Every part of the contract; a backend's test file only says how to open it and how its time is moved."""
