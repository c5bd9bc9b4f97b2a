"""The contracts of the ledger and of routed stores on PostgreSQL 15, the oldest that is promised to work."""

from __future__ import annotations

from perdure.testing import contracts
from perdure.testing.contracts.logs import LogsContract
from perdure.testing.contracts.registry import RegistryContract
from perdure.testing.contracts.rows import RowsContract
from tests.contracts.document_stores import ElsewhereInMemory
from tests.contracts.ledger import OnPostgres
from tests.contracts.postgres_stores import StoresOnPostgres
from tests.contracts.turn_stores import TurnsOnBackend


class OnPg15(OnPostgres):
    engine = "pg15"


class TestSignalsOnPg15(OnPg15, contracts.SignalsContract):
    pass


class TestRunsOnPg15(OnPg15, contracts.RunsContract):
    pass


class TestClaimsOnPg15(OnPg15, contracts.ClaimsContract):
    pass


class TestChangesOnPg15(OnPg15, contracts.ChangesContract):
    pass


class TestAdditionsOnPg15(OnPg15, contracts.AdditionsContract):
    pass


class TestEndingsOnPg15(OnPg15, contracts.EndingsContract):
    pass


class TestEventsOnPg15(OnPg15, contracts.EventsContract):
    pass


class TestReadingOnPg15(OnPg15, contracts.ReadingContract):
    pass


class TestJoiningOnPg15(OnPg15, contracts.JoiningContract):
    pass


class TestLimitsOnPg15(OnPg15, contracts.LimitsContract):
    pass


class TestRowsOnPg15(StoresOnPostgres, RowsContract):
    engine = "pg15"


class TestRegistryOnPg15(StoresOnPostgres, RegistryContract):
    engine = "pg15"


class TestLogsOnPg15(StoresOnPostgres, LogsContract):
    engine = "pg15"


class TestStreamsOnPg15(StoresOnPostgres, contracts.StreamsContract):
    engine = "pg15"


class TestTablesOnPg15(StoresOnPostgres, contracts.TablesContract):
    engine = "pg15"


class TestTelemetryOnPg15(StoresOnPostgres, contracts.TelemetryContract):
    engine = "pg15"


class TestMemoryOnPg15(StoresOnPostgres, contracts.MemoryContract):
    engine = "pg15"


class TestRoutesOnPg15(ElsewhereInMemory, StoresOnPostgres, contracts.RoutesContract):
    engine = "pg15"


class TestTurnsOnPg15(StoresOnPostgres, TurnsOnBackend, contracts.TurnsContract):
    engine = "pg15"


class TestWorkOnPg15(StoresOnPostgres, contracts.WorkContract):
    engine = "pg15"
    joins = True


class TestWorkFacadeOnPg15(StoresOnPostgres, contracts.WorkFacadeContract):
    engine = "pg15"
