"""The runner on real servers: each migration once and whole, whoever else is running."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from perdure.adapters.postgres import migrate
from perdure.errors import BackendDown, Invalid, PersistenceError, Refused, TimedOut
from tests.migrations.tiny import ONE, THREE, TWO, write, write_three
from tests.support.databases import DIRECT, Database, engines
from tests.support.servers import free_port

TABLES = (
    "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('perdure') AND relkind = 'r' ORDER BY 1"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_three(tmp_path)


async def up(database: Database, directory: Path, *, to: int | None = None) -> list[migrate.Applied]:
    return await migrate.up(database.direct_dsn("superuser"), mode="lab", env="dev", to=to, directory=directory)


@engines(*DIRECT, fixture="empty_database")
async def test_up_applies_what_is_pending_in_order_and_records_it(empty_database: Database, directory: Path) -> None:
    seen: list[migrate.Applied] = []
    dsn = empty_database.direct_dsn("superuser")
    done = await migrate.up(dsn, mode="lab", env="dev", to=TWO, directory=directory, progress=seen.append)
    assert [(a.version, a.name, a.way) for a in done] == [(ONE, "apples", "up"), (TWO, "pears", "up")]
    assert seen == done
    assert [a.version for a in await up(empty_database, directory)] == [THREE]
    assert await up(empty_database, directory) == []
    rows = empty_database.query(
        "SELECT version, name, applied_by::text, duration_ms >= 0 FROM perdure.schema_migrations"
    )
    assert rows == [(v, n, "postgres", True) for v, n in ((ONE, "apples"), (TWO, "pears"), (THREE, "plums"))]


@engines(*DIRECT, fixture="empty_database")
async def test_everything_belongs_to_the_owner(empty_database: Database, directory: Path) -> None:
    await up(empty_database, directory)
    owners = (
        "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = 'perdure'::regnamespace"
    )
    assert empty_database.query(owners) == [("perdure_owner",)]


@engines(*DIRECT, fixture="empty_database")
async def test_a_migration_knows_its_plane(empty_database: Database, tmp_path: Path) -> None:
    plane = "SELECT current_setting('perdure.mode') AS mode, current_setting('perdure.env') AS env"
    write(tmp_path, 20260101000009, "plane", up=f"CREATE TABLE perdure.plane AS {plane};")
    await migrate.up(empty_database.direct_dsn("superuser"), mode="saas", env="prod-eu", directory=tmp_path)
    assert empty_database.query("TABLE perdure.plane") == [("saas", "prod-eu")]


async def test_a_failing_migration_leaves_nothing_and_those_before_it_stay(
    empty_database: Database, directory: Path
) -> None:
    write(directory, THREE, "plums", up="CREATE TABLE perdure.plums (id int); SELECT 1 / 0;")
    with pytest.raises(
        PersistenceError, match=f"applying migration {THREE}_plums failed .* division by zero"
    ) as caught:
        await up(empty_database, directory)
    assert caught.value.code == "migration_failed"
    assert empty_database.query(TABLES) == [("apples",), ("pears",), ("schema_migrations",)]


@engines(*DIRECT, fixture="empty_database")
async def test_many_runners_at_once_apply_each_migration_once(empty_database: Database, directory: Path) -> None:
    done = await asyncio.gather(*(up(empty_database, directory) for _ in range(8)))
    assert sorted(a.version for one in done for a in one) == [ONE, TWO, THREE]


@engines(*DIRECT, fixture="empty_database")
async def test_many_runners_down_undo_each_migration_once(empty_database: Database, directory: Path) -> None:
    await up(empty_database, directory)
    dsn = empty_database.direct_dsn("superuser")
    undone = await asyncio.gather(*(migrate.down(dsn, to=0, directory=directory) for _ in range(4)))
    assert sorted(a.version for one in undone for a in one) == [ONE, TWO, THREE]
    assert empty_database.query("SELECT to_regnamespace('perdure')") == [(None,)]


async def test_down_undoes_the_newest_first_and_stops_where_told(empty_database: Database, directory: Path) -> None:
    await up(empty_database, directory)
    done = await migrate.down(empty_database.direct_dsn("superuser"), to=ONE, directory=directory)
    assert [(a.version, a.way) for a in done] == [(THREE, "down"), (TWO, "down")]
    assert empty_database.query(TABLES) == [("apples",), ("schema_migrations",)]


async def test_down_does_not_drop_what_somebody_else_put_there(empty_database: Database, directory: Path) -> None:
    await up(empty_database, directory)
    empty_database.query("CREATE TABLE perdure.precious (id int)")
    with pytest.raises(PersistenceError, match="cannot drop schema perdure"):
        await migrate.down(empty_database.direct_dsn("superuser"), to=0, directory=directory)
    assert ("precious",) in empty_database.query(TABLES)


async def test_a_changed_migration_is_refused_both_ways(empty_database: Database, directory: Path) -> None:
    await up(empty_database, directory)
    write(directory, TWO, "pears", up="CREATE TABLE perdure.pears (id int);")
    with pytest.raises(Refused, match=f"migration {TWO} was applied from a file that differs"):
        await up(empty_database, directory)
    with pytest.raises(Refused, match=f"migration {TWO} was applied from a file that differs"):
        await migrate.down(empty_database.direct_dsn("superuser"), to=0, directory=directory)
    found = await migrate.status(empty_database.direct_dsn("superuser"), directory=directory)
    assert (found.state, found.changed) == ("changed", (TWO,))


async def test_a_database_of_a_newer_release_is_refused(empty_database: Database, directory: Path) -> None:
    await up(empty_database, directory)
    for way in ("up", "down"):
        (directory / f"{THREE}_plums.{way}.sql").unlink()
    with pytest.raises(Refused, match=f"has migration {THREE}, which this release .* does not know"):
        await up(empty_database, directory)
    with pytest.raises(Refused, match="does not know"):
        await migrate.down(empty_database.direct_dsn("superuser"), to=0, directory=directory)


async def test_a_migration_older_than_what_is_applied_is_refused(empty_database: Database, directory: Path) -> None:
    await up(empty_database, directory)
    write(directory, ONE + 8640000, "late")
    write(directory, 20260101000000, "early")
    with pytest.raises(Refused, match="give the file a later timestamp"):
        await up(empty_database, directory)


async def test_the_first_installation_must_say_which_plane(empty_database: Database, directory: Path) -> None:
    with pytest.raises(Refused, match="--mode lab"):
        await migrate.up(empty_database.direct_dsn("superuser"), directory=directory)
    for mode, env in (("prod", "dev"), ("lab", "Dev"), ("lab", "x" * 64)):
        with pytest.raises(Invalid):
            await migrate.up(empty_database.direct_dsn("superuser"), mode=mode, env=env, directory=directory)
    assert (
        len(await migrate.up(empty_database.direct_dsn("superuser"), mode="lab", env="x" * 63, directory=directory))
        == 3
    )


async def test_a_database_serves_one_plane(database: Database) -> None:
    assert await migrate.up(database.direct_dsn("superuser")) == []
    assert await migrate.up(database.direct_dsn("superuser"), mode="lab", env="dev") == []
    with pytest.raises(Refused, match="serves mode 'lab' and env 'dev', not 'saas' and 'dev'"):
        await migrate.up(database.direct_dsn("superuser"), mode="saas", env="dev")


async def test_a_locked_table_stops_a_migration_and_not_its_readers(empty_database: Database, directory: Path) -> None:
    await up(empty_database, directory, to=TWO)
    write(directory, THREE, "plums", up="ALTER TABLE perdure.pears ADD COLUMN ripe boolean;")
    dsn = empty_database.direct_dsn("superuser")
    async with await psycopg.AsyncConnection.connect(dsn) as reader:
        await reader.execute("SELECT * FROM perdure.pears")
        with pytest.raises(TimedOut, match="waited too long and was rolled back"):
            await migrate.up(dsn, mode="lab", env="dev", directory=directory, lock_timeout_s=0.05)
    assert [a.version for a in await up(empty_database, directory)] == [THREE]


async def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    with pytest.raises(BackendDown) as caught:
        await migrate.status(f"postgresql://perdure_owner:hunter2@127.0.0.1:{free_port()}/ledger")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(Invalid) as unreadable:
        await migrate.status("host=localhost hunter2")
    assert "hunter2" not in str(unreadable.value)
    assert unreadable.value.__cause__ is None
