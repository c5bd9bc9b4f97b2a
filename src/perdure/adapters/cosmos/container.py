"""The container as it must be: found, looked at, and made where that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from azure.core.exceptions import HttpResponseError
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient

from perdure.adapters.cosmos.failures import NOT_FOUND
from perdure.adapters.cosmos.items import PARTITION_PATH
from perdure.errors import Invalid

_ONLY_ITEMS_THAT_SAY_SO: Final = -1
_LONG_KEYS: Final = 2  # of partition keys: version 1 takes 101 bytes

# Queries name the partition and a range of ids, so that is all there is to index: bodies would cost as much again.
_INDEXING: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    "includedPaths": [{"path": f"{PARTITION_PATH}/?"}, {"path": "/id/?"}],
    "excludedPaths": [{"path": "/*"}],
}


async def find_container(client: CosmosClient, *, database: str, container: str, create: bool) -> ContainerProxy:
    """The container, made first if it is missing and ``create`` says so. Raises ``Invalid`` for a wrong one."""
    if create:
        made = await client.create_database_if_not_exists(database)
        await made.create_container_if_not_exists(
            container,
            PartitionKey(path=PARTITION_PATH, kind="Hash", version=_LONG_KEYS),
            indexing_policy=_INDEXING,
            default_ttl=_ONLY_ITEMS_THAT_SAY_SO,
        )
    found = client.get_database_client(database).get_container_client(container)
    try:
        _check(container, await found.read())
    except HttpResponseError as exc:
        if exc.status_code != NOT_FOUND:
            raise
        raise Invalid(
            f"the account has no database {database!r} with a container {container!r}. Create it with the partition "
            f"key {PARTITION_PATH} (large partition keys on) and the default time to live {_ONLY_ITEMS_THAT_SAY_SO}, "
            "or open with create_container=True"
        ) from exc
    return found


def _check(container: str, properties: Mapping[str, Any]) -> None:
    key = properties.get("partitionKey") or {}
    if key.get("paths") != [PARTITION_PATH] or key.get("version") != _LONG_KEYS:
        raise Invalid(
            f"the container {container!r} is partitioned by {key.get('paths')} (version {key.get('version')}); "
            f"expected {[PARTITION_PATH]} with large partition keys (version {_LONG_KEYS}). Create another container"
        )
    default_ttl_s = properties.get("defaultTtl")
    if default_ttl_s not in {None, _ONLY_ITEMS_THAT_SAY_SO}:
        raise Invalid(
            f"the container {container!r} removes every item {default_ttl_s} s after its last write; set its default "
            f"time to live to {_ONLY_ITEMS_THAT_SAY_SO}, so that only what has expired is removed"
        )
