"""Serving CXDB's protocol over turns: those of a tenant of a plane, or of a store of their own."""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from perdure.adapters.cxdb.endpoint import is_loopback
from perdure.adapters.cxdb.server import Profile, ServerSettings, serving
from perdure.adapters.postgres.admission import PostgresAdmission
from perdure.adapters.postgres.backend import PostgresBackend
from perdure.compose.backends import filesystem, memory
from perdure.compose.database import check_plane, database, refuse_privileged, session
from perdure.compose.documents import extra_is_missing
from perdure.compose.plane import open_plane
from perdure.config import DATA_DIR_DEFAULT, make_config
from perdure.core.environment import system_environment
from perdure.core.objects import StoreBlobs
from perdure.core.scoped_turns import ScopedTurns
from perdure.core.secrets import SystemSecrets
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import PROJECT_DEFAULT, Space
from perdure.domain.scope import make_scope
from perdure.errors import Forbidden, Invalid, Unavailable
from perdure.ports.backend import Backend, BackendRequest
from perdure.ports.environment import Environment
from perdure.ports.rows import RowStore
from perdure.ports.secrets import Secret
from perdure.ports.turns import TurnStore

ACTOR: Final = "system:cxdb"
TENANT_DEFAULT: Final = "t_cxdb"  # of a store that has no others
EXTRA: Final = "cxdb"
MEMORY: Final = "memory://"
_DSN: Final = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What to serve, and where.

    ``store`` is ``memory://``, a directory, or a PostgreSQL DSN; None means the embedded plane under ``data_dir``.
    ``http_port`` None leaves HTTP out. ``token`` is what HTTP clients must send.
    """

    profile: str = "improved"
    host: str = "127.0.0.1"
    port: int = 9009
    http_port: int | None = 9010
    store: str | None = None
    tenant: str = TENANT_DEFAULT
    project: str = PROJECT_DEFAULT
    mode: str | None = None
    env: str | None = None
    data_dir: Path = Path(DATA_DIR_DEFAULT)
    settings: Path | None = None
    allow_remote: bool = False
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where it is served. ``http_port`` is None without HTTP."""

    host: str
    port: int
    http_port: int | None


@asynccontextmanager
async def served(wanted: Serving) -> AsyncIterator[Listening]:
    """CXDB's protocol, for as long as the block lasts; then what is under way is finished.

    The strict profile numbers turns as CXDB does and so must be the only writer: it goes to the store itself, by no
    route, and HTTP goes through it, so that both ports show the same ids. Raises ``Invalid``, ``Forbidden`` for an
    address that others reach, ``Unsupported`` without the extra that HTTP needs, ``BackendDown``, and ``Unavailable``
    (``port_in_use``) for a port that is taken.
    """
    profile = _profile(wanted.profile)
    _refuse_remote(wanted)
    serving_http = None if wanted.http_port is None else _http()
    token = await _token(wanted)
    environment = system_environment()
    async with AsyncExitStack() as stack:
        store, space, rows = await stack.enter_async_context(_opened(wanted, profile, environment))
        settings = ServerSettings(profile=profile, host=wanted.host, port=wanted.port)
        with _listening(wanted.host, wanted.port, option="--port"):
            binary = await stack.enter_async_context(serving(store, space, settings=settings, rows=rows))
        http_port: int | None = None
        if serving_http is not None and wanted.http_port is not None:
            http = serving_http(
                binary.turns,
                space,
                clock=environment.clock,
                profile=profile,
                host=wanted.host,
                port=wanted.http_port,
                allow_remote=wanted.allow_remote,
                token=token,
            )
            with _listening(wanted.host, wanted.http_port, option="--http-port"):
                http_port = (await stack.enter_async_context(http)).port
        yield Listening(host=binary.host, port=binary.port, http_port=http_port)


def _http() -> Callable[..., AbstractAsyncContextManager[Any]]:
    try:
        module = importlib.import_module("perdure.adapters.cxdb.http_server.serving")
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.partition(".")[0] == "perdure":
            raise
        raise extra_is_missing("cxdb-serve with HTTP", EXTRA, exc) from exc
    serving_http: Callable[..., AbstractAsyncContextManager[Any]] = module.serving_http
    return serving_http


def _refuse_remote(wanted: Serving) -> None:
    # The binary protocol has no passwords at all, so this is not for HTTP alone.
    if not (wanted.allow_remote or is_loopback(wanted.host)):
        raise Forbidden(
            f"{ascii(wanted.host)[:80]} can be reached by others, and CXDB's protocol asks no one who he is; serve on "
            "127.0.0.1, or allow it (--allow-remote) behind a gateway that does"
        )


