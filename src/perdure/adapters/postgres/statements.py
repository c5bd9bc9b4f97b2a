"""The SQL of the adapter: one statement a file, named after its verb, under ``sql/<kind>/``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import LiteralString

_FOLDER = files("perdure.adapters.postgres") / "sql"


@cache
def statement(name: LiteralString) -> LiteralString:
    """The statement of ``sql/<name>.sql``, as in ``statement("runs/list")``; read once a process."""
    # What ships with the package is as literal as the program that reads it.
    text: LiteralString = _FOLDER.joinpath(f"{name}.sql").read_text(encoding="utf-8")  # type: ignore[assignment,unused-ignore]
    return text
