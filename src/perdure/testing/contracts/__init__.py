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
    f"{__name__}.documents",
    *(f"{__name__}.documents_{part}" for part in ("clients", "commits", "limits", "opening", "ranges")),
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
    f"{__name__}.logs",
    *(f"{__name__}.logs_{part}" for part in ("appending", "lives", "opening", "places", "reading")),
    f"{__name__}.memory",
    *(f"{__name__}.memory_{part}" for part in ("boards", "sessions", "users")),
    f"{__name__}.objects",
    *(f"{__name__}.objects_{part}" for part in ("bytes", "keeping", "opening", "streams")),
    f"{__name__}.registry",
    f"{__name__}.routed_opening",
    f"{__name__}.routes",
    *(f"{__name__}.routes_{part}" for part in ("changing", "copying", "seeing")),
    f"{__name__}.rows",
    *(f"{__name__}.rows_{part}" for part in ("keeping", "lifetimes", "opening", "ranges", "values", "versions")),
    f"{__name__}.stores",
    f"{__name__}.streams",
    *(f"{__name__}.streams_{part}" for part in ("appending", "following", "reading")),
    f"{__name__}.tables",
    *(f"{__name__}.tables_{part}" for part in ("rows", "values")),
    f"{__name__}.telemetry",
    *(f"{__name__}.telemetry_{part}" for part in ("keeping", "recording")),
    f"{__name__}.turns",
    *(
        f"{__name__}.turns_{part}"
        for part in (
            "appending",
            "contexts",
            "forking",
            "keeping",
            "limits",
            "listing",
            "opening",
            "parents",
            "surviving",
        )
    ),
    f"{__name__}.work",
    *(f"{__name__}.work_{part}" for part in ("histories", "leases", "limits", "lists", "opening", "parents", "saves")),
    f"{__name__}.work_facade",
    *(f"{__name__}.work_facade_{part}" for part in ("opening", "reading", "saving")),
)

from perdure.testing.contracts.documents import DocumentDriverContract  # noqa: E402 - see above
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
from perdure.testing.contracts.logs import LogsContract  # noqa: E402 - see above
from perdure.testing.contracts.memory import MemoryContract  # noqa: E402 - see above
from perdure.testing.contracts.objects import ObjectsContract  # noqa: E402 - see above
from perdure.testing.contracts.registry import RegistryContract  # noqa: E402 - see above
from perdure.testing.contracts.routes import RoutesContract  # noqa: E402 - see above
from perdure.testing.contracts.rows import RowsContract  # noqa: E402 - see above
from perdure.testing.contracts.stores import StoreContract  # noqa: E402 - see above
from perdure.testing.contracts.streams import StreamsContract  # noqa: E402 - see above
from perdure.testing.contracts.tables import TablesContract  # noqa: E402 - see above
from perdure.testing.contracts.telemetry import TelemetryContract  # noqa: E402 - see above
from perdure.testing.contracts.turns import TurnsContract  # noqa: E402 - see above
from perdure.testing.contracts.work import WorkContract  # noqa: E402 - see above
from perdure.testing.contracts.work_facade import WorkFacadeContract  # noqa: E402 - see above

__all__ = [
    "AdditionsContract",
    "ChangesContract",
    "ClaimsContract",
    "DocumentDriverContract",
    "EndingsContract",
    "EventsContract",
    "JoiningContract",
    "LedgerClock",
    "LedgerContract",
    "LimitsContract",
    "LogsContract",
    "MemoryContract",
    "ObjectsContract",
    "ReadingContract",
    "RegistryContract",
    "RoutesContract",
    "RowsContract",
    "RunsContract",
    "SignalsContract",
    "StoreContract",
    "StreamsContract",
    "TablesContract",
    "TelemetryContract",
    "TurnsContract",
    "WorkContract",
    "WorkFacadeContract",
]
