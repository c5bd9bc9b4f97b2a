"""What each part of the contract of logs stands on: a log that nobody used, and few words to write into it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import pytest

from perdure.domain.container import Container, stream_container
from perdure.domain.log import (
    READ_BYTES_MAX,
    READ_ENTRIES_MAX,
    Appended,
    Entry,
    LogHead,
    LogPage,
    LogSettings,
    NewEntry,
    Position,
)
from perdure.domain.store_audit import StoreAudit
from perdure.ports.backend import Backend
from perdure.ports.logs import LogStore, PositionLost
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother, StoreContract, new_space


def entry(entry_id: str, body: bytes = b"{}", *, fingerprint: str | None = None) -> NewEntry:
    """An entry; its fingerprint follows from its body unless given."""
    return NewEntry(entry_id=entry_id, fingerprint=fingerprint or f"print-{body[:40]!r}-{len(body)}", body=body)


def entries(first: int, count: int, body: bytes = b"{}") -> list[NewEntry]:
    """Entries with the ids ``e<first>`` and on."""
    return [entry(f"e{number}", body) for number in range(first, first + count)]


def text(length: int) -> bytes:
    """A JSON text that is so many bytes."""
    return b'"' + b"x" * (length - 2) + b'"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """One log, as one client sees it."""

    store: LogStore
    log: Container

    def seen_by(self, backend: Backend) -> Shelf:
        """The same log, in the hands of another client."""
        return replace(self, store=backend.logs)

    def beside(self, log: Container) -> Shelf:
        """Another log."""
        return replace(self, log=log)

    def named(self, stream: str) -> Shelf:
        """A stream in the same space."""
        return self.beside(stream_container(self.log.space, stream))

    async def append(
        self,
        *new: NewEntry,
        expected: int | None = None,
        settings: LogSettings | None = None,
        record: StoreAudit | None = None,
    ) -> Sequence[Appended]:
        """One append."""
        return await self.store.append(
            self.log, new, expected=expected, settings=settings, audit=record, timeout_s=TIMEOUT_S
        )

    async def fill(self, count: int, *, first: int = 1, body: bytes = b"{}") -> None:
        """Append entries with the ids ``e<first>`` and on, as many as go together."""
        for start in range(first, first + count, 48):
            await self.append(*entries(start, min(48, first + count - start), body))

    async def head(self) -> LogHead | None:
        """The head, if there is a log."""
        return await self.store.head(self.log, timeout_s=TIMEOUT_S)

    async def one_head(self) -> LogHead:
        """The head of a log that must be there."""
        head = await self.head()
        assert head is not None
        return head

    async def find_page(
        self,
        after: Position | None = None,
        *,
        limit: int = READ_ENTRIES_MAX,
        reverse: bool = False,
        bytes_max: int = READ_BYTES_MAX,
    ) -> LogPage | None:
        """One page, if there is a log."""
        return await self.store.read(
            self.log, after=after, limit=limit, reverse=reverse, bytes_max=bytes_max, timeout_s=TIMEOUT_S
        )

    async def page(
        self,
        after: int | Position | None = None,
        *,
        limit: int = READ_ENTRIES_MAX,
        reverse: bool = False,
        bytes_max: int = READ_BYTES_MAX,
    ) -> LogPage:
        """One page of a log that must be there; a number means that position in the current epoch."""
        if isinstance(after, int):
            after = Position(epoch=(await self.one_head()).epoch, sequence=after)
        page = await self.find_page(after, limit=limit, reverse=reverse, bytes_max=bytes_max)
        assert page is not None
        assert len(page.entries) <= limit
        assert page.entries or not page.more
        return page

    async def all(self, *, limit: int = READ_ENTRIES_MAX, reverse: bool = False) -> list[Entry]:
        """All entries, page after page; none if there is no log."""
        found: list[Entry] = []
        position: Position | None = None
        while (page := await self.find_page(position, limit=limit, reverse=reverse)) is not None:
            assert len(page.entries) <= limit
            found += page.entries
            if not page.more:
                break
            assert page.entries
            position = Position(epoch=page.head.epoch, sequence=page.entries[-1].sequence)
        return found

    async def ids(self) -> list[str]:
        """The ids of all entries, in order."""
        return [one.entry_id for one in await self.all()]

    async def lost(self, after: int | Position) -> PositionLost:
        """The error of reading from a position that is none."""
        with pytest.raises(PositionLost) as caught:
            await self.page(after)
        return caught.value

    async def locate(self, entry_id: str) -> Position | None:
        """Where an entry is."""
        return await self.store.locate(self.log, entry_id, timeout_s=TIMEOUT_S)

    async def configure(
        self, settings: LogSettings, *, if_version: int | None = None, record: StoreAudit | None = None
    ) -> LogHead:
        """Other settings."""
        return await self.store.configure(self.log, settings, if_version=if_version, audit=record, timeout_s=TIMEOUT_S)

    async def trim(self, before: int | datetime, *, record: StoreAudit | None = None) -> int:
        """Trim."""
        return await self.store.trim(self.log, before=before, audit=record, timeout_s=TIMEOUT_S)

    async def clear(self, *, record: StoreAudit | None = None) -> bool:
        """Clear."""
        return await self.store.clear(self.log, audit=record, timeout_s=TIMEOUT_S)

    async def erase(self) -> bool:
        """Erase."""
        return await self.store.erase(self.log, timeout_s=TIMEOUT_S)

    async def restore(self, head: LogHead, *kept: Entry) -> None:
        """Write entries of another store."""
        await self.store.restore(self.log, head, kept, timeout_s=TIMEOUT_S)

    async def sweep(self) -> int:
        """Sweep until nothing is left to sweep."""
        swept = 0
        while (now := await self.store.sweep(limit=100, timeout_s=TIMEOUT_S)) > 0:
            swept += now
        return swept

    async def audits(self, *, after: UUID | None = None, limit: int = 100) -> list[StoreAudit]:
        """What was recorded with the changes."""
        return list(await self.store.audits(self.log, after=after, limit=limit, timeout_s=TIMEOUT_S))

    async def containers(self, *, user: str | None = None, limit: int = 100) -> list[Container]:
        """All logs of the tenant and kind, page after page."""
        found: list[Container] = []
        mark: str | None = None
        while True:
            page, mark = await self.store.containers(
                self.log.kind, self.log.space.tenant, user=user, after=mark, limit=limit, timeout_s=TIMEOUT_S
            )
            assert len(page) <= limit
            found += page
            if mark is None:
                return found


class LogsOpening(StoreContract):
    """A log in a space of its own, for every part of the contract."""

    @pytest.fixture
    def shelf(self, backend: Backend) -> Shelf:
        """A log that is not there yet."""
        return Shelf(store=backend.logs, log=stream_container(new_space(), "events"))

    @pytest.fixture
    async def rival(self, shelf: Shelf, open_another: OpenAnother) -> Shelf:
        """The same log in the hands of another client."""
        return shelf.seen_by(await open_another())


async def outcomes(*tries: Awaitable[object]) -> list[object]:
    """What came of things that were tried at the same time."""
    return await asyncio.gather(*tries, return_exceptions=True)


def is_dense(found: Sequence[Entry], *, first: int = 1) -> bool:
    """Whether these entries are numbered without gaps."""
    return [one.sequence for one in found] == list(range(first, first + len(found)))
