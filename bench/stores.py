"""Routed stores by the engine's own bare write: append, compare-and-swap, a page, an append to a session."""

from __future__ import annotations

from typing import Final

from bench.report import Row, progress
from bench.rounds import Subject, compare_latencies
from bench.server import Server
from bench.settings import Settings
from bench.store_engines import CONTENT, ENGINES, Engine
from bench.store_rows import BARE, numbers, row, subject
from perdure.domain.container import make_space, session_container, stream_container
from perdure.domain.log import APPEND_ENTRIES_MAX, LogSettings, NewEntry
from perdure.domain.table import table_container
from perdure.domain.versioned import PutRow, RowVersion

SPACE: Final = make_space(tenant="t_bench", mode="lab", env="dev", project="default")
TIMEOUT_S: Final = 30.0
PAGE_ROWS: Final = 100


async def measure(server: Server, settings: Settings) -> list[Row]:
    """Every operation on every backend."""
    rows: list[Row] = []
    for start in ENGINES:
        async with start(server) as engine:
            progress(f"stores: {engine.name}")
            rows += await _measure_engine(engine, settings)
    return rows


async def _measure_engine(engine: Engine, settings: Settings) -> list[Row]:
    section = f"stores: {engine.name}{' (emulator)' if engine.emulator else ''}"
    subjects = [
        subject(BARE, lambda number: engine.bare(f"k{number:012}")),
        await _append(engine),
        await _compare_and_swap(engine),
        await _page(engine),
    ]
    sessions = {0: await _session(engine, 0)}
    for history in settings.store_histories:
        sessions[history] = await _session(engine, history)
    subjects += sessions.values()
    empty = sessions[0].name
    found = await compare_latencies(
        subjects, bases=(BARE, empty), rounds=settings.store_rounds, count=settings.store_count
    )
    grown = {sessions[history].name for history in settings.store_histories}
    return [
        row(section, name, series, growth=series.latency_ratio(empty) if name in grown else None)
        for name, series in found.items()
    ]


async def _append(engine: Engine) -> Subject:
    stream = stream_container(SPACE, "bench")

    async def perform(number: int) -> None:
        await engine.backend.logs.append(stream, [_entry(number)], timeout_s=TIMEOUT_S)

    return subject("append one event of 1 KB to a stream", perform)


async def _compare_and_swap(engine: Engine) -> Subject:
    table = table_container(SPACE, "bench_cas")
    value = f'"{CONTENT}"'.encode()
    state = {"version": 0}

    async def perform(_number: int) -> None:
        expected = RowVersion(version=state["version"])
        (row,) = await engine.backend.rows.write(
            table, [PutRow(key="row", value=value, expected=expected)], timeout_s=TIMEOUT_S
        )
        assert row is not None
        state["version"] = row.version

    return subject("compare-and-swap of a row of 1 KB", perform)


async def _page(engine: Engine) -> Subject:
    table = table_container(SPACE, "bench_page")
    value = f'"{CONTENT}"'.encode()
    for start in range(0, 1_000, 50):
        writes = [PutRow(key=f"row/{number:05}", value=value) for number in range(start, start + 50)]
        await engine.backend.rows.write(table, writes, timeout_s=TIMEOUT_S)

    async def perform(number: int) -> None:
        prefix = f"row/{(number % 9):03}"
        page = await engine.backend.rows.query(table, prefix=prefix, limit=PAGE_ROWS, timeout_s=TIMEOUT_S)
        assert len(page.rows) == PAGE_ROWS

    return subject(f"page of {PAGE_ROWS} rows of 1 KB by prefix, of 1,000", perform)


async def _session(engine: Engine, history: int) -> Subject:
    session = session_container(SPACE, user="u", session=f"with {history}")
    settings = LogSettings(ttl_s=86_400)
    for start in range(0, history, APPEND_ENTRIES_MAX):
        entries = [_entry(next(numbers)) for _ in range(start, min(start + APPEND_ENTRIES_MAX, history))]
        await engine.backend.logs.append(session, entries, settings=settings, timeout_s=TIMEOUT_S)

    async def perform(number: int) -> None:
        await engine.backend.logs.append(session, [_entry(number)], settings=settings, timeout_s=TIMEOUT_S)

    return subject(f"append a message to a session of {history:,}", perform)


def _entry(number: int) -> NewEntry:
    return NewEntry(entry_id=f"id-{number}", fingerprint="0" * 64, body=f'{{"content": "{CONTENT}"}}'.encode())
