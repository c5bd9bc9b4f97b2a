"""Routed stores in a database without statistics: late in a long history each call reads as little as the first did.

The planner takes every container for one with a single row then, and would as soon walk through all of it.
"""

from __future__ import annotations

import asyncio

import pytest

from perdure.domain.container import make_space, stream_container
from perdure.domain.log import READ_BYTES_MAX, NewEntry, Position
from perdure.domain.versioned import DeleteRow, PutRow
from perdure.testing.contracts.rows_opening import table
from tests.adapters.postgres.lives import stores
from tests.faults.test_never_analysed import forget_statistics
from tests.support.databases import DIRECT, Database, engines

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
NEWS = stream_container(SPACE, "news")
ROUNDS = 4
CALLS = 300
READ_PER_CALL_MAX = 40  # index entries of all the calls below together; it takes some 20, a walk through all hundreds


def entries_read(database: Database) -> int:
    ((read,),) = database.query("""
        SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes
        WHERE schemaname = 'perdure' AND relname IN ('logs', 'log_entries', 'row_containers', 'versioned_rows')""")
    return int(read)


def scans(database: Database) -> tuple[int, int]:
    ((sequential, analysed),) = database.query("""
        SELECT sum(seq_scan)::bigint, count(coalesce(last_analyze, last_autoanalyze)) FROM pg_stat_user_tables
        WHERE schemaname = 'perdure' AND relname IN ('logs', 'log_entries', 'row_containers', 'versioned_rows')""")
    return int(sequential), int(analysed)


async def work(database: Database, batch: int, *, connections: int) -> None:
    """So many calls of each kind on one log and one table; the sessions report what they read when they end."""
    async with stores(database, connections_max=connections) as backend:

        async def use(number: int) -> None:
            new = NewEntry(entry_id=f"{batch}-{number}", fingerprint="f", body=b"1")
            (done,) = await backend.logs.append(NEWS, [new], timeout_s=60)
            assert (await backend.logs.append(NEWS, [new], timeout_s=60))[0].duplicate
            before = Position(epoch=done.epoch, sequence=done.sequence - 1)
            page = await backend.logs.read(NEWS, after=before, limit=1, bytes_max=READ_BYTES_MAX, timeout_s=60)
            assert page is not None
            assert page.entries[0].entry_id == new.entry_id
            assert await backend.logs.locate(NEWS, new.entry_id, timeout_s=60)
            key = f"{batch}-{number}"
            await backend.rows.write(table(SPACE), [PutRow(key=key, value=b"1")], timeout_s=60)
            assert key in await backend.rows.get(table(SPACE), [key], timeout_s=60)
            await backend.rows.query(table(SPACE), after=key, limit=1, timeout_s=60)
            await backend.rows.write(table(SPACE), [PutRow(key=f"{key}-gone", value=b"1")], timeout_s=60)
            await backend.rows.write(table(SPACE), [DeleteRow(key=f"{key}-gone")], timeout_s=60)

        for first in range(0, CALLS, connections):
            await asyncio.gather(*(use(number) for number in range(first, min(first + connections, CALLS))))


@engines(*DIRECT)
@pytest.mark.parametrize("connections", [1, 8])
async def test_a_call_reads_as_little_late_in_a_history_as_early(database: Database, connections: int) -> None:
    forget_statistics(database)
    before = entries_read(database)
    for batch in range(ROUNDS):
        await work(database, batch, connections=connections)
        after = entries_read(database)
        assert (after - before) / CALLS < READ_PER_CALL_MAX, batch
        before = after
    assert scans(database) == (0, 0)
