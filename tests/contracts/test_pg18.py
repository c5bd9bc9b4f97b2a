"""The contracts of the ledger and of routed stores on PostgreSQL 18, the embedded default."""

from __future__ import annotations

from perdure.testing import contracts
from perdure.testing.contracts.logs import LogsContract
from perdure.testing.contracts.registry import RegistryContract
from perdure.testing.contracts.rows import RowsContract
from tests.contracts.document_stores import ElsewhereInMemory
from tests.contracts.ledger import OnPostgres
from tests.contracts.postgres_stores import StoresOnPostgres
from tests.contracts.turn_stores import TurnsOnBackend


class OnPg18(OnPostgres):
    engine = "pg18"


class TestSignalsOnPg18(OnPg18, contracts.SignalsContract):
    pass


class TestRunsOnPg18(OnPg18, contracts.RunsContract):
    pass


class TestClaimsOnPg18(OnPg18, contracts.ClaimsContract):
    pass


class TestChangesOnPg18(OnPg18, contracts.ChangesContract):
    pass


class TestAdditionsOnPg18(OnPg18, contracts.AdditionsContract):
    pass


class TestEndingsOnPg18(OnPg18, contracts.EndingsContract):
    pass


class TestEventsOnPg18(OnPg18, contracts.EventsContract):
    pass


class TestReadingOnPg18(OnPg18, contracts.ReadingContract):
    pass


class TestJoiningOnPg18(OnPg18, contracts.JoiningContract):
    pass


class TestLimitsOnPg18(OnPg18, contracts.LimitsContract):
    pass


class TestRowsOnPg18(StoresOnPostgres, RowsContract):
    engine = "pg18"


class TestRegistryOnPg18(StoresOnPostgres, RegistryContract):
    engine = "pg18"


class TestLogsOnPg18(StoresOnPostgres, LogsContract):
    engine = "pg18"


class TestStreamsOnPg18(StoresOnPostgres, contracts.StreamsContract):
    engine = "pg18"


class TestTablesOnPg18(StoresOnPostgres, contracts.TablesContract):
    engine = "pg18"


class TestTelemetryOnPg18(StoresOnPostgres, contracts.TelemetryContract):
    engine = "pg18"


class TestMemoryOnPg18(StoresOnPostgres, contracts.MemoryContract):
    engine = "pg18"


class TestRoutesOnPg18(ElsewhereInMemory, StoresOnPostgres, contracts.RoutesContract):
    engine = "pg18"


class TestTurnsOnPg18(StoresOnPostgres, TurnsOnBackend, contracts.TurnsContract):
    engine = "pg18"


class TestWorkOnPg18(StoresOnPostgres, contracts.WorkContract):
    engine = "pg18"
    joins = True


class TestWorkFacadeOnPg18(StoresOnPostgres, contracts.WorkFacadeContract):
    engine = "pg18"
