"""``perdure turns snapshot``, ``files`` and ``restore``: which files there were at a turn."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli import files, output
from perdure.cli.target import (
    DATA_DIR_DEFAULT,
    AsJson,
    DataDir,
    Dsn,
    Env,
    Mode,
    Settings,
    TenantName,
    opened_tenant,
)
from perdure.domain.tree import EntryKind, TreeEntry, decode_tree

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.snapshots import Captured, Located, Restored, SnapshotProgress

Turn = Annotated[str, typer.Argument(metavar="TURN", help="A turn's id.")]

_KINDS = {EntryKind.FILE: "file", EntryKind.DIRECTORY: "dir", EntryKind.SYMLINK: "symlink"}


def snapshot(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What to take a snapshot of.")],
    *,
    turn: Annotated[str, typer.Option("--turn", help="The turn at which these files were there.", metavar="TURN")],
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            help="Leave out such paths, as '*.log' or 'docs/**'; may be repeated.",
            metavar="PATTERN",
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Leave out nothing by itself: .git, .perdure, target, node_modules, .venv, __pycache__."
        ),
    ] = False,
    follow_symlinks: Annotated[
        bool, typer.Option("--follow-symlinks", help="Keep what a link inside DIR leads to, if that is in DIR too.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Attach nothing if a file cannot be in it.")] = False,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Keep the files of a directory, and say that they were there at a turn.

    What is kept already is not kept twice. Files that cannot be read, or are too large, are named on stderr.
    """

    async def taken() -> Captured:
        """Every file, then the root."""
        from perdure.core.snapshots import IGNORE_DEFAULT, capture  # noqa: PLC0415 - see above

        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            with shown_progress() as progress:
                return await capture(
                    acme.turns,
                    directory,
                    turn_id=turn,
                    ignore=(*(() if everything else IGNORE_DEFAULT), *(ignore or ())),
                    follow_symlinks=follow_symlinks,
                    strict=strict,
                    progress=progress,
                )

    done = asyncio.run(taken())
    if as_json:
        items = [{"path": path, "reason": reason} for path, reason in done.skipped]
        output.print_json({**_counts(done), "ignored": done.ignored, "skipped": items})
        return
    for path, reason in done.skipped:
        typer.echo(f"not in the snapshot: {output.plain(path)}: {reason}", err=True)
    typer.echo(f"{done.root} is at turn {turn}: {_counted(done)}")


def list_files(
    turn: Turn,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A directory, a file or a link; empty: the root.")] = "",
    *,
    file: Annotated[
        str, typer.Option("--output", "-o", help="Where a file's bytes go; - is stdout.", metavar="FILE")
    ] = files.STDIO,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List a directory as it was at a turn, or write a file's bytes, or where a link leads.

    A turn without a snapshot has that of the nearest turn before it.
    """

    async def read() -> tuple[Located, bytes]:
        """The entry, and its bytes."""
        from perdure.core.snapshots import locate, read_content  # noqa: PLC0415 - see above

        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            located = await locate(acme.turns, turn, path)
            return located, await read_content(acme.turns, located.entry, path)

    located, content = asyncio.run(read())
    if located.entry.kind is not EntryKind.DIRECTORY:
        if as_json:
            encoded = base64.b64encode(content).decode()
            about = _fields(located.entry)
            output.print_json({"root": located.root, "path": path, **about, "content_base64": encoded})
            return
        with files.written(file) as out:
            out.write(content)
        return
    if file != files.STDIO:
        raise typer.BadParameter("a directory is listed; to write it: perdure turns restore", param_hint="--output")
    entries = decode_tree(content)
    if as_json:
        output.print_json({"root": located.root, "path": path, "entries": [_fields(entry) for entry in entries]})
        return
    output.print_table(
        ("MODE", "KIND", "BYTES", "NAME", "ADDRESS"),
        [
            (
                f"{one.mode:o}",
                _KINDS[one.kind],
                "" if one.kind is EntryKind.DIRECTORY else one.size,
                one.name,
                one.hash.hex(),
            )
            for one in entries
        ],
    )
    if not entries:
        typer.echo("the directory was empty", err=True)


def restore(
    turn: Turn,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory, or an empty one.")],
    *,
    outside_links: Annotated[
        bool, typer.Option("--outside-links", help="Make links that lead out of DIR, too; else nothing is written.")
    ] = False,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write the files as they were at a turn to a directory. It is there when all was verified, and not before."""

    async def written() -> Restored:
        """All of it."""
        from perdure.core.snapshots import restore as restored  # noqa: PLC0415 - see above

        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            with shown_progress() as progress:
                return await restored(acme.turns, turn, directory, outside_links=outside_links, progress=progress)

    done = asyncio.run(written())
    if as_json:
        output.print_json(_counts(done))
        return
    typer.echo(f"{directory} is as it was at turn {turn}: {_counted(done)}")


def _counts(done: Captured | Restored) -> dict[str, Any]:
    return {
        "root": done.root,
        "files": done.files,
        "directories": done.directories,
        "symlinks": done.symlinks,
        "bytes": done.bytes,
    }


def _counted(done: Captured | Restored) -> str:
    return f"{done.files} files ({done.bytes} bytes), {done.directories} directories, {done.symlinks} links"


def _fields(entry: TreeEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": _KINDS[entry.kind],
        "mode": f"{entry.mode:o}",
        "size": entry.size,
        "hash": entry.hash.hex(),
    }


@contextmanager
def shown_progress() -> Iterator[Any]:
    """A bar on a terminal, on stderr; anywhere else nothing, for there the end says it all."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - most commands start without it
    from rich.progress import Progress  # noqa: PLC0415 - as above

    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("files", total=None)

        def show(report: SnapshotProgress) -> None:
            bars.update(bar, completed=report.done, total=report.total, description=f"{report.bytes:,} bytes")

        yield show
