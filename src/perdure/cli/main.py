"""``perdure``: the command. Each subcommand's module is imported when it is called, so that the command starts fast."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from perdure import __version__
from perdure.errors import PerdureError

_INTERRUPTED: Final = 130  # what shells expect of a program that Ctrl-C ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where a subcommand is, and its line in the list of commands. ``member`` is a typer app or a function."""

    module: str
    member: str
    summary: str


COMMANDS: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "cxdb-serve": Entry(
            module="cxdb_serve", member="cxdb_serve", summary="Serve turns to clients that speak CXDB's protocol."
        ),
        "demo": Entry(module="demo", member="demo", summary="Triage the commits of a git repository, end to end."),
        "events": Entry(module="events", member="app", summary="Look at the event log, and follow it."),
        "migrate": Entry(module="migrate", member="migrate", summary="Bring a database's schema to this release."),
        "objects": Entry(module="objects", member="app", summary="Bytes under the address of their content."),
        "outbox": Entry(module="outbox", member="app", summary="Look at effects on their way out; requeue, prune."),
        "pg": Entry(module="pg", member="app", summary="The embedded PostgreSQL server by hand."),
        "relay": Entry(module="relay", member="relay", summary="Deliver effects until it is stopped."),
        "routes": Entry(module="routes", member="app", summary="Choose which backend keeps what for whom."),
        "runs": Entry(module="runs", member="app", summary="List runs, and look at one."),
        "signals": Entry(module="signals", member="app", summary="List signals by status, type and age."),
        "tasklists": Entry(module="tasklists", member="app", summary="Task lists of this node, and their snapshots."),
        "telemetry": Entry(
            module="telemetry", member="app", summary="What was seen on the way: entries about units and instances."
        ),
        "tenants": Entry(module="tenants", member="app", summary="Add tenants; grant and revoke membership."),
        "trace": Entry(module="trace", member="trace", summary="Everything that came of a signal, as a tree."),
        "turns": Entry(module="turns", member="app", summary="Conversations: contexts, turns and forks."),
        "work": Entry(module="work", member="app", summary="Units of work: status, history, verification."),
    }
)


class LazyCommands(TyperGroup):
    """A group that knows its commands by name and imports one when it is called."""

    listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        """The names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        """The command of that name, imported now; for the list of commands only its summary."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if self.listing:
            return _command(lambda: None, name=cmd_name, summary=entry.summary)
        member = getattr(importlib.import_module(f"perdure.cli.commands.{entry.module}"), entry.member)
        if isinstance(member, typer.Typer):
            group = typer.main.get_command(member)
            group.name = cmd_name
            return group
        return _command(member, name=cmd_name, summary=None)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, without importing any."""
        self.listing = True
        super().format_help(ctx, formatter)


def _command(function: Any, *, name: str, summary: str | None) -> Any:
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name=name, help=summary)(function)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyCommands,
    help="Perdure: everything an agent system does, kept once and traced.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        typer.echo(f"perdure {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Perdure: everything an agent system does, kept once and traced."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 refused or failed with one line on stderr, 2 misused, 130 interrupted."""
    try:
        app(args=arguments, prog_name="perdure")
    except PerdureError as exc:
        typer.echo(f"perdure: {' '.join(exc.message.split())}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
