"""Which plane and which tenant a command is about: the options that all of them share."""

from __future__ import annotations

import getpass
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from perdure.domain.route import SYSTEM_TENANT
from perdure.errors import Invalid, NotFound

if TYPE_CHECKING:  # imported where it is used: opening a plane costs more than starting the command
    from perdure.core.plane import Plane, Tenant

SOURCE: Final = "manual:cli"

_DEFAULT_DIR: Final = Path(".perdure")
_AGO: Final = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where the embedded server lives.", show_default="./.perdure")
]
Dsn = Annotated[str | None, typer.Option("--dsn", help="A database of yours, as perdure_app.", metavar="DSN")]
Mode = Annotated[str | None, typer.Option("--mode", help="lab, saas or enterprise; needed with --dsn.")]
Env = Annotated[str | None, typer.Option("--env", help="Such as dev or prod; needed with --dsn.")]
Settings = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="Says where the routing registry is.",
        show_default="./perdure.toml, if it is there",
        metavar="FILE",
    ),
]
TenantName = Annotated[
    str | None, typer.Option("--tenant", help="The tenant's slug; needed when there are several.", metavar="t_NAME")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Where the last page ended.", metavar="CURSOR")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many at most.")]

DATA_DIR_DEFAULT: Final = _DEFAULT_DIR
SETTINGS_DEFAULT: Final = Path("perdure.toml")


@asynccontextmanager
async def opened_plane(
    *,
    data_dir: Path,
    dsn: str | None,
    mode: str | None,
    env: str | None,
    settings: Path | None,
    work_key: str | None = None,
) -> AsyncIterator[Plane]:
    """The plane that the options name. Looking never creates one: raises ``NotFound`` for an empty data directory."""
    from perdure.compose import open_plane  # noqa: PLC0415 - see the top

    if dsn is None:
        refuse_empty(data_dir)
    if settings is None and SETTINGS_DEFAULT.exists():
        settings = SETTINGS_DEFAULT
    async with open_plane(
        dsn, data_dir=data_dir, mode=mode, env=env, settings=settings, work_key=work_key, connections_max=2
    ) as plane:
        yield plane


@asynccontextmanager
async def opened_tenant(
    *,
    data_dir: Path,
    dsn: str | None,
    mode: str | None,
    env: str | None,
    settings: Path | None,
    tenant: str | None,
    work_key: str | None = None,
) -> AsyncIterator[Tenant]:
    """The tenant that the options name, or the only one there is."""
    async with opened_plane(
        data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, work_key=work_key
    ) as plane:
        slug = tenant if tenant is not None else await _only_tenant(plane, dsn)
        yield plane.scope(tenant=slug, actor=operator(), source=SOURCE)


def refuse_empty(data_dir: Path) -> None:
    """Raise ``NotFound`` when there was never an embedded server under ``data_dir``."""
    from perdure.compose.embedded import ClusterState, embedded_status  # noqa: PLC0415 - see the top

    if embedded_status(data_dir).state is ClusterState.NOT_CREATED:
        raise NotFound(
            f"there is no plane under {data_dir}; go to the directory that has one, or name it: --data-dir DIR or "
            "--dsn DSN. To see one at work: perdure demo"
        )


async def _only_tenant(plane: Plane, dsn: str | None) -> str:
    if dsn is not None:
        raise Invalid("say whose rows to look at: --tenant t_NAME")
    # The control plane is everywhere, and nobody's rows are meant by it unless it is named.
    tenants = [tenant for tenant in await plane.tenants.list(limit=10) if tenant.slug != SYSTEM_TENANT]
    if not tenants:
        raise NotFound("the plane has no tenant yet; its first signal makes one, or: perdure tenants add t_NAME")
    if len(tenants) > 1:
        raise Invalid(f"say whose rows to look at: --tenant {' | '.join(tenant.slug for tenant in tenants)}")
    return tenants[0].slug


def operator() -> str:
    """Who is at the keyboard, as an actor."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a user id without an account, as in some containers
        name = "unknown"
    return "user:" + re.sub(r"[^A-Za-z0-9._@:/-]", "-", name)[:80]


def moment(text: str | None, *, option: str) -> datetime | None:
    """A time given as ISO 8601, or as so long ago (``90s``, ``15m``, ``24h``, ``7d``). Raises ``Invalid``."""
    if text is None:
        return None
    if (ago := _AGO.fullmatch(text)) is not None:
        from perdure.core.environment import SystemClock  # noqa: PLC0415 - see the top

        try:
            return SystemClock().now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError as exc:
            raise Invalid(f"{option} {text}: that is before time began") from exc
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as exc:
        raise Invalid(f"{option} {text[:40]!r} is no time; expected 24h, 7d, or 2026-01-31T12:00:00Z") from exc
    return parsed if parsed.tzinfo is not None else parsed.astimezone()


def lapse_s(text: str, *, option: str) -> float:
    """So long a time (``90s``, ``15m``, ``24h``, ``7d``), in seconds. Raises ``Invalid``."""
    found = _AGO.fullmatch(text)
    if found is None:
        raise Invalid(f"{option} {text[:40]!r} is not so long a time; expected 90s, 15m, 24h or 7d")
    try:
        return timedelta(**{_UNITS[found[2]]: int(found[1])}).total_seconds()
    except OverflowError as exc:
        raise Invalid(f"{option} {text}: that is longer than time goes") from exc


def row_id(text: str, *, what: str) -> UUID:
    """An id as it is typed. Raises ``Invalid``."""
    try:
        return UUID(text)
    except ValueError as exc:
        raise Invalid(f"{text[:40]!r} is not the id of {what}; ids are UUIDs, as the lists print them") from exc
