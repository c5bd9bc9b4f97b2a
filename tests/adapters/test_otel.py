"""Telemetry as log records of OpenTelemetry: everything of an entry is said, and what was not taken is sent again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry._logs import NoOpLoggerProvider, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.adapters.otel.backend import OtelBackend
from perdure.adapters.otel.telemetry import OtelTelemetry
from perdure.compose.backends import Lent, backend_specs
from perdure.domain.kinds import Kind
from perdure.domain.telemetry import LogsQuery, LogType
from perdure.errors import NoRoute, Refused, TimedOut, Unsupported
from perdure.testing.contracts.stores import new_space
from perdure.testing.contracts.telemetry_keeping import record_of
from perdure.testing.environment import fake_environment
from perdure.testing.routed import given, routed_plane


async def home_in_memory() -> DocumentBackend:
    """Where the registry is."""
    driver = MemoryDriver(MemoryStore())
    await driver.open()
    return DocumentBackend(driver, mode="lab", env="dev", environment=fake_environment())


class Provider(LoggerProvider):
    """A provider whose exporter is in memory, and takes nothing when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.exported = InMemoryLogRecordExporter()
        self.add_log_record_processor(SimpleLogRecordProcessor(self.exported))
        self.is_down = False

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Whether everything went out."""
        return not self.is_down and super().force_flush(timeout_millis)

    @property
    def records(self) -> Sequence[Any]:
        """What went out."""
        return [one.log_record for one in self.exported.get_finished_logs()]


async def test_an_entry_becomes_a_log_record_with_all_it_says() -> None:
    provider, space = Provider(), new_space(project="billing")
    telemetry = OtelTelemetry(get_provider=lambda: provider)
    error = record_of(
        log_type=LogType.ERROR,
        unit_id="unit-1",
        event_details=b'{"a":[1,null]}',
        error_metadata=b'{"error_type":"NameError"}',
        timestamp=datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
    )
    await telemetry.write(space, [error, record_of()], timeout_s=5.0)
    first, second = provider.records
    assert (first.severity_number, second.severity_number) == (SeverityNumber.ERROR, SeverityNumber.INFO)
    assert (first.timestamp, first.body) == (1_772_366_400_123_456_000, {"a": [1, None]})
    assert first.attributes == {
        "perdure.entry_id": str(error.entry_id),
        "perdure.log_type": "ERROR",
        "perdure.urgent": True,
        "perdure.tenant": space.tenant,
        "perdure.project": "billing",
        "perdure.instance_id": "site-1",
        "perdure.unit_id": "unit-1",
        "perdure.error": '{"error_type":"NameError"}',
    }


async def test_what_the_exporter_did_not_take_in_time_is_said() -> None:
    provider = Provider()
    provider.is_down = True
    with pytest.raises(TimedOut):
        await OtelTelemetry(get_provider=lambda: provider).write(new_space(), [record_of()], timeout_s=0.01)


async def test_a_program_without_a_provider_is_told_so() -> None:
    with pytest.raises(Refused, match="set_logger_provider"):
        await OtelTelemetry(get_provider=NoOpLoggerProvider).write(new_space(), [record_of()], timeout_s=1.0)


async def test_nothing_else_is_kept_or_read_there() -> None:
    backend = OtelBackend()
    for name in ("logs", "rows", "routes"):
        with pytest.raises(Unsupported):
            getattr(backend, name)
    assert (backend.objects, backend.turns, backend.work) == (None, None, None)
    with pytest.raises(Unsupported):
        await backend.telemetry.logs(new_space(), LogsQuery(), timeout_s=1.0)
    await backend.probe(timeout_s=1.0)
    await backend.close()


async def test_a_route_leads_telemetry_there() -> None:
    provider, home = Provider(), await home_in_memory()
    sink = given("otel", OtelBackend(OtelTelemetry(get_provider=lambda: provider)))
    async with routed_plane([given("main", home), sink], home.routes, environment=fake_environment()) as plane:
        acme = plane.tenant("t_acme")
        await plane.tenant("t_system", actor="user:admin").routes.set("telemetry", "otel", tenant="t_acme")
        assert acme.telemetry.record(instance_id="site-1", event_details="paid")
        assert await acme.telemetry.flush() == 1
        assert [record.body for record in provider.records] == ["paid"]
        with pytest.raises(Unsupported):
            await acme.telemetry.logs()
        with pytest.raises(NoRoute):
            await plane.tenant("t_other").telemetry.logs()


def test_the_backend_is_found_by_its_name_and_keeps_telemetry_only() -> None:
    spec = backend_specs(Lent(session=None))["otel"]  # type: ignore[arg-type]  # none is used
    assert (spec.kinds, spec.extra, spec.copies, spec.lab_only) == (frozenset({Kind.TELEMETRY}), "otel", False, False)
