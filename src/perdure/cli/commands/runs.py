"""``perdure runs``: lists of runs, and one run in full."""

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
    row_id,
)
from perdure.domain.records import RunRecord
from perdure.domain.run import RunStatus, RunType
from perdure.domain.trace import duration_ms

app = typer.Typer(name="runs", help="List runs, and look at one.", no_args_is_help=True)


@app.command("list")
def list_runs(
    *,
    status: Annotated[RunStatus | None, typer.Option("--status", case_sensitive=False)] = None,
    run_type: Annotated[RunType | None, typer.Option("--type", case_sensitive=False)] = None,
    name: Annotated[str | None, typer.Option("--name", help="Exactly this name.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Started then or later: 24h, 7d, or a time.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Started before then: 24h, 7d, or a time.")] = None,
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
    """List runs by status, type, name and time, the newest first."""

    async def listed() -> Any:
        """One page, from one plane."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.runs.list(
                status=status,
                run_type=run_type,
                name=name,
                started_from=moment(since, option="--since"),
                started_before=moment(until, option="--until"),
                cursor=cursor,
                limit=limit,
            )

    page = asyncio.run(listed())
    if as_json:
        output.print_json(output.page_fields(page))
        return
    output.print_table(("STARTED", "STATUS", "NAME", "STEPS", "EFFECTS", "TOOK", "ID"), map(_row, page))
    output.print_page_end(page, nothing="no run is like that")


def _row(run: RunRecord) -> tuple[object, ...]:
    failed = f" ({run.failed_steps} failed)" if run.failed_steps else ""
    waiting = f" ({run.open_effects} open)" if run.open_effects else ""
    return (
        run.started_at,
        run.status,
        run.name,
        f"{run.total_steps}{failed}",
        f"{run.total_effects}{waiting}",
        output.duration_text(duration_ms(run.started_at, target=run.completed_at)),
        run.id,
    )


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="The id of a run.", metavar="ID")],
    *,
    limit: Limit = 100,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show a run with its steps, effects and checkpoints; `perdure trace` shows how they belong together."""
    run_id = row_id(run, what="a run")

    async def read() -> dict[str, Any]:
        """What is shown, from one plane."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return {
                "run": (await acme.runs.get(run_id)).record,
                "steps": await acme.runs.steps(run_id, limit=limit),
                "tool_calls": await acme.runs.tool_calls(run_id, limit=limit),
                "effects": await acme.runs.effects(run_id, limit=limit),
                "outbox": await acme.runs.outbox(run_id, limit=limit),
                "checkpoints": await acme.runs.checkpoints(run_id, limit=limit),
            }

    parts = asyncio.run(read())
    if as_json:
        record = parts.pop("run")
        output.print_json({"run": record, **{name: output.page_fields(page) for name, page in parts.items()}})
        return
    _show_parts(parts)


def _show_parts(parts: dict[str, Any]) -> None:
    run: RunRecord = parts["run"]
    waits = run.completion_requested_at is not None and run.completed_at is None
    output.print_facts(
        {
            "run": run.id,
            "name": run.name,
            "type": run.run_type,
            "status": run.status,
            "reason": run.exit_reason,
            "started": run.started_at,
            "ended": run.completed_at,
            "took": output.duration_text(duration_ms(run.started_at, target=run.completed_at)),
            "completes": "when its effects are delivered" if waits else None,
            "leased by": run.locked_by,
            "signal": run.signal_id,
            "correlation": run.correlation_id,
            "repeats": run.causation_id,
            "actor": run.actor,
        }
    )
    calls: dict[object, int] = {}
    for call in parts["tool_calls"]:
        calls[call.step_id] = calls.get(call.step_id, 0) + 1
    steps = (
        (
            step.step_index,
            step.status,
            step.step_type,
            step.name,
            calls.get(step.id, 0) or "",
            output.duration_text(duration_ms(step.started_at, target=step.completed_at)),
            output.error_text(step.error_details),
        )
        for step in parts["steps"]
    )
    entries = {entry.aggregate_id: entry for entry in parts["outbox"]}
    effects = (
        (
            effect.effect_type,
            effect.status,
            effect.retry_count,
            output.error_text(effect.error_details),
            entries[effect.id].id if effect.id in entries else "",
        )
        for effect in parts["effects"]
    )
    checkpoints = (
        (one.checkpoint_index, one.size_bytes, one.created_at, one.expires_at) for one in parts["checkpoints"]
    )
    _section(("STEP", "STATUS", "TYPE", "NAME", "CALLS", "TOOK", "ERROR"), steps, parts["steps"], "steps")
    _section(("EFFECT", "STATUS", "RETRIES", "ERROR", "OUTBOX"), effects, parts["effects"], "effects")
    columns = ("CHECKPOINT", "BYTES", "CREATED", "EXPIRES")
    _section(columns, checkpoints, parts["checkpoints"], "checkpoints")


def _section(columns: tuple[str, ...], rows: Any, page: Any, what: str) -> None:
    if not len(page):
        return
    typer.echo()
    output.print_table(columns, rows)
    if page.next_cursor is not None:
        typer.echo(f"more {what} than shown; raise --limit, or use --json", err=True)
