"""Telemetry: what recording costs its caller, and how fast it is written, by the standard library and a bare COPY.

One thread records prebuilt entries, as ``QueueHandler`` is given a prebuilt record; both keep what it was just then. A
bare COPY writes the same rows, in binary, into a table with the same columns and indexes and nothing in the way.
"""

from __future__ import annotations

import gc
import logging
import logging.handlers
import queue
import threading
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import psycopg
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from psycopg import sql

from bench.report import Row, Target, progress
from bench.server import ENV, MODE, Server
from bench.settings import Settings
from bench.store_engines import ENGINES, Engine
from perdure.adapters.postgres.backend import PostgresBackend
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.core.environment import system_environment
from perdure.core.recorder_redaction import Redaction
from perdure.core.telemetry_buffer import TelemetryBuffer
from perdure.core.telemetry_snapshots import Preparing, snapshot
from perdure.domain.container import make_space
from perdure.domain.ids import tenant_uuid
from perdure.domain.telemetry import LogType, TelemetryEntry, TelemetryRecord
from perdure.ports.telemetry import TelemetryStore
from perdure.telemetry import ShadowLoggerTelemetryAdapter, TelemetryHandler, TelemetryProcessor

COUNT: Final = 8_000  # below what a buffer holds, so that every round is of accepted entries
THREADS: Final = 16
BATCH: Final = 500
DETAILS: Final[dict[str, str | int]] = {
    "guardian_name": "InvoiceRouter",
    "condition": "amount > 50000",
    "decision": "HighValue",
    "matched_branch_index": 0,
}
TIMEOUT_S: Final = 60.0
_ENVIRONMENT: Final = system_environment()
_COLUMNS: Final = (
    "tenant_id, space_id, entry_id, log_type, occurred_at, instance_id, unit_id, actor_id, role_id, interaction_id, "
    "event_details, error_metadata"
)
_TYPES: Final = ("uuid", "uuid", "uuid", "varchar", "timestamptz", *["varchar"] * 5, "json", "json")

Recording = Callable[[], Callable[[], object]]
"""Prepares a round; what it returns records once."""


async def measure(server: Server, settings: Settings) -> list[Row]:
    """Recording, then flushing to every engine, each in rounds that take turns with what they are compared with."""
    rounds = 3 if settings.quick else 9
    progress("telemetry: record")
    rows = _recording(rounds)
    progress("telemetry: flush to PostgreSQL")
    rows += await _flushing(server, rounds)
    for start in ENGINES:
        try:
            async with start(server) as engine:
                rows += await _engine_rate(engine)
        except FileNotFoundError as exc:
            progress(f"telemetry: {exc}")
    return rows


async def _engine_rate(engine: Engine) -> list[Row]:
    if engine.backend.telemetry is None or engine.name == "postgres":
        return []
    progress(f"telemetry: flush to {engine.name}")
    called = f"{engine.name}{' (emulator)' if engine.emulator else ''}"
    rate = await _rate(engine.backend.telemetry, rounds=2, batches=1 if engine.emulator else 4)
    return [Row(section="telemetry: flush", what=f"rows to {called}", rate=rate)]


# --- recording -----------------------------------------------------------------------------------------------------


def _recording(rounds: int) -> list[Row]:
    subjects: dict[str, Recording] = {
        "QueueHandler.emit(record), prebuilt": _queue_handler,
        "BatchLogRecordProcessor of OpenTelemetry, emit": _otel_processor,
        "record(entry), prebuilt": _record_prebuilt,
        "record(entry), buffer full": _record_full,
        "capture_guardian_decision(...)": _capture,
        "logging handler, handle(record)": _logging_handler,
        "structlog processor": _processor,
    }
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, prepare in subjects.items():
            found[name].append(_timed(prepare()))
    many = [_threaded(_record_prebuilt) for _ in range(rounds)]
    base = "QueueHandler.emit(record), prebuilt"
    rows = []
    for name, rates in found.items():
        ratio = median(one / other for one, other in zip(rates, found[base], strict=True))
        target = (Target(quantity="rate_a", bound=2, at_most=False),) if name == "record(entry), prebuilt" else ()
        rows.append(Row(section="telemetry: record", what=name, rate=median(rates), rate_a=ratio, targets=target))
    rows.append(Row(section="telemetry: record", what=f"record(entry), {THREADS} threads together", rate=median(many)))
    return rows


def _timed(record: Callable[[], object], count: int = COUNT) -> float:
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        for _ in range(count):
            record()
        return count / (time.perf_counter() - began)
    finally:
        gc.enable()


