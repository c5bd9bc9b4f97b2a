"""How a copy of a route goes on, on stderr: a moving line on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.core.copying import CopyReport, Progress

CONTAINERS_A_LINE: Final = 100


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A function to give to ``routes.copy`` as its ``progress``, shown for as long as the block lasts."""
    if sys.stderr.isatty():
        with _moving_line() as progress:
            yield progress
    else:
        yield PlainLines().show


class PlainLines:
    """A line for each phase, and one for each ``CONTAINERS_A_LINE`` containers."""

    def __init__(self) -> None:
        self._phase = ""

    def show(self, report: CopyReport) -> None:
        """Print a line if there is something new to say."""
        if report.phase != self._phase or report.containers % CONTAINERS_A_LINE == 0:
            self._phase = report.phase
            typer.echo(report_text(report), err=True)


@contextmanager
def _moving_line() -> Iterator[Progress]:
    from rich.console import Console  # noqa: PLC0415 - most commands start without it
    from rich.progress import Progress as Bars  # noqa: PLC0415 - as above
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - as above

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        line = bars.add_task("begin", total=None)

        def show(report: CopyReport) -> None:
            bars.update(line, description=report_text(report))

        yield show


def report_text(report: CopyReport) -> str:
    """How far a copy has come, in one line."""
    return (
        f"{report.phase:<8}  {report.containers} containers, {report.entries} entries, {report.rows} rows and "
        f"{report.objects} objects copied, {report.removed} removed, {report.verified} compared"
    )
