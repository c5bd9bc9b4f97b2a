"""What each part of the document driver's contract stands on: drivers that a backend opens, a shelf to write on."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias

import pytest

from perdure.core.environment import SystemIds
from perdure.errors import Throttled, TimedOut
from perdure.ports.document_rules import HIGHEST_CHARACTER, LOWEST_CHARACTER
from perdure.ports.documents import (
    SCAN_DOCUMENTS_MAX,
    Document,
    DocumentDriver,
    Expect,
    Expectation,
    ExpectationFailed,
    Page,
    Put,
    Write,
)

TIMEOUT_S: Final = 60.0  # no test waits for it; long enough for an engine that starts beside the tests
ATTEMPTS_MAX: Final = 200  # of a commit that others are in the way of
FIRST: Final = "A"
END: Final = HIGHEST_CHARACTER

_IDS: Final = SystemIds()  # engines live longer than a test, and some remember the ids of commits

OpenAnother: TypeAlias = Callable[[], Awaitable[DocumentDriver]]


def new_id() -> str:
    """A commit's id that nobody used."""
    return str(_IDS.new())


def put(
    sort: str,
    version: int = 1,
    body: bytes = b"{}",
    *,
    expect: Expectation = Expect.ANY,
    token: object = None,
    expires_at: datetime | None = None,
) -> Put:
    """A put with as few words as a test needs."""
    return Put(sort=sort, version=version, body=body, expect=expect, token=token, expires_at=expires_at)


def text(length: int) -> bytes:
    """A JSON text that is so many bytes."""
    return b'"' + b"x" * (length - 2) + b'"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """One partition, as one client sees it."""

    driver: DocumentDriver
    partition: str

    def seen_by(self, driver: DocumentDriver) -> Shelf:
        """The same partition, in the hands of another client."""
        return replace(self, driver=driver)

    def beside(self, partition: str) -> Shelf:
        """Another partition."""
        return replace(self, partition=partition)

    async def commit(self, *writes: Write, commit_id: str | None = None) -> Sequence[object]:
        """One commit."""
        return await self.driver.commit(self.partition, writes, commit_id=commit_id or new_id(), timeout_s=TIMEOUT_S)

    async def insist(self, *writes: Write, commit_id: str | None = None) -> Sequence[object]:
        """One commit, again while others are in its way: engines say so in their own words."""
        commit_id = commit_id or new_id()
        for _ in range(ATTEMPTS_MAX):
            try:
                return await self.commit(*writes, commit_id=commit_id)
            except (Throttled, TimedOut):
                await asyncio.sleep(0)
        return await self.commit(*writes, commit_id=commit_id)

    async def wins(self, *writes: Write, commit_id: str | None = None) -> bool:
        """Insist, and say whether everything was as expected."""
        try:
            await self.insist(*writes, commit_id=commit_id)
        except ExpectationFailed:
            return False
        return True

    async def get(self, *sorts: str) -> Mapping[str, Document]:
        """Some documents."""
        return await self.driver.get(self.partition, sorts, timeout_s=TIMEOUT_S)

    async def one(self, sort: str) -> Document:
        """A document that must be there."""
        return (await self.get(sort))[sort]

    async def page(self, start: str, end: str, *, limit: int = SCAN_DOCUMENTS_MAX, reverse: bool = False) -> Page:
        """One page."""
        return await self.driver.scan(
            self.partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=TIMEOUT_S
        )

    async def pages(
        self, start: str = FIRST, end: str = END, *, limit: int = SCAN_DOCUMENTS_MAX, reverse: bool = False
    ) -> AsyncIterator[Page]:
        """All pages of a range, each beginning where the one before ended."""
        more = True
        while more:
            page = await self.page(start, end, limit=limit, reverse=reverse)
            more = page.more
            yield page
            if more and reverse:
                end = page.documents[-1].sort
            elif more:
                start = page.documents[-1].sort + LOWEST_CHARACTER

    async def all(
        self, start: str = FIRST, end: str = END, *, limit: int = SCAN_DOCUMENTS_MAX, reverse: bool = False
    ) -> list[Document]:
        """All documents of a range, page after page."""
        pages = self.pages(start, end, limit=limit, reverse=reverse)
        return [document async for page in pages for document in page.documents]

    async def sorts(self, start: str = FIRST, end: str = END, *, reverse: bool = False) -> list[str]:
        """All keys of a range."""
        return [document.sort for document in await self.all(start, end, reverse=reverse)]

    async def fill(self, *sorts: str) -> None:
        """Put documents of version 1 with nothing in them."""
        for start in range(0, len(sorts), 100):
            await self.commit(*(put(sort) for sort in sorts[start : start + 100]))

    async def fails(self, *writes: Write) -> ExpectationFailed:
        """The error of a commit that must not find what it expects."""
        with pytest.raises(ExpectationFailed) as caught:
            await self.commit(*writes)
        return caught.value


class DocumentsContract(ABC):
    """What a backend says: how to open a driver. Every test uses partitions that nobody used before."""

    @abstractmethod
    async def open_driver(self) -> DocumentDriver:
        """An open driver; called again, another client on the same data."""

    @pytest.fixture
    async def open_another(self) -> AsyncIterator[OpenAnother]:
        """Opens drivers and closes them after the test."""
        opened: list[DocumentDriver] = []

        async def open_another() -> DocumentDriver:
            opened.append(await self.open_driver())
            return opened[-1]

        yield open_another
        for driver in reversed(opened):
            await driver.close()

    @pytest.fixture
    async def driver(self, open_another: OpenAnother) -> DocumentDriver:
        """The client that most tests are about."""
        return await open_another()

    @pytest.fixture
    def shelf(self, driver: DocumentDriver) -> Shelf:
        """A partition in which nothing happened yet."""
        return Shelf(driver=driver, partition=f"test-{new_id()}")


def must_be(able: object, what: str) -> None:
    """Skip the test where an engine does not promise what it is about."""
    if not able:
        pytest.skip(f"this backend is not {what}")
