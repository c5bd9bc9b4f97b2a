"""``perdure migrate``: brings a database's schema to this release, and says what it found."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from perdure.compose import migrate as compose_migrate
from perdure.compose.migrate import Applied, SchemaStatus, Target, Verification
from perdure.errors import Invalid

__all__ = ["migrate"]


def migrate(
    *,
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", help="The database, by a direct DSN; without it, the embedded one.", metavar="DSN"),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where the embedded server lives [default: .perdure].")
    ] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="lab, saas or enterprise; recorded by the first installation.")
    ] = None,
    env: Annotated[str | None, typer.Option("--env", help="Such as dev or prod; recorded with the mode.")] = None,
    to: Annotated[
        int | None, typer.Option("--to", min=0, help="Stop at this version; 0 is nothing.", metavar="VERSION")
    ] = None,
    down: Annotated[
        bool, typer.Option("--down", help="Undo what is newer than --to, and delete what it kept.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show what is applied and pending.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print a psql script instead of running anything.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the live schema with this release's; exit 1 if they differ.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring the schema of a database to this release.

    Several at once are safe: each migration is applied once, in a transaction of its own.
    """
    if sum((down, status, sql, verify)) > 1:
        raise Invalid("--down, --status, --sql and --verify are four different things; say one of them")
    target = Target(dsn=dsn, data_dir=data_dir)
    if sql:
        typer.echo(compose_migrate.script(mode=mode, env=env, to=to), nl=False)
    elif status:
        _show_status(asyncio.run(compose_migrate.schema_status(target)), as_json=as_json)
    elif verify:
        _show_verification(asyncio.run(compose_migrate.schema_verification(target)), as_json=as_json)
    elif down:
        _down(target, to=to, as_json=as_json)
    else:
        progress = None if as_json else _show_applied
        done = asyncio.run(compose_migrate.migrate_up(target, mode=mode, env=env, to=to, progress=progress))
        _show_done(done, nothing="the schema is up to date; nothing was applied", as_json=as_json)


def _down(target: Target, *, to: int | None, as_json: bool) -> None:
    if to is None:
        raise Invalid("--down deletes what the undone migrations kept; say how far: --to VERSION, or --to 0 for all")
    progress = None if as_json else _show_applied
    done = asyncio.run(compose_migrate.migrate_down(target, to=to, progress=progress))
    _show_done(done, nothing=f"nothing is newer than {to}; nothing was undone", as_json=as_json)


def _show_applied(one: Applied) -> None:
    typer.echo(f"{one.way:<4} {one.version} {one.name} ({one.duration_ms} ms)")


def _show_done(done: list[Applied], *, nothing: str, as_json: bool) -> None:
    if as_json:
        _print_json({"migrations": [_fields(one) for one in done]})
    elif not done:
        typer.echo(nothing)


def _fields(one: Applied) -> dict[str, object]:
    return {"version": one.version, "name": one.name, "way": one.way, "duration_ms": one.duration_ms}


def _show_status(found: SchemaStatus, *, as_json: bool) -> None:
    if as_json:
        _print_json(_status_fields(found))
        return
    for record in found.applied:
        note = "  CHANGED since" if record.version in found.changed else ""
        note = "  UNKNOWN to this release" if record.version in found.unknown else note
        typer.echo(f"{record.version} {record.name}  {record.applied_at:%Y-%m-%d %H:%M:%S %Z}{note}")
    for migration in found.pending:
        typer.echo(f"{migration.version} {migration.name}  pending")
    typer.echo(f"the schema is {found.state}: at {found.current or 'nothing'}, this release is at {found.head}")


def _status_fields(found: SchemaStatus) -> dict[str, object]:
    return {
        "state": found.state,
        "current": found.current,
        "head": found.head,
        "applied": [record.version for record in found.applied],
        "pending": [migration.version for migration in found.pending],
        "unknown": list(found.unknown),
        "changed": list(found.changed),
    }


def _show_verification(found: Verification, *, as_json: bool) -> None:
    if as_json:
        _print_json({**_status_fields(found.status), "ok": found.ok, "differences": list(found.differences)})
    elif found.ok:
        typer.echo(f"the schema is this release's, at {found.status.head}, and nothing was changed by hand")
    else:
        _show_status(found.status, as_json=False)
        for line in found.differences:
            typer.echo(line)
        typer.echo("the schema differs: lines with - are expected, lines with + are there")
    if not found.ok:
        raise typer.Exit(1)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))
