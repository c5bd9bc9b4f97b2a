"""Everything that the facade of units of work promises on any backend, in one class.

::

    class TestWorkFacadeOnSomething(WorkFacadeContract):
        async def open_backend(self) -> Backend: ...

        async def advance(self, seconds: float) -> None: ...
"""

from __future__ import annotations

from perdure.testing.contracts.work_facade_reading import WorkReadingContract
from perdure.testing.contracts.work_facade_saving import WorkSavingContract


class WorkFacadeContract(WorkSavingContract, WorkReadingContract):
    """Every part of the contract; a backend's test file only says how to open it and how its time is moved."""
