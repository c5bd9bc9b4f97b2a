"""The fault proxy fails exactly as it says, in front of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from perdure.testing.faults import FaultProxy
from tests.support.databases import Database
from tests.support.servers import free_port


async def connect(database: Database, proxy: FaultProxy) -> psycopg.AsyncConnection[tuple[object, ...]]:
    dsn = f"host=127.0.0.1 port={proxy.port} dbname={database.name} user=postgres sslmode=disable gssencmode=disable"
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


def notes(database: Database) -> int:
    count: int = database.query("SELECT count(*) FROM public.notes")[0][0]
    return count


@pytest.fixture
async def proxied(empty_database: Database) -> AsyncIterator[tuple[Database, FaultProxy]]:
    empty_database.query("CREATE TABLE public.notes (body text)")
    async with FaultProxy("127.0.0.1", empty_database.port) as proxy:
        yield empty_database, proxy


async def test_without_a_fault_it_is_not_there(proxied: tuple[Database, FaultProxy]) -> None:
    database, proxy = proxied
    async with await connect(database, proxy) as connection:
        row = await (await connection.execute("SELECT repeat('x', 1000000)")).fetchone()
        assert row == ("x" * 1_000_000,)
        assert proxy.connections == 1


async def test_a_lost_reply_leaves_the_work_done(proxied: tuple[Database, FaultProxy]) -> None:
    database, proxy = proxied
    async with await connect(database, proxy) as connection:
        proxy.lose_reply()
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("INSERT INTO public.notes VALUES ('kept')")
    await proxy.wait_cut()
    assert notes(database) == 1


async def test_a_lost_request_leaves_the_work_undone(proxied: tuple[Database, FaultProxy]) -> None:
    database, proxy = proxied
    async with await connect(database, proxy) as connection:
        proxy.lose_request()
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("INSERT INTO public.notes VALUES ('never sent')")
    assert notes(database) == 0


async def test_the_promised_bytes_pass_and_not_one_more() -> None:
    arrived = asyncio.Event()

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0123456789")
        await arrived.wait()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server, FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        proxy.lose_reply(after_bytes=4)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await reader.readexactly(4) == b"0123"
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        arrived.set()


async def test_a_cut_happens_once(proxied: tuple[Database, FaultProxy]) -> None:
    database, proxy = proxied
    async with await connect(database, proxy) as connection:
        proxy.lose_reply()
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT 1")
    async with await connect(database, proxy) as connection:
        await connection.execute("INSERT INTO public.notes VALUES ('served as before')")
    assert notes(database) == 1


async def test_a_black_hole_answers_nothing_and_healing_it_delivers(proxied: tuple[Database, FaultProxy]) -> None:
    database, proxy = proxied
    async with await connect(database, proxy) as connection:
        proxy.black_hole()
        pending = asyncio.create_task(connection.execute("INSERT INTO public.notes VALUES ('held')"))
        finished, _ = await asyncio.wait([pending], timeout=0.1)
        assert not finished
        assert notes(database) == 0
        proxy.heal()
        await pending
    assert notes(database) == 1


async def test_a_black_hole_takes_new_connections_and_ignores_them(proxied: tuple[Database, FaultProxy]) -> None:
    database, proxy = proxied
    proxy.black_hole()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connect(database, proxy)


async def test_latency_counts_once_each_way(proxied: tuple[Database, FaultProxy]) -> None:
    database, proxy = proxied
    loop = asyncio.get_running_loop()
    async with await connect(database, proxy) as connection:
        proxy.latency_s = 0.05
        began = loop.time()
        await connection.execute("SELECT 1")
        assert loop.time() - began >= 0.1
        proxy.latency_s = 0


async def test_a_reset_reaches_every_connection_even_in_a_black_hole(proxied: tuple[Database, FaultProxy]) -> None:
    database, proxy = proxied
    async with await connect(database, proxy) as one, await connect(database, proxy) as other:
        assert proxy.connections == 2
        proxy.black_hole()
        proxy.reset_all()
        for connection in (one, other):
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("SELECT 1")


async def test_a_server_that_is_not_there_is_a_reset() -> None:
    async with FaultProxy("127.0.0.1", free_port()) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


async def test_leaving_it_ends_what_is_still_open(proxied: tuple[Database, FaultProxy]) -> None:
    database, _ = proxied
    async with FaultProxy("127.0.0.1", database.port) as proxy:
        connection = await connect(database, proxy)
        proxy.black_hole()
    assert proxy.connections == 0
    await connection.close()
