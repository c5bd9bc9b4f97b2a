"""One class for each part of a port; a backend's test file only says how to open it.

::

    from perdure.testing.contracts import RunsContract

    class TestRuns(RunsContract):
        @pytest.fixture
        async def plane(self):
            async with perdure.open("postgresql://...") as plane:
                yield plane

Every test is a sentence of what is promised. pytest-asyncio must run in auto mode (``asyncio_mode = "auto"``).
"""

from __future__ import annotations

import pytest

# Before the modules are imported: their assertions explain themselves only when pytest rewrote them.
pytest.register_assert_rewrite(
    f"{__name__}.ledger",
    *(
        f"{__name__}.ledger_{part}"
        for part in (
            "additions",
            "changes",
            "claims",
            "endings",
            "events",
            "joining",
            "limits",
            "reading",
            "runs",
            "signals",
        )
    ),
)

from perdure.testing.contracts.ledger import LedgerClock, LedgerContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_additions import AdditionsContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_changes import ChangesContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_claims import ClaimsContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_endings import EndingsContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_events import EventsContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_joining import JoiningContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_limits import LimitsContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_reading import ReadingContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_runs import RunsContract  # noqa: E402 - see above
from perdure.testing.contracts.ledger_signals import SignalsContract  # noqa: E402 - see above

__all__ = [
    "AdditionsContract",
    "ChangesContract",
    "ClaimsContract",
    "EndingsContract",
    "EventsContract",
    "JoiningContract",
    "LedgerClock",
    "LedgerContract",
    "LimitsContract",
    "ReadingContract",
    "RunsContract",
    "SignalsContract",
]
