"""Everything that tables promise on any backend, in one class.

::

    class TestTablesOnSomething(TablesContract):
        async def open_backend(self) -> Backend: ...

        async def advance(self, seconds: float) -> None: ...
"""

from __future__ import annotations

from perdure.testing.contracts.tables_rows import TableRowsContract
from perdure.testing.contracts.tables_values import TableValuesContract


class TablesContract(TableRowsContract, TableValuesContract):
    """Every part of the contract; a backend's test file only says how to open it and how its time is moved."""