@contextmanager
def _listening(host: str, port: int, *, option: str) -> Iterator[None]:
    """What goes wrong between a server and its address, as Perdure's errors."""
    where = f"cannot listen on {ascii(host)[1:-1][:80]} port {port} ({option})"
    facts: dict[str, Any] = {"host": host[:80], "port": port}
    try:
        yield
    except socket.gaierror as exc:
        raise Invalid(f"{where}: no such address; name one of this machine, as 127.0.0.1", **facts) from exc
    except OSError as exc:
        match exc.errno:
            case errno.EADDRINUSE:
                said = "it is in use; stop the program that has it, or choose another port"
                raise Unavailable(f"{where}: {said}", code="port_in_use", **facts) from exc
            case errno.EADDRNOTAVAIL:
                raise Invalid(f"{where}: this machine has no such address; name one of its own", **facts) from exc
            case errno.EACCES | errno.EPERM:
                said = "this user may not; choose a port from 1024 on"
                raise Forbidden(f"{where}: {said}", **facts) from exc
            case _:
                raise Unavailable(f"{where}: {os.strerror(exc.errno) if exc.errno else exc}", **facts) from exc


@asynccontextmanager
async def _opened(
    wanted: Serving, profile: Profile, environment: Environment
) -> AsyncIterator[tuple[TurnStore, Space, RowStore | None]]:
    is_database = wanted.store is None or wanted.store.startswith(_DSN)
    if is_database and profile is Profile.IMPROVED:
        async with open_plane(
            wanted.store,
            data_dir=wanted.data_dir,
            mode=wanted.mode,
            env=wanted.env,
            settings=wanted.settings,
            environment=environment,
        ) as plane:
            tenant = plane.scope(wanted.tenant, actor=ACTOR, project=wanted.project)
            yield ScopedTurns(tenant.turns, tenant.scope.space), tenant.scope.space, None
        return
    opened = _database(wanted, environment) if is_database else _alone(wanted, environment)
    async with opened as (backend, space):
        parts = TurnParts(backend.logs, backend.rows, environment=environment, sleep=asyncio.sleep)
        yield StoredTurns(parts, StoreBlobs(_objects(backend))), space, backend.rows


@asynccontextmanager
async def _database(wanted: Serving, environment: Environment) -> AsyncIterator[tuple[Backend, Space]]:
    config = make_config(wanted.store, data_dir=wanted.data_dir, mode=wanted.mode, env=wanted.env)
    async with database(config) as dsns, session(dsns.app, config, role="app") as app:
        await check_plane(app, config)
        await refuse_privileged(app)
        scope = make_scope(wanted.tenant, actor=ACTOR, mode=config.mode, env=config.env, project=wanted.project)
        await PostgresAdmission(app).admit(scope)
        yield (
            PostgresBackend(app, mode=config.mode, env=config.env, owns_session=False, environment=environment),
            scope.space,
        )


@asynccontextmanager
async def _alone(wanted: Serving, environment: Environment) -> AsyncIterator[tuple[Backend, Space]]:
    """A store of its own, in memory or in a directory; for this machine, and so lab."""
    mode, env = wanted.mode or "lab", wanted.env or "dev"
    scope = make_scope(wanted.tenant, actor=ACTOR, mode=mode, env=env, project=wanted.project)
    request = BackendRequest(
        config={} if wanted.store == MEMORY else {"directory": str(wanted.store)},
        mode=scope.mode,
        env=env,
        data_dir=Path(),  # a directory is named as the user sees it
        secrets=SystemSecrets(os.environ),
        environment=environment,
        timeout_s=30.0,
    )
    start = memory.starter() if wanted.store == MEMORY else filesystem.start
    backend = await start(request)
    try:
        yield backend, scope.space
    finally:
        await backend.close()


def _objects(backend: Backend) -> Any:
    if backend.objects is None:
        raise extra_is_missing("cxdb-serve", "objects", ModuleNotFoundError("", name="obstore"))
    return backend.objects


def _profile(name: str) -> Profile:
    try:
        return Profile(name)
    except ValueError:
        names = " or ".join(one.value for one in Profile)
        raise Invalid(f"{ascii(name)[:40]} is not a profile; expected {names}") from None


async def _token(wanted: Serving) -> Secret | None:
    return None if wanted.token is None else await SystemSecrets(os.environ).resolve(wanted.token)
