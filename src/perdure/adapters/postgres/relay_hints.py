"""LISTEN, on a connection of its own: a pooler hands connections around and drops what they listen to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perdure.adapters.postgres.dsns import pinned
from perdure.errors import BackendDown, Invalid, Refused

_CHANNEL: Final = "perdure_outbox"
_LISTEN: Final[LiteralString] = "LISTEN perdure_outbox"
_CONNECT_TIMEOUT_S: Final = 10
# A connection that nobody uses is where a dead network goes unnoticed: the kernel asks instead.
_KEEPALIVE: Final = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


async def listen(dsn: str) -> AsyncGenerator[None, None]:
    """Something whenever an effect may have been requested, from the moment of the first, which comes at once.

    Raises ``Refused`` when a pooler answers, ``Invalid`` for a DSN that cannot be read, ``BackendDown`` when nothing
    answers or the connection ends.
    """
    connection = await _connect(dsn)
    try:
        await _refuse_pooler(connection)
        await connection.execute(_LISTEN)
        # What was announced before we listened was not heard.
        yield None
        async for notice in connection.notifies():
            if notice.channel == _CHANNEL:
                yield None
    except psycopg.Error as exc:
        raise BackendDown("the connection that listens for effects ended") from exc
    finally:
        await connection.close()


async def check_listen_dsn(dsn: str) -> None:
    """Promise that ``listen`` will work with this DSN. Raises as it does."""
    connection = await _connect(dsn)
    try:
        await _refuse_pooler(connection)
    finally:
        await connection.close()


async def _connect(dsn: str) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    try:
        parts: dict[str, Any] = conninfo_to_dict(pinned(dsn))
    except psycopg.ProgrammingError:
        # libpq quotes what it could not read, which may be the password: its error must not be chained.
        raise Invalid("the listen DSN cannot be read; expected postgresql://user@host:port/database") from None
    for name, value in {"connect_timeout": _CONNECT_TIMEOUT_S, **_KEEPALIVE}.items():
        parts.setdefault(name, value)
    parts.setdefault("fallback_application_name", "perdure relay hints")
    try:
        return await psycopg.AsyncConnection.connect(make_conninfo(**parts), autocommit=True, prepare_threshold=None)
    except psycopg.Error as exc:
        raise BackendDown("PostgreSQL does not answer on the listen DSN; polling goes on without hints") from exc


async def _refuse_pooler(connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
    # A server announces its process at connect and names the same when asked; a pooler cannot, it announces something
    # before it has chosen a server.
    try:
        row = await (await connection.execute("SELECT pg_catalog.pg_backend_pid()")).fetchone()
    except psycopg.Error as exc:
        raise BackendDown("the connection that listens for effects ended") from exc
    if row is None or row[0] != connection.info.backend_pid:
        raise Refused(
            f"{connection.info.host}:{connection.info.port} is a connection pooler, which drops LISTEN; give the "
            "server itself as listen_dsn (--listen-dsn), or none to go by polling alone",
            code="pooled_dsn",
        )
