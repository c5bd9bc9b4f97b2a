"""A database without statistics: each change reads as many rows as the first one did, however long the history is.

The planner takes every tenant for one with a single row then, and a wrong index costs a walk through all its history.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

import perdure
from perdure.testing.contracts.ledger import MAIL, begin
from tests.support.databases import DIRECT, Database, engines

BATCH = 400
READ_PER_CHANGE_MAX = 20  # index entries, of all tables together; it takes 9, a walk through the history thousands


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What the server has read since the database was made."""

    sequential_of_events: int
    index_entries: int
    analysed: int

    @classmethod
    def now(cls, database: Database) -> Reads:
        ((sequential, analysed),) = database.query("""
            SELECT sum(seq_scan) FILTER (WHERE relname = 'orchestration_events')::bigint,
                count(coalesce(last_analyze, last_autoanalyze))
            FROM pg_stat_user_tables WHERE schemaname = 'perdure'""")
        ((entries,),) = database.query("""
            SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes
            WHERE schemaname = 'perdure' AND relname NOT IN ('status_transitions', 'plane_settings')""")
        return cls(sequential_of_events=sequential, index_entries=entries, analysed=analysed)


def forget_statistics(database: Database) -> None:
    for (name,) in database.query("SELECT relname::text FROM pg_stat_user_tables WHERE schemaname = 'perdure'"):
        database.query(f"ALTER TABLE perdure.{name} SET (autovacuum_enabled = false)")


async def work(database: Database, *, changes: int, connections: int, batch: int) -> None:
    """Commit so many changes of one tenant; its sessions report what they read when they end."""
    async with perdure.open(
        database.dsn("app"), mode="lab", env="dev", coalesce=False, connections_max=connections
    ) as plane:
        acme = plane.scope("t_acme", actor="agent:tester")
        runs = [await begin(acme, f"{batch}-{number}") for number in range(connections)]

        async def write(run: perdure.Run, share: int) -> None:
            for number in range(share):
                async with acme.change(run) as change:
                    step = change.step("work", key=str(number), output={})
                    if number % 2:
                        change.tool_call(step, "ocr", result=1)
                        change.effect(step, "SEND_EMAIL", MAIL)

        await asyncio.gather(*(write(run, changes // connections) for run in runs))


async def assert_flat(database: Database, *, batches: int, changes: int, connections: int) -> None:
    forget_statistics(database)
    before = Reads.now(database)
    for batch in range(batches):
        await work(database, changes=changes, connections=connections, batch=batch)
        after = Reads.now(database)
        assert after.sequential_of_events == before.sequential_of_events, batch
        assert (after.index_entries - before.index_entries) / changes < READ_PER_CHANGE_MAX, batch
        before = after
    assert before.analysed == 0


@engines(*DIRECT)
@pytest.mark.parametrize("connections", [1, 8])
async def test_a_change_reads_as_little_late_in_a_history_as_early(database: Database, connections: int) -> None:
    await assert_flat(database, batches=4, changes=BATCH, connections=connections)


@pytest.mark.soak
@engines(*DIRECT)
@pytest.mark.parametrize("connections", [1, 8])
async def test_the_last_of_twenty_thousand_changes_reads_as_little(database: Database, connections: int) -> None:
    # The rates themselves are a row of `make bench`: a test asserts what is read, never how long it took.
    await assert_flat(database, batches=20, changes=1_000, connections=connections)
