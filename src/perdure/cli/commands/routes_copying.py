"""``perdure routes copy``: takes what a route keeps along to another backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli import output
from perdure.cli.administering import Config, KindName, OfTenant, Project, Surface, administer, config_texts
from perdure.cli.copy_progress import report_text, shown_progress
from perdure.cli.target import DATA_DIR_DEFAULT, AsJson, DataDir, Dsn, Env, Mode, Settings

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.copying import CopyReport
    from perdure.core.plane import Plane
    from perdure.core.routes import Routes
    from perdure.domain.route import Route


def copy(
    kind: KindName,
    tenant: OfTenant,
    *,
    backend: Annotated[str | None, typer.Option("--backend", help="Where to.", metavar="NAME")] = None,
    config: Config = None,
    rationale: Annotated[
        str | None, typer.Option("--rationale", help="Why; kept in the history. Needed, but for --abandon.")
    ] = None,
    settle_s: Annotated[
        float | None,
        typer.Option(
            "--settle",
            min=0,
            help="Seconds to wait for other processes to see that writes wait; 0 if no other process is running.",
            show_default="as long as one may take",
            metavar="S",
        ),
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Return to where the last copy came from.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give up a copy that is under way.")] = False,
    project: Project = None,
    surface: Surface = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Move what a route keeps to another backend and lead the route there; no cursor and no version is lost.

    Reads go on throughout; writes wait at the end, while the rest is copied and everything is compared. Interrupted,
    the old backend goes on serving, and the same command goes on with the copy.
    """
    target = _checked(backend, config, rationale, back=back, abandon=abandon)
    texts = config_texts(config)
    where: dict[str, Any] = {"data_dir": data_dir, "dsn": dsn, "mode": mode, "env": env, "settings": settings}
    of: dict[str, Any] = {"tenant": tenant, "project": project, "surface": surface}
    if abandon:
        _tell_abandoned(administer(lambda _, routes: routes.abandon_copy(kind, **of), **where), as_json=as_json)
        return

    async def copied(_: Plane, routes: Routes) -> CopyReport:
        """From the first container to the commit that leads the route there."""
        with shown_progress() as progress:
            how: dict[str, Any] = {"rationale": rationale, "settle_s": settle_s, "progress": progress}
            if back:
                return await routes.copy_back(kind, **how, **of)
            return await routes.copy(kind, target, config=routes.parse_config(target, texts), **how, **of)

    try:
        report = administer(copied, **where)
    except KeyboardInterrupt:
        typer.echo("interrupted: see `perdure routes show`; the same command goes on, --abandon gives it up", err=True)
        raise
    if as_json:
        output.print_json(report)
        return
    typer.echo(report_text(report))
    typer.echo(f"{kind} of {tenant} is kept in {report.backend} now; SHA-256 of all that was compared: {report.digest}")


def _tell_abandoned(route: Route, *, as_json: bool) -> None:
    if as_json:
        output.print_json(route)
    else:
        typer.echo(f"{route.kind} of {route.tenant} stays in {route.backend} (version {route.version})")


def _checked(backend: str | None, config: list[str] | None, rationale: str | None, *, back: bool, abandon: bool) -> str:
    """The backend to copy to, empty where none is named. What does not go together is misuse."""
    if back and abandon:
        raise typer.BadParameter("--back or --abandon, not both")
    if (back or abandon) and (backend is not None or config):
        raise typer.BadParameter("--back and --abandon know where; give no --backend and no --config")
    if not (back or abandon) and backend is None:
        raise typer.BadParameter("expected --backend NAME, --back or --abandon")
    if not abandon and rationale is None:
        raise typer.BadParameter("say why", param_hint="--rationale")
    return backend or ""
