"""``perdure telemetry``: what was seen on the way, read back, and how much of it there is."""

from __future__ import annotations

import asyncio
from collections import Counter
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
    Mode,
    Settings,
    TenantName,
    opened_tenant,
)
from perdure.domain.telemetry import LOGS_PAGE_MAX

app = typer.Typer(name="telemetry", help="Entries about units and instances.", no_args_is_help=True)

Unit = Annotated[str | None, typer.Option("--unit", help="Only those of this unit.", metavar="ID")]
Instance = Annotated[str | None, typer.Option("--instance", help="Only those of this instance.", metavar="ID")]
Type = Annotated[str | None, typer.Option("--type", help="Only those of this type, as in ERROR.", metavar="TYPE")]


@app.callback()
def options() -> None:
    """Entries about units and instances."""


@app.command(name="list")
def list_(
    *,
    unit: Unit = None,
    instance: Instance = None,
    type_: Type = None,
    cursor: Cursor = None,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=LOGS_PAGE_MAX, help="How many at most.")] = 100,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List entries in the order in which they were made."""

    async def read() -> Any:
        """One page."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.telemetry.logs(
                unit=unit, instance=instance, type=type_, after=cursor, limit=limit, reverse=newest
            )

    page = asyncio.run(read())
    if as_json:
        output.print_json(output.page_fields(page))
        return
    output.print_table(
        ("WHEN", "TYPE", "INSTANCE", "UNIT", "ACTOR", "ID"),
        [
            (one.timestamp, one.log_type.value, one.instance_id, one.unit_id or "-", one.actor_id or "-", one.entry_id)
            for one in page.items
        ],
    )
    output.print_page_end(page, nothing="no telemetry")


@app.command()
def stats(
    *,
    unit: Unit = None,
    instance: Instance = None,
    newest: Annotated[
        int, typer.Option("--newest", min=1, max=100_000, help="How many are looked at, the newest first.")
    ] = 10_000,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Count what is kept, by type. What is buffered only its own program can say: ``plane.telemetry.stats()``."""

    async def count() -> dict[str, Any]:
        """Page after page."""
        counted: Counter[str] = Counter()
        oldest = latest = None
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            after: str | None = None
            while sum(counted.values()) < newest:
                page = await acme.telemetry.logs(
                    unit=unit,
                    instance=instance,
                    after=after,
                    limit=min(newest - sum(counted.values()), LOGS_PAGE_MAX),
                    reverse=True,
                )
                counted.update(one.log_type.value for one in page.items)
                if page.items:
                    latest = latest if latest is not None else page.items[0].timestamp
                    oldest = page.items[-1].timestamp
                after = page.next_cursor
                if after is None:
                    break
        entries = sum(counted.values())
        by_type = dict(sorted(counted.items()))
        return {"entries": entries, "complete": after is None, "by_type": by_type, "oldest": oldest, "latest": latest}

    found = asyncio.run(count())
    if as_json:
        output.print_json(found)
        return
    output.print_table(("TYPE", "ENTRIES"), list(found["by_type"].items()))
    if not found["entries"]:
        typer.echo("no telemetry")
    elif not found["complete"]:
        typer.echo(f"the newest {found['entries']} entries; there are more")
