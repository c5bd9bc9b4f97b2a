"""Pages: a list is read in pieces by the sort keys of the last item, which a caller holds as an opaque cursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar, cast
from uuid import UUID

import msgspec

from perdure.domain.change_values import refuse_above
from perdure.domain.cursor import CursorKey, decode_cursor, encode_cursor
from perdure.domain.limits import PAGE_SIZE_MAX
from perdure.domain.records import Page
from perdure.domain.scope import Scope
from perdure.errors import Invalid

Item = TypeVar("Item")


class Paging:
    """One list of one tenant: what was asked, where the last page ended, and how long a page may be.

    Raises ``Invalid`` for a cursor of another list, filter or tenant, ``Invalid`` and ``LimitExceeded`` for a ``limit``
    outside 1 to ``PAGE_SIZE_MAX``.
    """

    def __init__(self, scope: Scope, name: str, *filters: object, cursor: str | None, limit: int) -> None:
        if limit < 1:
            raise Invalid(f"a page of {limit} items; at least 1 is expected")
        refuse_above("page_size_max", PAGE_SIZE_MAX, limit)
        self._tenant_id = scope.tenant_id
        self._query = msgspec.json.encode([name, *filters]).decode()
        self._limit = limit
        self.after: tuple[CursorKey, ...] | None = None
        if cursor is not None:
            self.after = decode_cursor(cursor, query=self._query, tenant_id=self._tenant_id)

    def number(self) -> int | None:
        """The only key of a list by number, None on the first page."""
        return None if self.after is None else cast("int", self.after[0])

    def row_id(self) -> UUID | None:
        """The only key of a list by id, None on the first page."""
        return None if self.after is None else cast("UUID", self.after[0])

    def moment(self) -> tuple[datetime, UUID] | None:
        """The two keys of a list by time, None on the first page."""
        return None if self.after is None else cast("tuple[datetime, UUID]", self.after)

    def text(self) -> str | None:
        """The only key of a list by name, None on the first page."""
        return None if self.after is None else cast("str", self.after[0])

    def cursor_after(self, keys: tuple[CursorKey, ...]) -> str:
        """The cursor after an item with these sort keys."""
        return encode_cursor(self._query, tenant_id=self._tenant_id, keys=keys)

    @property
    def limit(self) -> int:
        """How many items to read: one more than the page holds, to know whether there is another page."""
        return self._limit + 1

    def page(self, items: Sequence[Item], *, keys: Callable[[Item], tuple[CursorKey, ...]]) -> Page[Item]:
        """The page of what was read; ``keys`` gives the sort keys of an item."""
        shown = tuple(items[: self._limit])
        if len(items) <= self._limit:
            return Page(items=shown)
        return Page(items=shown, next_cursor=self.cursor_after(keys(shown[-1])))
