"""``perdure turns``: conversations, what they forked from, and their way into files and back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from perdure.cli import files, output
from perdure.cli.commands import turns_files, turns_retention
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
    opened_tenant,
)
from perdure.domain.turn import CONTEXTS_PAGE_MAX, TURNS_PAGE_MAX, Context, Turn

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.turn_transfer import Imported

app = typer.Typer(name="turns", help="Conversations: contexts, turns and forks.", no_args_is_help=True)
app.command("snapshot")(turns_files.snapshot)
app.command("files")(turns_files.list_files)
app.command("restore")(turns_files.restore)
app.command("purge")(turns_retention.purge)
app.command("hold")(turns_retention.hold)
app.command("release")(turns_retention.release)
app.command("holds")(turns_retention.holds)

Labels = Annotated[list[str] | None, typer.Option("--label", help="Can be found by it; may be repeated.")]
ContextId = Annotated[str, typer.Argument(metavar="CONTEXT", help="A context's id.")]

_PREVIEW_BYTES: Final = 60


@app.callback()
def options() -> None:
    """Conversations: contexts, turns and forks."""


@app.command()
def contexts(
    *,
    label: Annotated[str | None, typer.Option("--label", help="Only those with this label.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=CONTEXTS_PAGE_MAX, help="How many at most.")] = 50,
    cursor: Cursor = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List contexts: their heads, how long they are, and what they were forked from."""

    async def read() -> Any:
        """One page."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.turns.contexts(label=label, cursor=cursor, limit=limit)

    page = asyncio.run(read())
    if as_json:
        output.print_json(output.page_fields(page))
        return
    output.print_table(
        ("CONTEXT", "TURNS", "HEAD", "FORKED FROM", "LABELS", "CREATED"),
        [
            (one.context_id, one.head_depth, one.head_turn_id, _base(one), ", ".join(one.labels), one.created_at)
            for one in page.items
        ],
    )
    output.print_page_end(page, nothing="no contexts")


@app.command()
def show(
    context: ContextId,
    *,
    before: Annotated[str | None, typer.Option("--before", help="Only turns older than this one.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=TURNS_PAGE_MAX, help="How many at most.")] = 20,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest turns of a context, oldest first; with --json their payloads too, in base64."""

    async def read() -> Any:
        """The page."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.turns.list(context, before=before, limit=limit)

    found = asyncio.run(read())
    earlier = found[0].turn_id if found and found[0].depth > 1 else None
    if as_json:
        output.print_json({"items": list(found), "before": earlier})
        return
    _print_turns(found)
    if earlier is not None:
        typer.echo(f"earlier: --before {earlier}", err=True)
    elif not found:
        typer.echo("no turns", err=True)


@app.command()
def fork(
    turn: Annotated[str, typer.Argument(metavar="TURN", help="The turn to go on from.")],
    *,
    label: Labels = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Make a context whose history ends with a turn; what is appended to it is not seen elsewhere."""

    async def made() -> Context:
        """The new context."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.turns.fork(turn, labels=label or ())

    context = asyncio.run(made())
    if as_json:
        output.print_json(context)
        return
    typer.echo(f"context {context.context_id} goes on from turn {turn}, which is its number {context.head_depth}")


@app.command()
def diff(
    ours: Annotated[str, typer.Argument(metavar="CONTEXT")],
    theirs: Annotated[str, typer.Argument(metavar="CONTEXT")],
    *,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show where two contexts part, and what each has after that."""

    async def read() -> Any:
        """What differs."""
        from perdure.core.turn_transfer import compare  # noqa: PLC0415 - see above

        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await compare(acme.turns, ours, theirs)

    found = asyncio.run(read())
    if as_json:
        output.print_json(found)
        return
    if found.common is None:
        typer.echo("they share no turn")
    else:
        typer.echo(f"they share {found.common.depth} turns, the last of them {found.common.turn_id}")
    for context, only in ((ours, found.ours), (theirs, found.theirs)):
        typer.echo(f"only in context {context}: {len(only)}")
        _print_turns(only)


@app.command()
def export(
    context: ContextId,
    *,
    file: Annotated[str, typer.Option("--output", "-o", help="Where to; - is stdout.", metavar="FILE")] = files.STDIO,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
) -> None:
    """Write a context to a file, a line a turn, for `perdure turns import`; its last line proves that it is whole."""

    async def write() -> int:
        """Every line; how many turns."""
        from perdure.core.turn_transfer import export_lines  # noqa: PLC0415 - see above

        count = -2  # the first line and the last
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            with files.written(file) as out:
                async for line in export_lines(acme.turns, context):
                    out.write(line)
                    count += 1
        return count

    count = asyncio.run(write())
    typer.echo(f"{count} turns of context {context} written", err=True)


@app.command(name="import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `perdure turns export` wrote; - is stdin.")],
    *,
    into: Annotated[
        str | None,
        typer.Option("--into", help="A context that exists, such as that of an import that was interrupted."),
    ] = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Append an exported context to a new one, or to --into; doing it again into the same one appends nothing twice.

    A file is read to its end first, and nothing is written if it is not whole.
    """

    async def write() -> Imported:
        """Check the file, then append what is in it."""
        from perdure.core.turn_transfer import import_lines  # noqa: PLC0415 - see above

        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await import_lines(acme.turns, _lines(opened), into=into, begun=_tell)

    with files.read_again(file) as opened:
        _check(opened)
        opened.seek(0)
        done = asyncio.run(write())
    if as_json:
        output.print_json(done)
        return
    typer.echo(f"context {done.context.context_id}: {done.appended} turns appended, {done.replayed} were there already")


def _check(opened: BinaryIO) -> None:
    from perdure.domain.turn_transfer import TransferReader  # noqa: PLC0415 - as above

    reader = TransferReader()
    for line in _lines(opened):
        reader.read(line)
    reader.finish()


def _lines(opened: BinaryIO) -> Iterator[bytes]:
    from perdure.domain.turn_transfer import LINE_BYTES_MAX  # noqa: PLC0415 - as above

    # Of a longer line no more than shows that it is one.
    while line := opened.readline(LINE_BYTES_MAX + 1):
        yield line


def _tell(context: Context) -> None:
    typer.echo(
        f"into context {context.context_id}; if this is interrupted, go on with: --into {context.context_id}", err=True
    )


def _print_turns(turns: Any) -> None:
    output.print_table(
        ("#", "TURN", "TYPE", "BYTES", "RECORDED", "PAYLOAD"),
        [(one.depth, one.turn_id, _type(one), len(one.payload), one.recorded_at, _preview(one)) for one in turns],
    )


def _base(context: Context) -> str:
    return "" if context.base_turn_id == "0" else context.base_turn_id


def _type(turn: Turn) -> str:
    return f"{turn.type_id} v{turn.type_version}"


def _preview(turn: Turn) -> str:
    text = turn.payload[:_PREVIEW_BYTES].decode(errors="replace")
    return text if len(turn.payload) <= _PREVIEW_BYTES else f"{text}..."
