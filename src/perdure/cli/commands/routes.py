"""``perdure routes``: which backend keeps what for whom, and how that came to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli import output
from perdure.cli.administering import KindName, OfTenant, Project, Surface, administer, config_text
from perdure.cli.commands import routes_copying, routes_files, routes_setting
from perdure.cli.target import DATA_DIR_DEFAULT, AsJson, Cursor, DataDir, Dsn, Env, Limit, Mode, Settings

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.backends import Health
    from perdure.core.plane import Plane
    from perdure.core.route_views import RouteView
    from perdure.core.routes import Routes
    from perdure.domain.route import Route

app = typer.Typer(
    name="routes", help="Choose which backend keeps streams, tables and memory for whom.", no_args_is_help=True
)
app.command("set")(routes_setting.set_route)
app.command("switch")(routes_setting.switch)
app.command("copy")(routes_copying.copy)
app.command("delete")(routes_setting.delete)
app.command("export")(routes_files.export)


@app.command("list")
def list_routes(
    *,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.", metavar="t_NAME")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind.", metavar="KIND")] = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List routes by tenant, kind, project and surface."""

    async def listed(_: Plane, routes: Routes) -> list[Route]:
        """All of them: a registry is small."""
        return list(await routes.list(tenant=tenant, kind=kind))

    found = administer(listed, data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings)
    if as_json:
        output.print_json({"items": found})
        return
    columns = ("TENANT", "KIND", "PROJECT", "SURFACE", "BACKEND", "CONFIG", "TIER", "VERSION", "NOTE")
    output.print_table(columns, map(_row, found))
    if not found:
        typer.echo("there is no such route; make one with: perdure routes set KIND t_NAME --backend NAME", err=True)


def _row(route: Route) -> tuple[object, ...]:
    note = "default" if route.default else "" if route.copy is None else _copy_text(route)
    return (
        route.tenant,
        route.kind,
        route.project,
        route.surface,
        route.backend,
        config_text(route.config),
        route.tier,
        route.version,
        note,
    )


@app.command()
def show(
    kind: KindName,
    tenant: OfTenant,
    *,
    project: Project = None,
    surface: Surface = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask the backend for a sign of life now.")] = False,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show the route that serves a kind for a tenant: where it was found, its backend, its health, its last switch."""

    async def shown(_: Plane, routes: Routes) -> RouteView:
        """The route and what is known about it."""
        return await routes.show(kind, tenant=tenant, project=project, surface=surface, probe=probe)

    view = administer(shown, data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings)
    if as_json:
        output.print_json(view)
        return
    route = view.route
    output.print_facts(
        {
            "kind": route.kind,
            "tenant": route.tenant,
            "project": route.project,
            "surface": route.surface,
            "found in layer": view.layer,
            "backend": route.backend,
            "config": config_text(route.config),
            "health": _health_text(view.health, probed=probe),
            "tier": route.tier,
            "cost_notes": route.cost_notes,
            "required": _word(yes=route.required),
            "default": _word(yes=route.default),
            "audit": route.audit,
            "previous_backend_type": route.previous_backend_type,
            "switch_rationale": route.switch_rationale,
            "last_switch_time": route.last_switch_time,
            "copy": None if route.copy is None else _copy_text(route),
            "version": route.version,
            "created": route.created_at,
            "updated": route.updated_at,
            "updated by": route.updated_by,
            "as of": f"{view.snapshot_age_s:.1f} s ago",
        }
    )


@app.command()
def history(
    kind: KindName,
    tenant: OfTenant,
    *,
    project: Project = None,
    surface: Surface = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show every change of a route, oldest first; of a deleted one too."""

    async def read(_: Plane, routes: Routes) -> Any:
        """One page."""
        return await routes.history(kind, tenant=tenant, project=project, surface=surface, cursor=cursor, limit=limit)

    page = administer(read, data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings)
    if as_json:
        output.print_json(output.page_fields(page))
        return
    rows = (
        (one.version, one.occurred_at, one.action, one.from_backend, one.to_backend, one.actor, one.rationale)
        for one in page
    )
    output.print_table(("VERSION", "WHEN", "ACTION", "FROM", "TO", "WHO", "WHY"), rows)
    output.print_page_end(page, nothing="there never was a route of exactly this kind, tenant, project and surface")


@app.command()
def coverage(
    tenant: OfTenant,
    *,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show for each kind whether a tenant has a route, and through which layer."""

    async def read(_: Plane, routes: Routes) -> Any:
        """A row for each kind."""
        return await routes.coverage(tenant=tenant)

    rows = administer(read, data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings)
    if as_json:
        output.print_json({"tenant": tenant, "items": list(rows)})
        return
    columns = ("KIND", "STATUS", "BACKEND", "LAYER", "TIER", "HEALTH", "ERROR")
    output.print_table(
        columns,
        (
            (row.kind, row.status, row.backend, row.layer, row.tier, row.health and row.health.status, row.error)
            for row in rows
        ),
    )
    for row in rows:
        if row.status == "missing":
            typer.echo(f"missing: perdure routes set {row.kind} {tenant} --backend NAME", err=True)


def _health_text(health: Health, *, probed: bool) -> str:
    if health.checked_at is None:
        return f"{health.status} (ask with --probe)"
    took = "" if health.duration_s is None else f", took {output.duration_text(health.duration_s * 1_000)}"
    problem = "" if health.problem is None else f", {health.problem}: {health.reason}"
    when = "just now" if probed else f"at {output.plain(health.checked_at)}"
    return f"{health.status} ({when}{took}{problem})"


def _copy_text(route: Route) -> str:
    copy = route.copy
    assert copy is not None, "asked only for routes that have one"
    if copy.phase == "done":
        return f"copied from {copy.other.backend}; --back until {output.plain(copy.rollback_until)}"
    return f"being copied to {copy.other.backend} ({copy.phase})"


def _word(*, yes: bool) -> str:
    return "yes" if yes else "no"
