"""``perdure tasklists``: lists of this node. Each change is on the disk before the command ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli import output
from perdure.cli.commands import tasklists_operating
from perdure.cli.target import operator
from perdure.cli.tasklist_target import (
    AsJson,
    Initialize,
    ListName,
    LoadOlder,
    Mode,
    Place,
    Root,
    SettingsFile,
    TaskId,
    Tenant,
    place_of,
    reported,
)

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.tasklists import TaskList
    from perdure.domain.tasklists.tasks import Task

Agent = Annotated[
    str | None, typer.Option("--agent", help="Who does it.", show_default="whoever is logged in", metavar="AGENT")
]

app = typer.Typer(name="tasklists", help="Task lists of this node, and their snapshots.", no_args_is_help=True)
app.command("checkpoint")(tasklists_operating.checkpoint)
app.command("health")(tasklists_operating.health)
app.command("tune")(tasklists_operating.tune)
app.command("verify")(tasklists_operating.verify)


@app.command("list")
def list_lists(
    *,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """The lists that have snapshots here, read without holding them."""
    with reported(as_json=as_json):
        place = place_of(root, tenant=tenant, mode=mode, settings=settings)
        found = place.reader().lists()
    if as_json:
        output.print_json({"items": found})
        return
    rows = ((one.name, one.snapshots, one.size, _moment(one.newest_ms)) for one in found)
    output.print_table(("NAME", "SNAPSHOTS", "BYTES", "NEWEST"), rows)
    if not found:
        typer.echo(f"there is no list below {place.root}; make one with: perdure tasklists add NAME TITLE", err=True)


@app.command("show")
def show(
    name: ListName,
    *,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """A list as a start would load it from the disk; nothing is held, and nothing is moved."""
    with reported(as_json=as_json):
        recovery = place_of(root, tenant=tenant, mode=mode, settings=settings).reader().read(name)
    for skipped in recovery.skipped:
        typer.echo(f"perdure: skipped: {output.plain(skipped.error.message)} ({skipped.error.code})", err=True)
    if recovery.failure is not None:
        typer.echo(f"perdure: {output.plain(recovery.failure.message)} ({recovery.failure.code})", err=True)
    view = None if recovery.value is None else recovery.value.view()
    tasks = () if view is None else view.tasks
    if as_json:
        shown = {"name": "" if view is None else view.name, "view_digest": None if view is None else view.view_digest}
        output.print_json({"list": name, "outcome": recovery.outcome, **shown, "tasks": tasks})
        return
    columns = ("ID", "STATUS", "TITLE", "PRIORITY", "ASSIGNEE", "BY", "TAGS")
    output.print_table(columns, map(_row, tasks))


@app.command("add")
def add(
    name: ListName,
    title: Annotated[str, typer.Argument(help="What is to be done.", metavar="TITLE")],
    *,
    description: Annotated[str, typer.Option("--description", help="More about it.")] = "",
    priority: Annotated[int, typer.Option("--priority", help="0 to 255.")] = 0,
    task_id: Annotated[str | None, typer.Option("--id", help="The task's id.", show_default="a new one")] = None,
    agent: Agent = None,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    initialize_if_missing: Initialize = False,
    load_older: LoadOlder = False,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Add a task at the end of a list."""

    async def added(tasks: TaskList) -> Task:
        """The task as it is on the list."""
        return await tasks.add(
            title, agent=agent or operator(), description=description, priority=priority, task_id=task_id
        )

    with reported(as_json=as_json):
        place = place_of(
            root,
            tenant=tenant,
            mode=mode,
            settings=settings,
            initialize_if_missing=initialize_if_missing,
            load_older=load_older,
        )
        _print(place, name, added, as_json=as_json)


@app.command("claim")
def claim(
    name: ListName,
    task: TaskId,
    *,
    agent: Agent = None,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Claim a task. Who claimed it first may not be known on this node yet."""
    with reported(as_json=as_json):
        place = place_of(root, tenant=tenant, mode=mode, settings=settings)
        _print(place, name, lambda tasks: tasks.claim(task, agent=agent or operator()), as_json=as_json)


@app.command("complete")
def complete(
    name: ListName,
    task: TaskId,
    *,
    agent: Agent = None,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Complete a task that somebody claimed."""
    with reported(as_json=as_json):
        place = place_of(root, tenant=tenant, mode=mode, settings=settings)
        _print(place, name, lambda tasks: tasks.complete(task, agent=agent or operator()), as_json=as_json)


@app.command("move")
def move(
    name: ListName,
    task: TaskId,
    *,
    after: Annotated[
        str | None, typer.Option("--after", help="Behind which task.", show_default="first", metavar="TASK")
    ] = None,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Put a task right behind another one, or first."""
    with reported(as_json=as_json):
        place = place_of(root, tenant=tenant, mode=mode, settings=settings)
        _print(place, name, lambda tasks: tasks.move(task, after=after), as_json=as_json)


@app.command("remove")
def remove(
    name: ListName,
    task: TaskId,
    *,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a task off the list."""

    async def removed(tasks: TaskList) -> Task:
        """The task as it was."""
        found = await tasks.get(task)
        await tasks.remove(task)
        return found

    with reported(as_json=as_json):
        _print(place_of(root, tenant=tenant, mode=mode, settings=settings), name, removed, as_json=as_json)


def _print(place: Place, name: str, work: Callable[[TaskList], Awaitable[Task]], *, as_json: bool) -> None:
    task = place.change(name, work)
    if as_json:
        output.print_json(task)
    else:
        output.print_table(("ID", "STATUS", "TITLE"), [(task.task_id, task.status, task.title)])


def _row(task: Task) -> tuple[object, ...]:
    by = task.completed_by or task.claimed_by
    return task.task_id, task.status, task.title, task.priority, task.assignee, by, " ".join(task.tags)


def _moment(timestamp_ms: int | None) -> object:
    # A name may say any time of 20 digits.
    if timestamp_ms is None or timestamp_ms > _READABLE_MS_MAX:
        return timestamp_ms
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


_READABLE_MS_MAX = 253_402_300_799_000  # the last millisecond but some of the year 9999
