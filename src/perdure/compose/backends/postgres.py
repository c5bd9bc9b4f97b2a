"""PostgreSQL: the plane's own database, or another one of yours."""

from __future__ import annotations

from functools import partial

from perdure.adapters.postgres.backend import PostgresBackend
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.compose.backends import Lent
from perdure.compose.database import check_database, refuse_privileged
from perdure.compose.documents import secret
from perdure.domain.kinds import Kind
from perdure.ports.backend import STORED, Backend, BackendRequest, BackendSpec, ConfigField


def spec(lent: Lent) -> BackendSpec:
    """The backend ``postgres``; with an empty config it is the database that the plane was opened on."""
    return BackendSpec(
        name="postgres",
        lab_only=False,
        config=(ConfigField(name="dsn", type="secret", about="another database, migrated; left out: the plane's own"),),
        open=partial(_start, lent),
        kinds=STORED | {Kind.OBJECTS},
        cost_notes="what the server costs",
    )


async def _start(lent: Lent, request: BackendRequest) -> Backend:
    dsn = await secret(request, "dsn")
    if dsn is None:
        return PostgresBackend(
            lent.session, mode=request.mode, env=request.env, owns_session=False, environment=request.environment
        )
    session = Session(dsn.reveal(), settings=PoolSettings(timeout_s=request.timeout_s))
    await session.open()
    try:
        await check_database(session, mode=request.mode, env=request.env)
        await refuse_privileged(session)
    except BaseException:
        await session.close()
        raise
    return PostgresBackend(
        session, mode=request.mode, env=request.env, owns_session=True, environment=request.environment
    )
