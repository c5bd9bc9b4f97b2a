"""What each part of the contract of rows stands on: a container that nobody used, and few words to write into it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import pytest

from perdure.domain.container import Container, Space, board_container
from perdure.domain.kinds import Kind
from perdure.domain.store_audit import StoreAudit
from perdure.domain.versioned import DeleteRow, PutRow, RowPage, RowVersion, RowWrite, VersionedRow
from perdure.errors import StaleVersion
from perdure.ports.backend import Backend
from perdure.ports.rows import RowStore
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother, StoreContract, new_space

OTHERS: Final = "00000000-0000-7000-8000-000000000000"  # an incarnation that no row has


def table(space: Space, name: str = "items") -> Container:
    """A table."""
    return Container(kind=Kind.TABLES, space=space, name=(name,))


def put(
    key: str,
    value: bytes = b"{}",
    *,
    expected: RowVersion | int | None = None,
    expires_at: datetime | None = None,
) -> PutRow:
    """A put with as few words as a test needs."""
    return PutRow(key=key, value=value, expected=_expected(expected), expires_at=expires_at)


def delete(key: str, *, expected: RowVersion | int | None = None) -> DeleteRow:
    """A deletion."""
    return DeleteRow(key=key, expected=_expected(expected))


def state(row: VersionedRow) -> RowVersion:
    """The very state of a row that was read: its version in its incarnation."""
    return RowVersion(version=row.version, incarnation=row.incarnation)


def text(length: int) -> bytes:
    """A JSON text that is so many bytes."""
    return b'"' + b"x" * (length - 2) + b'"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The rows of one container, as one client sees them."""

    store: RowStore
    rows: Container

    def seen_by(self, backend: Backend) -> Shelf:
        """The same rows, in the hands of another client."""
        return replace(self, store=backend.rows)

    def beside(self, rows: Container) -> Shelf:
        """Another container."""
        return replace(self, rows=rows)

    async def write(self, *writes: RowWrite, record: StoreAudit | None = None) -> Sequence[VersionedRow | None]:
        """One write."""
        return await self.store.write(self.rows, writes, audit=record, timeout_s=TIMEOUT_S)

    async def put(
        self,
        key: str,
        value: bytes = b"{}",
        *,
        expected: RowVersion | int | None = None,
        expires_at: datetime | None = None,
    ) -> VersionedRow:
        """Put one row."""
        (row,) = await self.write(put(key, value, expected=expected, expires_at=expires_at))
        assert row is not None
        return row

    async def delete(self, key: str, *, expected: RowVersion | int | None = None) -> None:
        """Delete one row."""
        assert list(await self.write(delete(key, expected=expected))) == [None]

    async def fill(self, keys: Sequence[str]) -> None:
        """Put many rows, each with its key as value."""
        for start in range(0, len(keys), 50):
            await self.write(*(put(key) for key in keys[start : start + 50]))

    async def find(self, key: str) -> VersionedRow | None:
        """A row, if it is there."""
        return (await self.store.get(self.rows, [key], timeout_s=TIMEOUT_S)).get(key)

    async def one(self, key: str) -> VersionedRow:
        """A row that must be there."""
        row = await self.find(key)
        assert row is not None
        return row

    async def stale(self, *writes: RowWrite) -> StaleVersion:
        """The error of a write that does not find what it expects."""
        with pytest.raises(StaleVersion) as caught:
            await self.write(*writes)
        return caught.value

    async def page(
        self, prefix: str = "", *, after: str | None = None, limit: int = 500, reverse: bool = False
    ) -> RowPage:
        """One page."""
        return await self.store.query(
            self.rows, prefix=prefix, after=after, limit=limit, reverse=reverse, timeout_s=TIMEOUT_S
        )

    async def all(self, prefix: str = "", *, limit: int = 500, reverse: bool = False) -> list[VersionedRow]:
        """All rows of a prefix, page after page."""
        found: list[VersionedRow] = []
        more = True
        while more:
            page = await self.page(prefix, after=found[-1].key if found else None, limit=limit, reverse=reverse)
            assert len(page.rows) <= limit
            assert page.rows or not page.more
            found += page.rows
            more = page.more
        return found

    async def keys(self, prefix: str = "", *, limit: int = 500, reverse: bool = False) -> list[str]:
        """All keys of a prefix."""
        return [row.key for row in await self.all(prefix, limit=limit, reverse=reverse)]

    async def audits(self, *, after: UUID | None = None, limit: int = 100) -> list[StoreAudit]:
        """What was recorded with the writes."""
        return list(await self.store.audits(self.rows, after=after, limit=limit, timeout_s=TIMEOUT_S))

    async def containers(self, *, user: str | None = None, limit: int = 100) -> list[Container]:
        """All containers of the tenant and kind, page after page."""
        found: list[Container] = []
        mark: str | None = None
        while True:
            page, mark = await self.store.containers(
                self.rows.kind, self.rows.space.tenant, user=user, after=mark, limit=limit, timeout_s=TIMEOUT_S
            )
            assert len(page) <= limit
            found += page
            if mark is None:
                return found

    async def sweep(self) -> int:
        """Sweep until nothing is left to sweep."""
        swept = 0
        while (now := await self.store.sweep(limit=100, timeout_s=TIMEOUT_S)) > 0:
            swept += now
        return swept


class RowsOpening(StoreContract):
    """A shelf in a space of its own, for every part of the contract."""

    @pytest.fixture
    def shelf(self, backend: Backend) -> Shelf:
        """A table in which nothing happened yet."""
        return Shelf(store=backend.rows, rows=table(new_space()))

    @pytest.fixture
    def boards(self, shelf: Shelf) -> Shelf:
        """A user's blackboards in the same space."""
        return shelf.beside(board_container(shelf.rows.space, user="ann"))

    async def rivals(self, shelf: Shelf, open_another: OpenAnother, count: int) -> list[Shelf]:
        """The same rows in many hands: of several clients, where there may be several."""
        other = shelf.seen_by(await open_another())
        return [(shelf, other)[number % 2] for number in range(count)]

    async def now(self, shelf: Shelf) -> datetime:
        """The store's own time, as a write tells it."""
        row = await shelf.beside(table(shelf.rows.space, "clock")).put("now")
        return row.updated_at


async def outcomes(*tries: Awaitable[object]) -> list[object]:
    """What came of things that were tried at the same time."""
    return await asyncio.gather(*tries, return_exceptions=True)


def _expected(expected: RowVersion | int | None) -> RowVersion | None:
    return RowVersion(version=expected) if isinstance(expected, int) else expected
