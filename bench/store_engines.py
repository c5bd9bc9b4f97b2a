"""The engines under the routed stores: a backend over each, and the engine's own bare write as the floor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]  # the vendor ships no types
import psycopg
from azure.cosmos.aio import CosmosClient
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from bench.floors import install_bare
from bench.server import Server
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.filesystem.driver import FilesystemDriver
from perdure.adapters.firestore.driver import FirestoreDriver
from perdure.adapters.memory.driver import MemoryDriver
from perdure.adapters.postgres.backend import PostgresBackend
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.adapters.sqlite.driver import SqliteDriver
from perdure.core.environment import system_environment
from perdure.ports.backend import Backend
from perdure.ports.documents import DocumentDriver
from tests.support.cosmos import KEY, CosmosServer, find_modules
from tests.support.dynamodb import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, DynamoDbServer, find_engine
from tests.support.firestore import FakeServer

Bare = Callable[[str], Awaitable[object]]
"""One bare write of about a kilobyte under a key that nobody used before."""

CONTENT = "x" * 1_000

_databases = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A backend and the bare write of what is under it. ``emulator``: its times are an emulator's, not a vendor's."""

    name: str
    backend: Backend
    bare: Bare
    emulator: bool = False


@asynccontextmanager
async def memory(server: Server) -> AsyncIterator[Engine]:
    """Memory: the floor is a dictionary."""
    del server
    found: dict[str, str] = {}

    async def bare(key: str) -> None:
        found[key] = CONTENT

    async with documents(MemoryDriver()) as backend:
        yield Engine(name="memory", backend=backend, bare=bare)


@asynccontextmanager
async def filesystem(server: Server) -> AsyncIterator[Engine]:
    """A directory: the floor is a write and an fdatasync on the same disk, in a thread."""
    folder = Path(tempfile.mkdtemp(prefix="filesystem-", dir=server.directory.parent))
    with ThreadPoolExecutor(1) as thread, open_file(folder / "bare") as descriptor:
        loop = asyncio.get_running_loop()

        def write(key: str) -> None:
            os.write(descriptor, (key + CONTENT).encode())
            os.fdatasync(descriptor)

        async def bare(key: str) -> None:
            await loop.run_in_executor(thread, write, key)

        async with documents(FilesystemDriver(folder / "store")) as backend:
            yield Engine(name="filesystem", backend=backend, bare=bare)


@asynccontextmanager
async def sqlite(server: Server) -> AsyncIterator[Engine]:
    """One file: the floor is an INSERT of one row, committed, in a thread."""
    folder = Path(tempfile.mkdtemp(prefix="sqlite-", dir=server.directory.parent))
    with ThreadPoolExecutor(1) as thread:
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(thread, _bare_file, folder / "bare.db")

        async def bare(key: str) -> None:
            await loop.run_in_executor(thread, connection.execute, "INSERT INTO bare VALUES (?, ?)", (key, CONTENT))

        async with documents(SqliteDriver(folder / "store.db")) as backend:
            yield Engine(name="sqlite", backend=backend, bare=bare)
        await loop.run_in_executor(thread, connection.close)


@asynccontextmanager
async def postgres(server: Server) -> AsyncIterator[Engine]:
    """PostgreSQL: the floor is an INSERT of one row, autocommitted."""
    database = await server.create_database(f"stores_{next(_databases)}")
    install_bare(server, database=database)
    dsn = server.dsn("app", database=database)
    async with AsyncExitStack() as stack:
        session = Session(dsn, settings=PoolSettings())
        await session.open()
        environment = system_environment()
        backend = PostgresBackend(session, mode="lab", env="dev", environment=environment, owns_session=True)
        stack.push_async_callback(backend.close)
        connection = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None)
        )
        content = f'{{"content": "{CONTENT}"}}'
        statement = "INSERT INTO floor.bare VALUES (gen_random_uuid(), %s::jsonb)"

        async def bare(_key: str) -> None:
            await connection.execute(statement, (content,))

        yield Engine(name="postgres", backend=backend, bare=bare)


@asynccontextmanager
async def dynamodb(server: Server) -> AsyncIterator[Engine]:
    """DynamoDB's local engine: the floor is a PutItem by the vendor's client, in a thread."""
    del server
    folder = find_engine()
    if folder is None:
        raise FileNotFoundError("the engine is not installed; run tools/engines")
    engine = DynamoDbServer(folder)
    try:
        with ThreadPoolExecutor(1) as thread:
            loop = asyncio.get_running_loop()
            client = boto3.client(
                "dynamodb",
                region_name=REGION,
                endpoint_url=engine.endpoint,
                aws_access_key_id=ACCESS_KEY_ID.reveal(),
                aws_secret_access_key=SECRET_ACCESS_KEY.reveal(),
            )
            table = engine.new_table()
            driver = engine.driver(table, clock=system_environment().clock)

            def put(key: str) -> None:
                client.put_item(TableName=table, Item={"pk": {"S": "bare"}, "sk": {"S": key}, "b": {"S": CONTENT}})

            async def bare(key: str) -> None:
                await loop.run_in_executor(thread, put, key)

            async with documents(driver) as backend:
                yield Engine(name="dynamodb", backend=backend, bare=bare, emulator=True)
    finally:
        engine.discard()


@asynccontextmanager
async def firestore_fake(server: Server) -> AsyncIterator[Engine]:
    """Our fake of Firestore: the floor is a create by the vendor's client."""
    del server
    engine = FakeServer()
    try:
        project = engine.new_project()
        # The vendor's client finds an emulator by this variable and in no other way; ours does not look at it.
        os.environ["FIRESTORE_EMULATOR_HOST"] = engine.endpoint
        client = firestore.AsyncClient(project=project, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]

        async def bare(key: str) -> None:
            await client.collection("bare").document(key).create({"content": CONTENT})

        clock = system_environment().clock
        async with documents(FirestoreDriver(project=project, endpoint=engine.endpoint, clock=clock)) as backend:
            yield Engine(name="firestore", backend=backend, bare=bare, emulator=True)
    finally:
        os.environ.pop("FIRESTORE_EMULATOR_HOST", None)
        engine.discard()


@asynccontextmanager
async def cosmos(server: Server) -> AsyncIterator[Engine]:
    """The repaired emulator of Cosmos: the floor is a create by the vendor's client."""
    del server
    modules = find_modules()
    if modules is None:
        raise FileNotFoundError("the emulator is not installed; run tools/engines")
    engine = CosmosServer(modules)
    try:
        database = engine.new_database()
        async with (
            documents(engine.driver(database)) as backend,
            CosmosClient(engine.endpoint, KEY, enable_endpoint_discovery=False) as client,
        ):
            container = client.get_database_client(database).get_container_client("perdure")

            async def bare(key: str) -> None:
                await container.create_item({"id": key, "p": "bare", "content": CONTENT})

            yield Engine(name="cosmos", backend=backend, bare=bare, emulator=True)
    finally:
        engine.discard()


ENGINES = (memory, filesystem, sqlite, postgres, dynamodb, firestore_fake, cosmos)


@asynccontextmanager
async def documents(driver: DocumentDriver) -> AsyncIterator[DocumentBackend]:
    """A backend over a driver, open."""
    backend = DocumentBackend(driver, mode="lab", env="dev", environment=system_environment())
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[int]:
    """The descriptor of a file that is appended to."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _bare_file(path: Path) -> Any:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE bare (key TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID")
    return connection
