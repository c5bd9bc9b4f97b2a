"""Rows of tables, as callers see them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from perdure.domain.canonical import JsonValue, exact_json, exact_value
from perdure.domain.container import Container, Space
from perdure.domain.kinds import Kind
from perdure.domain.versioned import (
    NO_ROW,
    TABLE_CHARS_MAX,
    VALUE_BYTES_MAX,
    DeleteRow,
    PutRow,
    RowVersion,
    RowWrite,
    VersionedRow,
    check_row_key,
)
from perdure.errors import Invalid

_TABLE: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
assert TABLE_CHARS_MAX == 63, "the pattern above says the same"  # noqa: PLR2004 - that is the point


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a table. ``value`` is what was put, exactly; ``version`` counts its changes from 1.

    A row that was deleted, or expired, and put again begins at version 1 with another ``incarnation``.
    """

    table: str
    key: str
    value: JsonValue
    version: int
    incarnation: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsPage:
    """Rows in the byte order of their keys. ``next_cursor`` is None after the last."""

    items: tuple[Row, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePut:
    """A put in a batch; the fields are the arguments of ``tables.put``."""

    key: str
    value: JsonValue
    if_version: IfVersion = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDelete:
    """A deletion in a batch; the fields are the arguments of ``tables.delete``."""

    key: str
    if_version: IfVersion = None


IfVersion: TypeAlias = "int | Row | None"
"""None: whatever is there. 0: nothing is there. A version. Or a row: that version of that incarnation."""


def table_container(space: Space, table: str) -> Container:
    """The container of a table. Raises ``Invalid`` unless the name is a lower-case letter and up to 62 of a-z 0-9 _."""
    if _TABLE.fullmatch(str(table)) is None:
        raise Invalid(
            f"{ascii(table)[:80]} is not a table; expected a lower-case letter and up to 62 of a-z, 0-9 and _"
        )
    return Container(kind=Kind.TABLES, space=space, name=(table,))


def row_write(write: TablePut | TableDelete) -> RowWrite:
    """The write of a store for a write of a caller. Raises ``Invalid``, and ``LimitExceeded`` above 256 KiB."""
    key = check_row_key(write.key)
    expected = expected_version(write.if_version)
    if isinstance(write, TableDelete):
        return DeleteRow(key=key, expected=expected)
    value = exact_json(write.value, what=f"row {key[:80]!r}", bytes_max=VALUE_BYTES_MAX, limit="value_bytes_max")
    return PutRow(key=key, value=value, expected=expected, expires_at=write.expires_at)


def expected_version(if_version: IfVersion) -> RowVersion | None:
    """What a store expects for what a caller expects. Raises ``Invalid``."""
    match if_version:
        case None:
            return None
        case Row():
            return RowVersion(version=if_version.version, incarnation=if_version.incarnation)
        case bool():
            raise Invalid("if_version is a version, 0 for no row, a row, or None; not a truth value")
        case 0:
            return NO_ROW
        case int() if if_version > 0:
            return RowVersion(version=if_version)
        case _:
            raise Invalid("if_version is a version from 1, 0 for no row, a row, or None")


def row_of(row: VersionedRow, *, table: str) -> Row:
    """The row of a caller for a row of a store. Raises ``Corrupt``."""
    return Row(
        table=table,
        key=row.key,
        value=exact_value(row.value),
        version=row.version,
        incarnation=row.incarnation,
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
    )


def as_mapping(rows: Mapping[str, VersionedRow], *, table: str) -> dict[str, Row]:
    """Rows by key."""
    return {key: row_of(row, table=table) for key, row in rows.items()}
