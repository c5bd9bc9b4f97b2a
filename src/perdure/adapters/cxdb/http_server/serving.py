"""The interface on a socket of its own, inside a loop that runs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final

import uvicorn

from perdure.adapters.cxdb.endpoint import is_loopback
from perdure.adapters.cxdb.http_server.app import Access, CxdbHttpApp
from perdure.adapters.cxdb.http_server.limits import CONNECTIONS_MAX, HEAD_BYTES_MAX, REQUEST_TIMEOUT_S
from perdure.adapters.cxdb.http_server.serving_state import Served
from perdure.adapters.cxdb.server.settings import Profile
from perdure.domain.container import Space
from perdure.errors import Forbidden
from perdure.ports.environment import Clock
from perdure.ports.secrets import Secret
from perdure.ports.turns import TurnStore

HTTP_PORT_DEFAULT: Final = 9010  # where clients of the protocol look
_KEEP_ALIVE_S: Final = 300  # as long as servers of this protocol keep a connection that says nothing
_SHUTDOWN_S: Final = 10  # what is under way may finish
_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServer:
    """A server that listens."""

    host: str
    port: int


@contextlib.asynccontextmanager
async def serving_http(
    store: TurnStore,
    space: Space,
    *,
    clock: Clock,
    profile: Profile = Profile.IMPROVED,
    host: str = "127.0.0.1",
    port: int = HTTP_PORT_DEFAULT,
    allow_remote: bool = False,
    token: Secret | None = None,
    hosts: Collection[str] = (),
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> AsyncIterator[HttpServer]:
    """Serve the turns of a space over HTTP for as long as the block runs; ``port`` 0 takes any that is free.

    Whoever reaches the port may read and write everything in the space, unless there is a ``token``. An address that
    others reach is ``Forbidden`` without ``allow_remote``; with it, who may ask, and under which name, is for the
    gateway in front to say. ``hosts`` are further names under which this server may be asked. Raises ``OSError`` if the
    address cannot be had.
    """
    if not (allow_remote or is_loopback(host)):
        raise Forbidden(
            f"{ascii(host)[:80]} can be reached by others, and this server knows no people; serve on 127.0.0.1, or "
            "pass allow_remote=True behind a gateway that does"
        )
    names = frozenset(name.lower() for name in hosts)
    access = Access(token=token, hosts=names, any_host=allow_remote and not names)
    app = CxdbHttpApp(
        Served(store=store, space=space, clock=clock, profile=profile, timeout_s=timeout_s), access=access
    )
    listening = _listen(host, port)
    server = uvicorn.Server(_config(app))
    address = listening.getsockname()
    try:
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        # Its own loop would take the signals of this process; startup and shutdown are all that is needed.
        await server.startup(sockets=[listening])
        yield HttpServer(host=address[0], port=address[1])
    finally:
        if server.started:
            await server.shutdown(sockets=[listening])
        listening.close()


def _config(app: CxdbHttpApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        limit_concurrency=CONNECTIONS_MAX + 1,  # it counts to the one that is refused
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        proxy_headers=False,
    )


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
