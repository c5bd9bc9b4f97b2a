"""Kill, cancel and starve it at every moment: the next to join finds nothing in the way."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from perdure.adapters import embedded
from perdure.adapters.embedded import ClusterState, EmbeddedConfig, locks, postmaster
from perdure.errors import BackendDown, Forbidden, Invalid, TimedOut
from tests.adapters.embedded.conftest import DEADLINE_S, StartOther, joined, killed, leaves, lives, until


def servers_of(config: EmbeddedConfig) -> list[int]:
    """Every living process whose arguments name this cluster."""
    needle = str(config.data_dir / "pg").encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.startswith(needle) for word in words) and lives(int(entry.name)):
                found.append(int(entry.name))
    return found


async def test_a_killed_server_is_recovered_by_its_user_on_the_same_port(config: EmbeddedConfig):
    server = await embedded.join(config)
    async with await psycopg.AsyncConnection.connect(server.dsn("owner"), autocommit=True) as owner:
        await owner.execute("CREATE TABLE kept AS SELECT generate_series(1, 100) AS number")
        for killed_times in range(1, 4):
            port, pid = server.port, server.pid
            os.kill(pid, signal.SIGKILL)  # our own child: it stays a zombie until it is waited for
            await embedded.rejoin(server)
            assert server.port == port
            assert server.pid != pid, killed_times
    async with await psycopg.AsyncConnection.connect(server.dsn("owner")) as owner:
        assert await (await owner.execute("SELECT count(*) FROM kept")).fetchone() == (100,)
    await embedded.leave(server)
    with pytest.raises(Invalid, match="join it again"):
        await embedded.rejoin(server)


async def test_a_killed_server_of_a_living_starter_is_recovered_by_another(
    config: EmbeddedConfig, start_other: StartOther
):
    starter = await start_other(config)
    first = await joined(starter)
    os.kill(first["pid"], signal.SIGKILL)
    await until(lambda: embedded.status(config).state is ClusterState.CRASHED)
    server = await embedded.join(config)
    assert server.pid != first["pid"]
    await embedded.leave(server)
    assert embedded.status(config).state is ClusterState.RUNNING, "the starter still counts as a user"
    await leaves(starter)
    assert embedded.status(config).state is ClusterState.STOPPED


async def test_a_pid_that_was_given_to_another_process_stops_nobody(config: EmbeddedConfig, start_other: StartOther):
    starter = await start_other(config)
    told = await joined(starter)
    os.kill(told["pid"], signal.SIGKILL)
    await killed(starter)
    await until(lambda: not servers_of(config))
    pid_file, lock = config.data_dir / "pg" / "postmaster.pid", config.data_dir / "server.lock"
    bystander = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        for file in (pid_file, lock):
            file.write_text(file.read_text("ascii").replace(str(told["pid"]), str(bystander.pid)), "ascii")
        server = await embedded.join(config)
        await embedded.leave(server)
        assert bystander.returncode is None
        assert lives(bystander.pid)
    finally:
        bystander.kill()
        await bystander.wait()


async def test_a_server_that_we_did_not_start_is_not_touched(config: EmbeddedConfig):
    server = await embedded.join(config)
    await embedded.leave(server)
    bystander = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        pid_file = config.data_dir / "pg" / "postmaster.pid"
        pid_file.write_text(f"{bystander.pid}\n{config.data_dir / 'pg'}\n0\n{server.port}\n\n127.0.0.1\n0 0\nready\n")
        with pytest.raises(Forbidden, match="a server that Perdure did not start"):
            await embedded.join(config)
        assert pid_file.exists()
    finally:
        bystander.kill()
        await bystander.wait()


@pytest.mark.parametrize("moment", ["pg.new", "pg.log", "prepared.json"])
async def test_a_starter_killed_at_any_moment_leaves_nothing_that_hinders(
    config: EmbeddedConfig, start_other: StartOther, moment: str
):
    starter = await start_other(config)
    await until((config.data_dir / moment).exists)
    await killed(starter)
    server = await embedded.join(config)
    async with await psycopg.AsyncConnection.connect(server.dsn("owner")) as owner:
        assert await (await owner.execute("SELECT current_database()")).fetchone() == ("perdure",)
    await embedded.leave(server)
    assert embedded.status(config).state is ClusterState.STOPPED
    left = {path.name for path in config.data_dir.iterdir()}
    assert left == {".gitignore", "lock", "pg", "pg.log", "pgpass", "prepared.json", "server.lock", "users"}
    await until(lambda: not servers_of(config))


async def test_a_server_nobody_wrote_down_is_recognised_and_stopped(config: EmbeddedConfig, start_other: StartOther):
    starter = await start_other(config)
    pid = (await joined(starter))["pid"]
    await killed(starter)
    (config.data_dir / "server.lock").write_text("")  # as when the starter is killed right after starting it
    assert (await embedded.stop(config)).state is ClusterState.STOPPED
    assert not lives(pid)


@pytest.mark.parametrize("moment", ["pg.new", "pg", "pg.log"])
async def test_a_start_that_is_cancelled_leaves_no_server_behind(config: EmbeddedConfig, moment: str):
    starting = asyncio.create_task(embedded.join(config))
    await until(lambda: starting.done() or (config.data_dir / moment).exists())
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: not servers_of(config))
    server = await embedded.join(config)
    await embedded.leave(server)


async def test_a_leave_that_is_cancelled_still_stops_the_server(config: EmbeddedConfig):
    server = await embedded.join(config)
    leaving = asyncio.create_task(embedded.leave(server))
    await until(lambda: not server.joined)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert not lives(server.pid)


async def test_a_server_that_does_not_start_shows_the_end_of_its_log(config: EmbeddedConfig):
    with pytest.raises(BackendDown, match='unrecognized configuration parameter "no_such_setting"'):
        await embedded.join(replace(config, settings={"no_such_setting": "1"}))
    assert not servers_of(config)
    server = await embedded.join(config)
    await embedded.leave(server)


async def test_a_start_that_takes_too_long_is_given_up(config: EmbeddedConfig):
    with pytest.raises(TimedOut, match="longer start_timeout_s"):
        await embedded.join(replace(config, start_timeout_s=0.05))
    # What was begun is told to end, and may hold the lock a moment longer.
    await until(lambda: not servers_of(config) and embedded.status(config).state is ClusterState.NOT_CREATED)
    await embedded.leave(await embedded.join(config))


async def test_a_door_that_stays_closed_names_who_holds_it(config: EmbeddedConfig):
    await embedded.leave(await embedded.join(config))
    async with locks.door(config.data_dir / "lock", timeout_s=0):
        with pytest.raises(TimedOut, match=f"pid {os.getpid()}"):
            await embedded.join(replace(config, start_timeout_s=0.05))


async def test_a_server_that_does_not_stop_is_an_error_not_a_guess(config: EmbeddedConfig):
    server = await embedded.join(config)
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(TimedOut, match="did not stop"):
        await postmaster.stop_server(server.layout, timeout_s=0.05)
    os.kill(server.pid, signal.SIGCONT)
    await until(lambda: not servers_of(config))
    await embedded.leave(server)


async def test_lost_passwords_are_made_anew_at_the_next_start(config: EmbeddedConfig):
    server = await embedded.join(config)
    await embedded.leave(server)
    (config.data_dir / "pgpass").unlink()
    server = await embedded.join(config)
    async with asyncio.timeout(DEADLINE_S), await psycopg.AsyncConnection.connect(server.dsn("app")) as app:
        assert await (await app.execute("SELECT current_user")).fetchone() == ("app",)
    await embedded.leave(server)


async def test_the_log_is_cut_to_its_newest_half(config: EmbeddedConfig):
    config.data_dir.mkdir(mode=0o700)
    log = config.data_dir / "pg.log"
    log.write_bytes(b"an old line\n" * 400_000)
    server = await embedded.join(config)
    assert log.stat().st_size <= 4 * 1024 * 1024 // 2 + 10_000
    assert b"ready to accept connections" in log.read_bytes()
    await embedded.leave(server)
