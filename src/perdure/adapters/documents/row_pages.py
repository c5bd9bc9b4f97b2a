"""Pages of rows: what is there in order, without what is over."""

from __future__ import annotations

from typing import Final

from perdure.adapters.documents import keys
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.row_documents import is_over, kept_row
from perdure.domain.versioned import ROWS_PAGE_BYTES_MAX, RowPage, VersionedRow
from perdure.ports.documents import SCAN_DOCUMENTS_MAX

EXPIRED_MANY: Final = 200  # documents of a further scan, once there turned out to be rows whose time is over


async def read_page(
    driver: ResilientDriver,
    partition: str,
    *,
    prefix: str,
    after: str | None,
    limit: int,
    reverse: bool,
    timeout_s: float,
) -> RowPage:
    """As the port's ``query``, for a range that was checked.

    One row more than asked for is looked for, because only a row says that the range goes on: what lies behind the last
    one may all be over.
    """
    start, end = _bounds(prefix, after, reverse=reverse)
    patience = driver.patience(timeout_s)
    now = driver.environment.clock.now()
    found: list[VersionedRow] = []
    size = 0
    wanted = limit + 1
    while start < end:
        page = await driver.scan(
            partition,
            start=start,
            end=end,
            limit=min(wanted, SCAN_DOCUMENTS_MAX),
            reverse=reverse,
            timeout_s=patience.left_s,
        )
        for document in page.documents:
            row = kept_row(document).row
            if is_over(row, now):
                continue
            size += len(row.value)
            if len(found) == limit or (found and size > ROWS_PAGE_BYTES_MAX):
                return RowPage(rows=found, more=True)
            found.append(row)
        if not page.more:
            break
        last = page.documents[-1].sort
        start, end = (start, last) if reverse else (keys.after(last), end)
        wanted = max(limit + 1 - len(found), EXPIRED_MANY)
    return RowPage(rows=found, more=False)


def _bounds(prefix: str, after: str | None, *, reverse: bool) -> keys.Range:
    start, end = keys.row_range(prefix)
    if after is None:
        return start, end
    sort = keys.row_sort(after)
    return (start, min(end, sort)) if reverse else (max(start, keys.after(sort)), end)
