"""``perdure pg``: the embedded PostgreSQL server by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, get_args

import typer

from perdure.compose.embedded import (
    BackupReport,
    ClusterState,
    ClusterStatus,
    EmbeddedRole,
    embedded_backup,
    embedded_dsn,
    embedded_restore,
    embedded_start,
    embedded_status,
    embedded_stop,
)
from perdure.errors import PerdureError

app = typer.Typer(
    name="pg",
    help="The embedded PostgreSQL server: start, stop, look, connect, back up, restore.",
    no_args_is_help=True,
)


class Role(StrEnum):
    """The database's roles, by their short names."""

    OWNER = "owner"
    APP = "app"
    RELAY = "relay"
    MAINTENANCE = "maintenance"


DataDir = Annotated[Path, typer.Option("--data-dir", help="The data directory.", show_default="./.perdure")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_DEFAULT_DIR = Path(".perdure")
_SHORT: dict[Role, EmbeddedRole] = {Role(name): name for name in get_args(EmbeddedRole)}


@app.command()
def start(data_dir: DataDir = _DEFAULT_DIR, *, as_json: AsJson = False) -> None:
    """Start the server and keep it running without users until `perdure pg stop`."""
    with _errors_told():
        _show_status(asyncio.run(embedded_start(data_dir)), as_json=as_json)


@app.command()
def stop(
    data_dir: DataDir = _DEFAULT_DIR,
    *,
    force: Annotated[bool, typer.Option("--force", help="Stop it under the processes that use it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the server; while processes use it, the last of them stops it."""
    with _errors_told():
        _show_status(asyncio.run(embedded_stop(data_dir, force=force)), as_json=as_json)


@app.command()
def status(data_dir: DataDir = _DEFAULT_DIR, *, as_json: AsJson = False) -> None:
    """Say what the server is doing; starts and changes nothing."""
    with _errors_told():
        _show_status(embedded_status(data_dir), as_json=as_json)


@app.command()
def dsn(
    data_dir: DataDir = _DEFAULT_DIR,
    *,
    role: Annotated[Role, typer.Option("--role", help="Whom to connect as.")] = Role.APP,
    as_json: AsJson = False,
) -> None:
    """Print how to connect to the running server, as in: psql "$(perdure pg dsn --role owner)"."""
    with _errors_told():
        found = embedded_dsn(data_dir, role=_SHORT[role])
    typer.echo(json.dumps({"role": str(role), "dsn": found}) if as_json else found)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The new file; one that exists is never overwritten.")],
    data_dir: DataDir = _DEFAULT_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Write the database into a file and check that every row is in it."""
    with _errors_told():
        report = asyncio.run(embedded_backup(data_dir, file, progress=_tell))
    _show_report(report, as_json=as_json, done="wrote")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `perdure pg backup` wrote.")],
    data_dir: DataDir = _DEFAULT_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty database and check that every row arrived."""
    with _errors_told():
        report = asyncio.run(embedded_restore(data_dir, file, progress=_tell))
    _show_report(report, as_json=as_json, done="restored")


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except PerdureError as exc:
        typer.echo(exc.message, err=True)
        raise typer.Exit(1) from exc


def _tell(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _show_status(found: ClusterStatus, *, as_json: bool) -> None:
    if as_json:
        facts = {
            "state": str(found.state),
            "data_dir": str(found.data_dir),
            "log": str(found.log),
            "major": found.major,
            "pid": found.pid,
            "port": found.port,
            "users": list(found.users),
            "held": found.held,
        }
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{found.state}: {found.data_dir}")
    if found.major is not None:
        typer.echo(f"PostgreSQL {found.major}, log in {found.log}")
    if found.state is not ClusterState.RUNNING:
        return
    typer.echo(f"pid {found.pid}, 127.0.0.1 port {found.port}")
    users = ", ".join(map(str, found.users)) or "none"
    until = "runs until `perdure pg stop`" if found.held else "stops when the last of them leaves"
    typer.echo(f"used by processes: {users}; {until}")


def _show_report(report: BackupReport, *, as_json: bool, done: str) -> None:
    if as_json:
        facts = {
            "path": str(report.path),
            "size_bytes": report.size_bytes,
            "rows_total": report.rows_total,
            "rows": report.rows,
        }
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{done} {report.path}: {report.rows_total} rows in {len(report.rows)} tables, all of them checked")
