"""What commands print: tables and trees for people, one JSON document for programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import typer

from perdure.domain.records import Page

_CELL_CHARS_MAX: Final = 200  # a line of a message; the rest is in --json
_WIDTH_PIPED: Final = 10_000  # a table in a pipe is cut by nobody
_MS_A_SECOND: Final = 1_000.0
_S_A_MINUTE: Final = 60.0
_S_AN_HOUR: Final = 3_600.0
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def print_json(value: object, *, compact: bool = False) -> None:
    """Print one JSON document; ``compact`` on one line, for streams."""
    encoded = msgspec.json.encode(msgspec.to_builtins(value))
    typer.echo((encoded if compact else msgspec.json.format(encoded, indent=2)).decode())


def page_fields(page: Page[Any]) -> dict[str, Any]:
    """A page as an object: ``items`` and ``next_cursor``."""
    return {"items": list(page.items), "next_cursor": page.next_cursor}


def print_page_end(page: Page[Any], *, nothing: str) -> None:
    """Say on stderr how the list goes on, or that there is nothing, so that stdout has rows only."""
    if page.next_cursor is not None:
        typer.echo(f"more: --cursor {page.next_cursor}", err=True)
    elif not page.items:
        typer.echo(nothing, err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns; without rows, nothing."""
    from rich.table import Table  # noqa: PLC0415 - most commands start without it
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(plain(cell), style=status_style(cell)) for cell in row))
    if table.row_count:
        show(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values, one a line; empty values are left out."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if value is not None and value != "":
            typer.echo(f"{name:<{width}}  {plain(value)}")


def show(renderable: Any) -> None:
    """Print something of rich: in colour and fitted to a terminal, plain and uncut to anything else."""
    from rich.console import Console  # noqa: PLC0415 - most commands start without it

    piped = not sys.stdout.isatty()
    console = Console(file=sys.stdout, width=_WIDTH_PIPED if piped else None, highlight=False, no_color=piped or None)
    if piped:
        with console.capture() as captured:
            console.print(renderable, crop=False)
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
    else:
        console.print(renderable)


def plain(value: object) -> str:
    """A value as a cell: one line, bounded, and nothing in it that a terminal would obey."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="milliseconds")
    text = _CONTROL.sub(lambda found: " " if found[0] == "\n" else f"\\x{ord(found[0]):02x}", str(value))
    return text if len(text) <= _CELL_CHARS_MAX else f"{text[: _CELL_CHARS_MAX - 3]}..."


def status_style(value: object) -> str:
    """The colour of a status; nothing else has one."""
    return _STYLES.get(str(value), "")


_STYLES: Final[Mapping[str, str]] = {
    "COMPLETED": "green",
    "PROCESSED": "green",
    "RUNNING": "cyan",
    "PROCESSING": "cyan",
    "EXECUTING": "cyan",
    "PENDING": "yellow",
    "SKIPPED": "yellow",
    "CANCELLED": "yellow",
    "FAILED": "red",
    "DEAD_LETTER": "bold red",
}


def duration_text(duration_ms: float | None) -> str:
    """A duration for people: ``12.5 ms``, ``3.21 s``, ``4 min 5 s``, ``2 h 3 min``; empty for None."""
    if duration_ms is None:
        return ""
    if duration_ms < _MS_A_SECOND:
        return f"{duration_ms:.3g} ms" if duration_ms < 999.5 else "1 s"  # noqa: PLR2004 - where rounding carries
    seconds = duration_ms / _MS_A_SECOND
    if seconds < _S_A_MINUTE:
        return f"{seconds:.3g} s"
    if seconds < _S_AN_HOUR:
        return f"{seconds // _S_A_MINUTE:.0f} min {int(seconds % _S_A_MINUTE)} s"
    return f"{seconds // _S_AN_HOUR:.0f} h {int(seconds % _S_AN_HOUR // _S_A_MINUTE)} min"


def error_text(error: object) -> str:
    """What an error says in one line: its message, its code, or all of it."""
    if error is None:
        return ""
    if isinstance(error, Mapping):
        code, message = error.get("code"), error.get("message")
        if code or message:
            return plain(": ".join(str(part) for part in (code, message) if part))
    return plain(error)
