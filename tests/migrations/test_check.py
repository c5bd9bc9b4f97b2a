"""What opening a plane asks of the schema: exactly this release's, and otherwise the command that helps."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from perdure.adapters.postgres import migrate
from perdure.errors import Refused
from tests.migrations.tiny import THREE, TWO, write, write_three
from tests.support.databases import ALL, Database, engines

# The app may log in once the server has made a template.
with_logins = pytest.mark.usefixtures("database")


async def check(database: Database, directory: Path | None = None, *, role: str = "app") -> None:
    async with await psycopg.AsyncConnection.connect(database.dsn(role), prepare_threshold=None) as connection:
        if directory is None:
            await migrate.check(connection)
        else:
            await migrate.check(connection, directory=directory)


@engines(*ALL)
@pytest.mark.parametrize("role", ["app", "relay", "maintenance", "owner"])
async def test_the_schema_of_this_release_is_taken_from_every_role(database: Database, role: str) -> None:
    await check(database, role=role)


@with_logins
async def test_an_older_schema_is_refused_with_the_command(empty_database: Database, tmp_path: Path) -> None:
    write_three(tmp_path)
    dsn = empty_database.direct_dsn("superuser")
    await migrate.up(dsn, mode="lab", env="dev", to=TWO, directory=tmp_path)
    with pytest.raises(Refused, match=f"at {TWO}, older than {THREE}") as caught:
        await check(empty_database, tmp_path)
    assert caught.value.code == "schema_older"
    where = f"host=127.0.0.1 port={empty_database.port} dbname={empty_database.name} user=perdure_owner"
    assert f'perdure migrate --dsn "{where}"' in caught.value.message


@with_logins
async def test_a_database_without_a_schema_is_refused_with_the_command(empty_database: Database) -> None:
    with pytest.raises(Refused, match=r"at nothing, older than .* perdure migrate .*--mode MODE --env ENV"):
        await check(empty_database)


@with_logins
async def test_a_newer_schema_is_refused(empty_database: Database, tmp_path: Path) -> None:
    write_three(tmp_path)
    await migrate.up(empty_database.direct_dsn("superuser"), mode="lab", env="dev", directory=tmp_path)
    for way in ("up", "down"):
        (tmp_path / f"{THREE}_plums.{way}.sql").unlink()
    with pytest.raises(Refused, match="install the release that made it") as caught:
        await check(empty_database, tmp_path)
    assert caught.value.code == "schema_newer"


@with_logins
async def test_a_schema_of_other_files_is_refused(empty_database: Database, tmp_path: Path) -> None:
    write_three(tmp_path)
    await migrate.up(empty_database.direct_dsn("superuser"), mode="lab", env="dev", directory=tmp_path)
    write(tmp_path, TWO, "pears", up="SELECT 1;")
    with pytest.raises(Refused, match="put the change into a new migration") as caught:
        await check(empty_database, tmp_path)
    assert caught.value.code == "schema_changed"


async def test_checking_leaves_no_transaction_open(database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.dsn("app")) as connection:
        await migrate.check(connection)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_status_tells_what_is_there_and_what_is_to_come(empty_database: Database, tmp_path: Path) -> None:
    write_three(tmp_path)
    dsn = empty_database.direct_dsn("superuser")
    before = await migrate.status(dsn, directory=tmp_path)
    assert (before.state, before.current, before.head) == ("older", None, THREE)
    await migrate.up(dsn, mode="lab", env="dev", to=TWO, directory=tmp_path)
    between = await migrate.status(dsn, directory=tmp_path)
    assert (between.state, between.current, [m.version for m in between.pending]) == ("older", TWO, [THREE])
    await migrate.up(dsn, mode="lab", env="dev", directory=tmp_path)
    after = await migrate.status(dsn, directory=tmp_path)
    assert (after.state, [a.name for a in after.applied]) == ("current", ["apples", "pears", "plums"])
