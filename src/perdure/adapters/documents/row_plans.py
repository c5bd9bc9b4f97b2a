"""From what is to be written and what is there to one commit, without doing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from perdure.adapters.documents import keys
from perdure.adapters.documents.row_documents import Due, KeptRow, first_version, is_over, row_body
from perdure.domain.versioned import DeleteRow, RowVersion, RowWrite, VersionedRow
from perdure.errors import StaleVersion
from perdure.ports.documents import Expect, Put, Remove, Write


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A commit and what it makes of each row. ``adds`` says that it makes documents where none are."""

    writes: Sequence[Write]
    rows: Sequence[VersionedRow | None]
    adds: bool


def must_be_read(write: RowWrite) -> bool:
    """Whether a write cannot be planned without knowing what is there."""
    if isinstance(write, DeleteRow):
        return write.expected is not None
    return write.expected is None or write.expected.version > 0


def live(found: KeptRow | None, now: datetime) -> VersionedRow | None:
    """The row, unless there is none or its lifetime is over."""
    return None if found is None or is_over(found.row, now) else found.row


def due_before(found: KeptRow | None, expires_at: datetime, now: datetime) -> Due | None:
    """The pointer of the row that is there, if it will do for another end as well: not later, and not yet due."""
    due = None if found is None else found.due
    return due if due is not None and now < due.at <= expires_at else None


def check_expected(writes: Sequence[RowWrite], *, found: Mapping[str, KeptRow], now: datetime) -> None:
    """Raise ``StaleVersion`` for the first expectation that does not hold."""
    for write in writes:
        _check_expected(write, live(found.get(write.key), now))


def make_plan(
    writes: Sequence[RowWrite],
    *,
    found: Mapping[str, KeptRow],
    dues: Mapping[str, Due],
    incarnations: Mapping[str, str],
    now: datetime,
) -> Plan:
    """The commit for these writes over what was found, by key; ``dues`` are the pointers, ``incarnations`` new ids."""
    planned = [_plan(write, found.get(write.key), dues.get(write.key), incarnations, now) for write in writes]
    return Plan(
        writes=[document for document, _ in planned],
        rows=[row for _, row in planned],
        adds=any(isinstance(document, Put) and document.expect is Expect.ABSENT for document, _ in planned),
    )


def _plan(
    write: RowWrite, found: KeptRow | None, due: Due | None, incarnations: Mapping[str, str], now: datetime
) -> tuple[Write, VersionedRow | None]:
    there = live(found, now)
    if isinstance(write, DeleteRow):
        return _removal(write, found), None
    if there is None:
        row = VersionedRow(
            key=write.key,
            value=write.value,
            version=1,
            incarnation=incarnations[write.key],
            created_at=now,
            updated_at=now,
            expires_at=write.expires_at,
        )
    else:
        # Clocks of several processes differ, and a row is not updated before it was updated.
        updated_at = max(now, there.updated_at)
        row = replace(
            there,
            value=write.value,
            version=there.version + 1,
            updated_at=updated_at,
            expires_at=write.expires_at,
        )
    return _put_over(row, found, due=due, now=now), row


def _put_over(row: VersionedRow, found: KeptRow | None, *, due: Due | None, now: datetime) -> Put:
    return Put(
        sort=keys.row_sort(row.key),
        version=first_version(row.incarnation, now) if found is None else found.document.version + 1,
        body=row_body(row, due=due),
        expect=Expect.ABSENT if found is None else found.document.version,
        expires_at=row.expires_at,
        token=None if found is None else found.document.token,
    )


def restoring_put(row: VersionedRow, *, due: Due | None, write_id: str, now: datetime) -> Put:
    """The put of a row of another store, whatever is there."""
    return Put(
        sort=keys.row_sort(row.key),
        version=first_version(write_id, now),
        body=row_body(row, due=due),
        expect=Expect.ANY,
        expires_at=row.expires_at,
    )


def _removal(write: DeleteRow, found: KeptRow | None) -> Remove:
    sort = keys.row_sort(write.key)
    if write.expected is None or found is None:
        return Remove(sort=sort, expect=Expect.ANY)
    return Remove(sort=sort, expect=found.document.version, token=found.document.token)


def _check_expected(write: RowWrite, there: VersionedRow | None) -> None:
    expected = write.expected
    if expected is None or _matches(expected, there):
        return
    wanted = f"version {expected.version}" if expected.version else "no row"
    actual = "there is none" if there is None else f"it has version {there.version}"
    if there is not None and there.version == expected.version:
        actual += " of another incarnation: it was deleted, or expired, and made anew"
    raise StaleVersion(
        f"a write expected {wanted} and {actual}; nothing was written, read the row and decide again",
        key=write.key,
        expected=expected.version,
        found=0 if there is None else there.version,
    )


def _matches(expected: RowVersion, there: VersionedRow | None) -> bool:
    if there is None or expected.version == 0:
        return there is None and expected.version == 0
    return there.version == expected.version and expected.incarnation in {None, there.incarnation}
