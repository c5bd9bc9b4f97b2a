"""A fake in this process, whose requests can be counted and failed, and drivers that are closed after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeAlias

import pytest

from perdure.adapters.firestore.driver import FirestoreDriver
from perdure.core.environment import SystemClock
from tests.support.firestore_fake import FirestoreFake

OpenDriver: TypeAlias = Callable[..., Awaitable[FirestoreDriver]]


@pytest.fixture
def fake() -> Iterator[FirestoreFake]:
    """An empty fake of one test."""
    with FirestoreFake() as fake:
        yield fake


@pytest.fixture
async def open_driver() -> AsyncIterator[OpenDriver]:
    """``await open_driver(endpoint)``: a driver that is closed after the test."""
    opened: list[FirestoreDriver] = []

    async def open_driver(endpoint: str, *, project: str = "tests", collection: str = "perdure") -> FirestoreDriver:
        driver = FirestoreDriver(project=project, endpoint=endpoint, collection=collection, clock=SystemClock())
        opened.append(driver)
        await driver.open()
        return driver

    yield open_driver
    for driver in reversed(opened):
        await driver.close()


@pytest.fixture
async def driver(fake: FirestoreFake, open_driver: OpenDriver) -> FirestoreDriver:
    """A driver on the fake."""
    return await open_driver(fake.endpoint)
