"""``perdure events``: the event log as it grows."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from perdure.cli import output
from perdure.cli.target import (
    DATA_DIR_DEFAULT,
    AsJson,
    DataDir,
    Dsn,
    Env,
    Limit,
    Mode,
    Settings,
    TenantName,
    opened_tenant,
)
from perdure.domain.event import Event

app = typer.Typer(name="events", help="Look at the event log, and follow it.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """Look at the event log, and follow it."""


@app.command()
def tail(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until interrupted.")] = False,
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="Begin after this number instead of near the end.")
    ] = None,
    limit: Limit = 20,
    poll_s: Annotated[float, typer.Option("--poll-s", min=0.05, help="Seconds between two looks.")] = 0.5,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show the last events, or those after a number; numbers are dense, so that nothing can be missed.

    With --follow --json each event is a line of its own.
    """

    async def read() -> None:
        """What is shown, from one plane."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            start = after if after is not None else max(0, await acme.events.last_number() - limit)
            if follow:
                async for event in acme.events.follow(after=start, poll_s=poll_s):
                    _show(event, as_json=as_json)
                return
            events = await acme.events.after(start, limit=limit)
            if as_json:
                output.print_json({"items": list(events)})
            else:
                for event in events:
                    _show(event, as_json=False)

    asyncio.run(read())


def _show(event: Event, *, as_json: bool) -> None:
    if as_json:
        output.print_json(event, compact=True)
        return
    typer.echo(
        f"{event.sequence_number:>8}  {output.plain(event.occurred_at)}  {event.event_type:<26} "
        f"{output.plain(event.actor)}  {event.aggregate_type} {event.aggregate_id}{_detail(event.event_data)}"
    )


def _detail(content: dict[str, Any]) -> str:
    words = [content[key] for key in ("name", "tool_name", "effect_type", "exit_reason", "reason") if content.get(key)]
    return "".join(f"  {output.plain(word)}" for word in words[:2])
