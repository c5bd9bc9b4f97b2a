"""The table that a driver needs: made, found, missing, or somebody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.adapters.dynamodb import tables
from perdure.adapters.dynamodb.driver import DynamoDbDriver
from perdure.errors import BackendDown, Invalid, TimedOut
from perdure.testing.environment import FakeClock
from tests.adapters.dynamodb.answers import DESCRIBED, Answers
from tests.adapters.dynamodb.conftest import OpenDriver
from tests.support.dynamodb import DynamoDbServer

WITHOUT_TTL = {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}
WITH_TTL = {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}}


async def test_a_missing_table_is_refused_with_what_to_create(open_on_engine: OpenDriver) -> None:
    with pytest.raises(Invalid, match=r"no such table; create it with the key pk \(S, HASH\), sk \(S, RANGE\)"):
        await open_on_engine(create_table=False)


async def test_a_table_is_made_with_its_key_and_time_to_live(
    dynamodb_server: DynamoDbServer, open_on_engine: OpenDriver
) -> None:
    table = dynamodb_server.new_table()
    driver = await open_on_engine(table)
    made = (await driver._ask("DescribeTable", TableName=table))["Table"]
    assert made["KeySchema"] == DESCRIBED["Table"]["KeySchema"]
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    kept = await driver._ask("DescribeTimeToLive", TableName=table)
    assert kept["TimeToLiveDescription"] == WITH_TTL["TimeToLiveDescription"]
    again = await open_on_engine(table, create_table=False)
    await again.probe(timeout_s=60)


async def test_clients_that_make_the_same_table_at_once_all_get_it(
    dynamodb_server: DynamoDbServer, open_on_engine: OpenDriver
) -> None:
    table = dynamodb_server.new_table()
    opened = await asyncio.gather(*(open_on_engine(table) for _ in range(4)))
    await asyncio.gather(*(driver.probe(timeout_s=60) for driver in opened))


async def test_a_table_with_another_key_is_refused(dynamodb_server: DynamoDbServer, open_on_engine: OpenDriver) -> None:
    other, driver = dynamodb_server.new_table(), await open_on_engine()
    for kind, name in (("N", "sk"), ("S", "rk")):
        table = f"{other}-{kind}"
        await driver._ask(
            "CreateTable",
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": name, "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": name, "AttributeType": kind},
            ],
        )
        with pytest.raises(Invalid, match="use another table") as caught:
            await open_on_engine(table)
        assert f"{name} ({kind}, RANGE)" in str(caught.value)


async def test_a_table_that_disappears_is_an_error_and_not_an_empty_answer(open_on_engine: OpenDriver) -> None:
    driver = await open_on_engine()
    await driver._ask("DeleteTable", TableName=driver._table)
    for attempt in (
        driver.get("p", ["a"], timeout_s=60),
        driver.get("p", ["a", "b"], timeout_s=60),
        driver.scan("p", start="A", end="~", limit=9, timeout_s=60),
        driver.probe(timeout_s=60),
    ):
        with pytest.raises(Invalid, match="no such table"):
            await attempt


def with_status(status: str) -> dict[str, Any]:
    return {"Table": {**DESCRIBED["Table"], "TableStatus": status}}


async def test_a_table_that_is_being_made_is_waited_for(
    answers: Answers, open_on_answers: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "POLL_S", 0)
    answers.refuse("DescribeTable", "ResourceNotFoundException")
    answers.refuse("CreateTable", "ResourceInUseException")  # somebody else was faster
    answers.give("DescribeTable", with_status("CREATING"))
    answers.give("DescribeTable", with_status("CREATING"))
    answers.give("DescribeTimeToLive", WITHOUT_TTL)
    answers.refuse("UpdateTimeToLive", "ValidationException")  # here too
    answers.give("DescribeTimeToLive", WITH_TTL)
    await open_on_answers(create_table=True)
    assert [asked.operation for asked in answers.asked].count("DescribeTable") == 4


async def test_a_table_that_is_never_ready_is_given_up(
    answers: Answers, open_on_answers: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "CREATE_TIMEOUT_S", 0)
    answers.give("DescribeTable", with_status("CREATING"))
    answers.give("DescribeTable", with_status("DELETING"))
    with pytest.raises(TimedOut):
        await open_on_answers(clock=FakeClock())
    with pytest.raises(BackendDown, match="DELETING"):
        await open_on_answers()


async def test_time_to_live_that_cannot_be_set_is_an_error(answers: Answers, open_on_answers: OpenDriver) -> None:
    for _ in range(2):
        answers.give("DescribeTimeToLive", WITHOUT_TTL)
    answers.refuse("UpdateTimeToLive", "ValidationException")
    with pytest.raises(Invalid):
        await open_on_answers(create_table=True)


async def test_a_failed_open_leaves_a_driver_that_can_be_closed_and_opened(
    dynamodb_server: DynamoDbServer, open_on_engine: OpenDriver
) -> None:
    table = dynamodb_server.new_table()
    driver: DynamoDbDriver = dynamodb_server.driver(table, create_table=False)
    with pytest.raises(Invalid):
        await driver.open()
    await driver.close()
    await open_on_engine(table)
    await driver.open()
    await driver.probe(timeout_s=60)
    await driver.close()
