"""``perdure tenants``: who there is, and who may see what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from perdure.cli import output
from perdure.cli.target import DATA_DIR_DEFAULT, AsJson, DataDir, Limit, operator, row_id

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.tenants import Tenants

app = typer.Typer(name="tenants", help="Add tenants; grant and revoke membership.", no_args_is_help=True)

Answer = TypeVar("Answer")
OwnerDsn = Annotated[str | None, typer.Option("--dsn", help="A database of yours, as perdure_owner.", metavar="DSN")]
Slug = Annotated[str, typer.Argument(help="The tenant's slug.", metavar="t_NAME")]
User = Annotated[str, typer.Argument(help="The user's id, a UUID.", metavar="USER")]


@app.command()
def add(slug: Slug, *, data_dir: DataDir = DATA_DIR_DEFAULT, dsn: OwnerDsn = None, as_json: AsJson = False) -> None:
    """Add a tenant."""
    made = _administer(dsn, data_dir, lambda tenants: tenants.add(slug, actor=operator()))
    _tell({"tenant": slug, "added": made}, f"{slug} is there now" if made else f"{slug} was there already", as_json)


@app.command("list")
def list_tenants(
    *,
    after: Annotated[str, typer.Option("--after", help="Begin after this slug.")] = "",
    limit: Limit = 100,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: OwnerDsn = None,
    as_json: AsJson = False,
) -> None:
    """List tenants and their members."""
    tenants = _administer(dsn, data_dir, lambda found: found.list(after=after, limit=limit))
    if as_json:
        output.print_json({"items": list(tenants)})
        return
    rows = ((one.slug, one.created_at, _members(one.members), one.tenant_id) for one in tenants)
    output.print_table(("TENANT", "CREATED", "MEMBERS", "ID"), rows)
    if len(tenants) == limit:
        typer.echo(f"more: --after {tenants[-1].slug}", err=True)


@app.command()
def grant(
    user: User,
    slug: Slug,
    *,
    role: Annotated[str, typer.Option("--role", help="As what, such as member or admin.")] = "member",
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: OwnerDsn = None,
    as_json: AsJson = False,
) -> None:
    """Make a user a member of a tenant, or change as what."""
    user_id = row_id(user, what="a user")
    done = _administer(dsn, data_dir, lambda found: found.grant(user_id, slug, role=role, actor=operator()))
    said = f"{user_id} is {role} of {slug} now" if done else f"{user_id} was {role} of {slug} already"
    _tell({"tenant": slug, "user_id": user_id, "role": role, "granted": done}, said, as_json)


@app.command()
def revoke(
    user: User, slug: Slug, *, data_dir: DataDir = DATA_DIR_DEFAULT, dsn: OwnerDsn = None, as_json: AsJson = False
) -> None:
    """End a user's membership of a tenant."""
    user_id = row_id(user, what="a user")
    done = _administer(dsn, data_dir, lambda found: found.revoke(user_id, slug, actor=operator()))
    said = f"{user_id} is no member of {slug} any more" if done else f"{user_id} was no member of {slug}"
    _tell({"tenant": slug, "user_id": user_id, "revoked": done}, said, as_json)


def _administer(dsn: str | None, data_dir: Path, act: Callable[[Tenants], Awaitable[Answer]]) -> Answer:
    from perdure.compose.tenants import open_tenants  # noqa: PLC0415 - see the top

    async def acted() -> Answer:
        async with open_tenants(dsn, data_dir=data_dir) as tenants:
            return await act(tenants)

    return asyncio.run(acted())


def _tell(fields: dict[str, object], sentence: str, as_json: bool) -> None:  # noqa: FBT001 - one caller's last word
    if as_json:
        output.print_json(fields)
    else:
        typer.echo(sentence)


def _members(members: tuple[object, ...]) -> str:
    return ", ".join(f"{member.user_id} ({member.role})" for member in members)  # type: ignore[attr-defined]
