"""What the ``perdure routes`` commands share: the operator's view of all routes, and their options."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from perdure.cli.target import SOURCE, opened_plane, operator
from perdure.domain.route import SYSTEM_TENANT, ConfigValue

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.plane import Plane
    from perdure.core.routes import Routes

Answer = TypeVar("Answer")

KindName = Annotated[str, typer.Argument(help="streams, tables or memory.", metavar="KIND")]
OfTenant = Annotated[str, typer.Argument(help="The tenant's slug, or t_system.", metavar="t_NAME")]
Project = Annotated[str | None, typer.Option("--project", help="Only of this project.", metavar="ID")]
Surface = Annotated[str | None, typer.Option("--surface", help="Only of this surface.", metavar="ID")]
BackendName = Annotated[str, typer.Option("--backend", help="Such as postgres.", metavar="NAME")]
Config = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        help="A field of the backend's config, again for each; of a secret its reference: key=secret://env/NAME.",
        metavar="KEY=VALUE",
    ),
]
TierName = Annotated[str | None, typer.Option("--tier", help="free, pro or enterprise.", metavar="TIER")]
CostNotes = Annotated[str | None, typer.Option("--cost-notes", help="What it costs, for people.", metavar="TEXT")]
DataStays = Annotated[
    bool, typer.Option("--data-stays", help="It is known that nothing is moved: what is kept stays where it is.")
]
IfVersion = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if the route has this version; 0: if there is none.")
]


def administer(
    act: Callable[[Plane, Routes], Awaitable[Answer]],
    *,
    data_dir: Path,
    dsn: str | None,
    mode: str | None,
    env: str | None,
    settings: Path | None,
) -> Answer:
    """What ``act`` makes of everybody's routes, on the plane that the options name."""

    async def acted() -> Answer:
        """What the action answers, from one plane."""
        async with opened_plane(data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings) as plane:
            return await act(plane, plane.scope(SYSTEM_TENANT, actor=operator(), source=SOURCE).routes)

    return asyncio.run(acted())


def config_texts(given: Sequence[str] | None) -> Mapping[str, str]:
    """The ``--config`` options as texts. What is wrong is misuse, and is not quoted: it may be a secret."""
    texts: dict[str, str] = {}
    for one in given or ():
        name, equals, text = one.partition("=")
        if not equals or not name:
            raise typer.BadParameter("expected KEY=VALUE", param_hint="--config")
        if name in texts:
            raise typer.BadParameter(f"{name[:80]} is given twice", param_hint="--config")
        texts[name] = text
    return texts


def config_text(config: Mapping[str, ConfigValue]) -> str:
    """A config as it is typed: ``path=a.db create_table=true``. It holds references, never secrets."""
    return " ".join(f"{name}={_typed(value)}" for name, value in sorted(config.items()))


def _typed(value: ConfigValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
