"""SIGKILL of PostgreSQL under writers of routed stores: what was acknowledged is there, once, without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from perdure.domain.container import make_space, stream_container
from perdure.domain.log import NewEntry
from perdure.domain.versioned import PutRow
from perdure.errors import Unavailable
from perdure.testing.contracts.rows_opening import table
from tests.adapters.postgres.lives import stores
from tests.support.databases import Cluster, Database
from tests.support.servers import Server, Version, bin_directory, engine_missing

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
NEWS = stream_container(SPACE, "news")
WRITERS = 16
EACH = 12
KILLS = 2


@pytest.fixture(params=["pg18", "pg15"])
def durable(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database on a server of its own that writes to disk before it answers."""
    version: Version = request.param
    if bin_directory(version) is None:
        engine_missing(f"PostgreSQL {version.removeprefix('pg')}", "see tests/conftest.py")
    server = Server(version, durable=True)
    try:
        server.start()
        yield Cluster(version, server).create()
    finally:
        server.discard()


async def test_no_acknowledged_entry_or_row_is_lost_or_doubled(durable: Database) -> None:
    told: dict[str, int] = {}
    failures = 0
    progress = asyncio.Condition()

    async with stores(durable, connections_max=8) as backend:

        async def write(writer: int) -> None:
            nonlocal failures
            for number in range(EACH):
                key = f"{writer}-{number}"
                while key not in told:
                    try:
                        new = NewEntry(entry_id=key, fingerprint="f", body=key.encode())
                        (done,) = await backend.logs.append(NEWS, [new], timeout_s=30)
                        await backend.rows.write(table(SPACE), [PutRow(key=key, value=b"1")], timeout_s=30)
                    except Unavailable:
                        failures += 1
                    else:
                        told[key] = done.sequence
                async with progress:
                    progress.notify_all()

        async with asyncio.TaskGroup() as tasks:
            for writer in range(WRITERS):
                tasks.create_task(write(writer))
            for kill in range(1, KILLS + 1):
                async with progress:
                    await progress.wait_for(lambda: len(told) >= kill * WRITERS * EACH // (KILLS + 1))  # noqa: B023
                await asyncio.to_thread(restart, durable.server)
    assert failures > 0
    rows = durable.query("SELECT entry_id, sequence, convert_from(body, 'UTF8') FROM perdure.log_entries")
    assert {entry_id: sequence for entry_id, sequence, _ in rows} == told
    assert sorted(told.values()) == list(range(1, WRITERS * EACH + 1))
    assert all(entry_id == body for entry_id, _, body in rows)
    assert {key for (key,) in durable.query("SELECT key FROM perdure.versioned_rows")} == set(told)


def restart(server: Server) -> None:
    server.kill()
    server.start()
