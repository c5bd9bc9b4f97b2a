"""Everything that routes promise whose registry is on a backend, in one class.

::

    class TestRoutesOnSomething(RoutesContract):
        async def open_backend(self) -> Backend: ...

        async def advance(self, seconds: float) -> None: ...

        async def open_elsewhere(self) -> Backend: ...

The registry may be one that other tests used: a test looks at its own tenant's routes, and removes those of the system
that it made. No other test may use it at the same time.
"""

from __future__ import annotations

from perdure.testing.contracts.routes_changing import RouteChangingContract
from perdure.testing.contracts.routes_copying import RouteCopyingContract
from perdure.testing.contracts.routes_seeing import RouteSeeingContract


class RoutesContract(RouteChangingContract, RouteSeeingContract, RouteCopyingContract):
    """Every part of the contract."""
