"""``perdure tasklists checkpoint``, ``health``, ``tune`` and ``verify``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli import output
from perdure.cli.tasklist_target import (
    AsJson,
    Initialize,
    ListName,
    LoadOlder,
    Mode,
    Root,
    SettingsFile,
    Tenant,
    place_of,
    reported,
)
from perdure.errors import Invalid, PerdureError

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.compose.tasklist_reading import TaskListReader
    from perdure.core.tasklist_checkpointing import CheckpointOutcome
    from perdure.core.tasklists import TaskList
    from perdure.domain.tasklists.frequency import CheckpointFrequency


def checkpoint(
    name: ListName,
    *,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    initialize_if_missing: Initialize = False,
    load_older: LoadOlder = False,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Open a list and write it if that is needed, as after a change of the format."""

    async def asked(tasks: TaskList) -> CheckpointOutcome:
        """What became of it."""
        return await tasks.checkpoint()

    with reported(as_json=as_json):
        place = place_of(
            root,
            tenant=tenant,
            mode=mode,
            settings=settings,
            initialize_if_missing=initialize_if_missing,
            load_older=load_older,
        )
        outcome = place.run(name, asked)
    if as_json:
        output.print_json({"outcome": outcome})
    else:
        typer.echo(outcome.value)


def health(
    name: ListName,
    *,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """How a start of this list goes: health, the frequency of checkpoints, and its bounds."""

    async def observed(tasks: TaskList) -> dict[str, Any]:
        """The contract's document."""
        found = await tasks.observe()
        return {"enabled": False} if found is None else found.as_document()

    with reported(as_json=as_json):
        document = place_of(root, tenant=tenant, mode=mode, settings=settings).run(name, observed)
    if as_json:
        output.print_json(document)
        return
    facts: dict[str, object] = {}
    for section, values in document.items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            facts[f"{section}.{key}".rstrip(".")] = output.error_text(value) if isinstance(value, dict) else value
    output.print_facts(facts)


def tune(
    name: ListName,
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            help="mutation_threshold, dirty_time_floor_secs, debounce_floor_secs, and a number each.",
            metavar="FIELD=NUMBER",
        ),
    ] = None,
    *,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Try an update of the checkpoint frequency against what the host allows. It ends with the command.

    To change it for good, change the settings; to change it in a program that runs, call
    update_checkpoint_frequency there. Both are judged by the same table.
    """

    async def updated(tasks: TaskList) -> CheckpointFrequency:
        """The frequency that it gives."""
        return await tasks.update_checkpoint_frequency(request)

    with reported(as_json=as_json):
        request = dict(map(_field, fields or ()))
        frequency = place_of(root, tenant=tenant, mode=mode, settings=settings).run(name, updated)
    if as_json:
        output.print_json(frequency)
    else:
        output.print_facts(frequency.as_document())


def verify(
    name: ListName,
    *,
    root: Root = None,
    tenant: Tenant = None,
    mode: Mode = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read every snapshot of a list to its end. Fails where a start would; nothing is held, and nothing is moved."""
    with reported(as_json=as_json):
        reader = place_of(root, tenant=tenant, mode=mode, settings=settings).reader()
        failure, rows = _verified(reader, name)
    if as_json:
        error = None if failure is None else {"code": failure.code, "message": failure.message}
        output.print_json({"list": name, "snapshots": rows, "error": error})
    else:
        output.print_table(
            ("SNAPSHOT", "BYTES", "IS"), [(row["snapshot"], row["bytes"], row["code"] or "ok") for row in rows]
        )
    if failure is not None:
        if not as_json:
            typer.echo(f"perdure: {output.plain(failure.message)} ({failure.code})", err=True)
        raise typer.Exit(1)


def _verified(reader: TaskListReader, name: str) -> tuple[PerdureError | None, list[dict[str, Any]]]:
    """What a start would fail with, in this mode; and every snapshot."""
    rows = [
        {
            "snapshot": f"{one.file.timestamp_ms:020d}.snapshot",
            "bytes": one.file.size,
            "code": None if one.error is None else one.error.code,
            "message": None if one.error is None else one.error.message,
        }
        for one in reader.examine(name)
    ]
    try:
        return reader.read(name).failure, rows
    except PerdureError as exc:
        return exc, rows


def _field(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Invalid(f"{text[:80]!a} is not understood; expected FIELD=NUMBER, as in mutation_threshold=48")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
