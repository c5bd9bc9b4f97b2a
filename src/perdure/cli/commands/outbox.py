"""``perdure outbox``: what is on its way out, what is stuck, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
import typer

from perdure.compose.relay import open_outbox
from perdure.core.outbox import PRUNE_AFTER_S, Outbox
from perdure.domain import limits
from perdure.domain.records import OutboxEntry
from perdure.domain.run import OutboxStatus
from perdure.errors import PerdureError
from perdure.ports.relay import ListedEntry

__all__ = ["app"]

app = typer.Typer(
    name="outbox", help="Effects on their way out: look, revive dead letters, clear what is done.", no_args_is_help=True
)

Result = TypeVar("Result")

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="The embedded database's directory.", show_default="./.perdure")
]
Dsn = Annotated[str | None, typer.Option("--dsn", help="Another database, as the role perdure_relay.", metavar="DSN")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.", metavar="TENANT")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_DEFAULT_DIR = Path(".perdure")


@app.command("list")
def list_(
    *,
    status: Annotated[
        OutboxStatus | None, typer.Option("--status", help="Only in this status.", case_sensitive=False)
    ] = None,
    effect_type: Annotated[str | None, typer.Option("--type", help="Only of this effect type.")] = None,
    run: Annotated[UUID | None, typer.Option("--run", help="Only of this run.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=limits.PAGE_SIZE_MAX)] = limits.PAGE_SIZE_DEFAULT,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on where a page ended.")] = None,
    tenant: OfTenant = None,
    data_dir: DataDir = _DEFAULT_DIR,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List entries, newest first; stuck ones with: --status DEAD_LETTER."""
    page = _run(
        lambda outbox: outbox.list(
            tenant=tenant, status=status, effect_type=effect_type, run_id=run, limit=limit, cursor=cursor
        ),
        dsn=dsn,
        data_dir=data_dir,
    )
    if as_json:
        _print_json({"entries": [_summary(listed) for listed in page], "next_cursor": page.next_cursor})
        return
    for listed in page:
        entry = listed.entry
        error = (entry.error_details or {}).get("code", "")
        typer.echo(
            f"{entry.id}  {entry.status:<11}  {entry.event_type:<20}  {listed.tenant:<16}  "
            f"{entry.created_at:%Y-%m-%d %H:%M:%S}  {entry.retry_count}/{entry.max_retries + 1}  {error}".rstrip()
        )
    if page.next_cursor is not None:
        typer.echo(f"there are more: --cursor {page.next_cursor}")
    elif not page.items:
        typer.echo("no such entries")


@app.command()
def show(
    entry_id: Annotated[UUID, typer.Argument(help="The entry's id.")],
    *,
    tenant: OfTenant = None,
    data_dir: DataDir = _DEFAULT_DIR,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show one entry with its specification, its attempts and its last error."""
    found = _run(lambda outbox: outbox.get(entry_id, tenant=tenant), dsn=dsn, data_dir=data_dir)
    facts = {"tenant": found.tenant, **_fields(found.entry)}
    if as_json:
        _print_json(facts)
        return
    for name, value in facts.items():
        if value is not None:
            typer.echo(f"{name:<17} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


@app.command()
def requeue(
    entry_ids: Annotated[list[UUID], typer.Argument(help="Dead letters, by id.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the audit trail.")] = "requeued by hand",
    actor: Annotated[str, typer.Option("--actor", help="Who does it, as in user:ann.")] = "user:operator",
    tenant: OfTenant = None,
    data_dir: DataDir = _DEFAULT_DIR,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Revive dead letters: they are delivered again under the same idempotency key."""

    async def revive(outbox: Outbox) -> list[OutboxEntry]:
        """Requeue one entry after the other."""
        return [await outbox.requeue(entry_id, reason=reason, tenant=tenant) for entry_id in entry_ids]

    revived = _run(revive, dsn=dsn, data_dir=data_dir, actor=actor)
    if as_json:
        _print_json({"requeued": [str(entry.id) for entry in revived]})
        return
    for entry in revived:
        typer.echo(f"{entry.id} is {entry.status} again and due now")


@app.command()
def stats(
    *, tenant: OfTenant = None, data_dir: DataDir = _DEFAULT_DIR, dsn: Dsn = None, as_json: AsJson = False
) -> None:
    """Count entries by type and status, and say how far behind delivery is."""
    found = _run(lambda outbox: outbox.stats(tenant=tenant), dsn=dsn, data_dir=data_dir)
    if as_json:
        _print_json(msgspec.to_builtins(found))
        return
    for count in found.counts:
        typer.echo(f"{count.effect_type:<30} {count.status:<11} {count.entries:>10}")
    behind = "" if found.oldest_due_s is None else f", the oldest since {found.oldest_due_s:.1f} s"
    typer.echo(f"due now: {found.due}{behind}")


@app.command()
def prune(
    *,
    older_than_s: Annotated[
        float, typer.Option("--older-than-s", min=0, help="Only what was delivered so many seconds ago.")
    ] = PRUNE_AFTER_S,
    tenant: OfTenant = None,
    data_dir: DataDir = _DEFAULT_DIR,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Delete delivered entries. Dead letters and failures stay, and so do the effects with their keys."""
    pruned = _run(lambda outbox: outbox.prune(older_than_s=older_than_s, tenant=tenant), dsn=dsn, data_dir=data_dir)
    if as_json:
        _print_json({"pruned": pruned})
    else:
        typer.echo(f"{pruned} delivered entries deleted")


def _run(
    work: Callable[[Outbox], Awaitable[Result]], *, dsn: str | None, data_dir: Path, actor: str = "user:operator"
) -> Result:
    async def opened() -> Result:
        async with open_outbox(dsn, data_dir=data_dir, actor=actor) as outbox:
            return await work(outbox)

    try:
        return asyncio.run(opened())
    except PerdureError as exc:
        typer.echo(exc.message, err=True)
        raise typer.Exit(1) from exc


def _fields(entry: OutboxEntry) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(entry)
    return fields


def _summary(listed: ListedEntry) -> dict[str, Any]:
    fields = _fields(listed.entry)
    return {"tenant": listed.tenant, **{name: fields[name] for name in fields if name not in {"payload", "result"}}}


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))