def _threaded(prepare: Recording) -> float:
    record = prepare()
    ready = threading.Barrier(THREADS + 1)

    def work() -> None:
        ready.wait()
        for _ in range(COUNT // THREADS):
            record()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for one in threads:
        one.start()
    ready.wait()
    began = time.perf_counter()
    for one in threads:
        one.join()
    return COUNT / (time.perf_counter() - began)


def _entry(number: int = 0) -> TelemetryEntry:
    return TelemetryEntry(
        entry_id=_ENVIRONMENT.ids.new(),
        instance_id="site-1",
        unit_id=f"unit-{number % 50}",
        log_type=LogType.GUARDIAN_DECISION,
        event_details=DETAILS,
        timestamp=_ENVIRONMENT.clock.now(),
    )


def _log_record() -> logging.LogRecord:
    return logging.LogRecord("app", logging.INFO, "app.py", 1, "%s decided %s", ("InvoiceRouter", "HighValue"), None)


def _record_prebuilt() -> Callable[[], object]:
    buffer, entry = TelemetryBuffer(), _entry()
    return lambda: buffer.record(entry)


def _record_full() -> Callable[[], object]:
    buffer, entry = TelemetryBuffer(entries_max=1), _entry()
    buffer.record(entry)
    return lambda: buffer.record(entry)


def _queue_handler() -> Callable[[], object]:
    handler, record = logging.handlers.QueueHandler(queue.Queue()), _log_record()
    return lambda: handler.emit(record)


class _Nowhere(LogRecordExporter):
    """An exporter that costs nothing."""

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        """Taken."""
        del batch
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held."""
        del timeout_millis
        return True

    def shutdown(self) -> None:
        """Nothing to end."""


def _otel_processor() -> Callable[[], object]:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(
        BatchLogRecordProcessor(_Nowhere(), max_queue_size=2 * COUNT, schedule_delay_millis=60_000)
    )
    logger = provider.get_logger("bench")
    return lambda: logger.emit(LogRecord(body=dict(DETAILS), event_name="GUARDIAN_DECISION"))


def _capture() -> Callable[[], object]:
    adapter = ShadowLoggerTelemetryAdapter(TelemetryBuffer(), "site-1")
    return lambda: adapter.capture_guardian_decision(
        "unit-1", "role-1", "i-1", "agent:a", "InvoiceRouter", "amount > 50000", "HighValue", 0
    )


def _logging_handler() -> Callable[[], object]:
    handler, record = TelemetryHandler(TelemetryBuffer(), "site-1"), _log_record()
    return lambda: handler.handle(record)


def _processor() -> Callable[[], object]:
    processor = TelemetryProcessor(TelemetryBuffer(), "site-1")
    return lambda: processor(None, "info", {"event": "decided", **DETAILS})


# --- flushing ------------------------------------------------------------------------------------------------------


def _records(count: int) -> list[TelemetryRecord]:
    preparing, details = Preparing(Redaction("default")), snapshot(DETAILS)
    return [preparing.record(_entry(number), details, None) for number in range(count)]


async def _rate(store: TelemetryStore, *, rounds: int, batches: int) -> float:
    space = make_space(tenant="t_bench", mode="lab", env="dev", project="telemetry")
    rates = []
    for _ in range(rounds):
        given = [_records(BATCH) for _ in range(batches)]
        began = time.perf_counter()
        for records in given:
            await store.write(space, records, timeout_s=TIMEOUT_S)
        rates.append(batches * BATCH / (time.perf_counter() - began))
    return median(rates)


async def _flushing(server: Server, rounds: int) -> list[Row]:
    database = await server.create_database("bench_telemetry")
    session = Session(server.dsn("app", database=database), settings=PoolSettings(connections_max=2))
    await session.open()
    backend = PostgresBackend(session, mode=MODE, env=ENV, environment=_ENVIRONMENT, owns_session=True)
    space = make_space(tenant="t_bench", mode=MODE, env=ENV, project="telemetry")
    bare = await psycopg.AsyncConnection.connect(server.dsn("superuser", database=database), autocommit=True)
    found: dict[str, list[float]] = {"copy": [], "many": [], "flush": []}
    try:
        await bare.execute("CREATE SCHEMA floor")
        await bare.execute("CREATE TABLE floor.entries (LIKE perdure.telemetry_entries INCLUDING INDEXES)")
        for _ in range(rounds * 4):
            for name, rates in found.items():
                records = _records(BATCH)
                began = time.perf_counter()
                if name == "flush":
                    await backend.telemetry.write(space, records, timeout_s=TIMEOUT_S)
                elif name == "copy":
                    await _copy(bare, _rows(records))
                else:
                    await _insert_many(bare, _rows(records))
                rates.append(BATCH / (time.perf_counter() - began))
    finally:
        await bare.close()
        await backend.close()
    names = {"copy": "rows, bare COPY in binary", "many": "rows, bare executemany", "flush": "rows to PostgreSQL"}
    target = (Target(quantity="rate_a", bound=0.7, at_most=False),)
    return [
        Row(
            section="telemetry: flush",
            what=f"{names[name]}, {BATCH} at a time",
            rate=median(rates),
            rate_a=median(one / other for one, other in zip(rates, found["copy"], strict=True)),
            targets=target if name == "flush" else (),
        )
        for name, rates in found.items()
    ]


def _rows(records: Sequence[TelemetryRecord]) -> list[tuple[Any, ...]]:
    tenant, space = tenant_uuid("t_bench"), _ENVIRONMENT.ids.new()
    return [
        (
            *(tenant, space, one.entry_id, one.log_type.value, one.timestamp, one.instance_id, one.unit_id),
            *(one.actor_id, one.role_id, one.interaction_id, (one.event_details or b"null").decode(), None),
        )
        for one in records
    ]


async def _copy(connection: psycopg.AsyncConnection[Any], rows: Sequence[tuple[Any, ...]]) -> None:
    statement = sql.SQL("COPY floor.entries ({}) FROM STDIN (FORMAT BINARY)").format(sql.SQL(_COLUMNS))
    async with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(_TYPES)
        for row in rows:
            await copy.write_row(row)


async def _insert_many(connection: psycopg.AsyncConnection[Any], rows: Sequence[tuple[Any, ...]]) -> None:
    values = sql.SQL(", ").join([sql.Placeholder()] * len(_TYPES))
    statement = sql.SQL("INSERT INTO floor.entries ({}) VALUES ({})").format(sql.SQL(_COLUMNS), values)
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(statement, rows)
