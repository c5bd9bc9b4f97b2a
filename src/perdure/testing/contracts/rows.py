"""Everything a store of rows promises, in one class.

::

    class TestRowsOnSomething(RowsContract):
        async def open_backend(self) -> Backend: ...

        async def advance(self, seconds: float) -> None: ...
"""

from __future__ import annotations

from perdure.testing.contracts.rows_keeping import RowKeepingContract
from perdure.testing.contracts.rows_lifetimes import RowLifetimesContract
from perdure.testing.contracts.rows_ranges import RowRangesContract
from perdure.testing.contracts.rows_values import RowValuesContract
from perdure.testing.contracts.rows_versions import RowVersionsContract


class RowsContract(RowVersionsContract, RowValuesContract, RowRangesContract, RowLifetimesContract, RowKeepingContract):
    """Every part of the contract; a backend's test file only says how to open it and how its time is moved."""
