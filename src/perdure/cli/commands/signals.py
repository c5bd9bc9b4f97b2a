"""``perdure signals``: what came in from outside."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from perdure.cli import output
from perdure.cli.target import (
    DATA_DIR_DEFAULT,
    AsJson,
    Cursor,
    DataDir,
    Dsn,
    Env,
    Limit,
    Mode,
    Settings,
    TenantName,
    moment,
    opened_tenant,
)
from perdure.domain.run import SignalStatus, SignalType

app = typer.Typer(name="signals", help="List signals by status, type and age.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """List signals by status, type and age."""


@app.command("list")
def list_signals(
    *,
    status: Annotated[SignalStatus | None, typer.Option("--status", case_sensitive=False)] = None,
    signal_type: Annotated[SignalType | None, typer.Option("--type", case_sensitive=False)] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="Received before then: 15m, 24h, or a time.")
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List signals, the newest first. What waits too long: --status PENDING --older-than 15m."""

    async def listed() -> Any:
        """One page, from one plane."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.signals.list(
                status=status,
                signal_type=signal_type,
                received_before=moment(older_than, option="--older-than"),
                cursor=cursor,
                limit=limit,
            )

    page = asyncio.run(listed())
    if as_json:
        output.print_json(output.page_fields(page))
        return
    rows = (
        (one.received_at, one.status, one.signal_type, f"{one.source_channel}/{one.source_id}", one.id) for one in page
    )
    output.print_table(("RECEIVED", "STATUS", "TYPE", "SOURCE", "ID"), rows)
    output.print_page_end(page, nothing="no signal is like that")
