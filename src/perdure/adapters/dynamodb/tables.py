"""The table: whether it is what the driver needs, and making it where that is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from perdure.adapters.dynamodb.errors import TABLE_EXISTS, TABLE_MISSING
from perdure.errors import BackendDown, Invalid, PerdureError, TimedOut
from perdure.ports.environment import Clock

CREATE_TIMEOUT_S: Final = 120.0  # the service takes seconds, and up to a minute on a bad day
POLL_S: Final = 0.5

_KEY: Final = {("pk", "HASH", "S"), ("sk", "RANGE", "S")}
_TTL_ATTRIBUTE: Final = "ttl"
_TTL_ON: Final = frozenset({"ENABLED", "ENABLING"})

Ask = Callable[..., Awaitable[Mapping[str, Any]]]
"""``ask("DescribeTable", TableName=...)``: one request, with our errors."""


async def prepare(ask: Ask, *, table: str, create: bool, clock: Clock) -> None:
    """Return when the table is ready. Raises ``Invalid`` for one that is missing or has another key."""
    description = await _describe(ask, table=table, create=create, clock=clock)
    _check_key(table, description)
    if create:
        await _enable_ttl(ask, table=table)


async def _describe(ask: Ask, *, table: str, create: bool, clock: Clock) -> Mapping[str, Any]:
    deadline = clock.monotonic() + CREATE_TIMEOUT_S
    while True:
        try:
            description: Mapping[str, Any] = (await ask("DescribeTable", TableName=table))["Table"]
        except Invalid as exc:
            if not create or exc.detail.get("engine_code") != TABLE_MISSING:
                raise
            await _create(ask, table=table)
            continue
        status = description["TableStatus"]
        if status in {"ACTIVE", "UPDATING"}:
            return description
        if status != "CREATING":
            raise BackendDown(f"the table {table!r} is {status}; it must be ACTIVE before it can be used")
        if clock.monotonic() >= deadline:
            raise TimedOut(f"the table {table!r} is still being created after {CREATE_TIMEOUT_S:g} s; open again later")
        await asyncio.sleep(POLL_S)


async def _create(ask: Ask, *, table: str) -> None:
    try:
        await ask(
            "CreateTable",
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": name, "KeyType": role} for name, role, _ in sorted(_KEY)],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, _, kind in sorted(_KEY)],
        )
    except PerdureError as exc:
        if exc.detail.get("engine_code") != TABLE_EXISTS:  # then somebody else was faster
            raise


def _check_key(table: str, description: Mapping[str, Any]) -> None:
    kinds = {each["AttributeName"]: each["AttributeType"] for each in description["AttributeDefinitions"]}
    found = {
        (each["AttributeName"], each["KeyType"], kinds.get(each["AttributeName"])) for each in description["KeySchema"]
    }
    if found != _KEY:
        named = ", ".join(f"{name} ({kind}, {role})" for name, role, kind in sorted(found, key=str))
        raise Invalid(
            f"the table {table!r} has the key {named}; expected pk (S, HASH) and sk (S, RANGE): use another table"
        )


async def _enable_ttl(ask: Ask, *, table: str) -> None:
    if await _has_ttl(ask, table=table):
        return
    try:
        await ask(
            "UpdateTimeToLive",
            TableName=table,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": _TTL_ATTRIBUTE},
        )
    except Invalid:
        if not await _has_ttl(ask, table=table):  # else somebody did it at the same time
            raise


async def _has_ttl(ask: Ask, *, table: str) -> bool:
    found = (await ask("DescribeTimeToLive", TableName=table))["TimeToLiveDescription"]
    return found["TimeToLiveStatus"] in _TTL_ON and found.get("AttributeName") == _TTL_ATTRIBUTE
