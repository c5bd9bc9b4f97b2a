"""The contracts of the ledger and of routed stores on PostgreSQL 15 behind pgbouncer in transaction mode."""

from __future__ import annotations

from perdure.testing import contracts
from perdure.testing.contracts.logs import LogsContract
from perdure.testing.contracts.registry import RegistryContract
from perdure.testing.contracts.rows import RowsContract
from tests.contracts.document_stores import ElsewhereInMemory
from tests.contracts.ledger import OnPostgres
from tests.contracts.postgres_stores import StoresOnPostgres
from tests.contracts.turn_stores import TurnsOnBackend


class OnPgbouncer(OnPostgres):
    engine = "pg15-pgbouncer"


class TestSignalsOnPgbouncer(OnPgbouncer, contracts.SignalsContract):
    pass


class TestRunsOnPgbouncer(OnPgbouncer, contracts.RunsContract):
    pass


class TestClaimsOnPgbouncer(OnPgbouncer, contracts.ClaimsContract):
    pass


class TestChangesOnPgbouncer(OnPgbouncer, contracts.ChangesContract):
    pass


class TestAdditionsOnPgbouncer(OnPgbouncer, contracts.AdditionsContract):
    pass


class TestEndingsOnPgbouncer(OnPgbouncer, contracts.EndingsContract):
    pass


class TestEventsOnPgbouncer(OnPgbouncer, contracts.EventsContract):
    pass


class TestReadingOnPgbouncer(OnPgbouncer, contracts.ReadingContract):
    pass


class TestJoiningOnPgbouncer(OnPgbouncer, contracts.JoiningContract):
    pass


class TestLimitsOnPgbouncer(OnPgbouncer, contracts.LimitsContract):
    pass


class TestRowsOnPgbouncer(StoresOnPostgres, RowsContract):
    engine = "pg15-pgbouncer"


class TestRegistryOnPgbouncer(StoresOnPostgres, RegistryContract):
    engine = "pg15-pgbouncer"


class TestLogsOnPgbouncer(StoresOnPostgres, LogsContract):
    engine = "pg15-pgbouncer"


class TestStreamsOnPgbouncer(StoresOnPostgres, contracts.StreamsContract):
    engine = "pg15-pgbouncer"


class TestTablesOnPgbouncer(StoresOnPostgres, contracts.TablesContract):
    engine = "pg15-pgbouncer"


class TestTelemetryOnPgbouncer(StoresOnPostgres, contracts.TelemetryContract):
    engine = "pg15-pgbouncer"


class TestMemoryOnPgbouncer(StoresOnPostgres, contracts.MemoryContract):
    engine = "pg15-pgbouncer"


class TestRoutesOnPgbouncer(ElsewhereInMemory, StoresOnPostgres, contracts.RoutesContract):
    engine = "pg15-pgbouncer"


class TestTurnsOnPgbouncer(StoresOnPostgres, TurnsOnBackend, contracts.TurnsContract):
    engine = "pg15-pgbouncer"


class TestWorkOnPgbouncer(StoresOnPostgres, contracts.WorkContract):
    engine = "pg15-pgbouncer"
    joins = True


class TestWorkFacadeOnPgbouncer(StoresOnPostgres, contracts.WorkFacadeContract):
    engine = "pg15-pgbouncer"
