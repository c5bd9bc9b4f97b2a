"""``perdure trace``: everything that came of a signal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli import output
from perdure.cli.target import DATA_DIR_DEFAULT, AsJson, DataDir, Dsn, Env, Mode, Settings, TenantName, opened_tenant
from perdure.domain.trace import duration_ms

if TYPE_CHECKING:
    from perdure.domain.trace import Trace


def trace(
    identifier: Annotated[
        str,
        typer.Argument(
            help="The id of a correlation, signal, run, step, tool call, effect, outbox entry or event, or "
            "CHANNEL/SOURCE-ID.",
            metavar="ID",
        ),
    ],
    *,
    events: Annotated[bool, typer.Option("--events", help="Also show what caused what.")] = False,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show everything of one correlation as a tree, from one snapshot."""

    async def read() -> Trace:
        """What is shown, from one plane."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.trace(identifier)

    found = asyncio.run(read())
    if as_json:
        output.print_json(trace_fields(found))
        return
    from perdure.cli.trace_tree import trace_tree  # noqa: PLC0415 - rich is not needed for JSON

    output.show(trace_tree(found, with_events=events))


def trace_fields(trace: Trace) -> dict[str, Any]:
    """A trace as one object: its rows as they are kept, with durations in milliseconds."""
    seconds = trace.duration_s()
    return {
        "correlation_id": trace.correlation_id,
        "duration_ms": None if seconds is None else seconds * 1_000,
        "signals": trace.signals,
        "runs": [_timed(run, "started_at", "completed_at") for run in trace.runs],
        "steps": [_timed(step, "started_at", "completed_at") for step in trace.steps],
        "tool_calls": trace.tool_calls,
        "effects": [_timed(effect, "requested_at", "executed_at") for effect in trace.effects],
        "outbox": trace.outbox,
        "checkpoints": trace.checkpoints,
        "events": trace.events,
    }


def _timed(row: Any, source: str, target: str) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415 - only for JSON

    fields: dict[str, Any] = msgspec.to_builtins(row)
    return fields | {"duration_ms": duration_ms(getattr(row, source), target=getattr(row, target))}
