"""What a schema is, as text, and whether a live one still is what its migrations made.

Checksums say which files were applied; this says what somebody did to the database afterwards: a dropped trigger, a
widened grant, a function replaced by hand.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters.postgres.migrate import SchemaStatus, status
from perdure.adapters.postgres.migration_files import MIGRATIONS
from perdure.adapters.postgres.migration_session import Connection, connected, translated

__all__ = ["EXPECTED", "Verification", "describe", "settled", "verify"]

EXPECTED = Path(__file__).with_name("schema.catalog.txt")
"""The description of what the migrations of this release add up to; made by tools/generate_schema.py."""

CATALOG_SQL = Path(__file__).with_name("catalog.sql")
DIFFERENCES_MAX = 200

# `varchar IN ('A', 'B')` is printed with one cast around the list, and with a cast around each member once that text
# was read back, as after a restore. Both mean the same and must not count as a difference.
_CAST_LIST = re.compile(r"\(ARRAY\[((?:'(?:[^']|'')*'::character varying(?:, )?)+)\]\)::text\[\]")
_CAST_MEMBER = re.compile(r"'(?:[^']|'')*'::character varying")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What ``verify`` found.

    ``differences`` are lines of a diff, ``-`` for what the release expects and ``+`` for what is there; at most 200,
    then one that counts the rest.
    """

    status: SchemaStatus
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Every file applied and unchanged, and the live schema what they make."""
        return self.status.state == "current" and not self.differences


async def describe(connection: Connection) -> str:
    """The schema ``perdure`` as sorted lines: the same text for the same schema on every server from 15 on."""
    with translated("reading the catalog"):
        async with connection.transaction():
            await connection.execute(b"SET LOCAL search_path = ''")
            rows = await (await connection.execute(CATALOG_SQL.read_bytes())).fetchall()
    return settled("".join(f"{thing}: {_one_line(fact)}\n" for thing, fact in rows))


def settled(text: str) -> str:
    """The server's own words, in the form they take after a dump and restore."""
    return _CAST_LIST.sub(lambda found: "ARRAY[" + _CAST_MEMBER.sub(r"(\g<0>)::text", found[1]) + "]", text)


async def verify(dsn: str, *, directory: Path = MIGRATIONS, expected: Path = EXPECTED) -> Verification:
    """Compares checksums with the files and the live schema with the expected description; changes nothing.

    Any role may ask that may read the schema; the catalog is public.

    Raises:
        Refused: a pooled DSN, or a user that may not read the schema.
        BackendDown: nothing answered.
    """
    wanted = expected.read_text(encoding="utf-8")  # noqa: ASYNC240 - one small file of this package
    found = await status(dsn, directory=directory)
    async with connected(dsn) as connection:
        actual = await describe(connection)
    return Verification(status=found, differences=_differences(wanted, actual))


def _differences(expected: str, actual: str) -> tuple[str, ...]:
    # n=0 and no headers: each line already says which object it is about.
    diff = difflib.unified_diff(expected.splitlines(), actual.splitlines(), lineterm="", n=0)
    lines = [line for line in diff if not line.startswith(("---", "+++", "@@"))]
    if len(lines) > DIFFERENCES_MAX:
        return (*lines[:DIFFERENCES_MAX], f"and {len(lines) - DIFFERENCES_MAX} lines more")
    return tuple(lines)


def _one_line(fact: str) -> str:
    # A fact is a line, so that a difference names its object. Function bodies keep their line breaks, escaped.
    return fact.replace("\\", "\\\\").replace("\n", "\\n")
