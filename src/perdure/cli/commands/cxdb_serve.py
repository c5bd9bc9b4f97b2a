"""``perdure cxdb-serve``: CXDB's protocol over turns, for clients that speak it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from perdure.cli.target import DATA_DIR_DEFAULT, DataDir, Env, Mode, Settings
from perdure.compose.cxdb import TENANT_DEFAULT, Listening, Serving, served


def cxdb_serve(
    *,
    profile: Annotated[
        str, typer.Option("--profile", help="improved, or strict: as CXDB's own server answers, to the byte.")
    ] = "improved",
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The binary protocol; 0 takes a free one.")] = (
        9009
    ),
    http_port: Annotated[int, typer.Option("--http-port", min=0, max=65535, help="HTTP; 0 takes a free one.")] = 9010,
    no_http: Annotated[bool, typer.Option("--no-http", help="Serve the binary protocol only.")] = False,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="memory://, a directory, or a PostgreSQL DSN.",
            metavar="STORE",
            show_default="the plane under --data-dir",
        ),
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose turns.", metavar="t_NAME")] = TENANT_DEFAULT,
    project: Annotated[str, typer.Option("--project", help="Which of the tenant's projects.")] = "default",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen where others reach it; they need a gateway in front.")
    ] = False,
    token: Annotated[
        str | None, typer.Option("--token", help="What HTTP clients must send, as secret://env/NAME.", metavar="SECRET")
    ] = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say where it listens as one JSON object.")] = False,
) -> None:
    """Serve turns to clients of CXDB until it is stopped; Ctrl-C finishes what is under way.

    The protocol has no passwords. Keep it on this machine or behind something that asks for one.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    wanted = Serving(
        profile=profile,
        host=host,
        port=port,
        http_port=None if no_http else http_port,
        store=store,
        tenant=tenant,
        project=project,
        mode=mode,
        env=env,
        data_dir=Path(data_dir),
        settings=settings,
        allow_remote=allow_remote,
        token=token,
    )
    asyncio.run(_serve(wanted, as_json=as_json))


async def _serve(wanted: Serving, *, as_json: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with served(wanted) as listening:
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, stopped.set)
        typer.echo(_said(listening, wanted, as_json=as_json))
        await stopped.wait()
        typer.echo("stopping; what is under way is finished first", err=True)
    typer.echo("stopped", err=True)


def _said(listening: Listening, wanted: Serving, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"host": listening.host, "port": listening.port, "http_port": listening.http_port})
    http = "" if listening.http_port is None else f", HTTP on port {listening.http_port}"
    return f"turns of {wanted.tenant} are served on {listening.host}:{listening.port} ({wanted.profile}){http}"
