"""Who joins, who leaves, and who may connect: against the real server and with real processes."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace

import psycopg
import pytest

from perdure.adapters import embedded
from perdure.adapters.embedded import ClusterState, EmbeddedConfig
from perdure.adapters.embedded.binaries import bundled_bin_dir
from perdure.errors import BackendDown, Invalid
from tests.adapters.embedded.conftest import StartOther, joined, killed, leaves, lives


async def test_the_first_to_join_makes_and_starts_it_and_the_last_to_leave_stops_it(config: EmbeddedConfig):
    assert embedded.status(config).state is ClusterState.NOT_CREATED
    assert not config.data_dir.exists(), "looking made something"
    server = await embedded.join(config)
    now = embedded.status(config)
    assert (now.state, now.pid, now.port, now.users) == (ClusterState.RUNNING, server.pid, server.port, (os.getpid(),))
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700
    await embedded.leave(server)
    assert embedded.status(config).state is ClusterState.STOPPED
    assert not lives(server.pid)


async def test_leaving_twice_does_nothing(config: EmbeddedConfig):
    first, second = await embedded.join(config), await embedded.join(config)
    await embedded.leave(first)
    await embedded.leave(first)
    assert embedded.status(config).users == (os.getpid(),)
    await embedded.leave(second)
    assert embedded.status(config).state is ClusterState.STOPPED


async def test_the_owner_owns_the_database_and_nobody_else_gets_in(config: EmbeddedConfig):
    server = await embedded.join(config)
    try:
        async with await psycopg.AsyncConnection.connect(server.dsn("owner")) as owner:
            found = await (
                await owner.execute(
                    "SELECT pg_get_userbyid(datdba), datcollate, datlocprovider::text, datlocale, datacl::text,"
                    " current_setting('data_checksums'), current_setting('fsync'), current_setting('full_page_writes')"
                    " FROM pg_database WHERE datname = current_database()"
                )
            ).fetchone()
            assert found is not None
            assert found[:4] == ("owner", "C", "b", "C.UTF-8")
            assert "=" not in {grant[0] for grant in found[4].strip("{}").split(",")}, "PUBLIC may do something"
            assert found[5:] == ("on", "on", "on")
            flags = await (
                await owner.execute(
                    "SELECT bool_or(rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole OR rolreplication)"
                    " FROM pg_roles WHERE rolname IN ('owner', 'app')"
                )
            ).fetchone()
            assert flags == (False,)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            await psycopg.AsyncConnection.connect(server.dsn("app"), dbname="postgres")
        async with await psycopg.AsyncConnection.connect(server.dsn("app")) as app:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await app.execute("CREATE SCHEMA mine")
    finally:
        await embedded.leave(server)


async def test_processes_that_join_at_once_start_one_server(config: EmbeddedConfig, start_other: StartOther):
    others = [await start_other(config) for _ in range(4)]
    told = [await joined(other) for other in others]
    assert len({one["pid"] for one in told}) == 1
    assert sorted(embedded.status(config).users) == sorted(other.pid for other in others)
    await asyncio.gather(*(leaves(other) for other in others))
    assert embedded.status(config).state is ClusterState.STOPPED


async def test_the_server_survives_its_starter_while_others_use_it(config: EmbeddedConfig, start_other: StartOther):
    starter = await start_other(config)
    pid = (await joined(starter))["pid"]
    server = await embedded.join(config)
    await killed(starter)
    assert server.pid == pid
    assert embedded.status(config).users == (os.getpid(),)
    async with await psycopg.AsyncConnection.connect(server.dsn("app")) as app:
        assert await (await app.execute("SELECT 1")).fetchone() == (1,)
    await embedded.leave(server)
    assert not lives(pid)


async def test_a_server_whose_users_were_all_killed_is_adopted(config: EmbeddedConfig, start_other: StartOther):
    others = [await start_other(config), await start_other(config)]
    pids = {(await joined(other))["pid"] for other in others}
    for other in others:
        await killed(other)
    orphan = embedded.status(config)
    assert (orphan.state, orphan.users) == (ClusterState.RUNNING, ())
    server = await embedded.join(config)
    assert {server.pid} == pids
    await embedded.leave(server)
    assert embedded.status(config).state is ClusterState.STOPPED


async def test_a_server_started_by_hand_needs_no_users(config: EmbeddedConfig):
    started = await embedded.start(config)
    assert (started.state, started.held, started.users) == (ClusterState.RUNNING, True, ())
    server = await embedded.join(config)
    assert server.pid == started.pid
    await embedded.leave(server)
    assert embedded.status(config).state is ClusterState.RUNNING
    stopped = await embedded.stop(config)
    assert (stopped.state, stopped.held) == (ClusterState.STOPPED, False)


async def test_stopping_by_hand_waits_for_the_users_unless_forced(config: EmbeddedConfig):
    await embedded.start(config)
    server = await embedded.join(config)
    still = await embedded.stop(config)
    assert (still.state, still.held, still.users) == (ClusterState.RUNNING, False, (os.getpid(),))
    await embedded.leave(server)
    assert embedded.status(config).state is ClusterState.STOPPED
    server = await embedded.join(config)
    assert (await embedded.stop(config, force=True)).state is ClusterState.STOPPED
    await embedded.leave(server)


async def test_stopping_what_was_never_made_does_nothing(config: EmbeddedConfig):
    assert (await embedded.stop(config)).state is ClusterState.NOT_CREATED
    assert not config.data_dir.exists()


async def test_a_dsn_is_given_without_joining_and_only_while_it_runs(config: EmbeddedConfig):
    with pytest.raises(BackendDown, match="perdure pg start"):
        embedded.dsn(config, role="app")
    await embedded.start(config)
    dsn = embedded.dsn(config, role="app", portable=True)
    assert "require_auth" not in dsn
    async with await psycopg.AsyncConnection.connect(dsn) as app:
        assert await (await app.execute("SELECT current_user")).fetchone() == ("app",)
    with pytest.raises(Invalid, match="has no role 'postgres'"):
        embedded.dsn(config, role="postgres")


async def test_a_role_added_later_is_made_in_the_running_server(config: EmbeddedConfig):
    server = await embedded.join(config)
    wider = await embedded.join(replace(config, roles=(*config.roles, "relay")))
    async with await psycopg.AsyncConnection.connect(wider.dsn("relay")) as relay:
        assert await (await relay.execute("SELECT current_user")).fetchone() == ("relay",)
    await embedded.leave(wider)
    async with await psycopg.AsyncConnection.connect(server.dsn("owner")):
        pass
    await embedded.leave(server)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "1a", "postgres", "ä"])
def test_a_role_that_could_not_be_written_down_is_refused(config: EmbeddedConfig, name: str):
    with pytest.raises(Invalid, match="letters, digits"):
        replace(config, roles=(name,))


@pytest.mark.parametrize("count", [0, 17])
def test_too_few_and_too_many_roles_are_refused(config: EmbeddedConfig, count: int):
    with pytest.raises(Invalid, match="1 to 16"):
        replace(config, roles=tuple(f"r{number}" for number in range(count)))
    assert len(replace(config, roles=tuple(f"r{number}" for number in range(16))).roles) == 16


async def test_the_programs_of_another_release_make_the_same_kind_of_cluster(config: EmbeddedConfig):
    other = bundled_bin_dir(16)
    if other is None:
        pytest.skip("the wheel has one release only")
    older = replace(config, bin_dir=other)
    server = await embedded.join(older)
    assert server.version.startswith("16.")
    async with await psycopg.AsyncConnection.connect(server.dsn("owner")) as owner:
        rows = await (
            await owner.execute("SELECT v FROM unnest(ARRAY['b', 'B', 'ä', 'a', 'Z']) v ORDER BY v")
        ).fetchall()
        assert [row[0] for row in rows] == ["B", "Z", "a", "b", "ä"]
        assert await (await owner.execute("SELECT upper('ä'), current_setting('data_checksums')")).fetchone() == (
            "Ä",
            "on",
        )
    await embedded.leave(server)
