"""What the demo shows: progress while it runs, then the counts, one run's trace, and where to look next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from perdure.cli import output
from perdure.cli.demo.story import Outcome, Progress
from perdure.cli.demo.tally import Tally
from perdure.cli.demo.worker import TENANT
from perdure.cli.target import DATA_DIR_DEFAULT
from perdure.cli.trace_tree import trace_tree


class Silence:
    """For programs, which wait for the object at the end."""

    def say(self, sentence: str) -> None:
        """Nothing."""

    def show(self, tally: Tally) -> None:
        """Nothing."""


class Lines:
    """For logs: what happened, a line each."""

    def say(self, sentence: str) -> None:
        """A line."""
        typer.echo(output.plain(sentence))

    def show(self, tally: Tally) -> None:
        """Nothing: numbers that move are for terminals."""


class Live:
    """For a terminal: bars that move, with what happened above them."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._judged = bars.add_task("runs judged", total=None)
        self._delivered = bars.add_task("effects delivered", total=None)

    def say(self, sentence: str) -> None:
        """A line above the bars."""
        self._bars.console.print(output.plain(sentence), markup=False, highlight=False)

    def show(self, tally: Tally) -> None:
        """Move the bars."""
        self._move(self._judged, len(tally.runs) - tally.to_judge, total=len(tally.runs))
        self._move(self._delivered, len(tally.settled_effects), total=len(tally.requested))

    def _move(self, bar: TaskID, completed: int, *, total: int) -> None:
        self._bars.update(bar, completed=completed, total=total)


@contextmanager
def progress_for(*, as_json: bool) -> Iterator[Progress]:
    """Whatever fits where stdout goes."""
    if as_json:
        yield Silence()
    elif sys.stdout.isatty():
        columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(file=sys.stdout), transient=True) as bars:
            yield Live(bars)
    else:
        yield Lines()


def outcome_fields(outcome: Outcome) -> dict[str, Any]:
    """The outcome as one object. Counts are of the whole tenant; duplicates, workers and seconds of this demo."""
    tally, losses = outcome.tally, outcome.losses
    return {
        "repository": str(outcome.repository),
        "tenant": TENANT,
        "commits": outcome.commits,
        "signals": tally.signals,
        "new_signals": outcome.new_signals,
        "runs": len(tally.runs),
        "runs_taken_over": tally.taken_over,
        "steps": tally.steps,
        "tool_calls": tally.tool_calls,
        "events": tally.events,
        "effects_requested": len(tally.requested),
        "effects_delivered": tally.delivered(outcome.received.keys),
        "duplicates_suppressed": outcome.duplicates_suppressed,
        "duplicates": {
            "signals": outcome.signals_repeated,
            "steps": outcome.steps_skipped,
            "deliveries": outcome.repeated,
        },
        "lost": losses.total,
        "losses": {
            "commits_without_run": losses.commits_without_run,
            "runs_unfinished": losses.runs_unfinished,
            "effects_not_received": losses.effects_not_received,
            "events_missing": losses.events_missing,
        },
        "worker_pids": list(outcome.worker_pids),
        "killed_worker_pid": outcome.killed_worker_pid,
        "correlation_id": str(outcome.trace.correlation_id),
        "seconds": round(outcome.seconds, 3),
    }


def print_outcome(outcome: Outcome, *, data_dir: Path) -> None:
    """Print the counts, the trace, and commands that work."""
    typer.echo()
    for line in _counts(outcome):
        typer.echo(line)
    typer.echo("\nOne run, from the commit to the webhook:\n" if outcome.trace.effects else "\nOne run:\n")
    output.show(trace_tree(outcome.trace, with_events=False))
    typer.echo("\nLook further:\n")
    for command, meaning in _commands(outcome, data_dir=data_dir):
        typer.echo(f"  {command}\n      {meaning}")


def _counts(outcome: Outcome) -> Iterator[str]:
    tally, losses = outcome.tally, outcome.losses
    delivered = tally.delivered(outcome.received.keys)
    duplicates = (
        f"{outcome.signals_repeated} signals sent again, {outcome.steps_skipped} steps not repeated, "
        f"{outcome.repeated} deliveries recognised by their key"
    )
    rows = (
        ("signals", tally.signals, f"{outcome.new_signals} new"),
        ("runs", len(tally.runs), f"{tally.taken_over} begun by one process and finished by another"),
        ("steps", tally.steps, ""),
        ("tool calls", tally.tool_calls, "each one a git command"),
        ("events", tally.events, f"numbered 1 to {tally.number}"),
        ("effects delivered", delivered, f"of {len(tally.requested)} requested; signatures verified"),
        ("duplicates suppressed", outcome.duplicates_suppressed, duplicates),
        ("lost", losses.total, _lost(outcome)),
    )
    for name, count, remark in rows:
        yield f"{name:<22} {count:>7}  {remark}".rstrip()
    yield f"in {outcome.seconds:.1f} s"


def _lost(outcome: Outcome) -> str:
    losses = outcome.losses
    if not losses.total:
        return "git, the ledger and the receiver agree"
    parts = (
        (losses.commits_without_run, "commits without a run"),
        (losses.runs_unfinished, "runs not finished"),
        (losses.effects_not_received, "effects not received"),
        (losses.events_missing, "events missing"),
    )
    return ", ".join(f"{count} {what}" for count, what in parts if count)


def _commands(outcome: Outcome, *, data_dir: Path) -> Iterator[tuple[str, str]]:
    where = "" if data_dir == DATA_DIR_DEFAULT else f" --data-dir {shlex.quote(str(data_dir))}"
    # Every command finds the tenant by itself as long as there is only one.
    whose = where if outcome.tenants == 1 else f"{where} --tenant {TENANT}"
    signal = outcome.trace.signals[0]
    yield f"perdure trace {signal.source_channel}/{signal.source_id} --events{whose}", "what caused what in that run"
    yield f"perdure runs list{whose}", "all runs, the newest first"
    yield f"perdure runs show {outcome.trace.runs[0].id}{whose}", "one of them, part by part"
    yield f"perdure events tail{whose}", "the event log"
    yield f"perdure outbox list{where}", "what went out"
