"""Everything that a store of units of work promises, in one class.

::

    class TestWorkOnSomething(WorkContract):
        async def open_backend(self) -> Backend: ...

        async def advance(self, seconds: float) -> None: ...
"""

from __future__ import annotations

from perdure.testing.contracts.work_histories import WorkHistoriesContract
from perdure.testing.contracts.work_leases import WorkLeasesContract
from perdure.testing.contracts.work_limits import WorkLimitsContract
from perdure.testing.contracts.work_lists import WorkListsContract
from perdure.testing.contracts.work_parents import WorkParentsContract
from perdure.testing.contracts.work_saves import WorkSavesContract


class WorkContract(
    WorkSavesContract,
    WorkLeasesContract,
    WorkListsContract,
    WorkHistoriesContract,
    WorkParentsContract,
    WorkLimitsContract,
):
    """Every part of the contract; a backend's test file only says how to open it."""
