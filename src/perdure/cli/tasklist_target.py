"""Which task list a command is about, and how it ends: the options and the errors that all of them share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from perdure.cli import output
from perdure.cli.target import SETTINGS_DEFAULT
from perdure.errors import Invalid, PerdureError

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.compose.tasklist_reading import TaskListReader
    from perdure.core.tasklists import TaskList

Answer = TypeVar("Answer")

ROOT_DEFAULT: Final = Path(".perdure/tasklists")

ListName = Annotated[str, typer.Argument(help="Which list.", metavar="NAME")]
TaskId = Annotated[str, typer.Argument(help="Which task.", metavar="TASK")]
Root = Annotated[
    Path | None, typer.Option("--root", help="One store of lists.", show_default="./.perdure/tasklists", metavar="DIR")
]
Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Whose, below the root of the settings.", metavar="t_NAME")
]
Mode = Annotated[
    str | None, typer.Option("--mode", help="strict or degraded: what a failure of snapshots does.", metavar="MODE")
]
Initialize = Annotated[bool, typer.Option("--initialize-if-missing", help="Let strict begin a root that has none yet.")]
LoadOlder = Annotated[
    bool, typer.Option("--load-older", help="Let strict put damaged snapshots aside and load an older one.")
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="Its [tasklists] says the rest.",
        show_default="./perdure.toml, if it is there",
        metavar="FILE",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, of an error too.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the lists are, and how they are kept."""

    root: Path
    mode: str | None
    settings: Mapping[str, Any]
    initialize_if_missing: bool = False
    load_older: bool = False

    def reader(self) -> TaskListReader:
        """What reads the disk without holding it."""
        from perdure.compose.tasklist_reading import TaskListReader  # noqa: PLC0415 - see the top
        from perdure.core.environment import system_environment  # noqa: PLC0415 - see the top

        return TaskListReader(self.root, mode=self.mode, settings=self.settings, environment=system_environment())

    def run(self, name: str, work: Callable[[TaskList], Awaitable[Answer]]) -> Answer:
        """Open a list, do something with it, and close it."""
        from perdure.compose.tasklists import open_tasklist  # noqa: PLC0415 - see the top

        async def worked() -> Answer:
            """In one event loop."""
            async with open_tasklist(
                name,
                root=self.root,
                mode=self.mode,
                initialize_if_missing=self.initialize_if_missing,
                load_older=self.load_older,
                settings=self.settings,
            ) as tasks:
                return await work(tasks)

        return asyncio.run(worked())

    def change(self, name: str, work: Callable[[TaskList], Awaitable[Answer]]) -> Answer:
        """Change a list, and write it before the command ends. Raises ``CheckpointFailed`` if it is not on the disk."""
        from perdure.core.tasklist_checkpointing import CheckpointOutcome  # noqa: PLC0415 - see the top
        from perdure.domain.tasklists.failures import CheckpointFailed  # noqa: PLC0415 - see the top

        async def changed(tasks: TaskList) -> Answer:
            """What was done, once it is on the disk."""
            answer = await work(tasks)
            if await tasks.checkpoint() is CheckpointOutcome.DEGRADED_CONTINUED:
                observed = await tasks.observe()
                error = None if observed is None else observed.health.last_error
                raise CheckpointFailed(
                    f"the change is lost, because {name!a} was not written: "
                    f"{'see the log' if error is None else error.message}",
                    reason=None if error is None else error.code.value,
                )
            return answer

        return self.run(name, changed)


def place_of(
    root: Path | None,
    *,
    tenant: str | None,
    mode: str | None,
    settings: Path | None,
    initialize_if_missing: bool = False,
    load_older: bool = False,
) -> Place:
    """The place that the options name. Raises ``Invalid``."""
    from perdure.config import read_settings  # noqa: PLC0415 - see the top

    if settings is None and SETTINGS_DEFAULT.exists():
        settings = SETTINGS_DEFAULT
    found = {} if settings is None else dict(read_settings(settings).get("tasklists", {}))
    configured = found.pop("root", None)
    place = root
    if place is None and configured is not None:
        if tenant is None:
            raise Invalid("say whose lists: --tenant t_NAME; or name one store: --root DIR")
        place = Path(configured)
    place = ROOT_DEFAULT if place is None else place
    if tenant is not None:
        from perdure.domain.ids import check_tenant  # noqa: PLC0415 - see the top

        place /= check_tenant(tenant)
    return Place(
        root=place,
        mode=mode,
        settings=found,
        initialize_if_missing=initialize_if_missing,
        load_older=load_older,
    )


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """End the command with 1 and the code of what is wrong: after the message, or as a JSON document."""
    try:
        yield
    except PerdureError as exc:
        if as_json:
            output.print_json({"error": {"code": exc.code, "message": exc.message}})
        else:
            typer.echo(f"perdure: {' '.join(exc.message.split())} ({exc.code})", err=True)
        raise typer.Exit(1) from exc
