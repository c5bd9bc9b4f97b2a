"""``perdure turns purge``, ``hold``, ``release`` and ``holds``: how long conversations are kept."""

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
    Mode,
    Settings,
    TenantName,
    moment,
    opened_tenant,
)
from perdure.domain.retention import HOLDS_PAGE_MAX, Hold, KeptFor, Outcome, PurgedContext

Held = Annotated[str | None, typer.Argument(metavar="CONTEXT", help="A context's id.")]
OfClass = Annotated[
    str | None, typer.Option("--class", help="A retention class, instead of a context.", metavar="NAME")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with who did it and when.")]

_REASONS = {
    KeptFor.HOLD: "it is held",
    KeptFor.FORK: "context {because} goes on from it",
    KeptFor.CYCLE: "it and context {because} lead to each other",
    KeptFor.FAMILY: "too many contexts go on from it",
    KeptFor.WRITTEN: "somebody appended to it",
    KeptFor.BUSY: "another purge is at it, or was until a minute ago",
}


def purge(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, and say what would be.")] = False,
    before: Annotated[
        str | None, typer.Option("--before", help="Only what ended before then, as 7d or a time.", metavar="TIME")
    ] = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Remove the conversations whose first record says that they have ended; say which, and which stay and why.

    One that is held, or that another conversation goes on from, stays. Interrupted, the same command ends what was
    begun.
    """
    found: list[PurgedContext] = []
    counts = dict.fromkeys(Outcome, 0)

    async def purged() -> None:
        """Every context whose time is over."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            async for one in acme.turns.purge(before=moment(before, option="--before"), dry_run=dry_run):
                counts[one.outcome] += 1
                if as_json:
                    found.append(one)
                else:
                    typer.echo(_line(one, dry_run=dry_run))

    asyncio.run(purged())
    removed, kept = counts[Outcome.REMOVED], counts[Outcome.KEPT]
    if as_json:
        output.print_json({"dry_run": dry_run, "removed": removed, "kept": kept, "items": found})
        return
    would = "would be " if dry_run else ""
    typer.echo(f"{removed} contexts {would}removed, {kept} kept", err=True)


def hold(
    context: Held = None,
    *,
    reason: Reason,
    retention_class: OfClass = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Keep a conversation, or all of a retention class, and what it needs from being purged, until it is released."""

    async def placed() -> Hold:
        """The hold."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.turns.hold(context, retention_class=retention_class, reason=reason)

    done = asyncio.run(placed())
    if as_json:
        output.print_json(done)
        return
    typer.echo(f"{_what(done)} is held since {output.plain(done.placed_at)}")


def release(
    context: Held = None,
    *,
    reason: Reason,
    retention_class: OfClass = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Lift a hold. Who did, when and why is kept."""

    async def lifted() -> bool:
        """Whether one stood."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.turns.release_hold(context, retention_class=retention_class, reason=reason)

    done = asyncio.run(lifted())
    if as_json:
        output.print_json({"released": done})
        return
    typer.echo("released" if done else "it was not held")


def holds(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=HOLDS_PAGE_MAX, help="How many at most.")] = 50,
    cursor: Cursor = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List holds: who placed them, when and why, and who lifted those that do not stand any more."""

    async def read() -> Any:
        """One page."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.turns.holds(cursor=cursor, limit=limit)

    page = asyncio.run(read())
    if as_json:
        output.print_json(output.page_fields(page))
        return
    output.print_table(
        ("HELD", "BY", "SINCE", "REASON", "LIFTED", "BY", "REASON"),
        [
            (
                _what(one),
                one.placed_by,
                one.placed_at,
                one.reason,
                one.lifted_at,
                one.lifted_by,
                one.lifted_because,
            )
            for one in page.items
        ],
    )
    output.print_page_end(page, nothing="no holds")


def _line(one: PurgedContext, *, dry_run: bool) -> str:
    if one.reason is None:
        return f"context {one.context_id}: {'would be removed' if dry_run else 'removed'}"
    why = _REASONS[one.reason].format(because=one.because)
    if one.reason is KeptFor.HOLD and one.because is not None:
        why = f"its class {output.plain(one.because)} is held"
    return f"context {one.context_id}: kept, because {why}"


def _what(held: Hold) -> str:
    return f"class {held.retention_class}" if held.context_id is None else f"context {held.context_id}"
