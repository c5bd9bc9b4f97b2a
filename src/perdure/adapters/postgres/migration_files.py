"""The migration files: read, checked and hashed before any server is asked.

One rule: a file that cannot run inside one transaction, or that could end the runner's, is refused here and not half
way through somebody's database.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from perdure.errors import Invalid, Refused

__all__ = ["MIGRATIONS", "Migration", "chosen", "load_migrations", "released_migrations"]

MIGRATIONS = Path(__file__).with_name("migrations")
"""Where the migrations of this release are."""

_NAME = re.compile(r"(?P<version>\d{14})_(?P<name>[a-z0-9_]+)\.(?P<way>up|down)\.sql")

# What must not be mistaken for a statement: comments, strings, quoted names, dollar-quoted bodies.
_QUOTED = re.compile(
    r"--[^\n]*|/\*.*?\*/|E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
    r"|\$(?P<tag>[A-Za-z_][A-Za-z0-9_]*|)\$.*?\$(?P=tag)\$",
    re.DOTALL,
)
_OUTSIDE_TRANSACTIONS = re.compile(r"\b(CONCURRENTLY|VACUUM)\b", re.IGNORECASE)
_ENDS_TRANSACTION = re.compile(
    r"(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE\s+TRANSACTION"
    r"|(SET|RESET)\s+(LOCAL\s+|SESSION\s+)?(ROLE|SESSION\s+AUTHORIZATION))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema, both ways.

    ``checksum`` is the SHA-256 of the up script with its line ends normalised to LF, in hexadecimal.
    """

    version: int
    name: str
    up_sql: str
    down_sql: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.version}_{self.name}"


def load_migrations(directory: Path) -> tuple[Migration, ...]:
    """Reads every migration of a directory, oldest first.

    Raises:
        Invalid: a name, pair or statement is not what the runner promises to handle; the message names the file.
    """
    scripts: dict[tuple[int, str], dict[str, str]] = {}
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise Invalid(
                f"migration file {path.name!r} is misnamed; expected YYYYMMDDHHMMSS_name.up.sql or .down.sql with a "
                "name of lower-case letters, digits and underscores",
                file=path.name,
            )
        text = _normalised(path.read_text(encoding="utf-8"))
        _refuse_unrunnable(path.name, text)
        scripts.setdefault((int(match["version"]), match["name"]), {})[match["way"]] = text
    if not scripts:
        raise Invalid(f"no migrations in {directory}; expected files named YYYYMMDDHHMMSS_name.up.sql")
    migrations = tuple(_paired(version, name, both) for (version, name), both in sorted(scripts.items()))
    for earlier, later in itertools.pairwise(migrations):
        if earlier.version == later.version:
            raise Invalid(f"migrations {earlier} and {later} share a version; versions must strictly increase")
    return migrations


@cache
def released_migrations() -> tuple[Migration, ...]:
    """The migrations that came with this release; read once, because files of a release do not change under it."""
    return load_migrations(MIGRATIONS)


def chosen(migrations: Sequence[Migration], *, to: int | None) -> tuple[Migration, ...]:
    """The migrations up to and including version ``to``; all of them for None, none for 0.

    Raises:
        Refused: there is no such version.
    """
    if to is None:
        return tuple(migrations)
    if to != 0 and to not in {migration.version for migration in migrations}:
        known = ", ".join(str(migration.version) for migration in migrations)
        raise Refused(f"there is no migration {to}; expected 0 or one of {known}", version=to)
    return tuple(migration for migration in migrations if migration.version <= to)


def _normalised(text: str) -> str:
    # A checkout with CRLF line ends is the same migration.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _paired(version: int, name: str, both: dict[str, str]) -> Migration:
    for way, other in (("up", "down"), ("down", "up")):
        if way not in both:
            raise Invalid(f"migration {version}_{name} has a {other} script but no {way} script; write both")
    checksum = hashlib.sha256(both["up"].encode()).hexdigest()
    return Migration(version=version, name=name, up_sql=both["up"], down_sql=both["down"], checksum=checksum)


def _refuse_unrunnable(file: str, text: str) -> None:
    bare = _QUOTED.sub(" ", text)
    outside = _OUTSIDE_TRANSACTIONS.search(bare)
    if outside is not None:
        raise Invalid(f"{file} uses {outside[0].upper()}, which cannot run in a transaction; migrations are atomic")
    for statement in bare.split(";"):
        ending = _ENDS_TRANSACTION.match(statement.strip())
        if ending is not None:
            raise Invalid(
                f"{file} has the statement {' '.join(statement.split())[:60]!r}; the runner owns the transaction and "
                "the role of each migration, so take it out (and quote function bodies with dollars)",
                file=file,
            )
