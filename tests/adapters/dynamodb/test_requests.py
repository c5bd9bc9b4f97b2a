"""What is asked of the engine: how many requests of which kind, and how items look."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.adapters.dynamodb import items
from perdure.adapters.dynamodb.driver import DynamoDbDriver
from perdure.errors import LimitExceeded, Throttled
from perdure.ports.documents import Expect, ExpectationFailed, Put, Remove, Require, Write
from tests.adapters.dynamodb.answers import Answers
from tests.adapters.dynamodb.conftest import OpenDriver

TIMEOUT_S = 60.0
PUT = Put(sort="a", version=1, body=b"{}", expect=Expect.ABSENT)
ITEM_BYTES_MAX = 409_600


def stored(sort: str) -> dict[str, Any]:
    return {"pk": {"S": "p"}, "sk": {"S": sort}, "v": {"N": "1"}, "b": {"B": "e30="}, "c": {"S": "x"}}


@pytest.mark.parametrize(
    ("writes", "operation"),
    [
        ([PUT], "PutItem"),
        ([Remove(sort="a", expect=3)], "DeleteItem"),
        ([Require(sort="a")], "TransactWriteItems"),
        ([PUT, Require(sort="b")], "TransactWriteItems"),
    ],
)
async def test_a_commit_is_one_request_and_the_cheapest(
    answers: Answers, open_on_answers: OpenDriver, writes: list[Write], operation: str
) -> None:
    driver = await open_on_answers()
    await driver.commit("p", writes, commit_id="mine", timeout_s=TIMEOUT_S)
    assert answers.operations() == [operation]
    assert ("ClientRequestToken" in answers.asked[-1].parameters) == (operation == "TransactWriteItems")


async def test_a_get_is_one_consistent_request(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    answers.give("BatchGetItem", {"Responses": {"kept": [stored("b")]}, "UnprocessedKeys": {}})
    assert await driver.get("p", [], timeout_s=TIMEOUT_S) == {}
    await driver.get("p", ["a"], timeout_s=TIMEOUT_S)
    assert list(await driver.get("p", ["a", "b"], timeout_s=TIMEOUT_S)) == ["b"]
    one, several = answers.asked[-2:]
    assert (one.operation, one.parameters["ConsistentRead"]) == ("GetItem", True)
    assert (several.operation, several.parameters["RequestItems"]["kept"]["ConsistentRead"]) == ("BatchGetItem", True)


async def test_keys_that_were_not_processed_are_asked_for_again(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    left = {"kept": {"Keys": [items.key("p", "b"), items.key("p", "c")], "ConsistentRead": True}}
    answers.give("BatchGetItem", {"Responses": {"kept": [stored("a")]}, "UnprocessedKeys": left})
    answers.give("BatchGetItem", {"Responses": {"kept": [stored("c")]}, "UnprocessedKeys": {}})
    assert sorted(await driver.get("p", ["a", "b", "c"], timeout_s=TIMEOUT_S)) == ["a", "c"]
    again = answers.asked[-1].parameters["RequestItems"]["kept"]
    assert again == left["kept"]


async def test_an_engine_that_processes_no_key_is_throttled(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    left = {"kept": {"Keys": [items.key("p", "a"), items.key("p", "b")], "ConsistentRead": True}}
    answers.give("BatchGetItem", {"Responses": {}, "UnprocessedKeys": left})
    with pytest.raises(Throttled):
        await driver.get("p", ["a", "b"], timeout_s=TIMEOUT_S)
    assert answers.operations() == ["BatchGetItem"]


async def test_a_page_is_one_query_for_one_document_more(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    found = [stored(sort) for sort in ("a", "b", "c")]
    answers.give("Query", {"Items": found, "LastEvaluatedKey": items.key("p", "c")})
    page = await driver.scan("p", start="a", end="z", limit=2, timeout_s=TIMEOUT_S)
    assert ([document.sort for document in page.documents], page.more) == (["a", "b"], True)
    assert answers.operations() == ["Query"]
    assert answers.asked[-1].parameters["Limit"] == 3
    assert answers.asked[-1].parameters["ConsistentRead"] is True


async def test_an_engine_that_stops_early_does_not_end_the_page(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    answers.give("Query", {"Items": [stored("a")], "LastEvaluatedKey": items.key("p", "a")})
    answers.give("Query", {"Items": [], "LastEvaluatedKey": items.key("p", "a")})
    answers.give("Query", {"Items": [stored("b"), stored("z")]})
    page = await driver.scan("p", start="a", end="z", limit=9, timeout_s=TIMEOUT_S)
    assert ([document.sort for document in page.documents], page.more) == (["a", "b"], False)
    assert [asked.parameters["Limit"] for asked in answers.asked[-3:]] == [10, 9, 9]


@pytest.mark.parametrize("reverse", [False, True])
async def test_an_empty_range_asks_nothing(answers: Answers, open_on_answers: OpenDriver, *, reverse: bool) -> None:
    driver = await open_on_answers()
    page = await driver.scan("p", start="a", end="a", limit=9, reverse=reverse, timeout_s=TIMEOUT_S)
    assert (list(page.documents), page.more) == ([], False)
    assert answers.operations() == []


@pytest.mark.parametrize("reverse", [False, True])
async def test_what_stands_at_the_end_of_a_range_is_neither_returned_nor_promised(
    driver: DynamoDbDriver, *, reverse: bool
) -> None:
    await driver.commit("p", [replace(PUT, sort=sort) for sort in "abcd"], commit_id="mine", timeout_s=TIMEOUT_S)
    for limit in (3, 2, 1):
        page = await driver.scan("p", start="a", end="d", limit=limit, reverse=reverse, timeout_s=TIMEOUT_S)
        expected = "cba" if reverse else "abc"
        assert [document.sort for document in page.documents] == list(expected[:limit])
        assert page.more == (limit < 3)


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_goes_on_where_the_engine_stops_after_a_megabyte(driver: DynamoDbDriver, *, reverse: bool) -> None:
    sorts = [f"k{number}" for number in range(9)]
    for start in range(0, 9, 3):
        writes = [replace(PUT, sort=sort, body=b'"%s"' % (b"x" * 370_000)) for sort in sorts[start : start + 3]]
        await driver.commit("p", writes, commit_id=f"c{start}", timeout_s=TIMEOUT_S)
    first = await driver._ask("Query", **items.query(driver._table, "p", start="k", end="l", reverse=reverse))
    assert len(first["Items"]) < 9, "the engine stops early, or this proves nothing"
    page = await driver.scan("p", start="k", end="l", limit=9, reverse=reverse, timeout_s=TIMEOUT_S)
    assert [document.sort for document in page.documents] == (sorts[::-1] if reverse else sorts)
    assert not page.more


async def test_the_engines_own_limits_are_limits(driver: DynamoDbDriver) -> None:
    item = items.to_item("p", replace(PUT, sort="a"), "c")
    overhead = sum(len(name) for name in item) + len("p") + len("a") + len("c") + 2  # the number takes 2
    put: dict[str, Any] = {"TableName": driver._table, "Item": item}
    item["b"] = {"B": b"x" * (ITEM_BYTES_MAX - overhead)}
    await driver._ask("PutItem", writes=[PUT], **put)
    await driver._ask("TransactWriteItems", writes=[PUT], TransactItems=[{"Put": put}])
    many = [{"Put": {**put, "Item": {**item, "sk": {"S": f"k{number}"}}}} for number in range(11)]
    item["b"] = {"B": item["b"]["B"] + b"x"}
    for operation, parameters in (
        ("PutItem", put),
        ("TransactWriteItems", {"TransactItems": [{"Put": put}]}),
        ("TransactWriteItems", {"TransactItems": many}),
    ):
        with pytest.raises(LimitExceeded):
            await driver._ask(operation, writes=[PUT], **parameters)


async def test_a_commit_made_again_with_other_content_is_another_commit(driver: DynamoDbDriver) -> None:
    both: list[Write] = [PUT, replace(PUT, sort="b")]
    await driver.commit("p", both, commit_id="mine", timeout_s=TIMEOUT_S)
    await driver.commit("p", both, commit_id="mine", timeout_s=TIMEOUT_S)
    with pytest.raises(ExpectationFailed) as caught:
        await driver.commit("p", [*both, replace(PUT, sort="c")], commit_id="mine", timeout_s=TIMEOUT_S)
    assert caught.value.found is not None
    assert caught.value.found.commit_id == "mine"


@pytest.mark.fast
def test_a_token_belongs_to_one_request() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    base: list[Write] = [PUT, Remove(sort="b", expect=2), Require(sort="c")]
    variants: list[tuple[str, str, list[Write], str]] = [
        ("table", "p", base, "mine"),
        ("other", "p", base, "mine"),
        ("table", "q", base, "mine"),
        ("table", "p", base, "other"),
        ("table", "p", base[:2], "mine"),
        ("table", "p", base[::-1], "mine"),
        ("table", "p", [replace(PUT, sort="d"), *base[1:]], "mine"),
        ("table", "p", [replace(PUT, version=2), *base[1:]], "mine"),
        ("table", "p", [replace(PUT, body=b"[]"), *base[1:]], "mine"),
        ("table", "p", [replace(PUT, expect=Expect.ANY), *base[1:]], "mine"),
        ("table", "p", [replace(PUT, expect=0), *base[1:]], "mine"),
        ("table", "p", [replace(PUT, expires_at=moment), *base[1:]], "mine"),
        ("table", "p", [PUT, Remove(sort="b", expect=Expect.ANY), Require(sort="c")], "mine"),
        ("table", "p", [PUT, Require(sort="b"), Require(sort="c")], "mine"),
    ]
    tokens = [items.request_token(*variant) for variant in variants]
    assert len(set(tokens)) == len(variants)
    assert {len(token) for token in tokens} == {36}
    assert tokens == [items.request_token(*variant) for variant in variants]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("moment", "expires_us", "ttl_s"),
    [
        (datetime(2030, 1, 1, tzinfo=UTC), 1_893_456_000_000_000, 1_893_456_000 + items.TTL_GRACE_S),
        (datetime(2030, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1_893_456_000_000_001, 1_893_456_001 + items.TTL_GRACE_S),
    ],
)
def test_the_engine_removes_nothing_before_its_time(moment: datetime, expires_us: int, ttl_s: int) -> None:
    item = items.to_item("p", replace(PUT, expires_at=moment), "c")
    assert item["x"] == {"N": str(expires_us)}
    assert item["ttl"] == {"N": str(ttl_s)}
    assert items.to_document(item).expires_at == moment
    assert not {"x", "ttl"} & set(items.to_item("p", PUT, "c"))


async def test_the_engine_gets_the_time_to_remove_by(driver: DynamoDbDriver) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    await driver.commit("p", [replace(PUT, expires_at=moment)], commit_id="mine", timeout_s=TIMEOUT_S)
    answer = await driver._ask("GetItem", TableName=driver._table, Key=items.key("p", "a"))
    assert answer["Item"]["ttl"] == {"N": str(int(moment.timestamp()) + items.TTL_GRACE_S)}
