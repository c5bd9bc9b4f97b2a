"""How a document looks as an item, and a commit as a request. Numbers are text on the wire and never floats here.

================  =====================================================================
``pk``, ``sk``    S, the key: partition and sort
``v``             N, the version
``b``             B, the body
``c``             S, the commit that wrote it
``x``             N, optional: expires_at in microseconds since 1970, exact
``ttl``           N, with ``x``: the second after which the engine may remove the item
================  =====================================================================

None of the names in expressions is a reserved word, so they need no aliases.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from perdure.errors import Corrupt
from perdure.ports.documents import Document, Expect, Expectation, Put, Remove, Require, Write

Item = Mapping[str, Mapping[str, Any]]

TTL_GRACE_S: Final = 86_400  # a clock that is wrong by less than a day does not lose a document before its time

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MICROSECONDS: Final = 1_000_000
_TOKEN_BYTES: Final = 18  # 36 characters of hex, the longest ClientRequestToken


def key(partition: str, sort: str) -> dict[str, dict[str, str]]:
    """The key of an item."""
    return {"pk": {"S": partition}, "sk": {"S": sort}}


def to_item(partition: str, put: Put, commit_id: str) -> dict[str, dict[str, Any]]:
    """The item that a put writes."""
    item: dict[str, dict[str, Any]] = {
        **key(partition, put.sort),
        "v": {"N": str(put.version)},
        "b": {"B": put.body},
        "c": {"S": commit_id},
    }
    if put.expires_at is not None:
        expires_us = _microseconds(put.expires_at)
        item["x"] = {"N": str(expires_us)}
        item["ttl"] = {"N": str(-(-expires_us // _MICROSECONDS) + TTL_GRACE_S)}  # rounded up
    return item


def to_document(item: Item) -> Document:
    """The document that an item is. Raises ``Corrupt`` for an item that no driver wrote."""
    try:
        return Document(
            sort=item["sk"]["S"],
            version=int(item["v"]["N"]),
            body=bytes(item["b"]["B"]),
            commit_id=item["c"]["S"],
            expires_at=_EPOCH + int(item["x"]["N"]) * _MICROSECOND if "x" in item else None,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise Corrupt(
            "an item of the table is not a document: expected v (N), b (B), c (S) and perhaps x (N); "
            "find out what else writes to this table"
        ) from exc


def condition(expect: Expectation) -> dict[str, Any]:
    """The parameters that make a request depend on what it finds, and return what that was."""
    if expect is Expect.ANY:
        return {}
    parameters: dict[str, Any] = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    if expect is Expect.ABSENT:
        parameters["ConditionExpression"] = "attribute_not_exists(pk)"
    elif expect is Expect.PRESENT:
        parameters["ConditionExpression"] = "attribute_exists(pk)"
    else:
        parameters["ConditionExpression"] = "v = :expected"
        parameters["ExpressionAttributeValues"] = {":expected": {"N": str(expect)}}
    return parameters


def query(table: str, partition: str, *, start: str, end: str, reverse: bool) -> dict[str, Any]:
    """The parameters for everything from ``start`` to ``end``; ``end`` too, because the engine's range includes it."""
    return {
        "TableName": table,
        "KeyConditionExpression": "pk = :partition AND sk BETWEEN :start AND :end",
        "ExpressionAttributeValues": {":partition": {"S": partition}, ":start": {"S": start}, ":end": {"S": end}},
        "ConsistentRead": True,
        "ScanIndexForward": not reverse,
    }


def commit(table: str, partition: str, writes: Sequence[Write], commit_id: str) -> tuple[str, dict[str, Any]]:
    """The operation for a commit, and its parameters. A single write is half the price of a transaction."""
    actions = [_action(table, partition, write, commit_id) for write in writes]
    if len(actions) == 1 and not isinstance(writes[0], Require):
        ((action, parameters),) = actions[0].items()
        return f"{action}Item", parameters
    token = request_token(table, partition, writes, commit_id)
    return "TransactWriteItems", {"TransactItems": actions, "ClientRequestToken": token}


def request_token(table: str, partition: str, writes: Sequence[Write], commit_id: str) -> str:
    """The same for the same request and another for any other.

    The engine answers a token that it knows with the first answer if the request is the same, and refuses it if the
    request is not; a commit that is made again with other content under its id is another request.
    """
    request = json.dumps([table, partition, commit_id, [_content(write) for write in writes]])
    return hashlib.blake2b(request.encode(), digest_size=_TOKEN_BYTES).hexdigest()


def _action(table: str, partition: str, write: Write, commit_id: str) -> dict[str, Any]:
    if isinstance(write, Put):
        return {"Put": {"TableName": table, "Item": to_item(partition, write, commit_id), **condition(write.expect)}}
    name, expect = ("ConditionCheck", Expect.PRESENT) if isinstance(write, Require) else ("Delete", write.expect)
    return {name: {"TableName": table, "Key": key(partition, write.sort), **condition(expect)}}


def _content(write: Write) -> list[object]:
    if isinstance(write, Require):
        return ["require", write.sort]
    expect = write.expect.value if isinstance(write.expect, Expect) else write.expect
    if isinstance(write, Remove):
        return ["remove", write.sort, expect]
    expires_us = None if write.expires_at is None else _microseconds(write.expires_at)
    body = hashlib.blake2b(write.body).hexdigest()
    return ["put", write.sort, expect, write.version, expires_us, body]


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
