"""Everything that turns promise on any backend, in one class.

::

    class TestTurnsOnSomething(TurnsContract):
        async def open_turns(self) -> TurnStore: ...

        async def advance(self, seconds: float) -> None: ...
"""

from __future__ import annotations

from perdure.testing.contracts.turns_appending import TurnAppendingContract
from perdure.testing.contracts.turns_contexts import TurnContextsContract
from perdure.testing.contracts.turns_forking import TurnForkingContract
from perdure.testing.contracts.turns_keeping import TurnKeepingContract
from perdure.testing.contracts.turns_limits import TurnLimitsContract
from perdure.testing.contracts.turns_listing import TurnListingContract
from perdure.testing.contracts.turns_parents import TurnParentsContract
from perdure.testing.contracts.turns_retention import TurnRetentionContract
from perdure.testing.contracts.turns_surviving import TurnSurvivingContract


class TurnsContract(
    TurnAppendingContract,
    TurnParentsContract,
    TurnForkingContract,
    TurnListingContract,
    TurnContextsContract,
    TurnKeepingContract,
    TurnSurvivingContract,
    TurnRetentionContract,
    TurnLimitsContract,
):
    """Every part of the contract; a store's test file says how to open it, and what it lacks."""
