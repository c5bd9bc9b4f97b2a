"""Small migrations for tests of the runner, written into a directory of their own."""

from __future__ import annotations

from pathlib import Path

ONE, TWO, THREE = 20260101000001, 20260101000002, 20260101000003

TABLE = "CREATE TABLE perdure.{name} (id bigint NOT NULL, CONSTRAINT pk_{name} PRIMARY KEY (id));\n"


def write(directory: Path, version: int, name: str, *, up: str | None = None, down: str | None = None) -> None:
    """Writes both scripts; without any, one that creates the table ``name`` and one that drops it."""
    stem = f"{version}_{name}"
    (directory / f"{stem}.up.sql").write_text(TABLE.format(name=name) if up is None else up)
    (directory / f"{stem}.down.sql").write_text(f"DROP TABLE perdure.{name};\n" if down is None else down)


def write_three(directory: Path) -> Path:
    """Tables apples, pears and plums."""
    for version, name in ((ONE, "apples"), (TWO, "pears"), (THREE, "plums")):
        write(directory, version, name)
    return directory
