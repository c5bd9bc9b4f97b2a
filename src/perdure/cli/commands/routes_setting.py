"""``perdure routes set``, ``switch`` and ``delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli import output
from perdure.cli.administering import (
    BackendName,
    Config,
    CostNotes,
    DataStays,
    IfVersion,
    KindName,
    OfTenant,
    Project,
    Surface,
    TierName,
    administer,
    config_text,
    config_texts,
)
from perdure.cli.commands import routes_files
from perdure.cli.target import DATA_DIR_DEFAULT, AsJson, DataDir, Dsn, Env, Mode, Settings

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.plane import Plane
    from perdure.core.routes import Routes
    from perdure.domain.route import Route

Audit = Annotated[
    str | None, typer.Option("--audit", help="log, or writes: also into the commit it describes.", metavar="POLICY")
]
JsonFile = Annotated[
    str | None,
    typer.Option(
        "--file",
        help="Routes as JSON, as `perdure routes export` writes them: a file, or - for the standard input. All are "
        "checked before the first is written.",
        metavar="FILE",
    ),
]
Rationale = Annotated[str, typer.Option("--rationale", help="Why; kept in the history.", metavar="TEXT")]


def set_route(  # the name `set` is a builtin's
    kind: Annotated[str | None, typer.Argument(help="streams, tables or memory.", metavar="KIND")] = None,
    tenant: Annotated[str | None, typer.Argument(help="The tenant's slug, or t_system.", metavar="t_NAME")] = None,
    *,
    backend: Annotated[str | None, typer.Option("--backend", help="Such as postgres.", metavar="NAME")] = None,
    config: Config = None,
    tier: TierName = None,
    cost_notes: CostNotes = None,
    project: Project = None,
    surface: Surface = None,
    required: Annotated[
        bool | None, typer.Option("--required/--not-required", help="Whether the tenant cannot do without.")
    ] = None,
    default: Annotated[
        bool | None,
        typer.Option("--default/--no-default", help="For t_system: serves tenants that have no route of this kind."),
    ] = None,
    audit: Audit = None,
    file: JsonFile = None,
    data_stays: DataStays = False,
    if_version: IfVersion = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Make a route, or change its settings or config: with KIND, t_NAME and --backend, or many with --file.

    What is not given stays as it is, but for the config, which is replaced as a whole. Another backend is `switch`.
    """
    where: dict[str, Any] = {"data_dir": data_dir, "dsn": dsn, "mode": mode, "env": env, "settings": settings}
    if file is not None:
        others = (kind, tenant, backend, config, tier, cost_notes, project, surface, required, default, audit)
        if any(value is not None for value in (*others, if_version)):
            raise typer.BadParameter("the file says it all; give nothing else but --data-stays", param_hint="--file")
        routes_files.set_from(file, data_stays=data_stays, as_json=as_json, **where)
        return
    if kind is None or tenant is None or backend is None:
        raise typer.BadParameter("expected KIND t_NAME --backend NAME, or --file FILE")
    texts = config_texts(config)

    async def change(_: Plane, routes: Routes) -> Route:
        """One commit."""
        return await routes.set(
            kind,
            backend,
            config=routes.parse_config(backend, texts),
            tenant=tenant,
            project=project,
            surface=surface,
            tier=tier,  # type: ignore[arg-type]  # the words are checked there
            cost_notes=cost_notes,
            required=required,
            default=default,
            audit=audit,  # type: ignore[arg-type]  # as above
            data_stays=data_stays,
            if_version=if_version,
        )

    _tell(administer(change, **where), "is kept in", as_json=as_json)


def switch(
    kind: KindName,
    tenant: OfTenant,
    *,
    backend: BackendName,
    rationale: Rationale,
    config: Config = None,
    tier: TierName = None,
    cost_notes: CostNotes = None,
    project: Project = None,
    surface: Surface = None,
    data_stays: DataStays = False,
    if_version: IfVersion = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Lead a route to another backend at once. Nothing is moved; to take along what is kept, use `copy`."""
    texts = config_texts(config)

    async def change(_: Plane, routes: Routes) -> Route:
        """One commit."""
        return await routes.switch(
            kind,
            backend,
            rationale=rationale,
            config=routes.parse_config(backend, texts),
            tenant=tenant,
            project=project,
            surface=surface,
            tier=tier,  # type: ignore[arg-type]  # the words are checked there
            cost_notes=cost_notes,
            data_stays=data_stays,
            if_version=if_version,
        )

    route = administer(change, data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings)
    _tell(route, f"was switched from {route.previous_backend_type} to", as_json=as_json)


def delete(
    kind: KindName,
    tenant: OfTenant,
    *,
    rationale: Annotated[
        str | None, typer.Option("--rationale", help="Why; kept in the history.", metavar="TEXT")
    ] = None,
    project: Project = None,
    surface: Surface = None,
    if_version: IfVersion = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Make a route serve nobody. Its history stays, and what was kept through it stays in its backend."""

    async def change(_: Plane, routes: Routes) -> None:
        """One commit."""
        await routes.delete(
            kind, tenant=tenant, project=project, surface=surface, rationale=rationale, if_version=if_version
        )

    administer(change, data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings)
    if as_json:
        output.print_json({"kind": kind, "tenant": tenant, "project": project, "surface": surface, "deleted": True})
    else:
        typer.echo(f"the route of {kind} of {tenant} is deleted; what was kept through it is where it was")


def _tell(route: Route, verb: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json(route)
        return
    place = " ".join(word for word in (route.backend, config_text(route.config)) if word)
    typer.echo(f"{route.kind} of {route.tenant} {verb} {output.plain(place)} (version {route.version})")
