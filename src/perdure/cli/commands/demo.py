"""``perdure demo``: the main job on the commits of a real repository."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Final

import typer

from perdure.cli import output
from perdure.cli.demo.report import outcome_fields, print_outcome, progress_for
from perdure.cli.demo.story import COMMITS_MAX, Demo, Outcome, Progress, run_demo
from perdure.cli.target import DATA_DIR_DEFAULT, DataDir

__all__ = ["demo"]

_HERE: Final = Path()
_INTERRUPTED: Final = 130


def demo(
    *,
    repo: Annotated[
        Path,
        typer.Option("--repo", help="A git repository, or a directory in one.", metavar="PATH", show_default="here"),
    ] = _HERE,
    commits: Annotated[
        int, typer.Option("--commits", min=1, max=COMMITS_MAX, help="How many commits, the newest first.")
    ] = 50,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Triage the commits of a git repository: kept once, judged by workers of which one is killed, delivered, traced.

    Nothing in the repository is changed. What is done stays done when it is run again. Ends with 1 if anything is lost.
    """
    asked = Demo(repository=repo, commits_max=commits, data_dir=data_dir)
    try:
        with progress_for(as_json=as_json) as progress:
            outcome = asyncio.run(_until_terminated(asked, progress))
    except (KeyboardInterrupt, asyncio.CancelledError) as exc:
        typer.echo("interrupted; what was committed is kept, and perdure demo goes on from there", err=True)
        raise typer.Exit(_INTERRUPTED) from exc
    if as_json:
        output.print_json(outcome_fields(outcome))
    else:
        print_outcome(outcome, data_dir=data_dir)
    if outcome.losses.total:
        raise typer.Exit(1)


async def _until_terminated(asked: Demo, progress: Progress) -> Outcome:
    """SIGTERM ends it as Ctrl-C does: the children first."""
    task = asyncio.current_task()
    assert task is not None, "a coroutine that runs is in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run_demo(asked, progress=progress)
