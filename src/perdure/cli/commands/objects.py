"""``perdure objects``: bytes under the address of their content."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import typer

from perdure.cli import files, output
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
    lapse_s,
    opened_tenant,
)
from perdure.domain.object import MEDIA_TYPE_DEFAULT, OBJECTS_PAGE_MAX, READ_CHUNK_BYTES_MAX, ObjectRef

app = typer.Typer(name="objects", help="Bytes under the address of their content.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """Bytes under the address of their content."""


@app.command()
def ls(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=OBJECTS_PAGE_MAX, help="How many at most.")] = 100,
    cursor: Cursor = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List objects in the order of their addresses."""

    async def read() -> Any:
        """One page."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.objects.list(cursor=cursor, limit=limit)

    page = asyncio.run(read())
    if as_json:
        output.print_json(output.page_fields(page))
        return
    output.print_table(
        ("ADDRESS", "BYTES", "MEDIA TYPE", "PUT"),
        [(one.digest, one.size_bytes, one.media_type, one.created_at) for one in page.items],
    )
    output.print_page_end(page, nothing="no objects")


@app.command()
def get(
    digest: Annotated[str, typer.Argument(metavar="ADDRESS", help="64 hexadecimal digits.")],
    *,
    file: Annotated[str, typer.Option("--output", "-o", help="Where to; - is stdout.", metavar="FILE")] = files.STDIO,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
) -> None:
    """Write an object's bytes to a file. The file is there when all of it was verified, and not before."""

    async def read() -> None:
        """Chunk by chunk."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            with files.written(file) as out:
                async for chunk in acme.objects.read(digest):
                    out.write(chunk)

    asyncio.run(read())


@app.command()
def put(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What to keep; - is stdin.")],
    *,
    media_type: Annotated[str, typer.Option("--media-type", help="What it is called.")] = MEDIA_TYPE_DEFAULT,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Keep a file's bytes, and print their address."""

    async def write() -> ObjectRef:
        """Chunk by chunk."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            if file != files.STDIO:
                return await acme.objects.put_file(file, media_type=media_type)
            return await acme.objects.put_chunks(_stdin(), media_type=media_type)

    ref = asyncio.run(write())
    if as_json:
        output.print_json(ref)
        return
    typer.echo(ref.digest)


@app.command()
def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, and say what would be.")] = False,
    grace: Annotated[
        str, typer.Option("--grace", help="Leave alone what was put within this time; at least 5m.", metavar="TIME")
    ] = "24h",
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Remove the objects that only conversations put and none needs any more; what anybody put stays.

    All turns are read to find what they need.
    """
    grace_s = lapse_s(grace, option="--grace")

    found: list[ObjectRef] = []
    sizes: list[int] = []

    async def collected() -> None:
        """Each object that went."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            async for ref in acme.objects.collect(grace_s=grace_s, dry_run=dry_run):
                sizes.append(ref.size_bytes)
                if as_json:
                    found.append(ref)
                else:
                    typer.echo(ref.digest)

    asyncio.run(collected())
    if as_json:
        output.print_json({"dry_run": dry_run, "removed": len(sizes), "bytes": sum(sizes), "items": found})
        return
    typer.echo(f"{len(sizes)} objects ({sum(sizes)} bytes) {'would be ' if dry_run else ''}removed", err=True)


async def _stdin() -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(sys.stdin.buffer.read, READ_CHUNK_BYTES_MAX):
        yield chunk
