"""Drivers on the local engine, and on a server that answers as a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from perdure.adapters.dynamodb.driver import DynamoDbDriver
from perdure.ports.secrets import Secret
from perdure.testing.environment import FakeClock
from tests.adapters.dynamodb.answers import Answers
from tests.support.dynamodb import DynamoDbServer

OpenDriver = Callable[..., Awaitable[DynamoDbDriver]]

SECRETS = ("AKIAWHISPERED", "whispered/key+of+forty", "whispered/token==")


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    """A server that answers as the test says."""
    async with Answers() as answers:
        yield answers


@pytest.fixture
async def open_on_answers(answers: Answers) -> AsyncIterator[OpenDriver]:
    """Opens drivers on ``answers``, with secrets that must not be seen anywhere."""
    opened: list[DynamoDbDriver] = []

    async def open_on_answers(**changed: Any) -> DynamoDbDriver:
        key, secret, token = (Secret(text) for text in SECRETS)
        arguments: dict[str, Any] = {
            "table_name": "kept",
            "region": "eu-central-1",
            "endpoint_url": answers.endpoint,
            "access_key_id": key,
            "secret_access_key": secret,
            "session_token": token,
            "clock": FakeClock(),
        }
        opened.append(DynamoDbDriver(**{**arguments, **changed}))
        await opened[-1].open()
        return opened[-1]

    yield open_on_answers
    answers.release()
    for driver in opened:
        await driver.close()


@pytest.fixture
async def open_on_engine(dynamodb_server: DynamoDbServer) -> AsyncIterator[OpenDriver]:
    """Opens drivers on the local engine, on a new table unless one is named."""
    opened: list[DynamoDbDriver] = []

    async def open_on_engine(table: str | None = None, **changed: Any) -> DynamoDbDriver:
        opened.append(dynamodb_server.driver(table or dynamodb_server.new_table(), **changed))
        await opened[-1].open()
        return opened[-1]

    yield open_on_engine
    for driver in opened:
        await driver.close()


@pytest.fixture
async def driver(open_on_engine: OpenDriver) -> DynamoDbDriver:
    """A driver on a new table of the local engine."""
    return await open_on_engine()
