"""A session of ten thousand messages: appending to it and reading a window of it costs what it did at first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import perdure
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.adapters.postgres.backend import PostgresBackend
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.compose import documents
from perdure.core.environment import system_environment
from perdure.core.memory import Memory
from perdure.domain.log import APPEND_ENTRIES_MAX
from perdure.ports.documents import DocumentDriver
from perdure.testing.driver_faults import FaultyDriver
from perdure.testing.routed import given, routed_plane
from tests.support.databases import DIRECT, Database, engines
from tests.support.places import Place

MESSAGES = 10_000
MESSAGES_EMULATED = 700  # emulators take minutes for more
USER = "u_1"
LONG, SHORT = "long", "short"
EMULATED = ("dynamodb", "firestore", "cosmos")

Count = Callable[[], int]
Deed = Callable[[], Awaitable[object]]
OpenMemory = Callable[[], Any]


def message(number: int) -> perdure.Message:
    return perdure.Message(role="user", content={"number": number}, message_id=f"m{number}")


async def fill(memory: Memory, session: str, first: int, last: int) -> None:
    for start in range(first, last + 1, APPEND_ENTRIES_MAX):
        batch = [message(number) for number in range(start, min(start + APPEND_ENTRIES_MAX, last + 1))]
        kept = await memory.append(session, *batch, user=USER)
        assert kept[-1].sequence == batch[-1].content["number"]  # type: ignore[call-overload, index]  # an object


async def check_windows(memory: Memory, session: str, count: int) -> None:
    """The newest, those in the middle, those that fit, and all of them in order."""
    newest = await memory.window(session, user=USER, last=50)
    assert [one.sequence for one in newest.messages] == list(range(count - 49, count + 1))
    assert newest.session.sequence == count
    small = await memory.window(session, user=USER, last=50, bytes_max=1)
    assert [one.content for one in small.messages] == [{"number": count}]
    seen: list[int | None] = []
    cursor: str | None = None
    more = True
    while more:
        window = await memory.window(session, user=USER, after=cursor, limit=500)
        seen += [one.sequence for one in window.messages]
        assert [one.message_id for one in window.messages] == [f"m{one.sequence}" for one in window.messages]
        cursor, more = window.next_cursor, window.has_more
    assert seen == list(range(1, count + 1))


async def costs(open_memory: OpenMemory, session: str, count: int) -> dict[str, int]:
    """Round trips of each thing that is done with a session of so many messages, which is two longer afterwards."""
    found: dict[str, int] = {}
    async with open_memory() as (memory, counted):

        async def cost(what: str, deed: Deed) -> None:
            before = counted()
            await deed()
            found[what] = counted() - before

        # The first append of a process has to find where the session ends.
        await cost("first append", lambda: memory.append(session, message(count + 1), user=USER))
        await cost("append", lambda: memory.append(session, message(count + 2), user=USER))
        await cost("append again", lambda: memory.append(session, message(count + 2), user=USER))
        await cost("newest", lambda: memory.window(session, user=USER, last=1))
        await cost("session", lambda: memory.get_session(session, user=USER))
        cursor = (await memory.window(session, user=USER, last=1)).next_cursor
        await cost("nothing new", lambda: memory.window(session, user=USER, after=cursor))
    return found


async def check_costs(open_memory: OpenMemory, messages: int) -> None:
    """What is the same for a session of one message and for one of so many."""
    async with open_memory() as (memory, _):
        await fill(memory, SHORT, 1, 1)
        await fill(memory, LONG, 1, messages)
        await check_windows(memory, LONG, messages)
    at_first = await costs(open_memory, SHORT, 1)
    assert at_first["append"] == 1
    assert await costs(open_memory, LONG, messages) == at_first
    async with open_memory() as (memory, _):
        assert (await memory.get_session(LONG, user=USER)).sequence == messages + 2


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("place", "messages"),
    [
        *(pytest.param(backend, MESSAGES, id=backend) for backend in ("filesystem", "sqlite")),
        *(pytest.param(backend, MESSAGES_EMULATED, id=backend) for backend in EMULATED),
        *(pytest.param(backend, MESSAGES, id=f"{backend}-10000", marks=pytest.mark.soak) for backend in EMULATED),
    ],
    indirect=["place"],
)
async def test_a_session_of_ten_thousand_messages_costs_as_many_operations_as_one_of_one(
    database: Database, place: Place, messages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers: list[FaultyDriver] = []

    def counting(driver: DocumentDriver, **named: Any) -> DocumentBackend:
        drivers.append(FaultyDriver(driver))
        return DocumentBackend(drivers[-1], **named)

    monkeypatch.setattr(documents, "DocumentBackend", counting)

    @asynccontextmanager
    async def open_memory() -> AsyncIterator[tuple[Memory, Count]]:
        # The registry is in the database, so that nothing but memory is in this backend.
        async with perdure.open(database.dsn("app"), mode="lab", env="dev", timeout_s=120) as plane:
            acme = plane.scope("t_acme", actor="agent:writer")
            await acme.routes.set("memory", place.backend, config=place.config)
            await acme.memory.find_session("nothing", user=USER)
            yield acme.memory, drivers[-1].operations.total

    await check_costs(open_memory, messages)


class CountingProxy:
    """Stands before a server and counts how often a client waited for it: whenever its answer to something begins."""

    def __init__(self, port: int) -> None:
        self.turns = 0
        self.port = 0
        self._upstream = port
        self._links: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[CountingProxy]:
        """Listen for as long as the block lasts."""
        server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            while self._links:
                await asyncio.wait(self._links)

    async def _link(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        asked = False

        async def ask() -> None:
            nonlocal asked
            while chunk := await client.read(65_536):
                asked = True
                to_server.write(chunk)
            to_server.close()

        async def answer() -> None:
            nonlocal asked
            while chunk := await server.read(65_536):
                self.turns += asked
                asked = False
                to_client.write(chunk)
            to_client.close()

        tasks = {asyncio.create_task(ask()), asyncio.create_task(answer())}
        self._links |= tasks
        await asyncio.wait(tasks)
        self._links -= tasks


@engines(*DIRECT)
async def test_a_session_of_ten_thousand_messages_costs_postgresql_as_many_round_trips_as_one_of_one(
    database: Database,
) -> None:
    registry = DocumentBackend(MemoryDriver(MemoryStore()), mode="lab", env="dev", environment=system_environment())
    await registry.open()
    proxy = CountingProxy(database.port)

    @asynccontextmanager
    async def open_memory() -> AsyncIterator[tuple[Memory, Count]]:
        dsn = database.dsn("app").replace(f":{database.port}/", f":{proxy.port}/")
        session = Session(f"{dsn}?sslmode=disable&gssencmode=disable", settings=PoolSettings(connections_max=1))
        await session.open()
        environment = system_environment()
        backend = PostgresBackend(session, mode="lab", env="dev", environment=environment, owns_session=True)
        # Without a plane's background and admission, which would be counted too.
        async with routed_plane([given("main", backend)], registry.routes, environment=environment) as plane:
            acme = plane.tenant("t_acme")
            await acme.routes.set("memory", "main")
            await acme.memory.find_session("nothing", user=USER)
            yield acme.memory, lambda: proxy.turns
        await backend.close()

    async with perdure.open(database.dsn("app"), mode="lab", env="dev") as plane:
        await plane.scope("t_acme", actor="agent:writer").tables.find("nothing", "nothing")  # makes the tenant
    async with proxy.running():
        await check_costs(open_memory, MESSAGES)
    await registry.close()
