"""What the emulator does like the account. Each fails on its stock form, but for ``If-Match`` of single operations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.cosmos import Answer, CosmosServer

PARTITION = "x-ms-documentdb-partitionkey"


class Container:
    """A container made by hand, partitioned by ``/p``."""

    def __init__(self, account: CosmosServer, **properties: object) -> None:
        self.account = account
        self.database = account.new_database()
        self.path = f"/dbs/{self.database}/colls/c"
        account.send("POST", "/dbs", body={"id": self.database})
        container = {"id": "c", "partitionKey": {"paths": ["/p"]}, **properties}
        assert account.send("POST", f"/dbs/{self.database}/colls", body=container).status == 201

    def create(self, item: str, partition: str = "p", **fields: object) -> Answer:
        return self.send("POST", {"id": item, "p": partition, **fields}, partition=partition)

    def read(self, item: str, partition: str = "p") -> Answer:
        return self.send("GET", None, f"/{item}", partition=partition)

    def batch(self, *operations: dict[str, Any]) -> Answer:
        return self.send(
            "POST", list(operations), **{"x-ms-cosmos-is-batch-request": "True", "x-ms-cosmos-batch-atomic": "True"}
        )

    def send(self, method: str, body: object, item: str = "", *, partition: str = "p", **headers: str) -> Answer:
        headers = {PARTITION: json.dumps([partition]), **headers}
        return self.account.send(method, f"{self.path}/docs{item}", headers=headers, body=body)

    def ids(self) -> list[str]:
        query = {"query": "SELECT c.id FROM c WHERE c.p = 'p' ORDER BY c.id"}
        answer = self.send("POST", query, **{"content-type": "application/query+json"})
        return [found["id"] for found in answer.body["Documents"]]


@pytest.fixture
def container(cosmos: CosmosServer) -> Container:
    return Container(cosmos)


def create(item: str, **fields: object) -> dict[str, Any]:
    return {"operationType": "Create", "resourceBody": {"id": item, "p": "p", **fields}}


def test_items_with_separators_in_their_names_are_told_apart(container: Container):
    assert container.create("b:/id:c", partition="a").status == 201
    assert container.create("c", partition="a:/id:b").status == 201


def test_a_read_of_an_item_that_is_not_there_is_404(container: Container):
    answer = container.read("a")
    assert answer.status == 404
    assert "x-ms-substatus" not in answer.headers


@pytest.mark.parametrize("method", ["read", "batch", "create", "query", "replace", "delete", "upsert"])
def test_a_container_that_is_not_there_is_404_with_its_own_sub_status(cosmos: CosmosServer, method: str):
    special = {
        "batch": {"x-ms-cosmos-is-batch-request": "True"},
        "query": {"content-type": "application/query+json"},
        "upsert": {"x-ms-documentdb-is-upsert": "True"},
    }
    verb = {"read": "GET", "replace": "PUT", "delete": "DELETE"}.get(method, "POST")
    path = "/dbs/nowhere/colls/c/docs" + ("" if verb == "POST" else "/a")
    body = None if verb in {"GET", "DELETE"} else {"id": "a", "p": "p", "query": "SELECT * FROM c WHERE c.p = 'p'"}
    answer = cosmos.send(verb, path, headers={PARTITION: '["p"]', **special.get(method, {})}, body=body)
    assert (answer.status, answer.headers.get("x-ms-substatus")) == (404, "1003")


def test_an_upsert_if_none_match_writes_only_where_nothing_is(container: Container):
    headers = {"x-ms-documentdb-is-upsert": "True", "if-none-match": "*"}
    assert container.send("POST", {"id": "a", "p": "p", "n": 1}, **headers).status == 201
    assert container.send("POST", {"id": "a", "p": "p", "n": 2}, **headers).status == 412
    assert container.read("a").body["n"] == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_if_match_is_honoured_by_single_operations(container: Container, method: str):
    etag = container.create("a", n=1).body["_etag"]
    body = {"id": "a", "p": "p", "n": 2} if method == "PUT" else None
    assert container.send(method, body, "/a", **{"if-match": "stale"}).status == 412
    assert container.read("a").body["n"] == 1
    assert container.send(method, body, "/a", **{"if-match": etag}).status in {200, 204}
    assert container.read("a").body.get("n") != 1


@pytest.mark.parametrize(
    "failing",
    [
        create("old"),
        {"operationType": "Replace", "id": "old", "resourceBody": {"id": "old", "p": "p"}, "ifMatch": "stale"},
        {"operationType": "Delete", "id": "old", "ifMatch": "stale"},
        {"operationType": "Read", "id": "missing"},
    ],
    ids=["create", "replace", "delete", "read"],
)
def test_a_batch_that_fails_leaves_nothing_and_says_which_operation_failed(
    container: Container, failing: dict[str, Any]
):
    container.create("old", n=1)
    answer = container.batch(create("a"), failing, create("b"))
    assert answer.status == 207
    assert [one["statusCode"] for one in answer.body] == [
        424,
        {"Create": 409, "Read": 404}.get(failing["operationType"], 412),
        424,
    ]
    assert container.ids() == ["old"]
    assert container.read("old").body["n"] == 1


def test_a_batch_does_what_all_its_operations_say(container: Container):
    etag = container.create("old").body["_etag"]
    gone = container.create("gone").body["_etag"]
    container.create("kept")
    answer = container.batch(
        create("a"),
        {"operationType": "Replace", "id": "old", "resourceBody": {"id": "old", "p": "p", "n": 2}, "ifMatch": etag},
        {"operationType": "Delete", "id": "gone", "ifMatch": gone},
        {"operationType": "Read", "id": "kept"},
        {"operationType": "Upsert", "resourceBody": {"id": "u", "p": "p"}},
    )
    assert [one["statusCode"] for one in answer.body] == [201, 200, 204, 200, 201]
    assert answer.body[0]["eTag"] == container.read("a").body["_etag"]
    assert container.ids() == ["a", "kept", "old", "u"]


def test_a_batch_takes_a_hundred_operations_and_no_more(container: Container):
    operations = [create(f"i{number:03}") for number in range(101)]
    assert container.batch(*operations).status == 400
    assert container.ids() == []
    assert container.batch(*operations[:100]).status == 200


def test_a_request_over_two_megabytes_is_refused(container: Container):
    assert container.create("a", text="x" * (2 * 1024 * 1024)).status == 413
    assert container.batch(create("a", text="x" * 1024 * 1024), create("b", text="x" * 1024 * 1024)).status == 413
    assert container.ids() == []


def test_an_item_is_gone_when_its_time_has_come(cosmos: CosmosServer):
    container = Container(cosmos, defaultTtl=-1)
    container.create("a", ttl=100)
    container.create("b")
    assert container.ids() == ["a", "b"]
    cosmos.pass_time(101)
    assert container.ids() == ["b"]
    assert container.read("a").status == 404
    assert container.create("a").status == 201


def test_no_item_expires_where_the_container_has_no_time_to_live(cosmos: CosmosServer):
    container = Container(cosmos)
    container.create("a", ttl=100)
    cosmos.pass_time(1_000)
    assert container.ids() == ["a"]
