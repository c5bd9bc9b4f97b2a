"""Routes in files, in the words of older registries: ``perdure routes export`` and ``set --file``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli import output
from perdure.cli.administering import administer
from perdure.cli.target import DATA_DIR_DEFAULT, AsJson, DataDir, Dsn, Env, Mode, Settings
from perdure.domain.route_documents import document_of, read_documents
from perdure.errors import NotFound

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.plane import Plane
    from perdure.core.route_views import Applied
    from perdure.core.routes import Routes

_STDIN = "-"


def export(
    *,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.", metavar="t_NAME")] = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print routes as a list of JSON objects, for `perdure routes set --file`, with or without --json.

    The words are those of older registries: resource_kind, tenant_id, env, backend_type, config, tier, cost_notes.
    """
    del as_json  # it is JSON either way

    async def exported(_: Plane, routes: Routes) -> list[dict[str, Any]]:
        """All of them: a registry is small."""
        return [document_of(route) for route in await routes.list(tenant=tenant)]

    output.print_json(administer(exported, data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings))


def set_from(
    file: str,
    *,
    data_stays: bool,
    as_json: bool,
    data_dir: Path,
    dsn: str | None,
    mode: str | None,
    env: str | None,
    settings: Path | None,
) -> None:
    """Make the routes what a file wants them to be, and tell about it."""
    data = _content(file)

    async def applied(plane: Plane, routes: Routes) -> Applied:
        """Checked as a whole, then written one by one."""
        wanted = read_documents(data, mode=plane.mode, env=plane.env)
        return await routes.apply(wanted, data_stays=data_stays)

    done = administer(applied, data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings)
    if as_json:
        output.print_json(done)
        return
    for route in done.changed:
        typer.echo(f"{route.kind} of {route.tenant} is kept in {route.backend} (version {route.version})")
    typer.echo(f"{len(done.changed)} routes set, {len(done.unchanged)} were so already")


def _content(file: str) -> bytes:
    if file == _STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as exc:
        raise NotFound(f"{file} cannot be read: {exc.strerror}; expected a file of routes, or - for stdin") from exc
