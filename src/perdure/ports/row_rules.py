"""What a request to a store of rows may look like: every store asks here first, before it sends anything.

The checks return what they were given in a form to go on with, or raise ``Invalid`` (wrong in itself) or
``LimitExceeded`` (too much of it). No value is shown in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from perdure.domain.store_audit import AUDITS_PAGE_MAX
from perdure.domain.versioned import (
    ROW_WRITES_BYTES_MAX,
    ROW_WRITES_MAX,
    ROWS_GET_MAX,
    ROWS_PAGE_MAX,
    VALUE_BYTES_MAX,
    DeleteRow,
    PutRow,
    RowWrite,
    VersionedRow,
    check_row_key,
)
from perdure.errors import Invalid, LimitExceeded

CONTAINERS_PAGE_MAX: Final = 500  # names of one page, each of which is looked at

_JSON: Final = msgspec.json.Decoder(msgspec.Raw)  # reads all of it and makes nothing of it: numbers keep their digits


def check_rows_get(keys: Sequence[str]) -> Sequence[str]:
    """The keys, each once."""
    _check_most("rows_get_max", ROWS_GET_MAX, len(keys), "keys in one get")
    return [check_row_key(key) for key in dict.fromkeys(keys)]


def check_row_writes(writes: Sequence[RowWrite]) -> None:
    """Raise unless these can be one write: rows with different keys, values that are JSON, sizes within the limits."""
    if not writes:
        raise Invalid("a write of no rows; leave it out")
    _check_most("row_writes_max", ROW_WRITES_MAX, len(writes), "rows in one write")
    written: set[str] = set()
    for write in writes:
        if check_row_key(write.key) in written:
            raise Invalid("one key twice in one write; make one change of the two", key=write.key)
        written.add(write.key)
        _check_expected(write)
    puts = [write for write in writes if isinstance(write, PutRow)]
    for put in puts:
        _check_value(put.key, put.value)
        _check_instant(put.key, put.expires_at)
    size = sum(len(put.value) for put in puts)
    _check_most("row_writes_bytes_max", ROW_WRITES_BYTES_MAX, size, "bytes of values in one write")


def check_rows_restore(values: Sequence[VersionedRow]) -> None:
    """Raise unless these rows of another store can be one write."""
    check_row_writes([PutRow(key=row.key, value=row.value, expires_at=row.expires_at) for row in values])
    for row in values:
        if row.version < 1 or not row.incarnation:
            raise Invalid(f"a row of version {row.version}; a row that was kept has 1 or more, and an incarnation")
        _check_instant(row.key, row.created_at)
        _check_instant(row.key, row.updated_at)


def check_rows_query(prefix: str, after: str | None, limit: int) -> None:
    """Raise unless this range may be asked for."""
    if prefix:
        check_row_key(prefix)
    if after is not None:
        check_row_key(after)
    _check_page("rows_page_max", ROWS_PAGE_MAX, limit, "rows in one page")


def check_containers_page(limit: int) -> None:
    """Raise unless so many containers may be asked for at once."""
    _check_page("containers_page_max", CONTAINERS_PAGE_MAX, limit, "containers in one page")


def check_audits_page(limit: int) -> None:
    """Raise unless so many audit records may be asked for at once."""
    _check_page("audits_page_max", AUDITS_PAGE_MAX, limit, "audit records in one page")


def _check_expected(write: RowWrite) -> None:
    expected = write.expected
    if expected is None:
        return
    if expected.version < 0:
        raise Invalid("a version below 0; versions begin at 1, and 0 means that there is no row", key=write.key)
    if isinstance(write, DeleteRow) and expected.version == 0:
        raise Invalid("a deletion expects that there is no row; leave it out, or expect a version", key=write.key)


def _check_value(key: str, value: bytes) -> None:
    _check_most("value_bytes_max", VALUE_BYTES_MAX, len(value), "bytes in a value")
    try:
        value.decode()
        _JSON.decode(value)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as exc:
        # The codec's own message quotes what it could not read.
        problem = "not UTF-8" if isinstance(exc, UnicodeDecodeError) else "not JSON, or nested too deeply"
        raise Invalid(f"a value is {problem}; encode it as JSON in UTF-8 first", key=key) from None


def _check_instant(key: str, instant: datetime | None) -> None:
    if instant is not None and instant.utcoffset() is None:
        raise Invalid("a time of a row has no time zone; use an aware time, as in datetime.now(UTC)", key=key)


def _check_page(name: str, allowed: int, limit: int, what: str) -> None:
    if limit < 1:
        raise Invalid(f"{limit} {what}; ask for at least 1")
    _check_most(name, allowed, limit, what)


def _check_most(limit: str, allowed: int, actual: int, what: str) -> None:
    if actual > allowed:
        raise LimitExceeded(
            f"{actual} {what}; at most {allowed} ({limit})", limit=limit, allowed=allowed, actual=actual
        )
