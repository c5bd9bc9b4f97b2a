"""All that can be done to a store, by many at once: nothing is lost, nobody waits for ever, nothing is left over."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from perdure.adapters.postgres.backend import PostgresBackend
from perdure.core.environment import system_environment
from perdure.domain.container import Container, make_space, stream_container
from perdure.domain.log import LogSettings, NewEntry
from perdure.domain.versioned import DeleteRow, PutRow, RowVersion
from perdure.errors import StaleVersion
from perdure.testing.contracts.rows_opening import table
from tests.adapters.postgres.lives import stores
from tests.support.databases import ALL, Database, engines

TASKS, STEPS = 30, 40
PATIENCE_S = 60
SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
LOGS = [stream_container(SPACE, name) for name in ("one", "two")]
TABLES = [table(SPACE, name) for name in ("left", "right")]
KEYS = [f"k{number}" for number in range(6)]
NONE = RowVersion(version=0, incarnation="")

Step = Callable[[], Awaitable[object]]


def soon() -> datetime:
    """A moment that comes while the test runs."""
    return system_environment().clock.now() + timedelta(milliseconds=4)


def entry(entry_id: str) -> NewEntry:
    return NewEntry(entry_id=entry_id, fingerprint="f", body=b"1")


class LogsUnderStress:
    """What is done to the logs, and under which number each entry was acknowledged."""

    def __init__(self, backend: PostgresBackend) -> None:
        self.logs = backend.logs
        self.told: dict[tuple[Container, int], dict[int, str]] = defaultdict(dict)

    def steps(self, chance: random.Random, name: str) -> Sequence[Step]:
        """What may come next, appends more often than the rest."""
        log = chance.choice(LOGS)
        settings = LogSettings(expires_at=soon()) if chance.random() < 0.3 else LogSettings()
        new = [entry(f"{name}-{number}") for number in range(chance.randint(1, 5))]
        return [
            *[partial(self.append, log, new, settings)] * 6,
            partial(self.append_as_expected, log, new, settings),
            partial(self.read, log),
            partial(self.logs.trim, log, before=chance.randint(1, 200), timeout_s=PATIENCE_S),
            partial(self.logs.clear, log, timeout_s=PATIENCE_S),
            partial(self.logs.erase, log, timeout_s=PATIENCE_S),
            partial(self.logs.configure, log, settings, timeout_s=PATIENCE_S),
            partial(self.logs.sweep, limit=10, timeout_s=PATIENCE_S),
        ]

    async def append(
        self, log: Container, new: Sequence[NewEntry], settings: LogSettings, expected: int | None = None
    ) -> None:
        """Append and append again: the second time either all is there, or it was removed meanwhile."""
        for expecting in (expected, None):
            told = await self.logs.append(log, new, expected=expecting, settings=settings, timeout_s=PATIENCE_S)
            for one in told:
                numbers = self.told[log, one.epoch]
                assert one.duplicate == (one.sequence in numbers), one
                assert numbers.setdefault(one.sequence, one.entry_id) == one.entry_id, one

    async def append_as_expected(self, log: Container, new: Sequence[NewEntry], settings: LogSettings) -> None:
        """Append to the head as it was a moment ago."""
        head = await self.logs.head(log, timeout_s=PATIENCE_S)
        with suppress(StaleVersion):
            await self.append(log, new, settings, head.sequence if head else 0)

    async def read(self, log: Container) -> None:
        """Read the oldest, without a gap."""
        page = await self.logs.read(log, limit=50, bytes_max=100_000, timeout_s=PATIENCE_S)
        numbers = [entry.sequence for entry in page.entries] if page else []
        assert page is None or numbers == list(range(page.head.earliest, page.head.earliest + len(numbers)))

    async def left(self, log: Container) -> tuple[dict[int, str], dict[int, str]]:
        """What is there at the end, and what was acknowledged of it."""
        (done,) = await self.logs.append(log, [entry("last")], timeout_s=PATIENCE_S)
        acknowledged = self.told[log, done.epoch]
        acknowledged[done.sequence] = "last"
        page = await self.logs.read(log, limit=500, bytes_max=10**6, timeout_s=PATIENCE_S)
        assert page is not None
        kept = {number: name for number, name in acknowledged.items() if number >= page.head.earliest}
        return {one.sequence: one.entry_id for one in page.entries}, kept


class RowsUnderStress:
    """What is done to the rows, and which versions were acknowledged of each incarnation."""

    def __init__(self, backend: PostgresBackend) -> None:
        self.rows = backend.rows
        self.told: dict[tuple[Container, str, str], list[int]] = defaultdict(list)

    def steps(self, chance: random.Random, _: str) -> Sequence[Step]:
        """What may come next, writes more often than the rest."""
        rows = chance.choice(TABLES)
        keys = chance.sample(KEYS, chance.randint(1, len(KEYS)))
        expires_at = soon() if chance.random() < 0.3 else None
        puts = [PutRow(key=key, value=b"1", expires_at=expires_at) for key in keys]
        new = [PutRow(key=key, value=b"1", expected=NONE, expires_at=expires_at) for key in keys]
        deletions = [DeleteRow(key=key) for key in keys]
        return [
            *[partial(self.put, rows, puts)] * 4,
            partial(self.put, rows, new),
            *[partial(self.rows.write, rows, deletions, timeout_s=PATIENCE_S)] * 3,
            partial(self.rows.get, rows, KEYS, timeout_s=PATIENCE_S),
            partial(self.rows.erase, rows, timeout_s=PATIENCE_S),
            partial(self.rows.sweep, limit=10, timeout_s=PATIENCE_S),
        ]

    async def put(self, rows: Container, puts: Sequence[PutRow]) -> None:
        """Put rows, whose expectations need not hold."""
        try:
            written = await self.rows.write(rows, puts, timeout_s=PATIENCE_S)
        except StaleVersion:
            assert puts[0].expected is not None
            return
        for row in written:
            assert row is not None
            self.told[rows, row.key, row.incarnation].append(row.version)


async def work(worlds: Sequence[LogsUnderStress | RowsUnderStress], task: int) -> None:
    chance = random.Random(task)  # noqa: S311 - the same steps each time, in whatever order they meet
    for number in range(STEPS):
        await chance.choice(chance.choice(worlds).steps(chance, f"{task}-{number}"))()


@engines(*ALL)
async def test_all_that_can_be_done_at_once_loses_nothing_and_leaves_nothing_behind(database: Database) -> None:
    async with stores(database, connections_max=10) as backend:
        logs, rows = LogsUnderStress(backend), RowsUnderStress(backend)
        async with asyncio.TaskGroup() as group:
            for task in range(TASKS):
                group.create_task(work([logs, rows], task))
        for numbers in (*logs.told.values(), *rows.told.values()):
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
        for log in LOGS:
            there, acknowledged = await logs.left(log)
            assert there == acknowledged
            await backend.logs.erase(log, timeout_s=PATIENCE_S)
    named = database.query("SELECT DISTINCT container_id FROM perdure.row_containers ORDER BY 1")
    assert named == database.query("SELECT DISTINCT container_id FROM perdure.versioned_rows ORDER BY 1")
    for name in ("logs", "log_entries", "log_remains"):
        assert database.query(f"SELECT count(*) FROM perdure.{name}") == [(0,)], name  # noqa: S608 - of this file
