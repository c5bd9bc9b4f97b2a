"""The document driver on DynamoDB: one table, and the vendor's blocking client in a few threads of its own."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from botocore import xform_name  # type: ignore[import-untyped]  # ships no types

from perdure.adapters.dynamodb import items, tables
from perdure.adapters.dynamodb.connection import ConnectionSettings, connect
from perdure.adapters.dynamodb.errors import Request, throttled, translate
from perdure.adapters.dynamodb.threads import Threads
from perdure.errors import BackendDown, Invalid
from perdure.ports.capabilities import Capabilities
from perdure.ports.document_rules import check_commit, check_get, check_scan
from perdure.ports.documents import SCAN_BYTES_MAX, Document, Page, Write
from perdure.ports.environment import Clock
from perdure.ports.secrets import Secret

CONNECT_TIMEOUT_S: Final = 3.0
READ_TIMEOUT_S: Final = 10.0  # a call that was given up holds its thread no longer than this
OPEN_TIMEOUT_S: Final = 30.0  # each request of open; the first may wait for credentials of other services

# As the vendor documents them.
CAPABILITIES: Final = Capabilities(
    consistency="strong",
    durable=True,
    shared=True,
    ttl=True,
    change_feed=True,
    node_local=False,
    document_bytes_max=409_600,
    sort_bytes_max=1_024,
    partition_name_bytes_max=2_048,
    batch_writes_max=100,
    batch_bytes_max=4 * 1_048_576,
    partition_bytes_max=None,
)

_TABLE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}\Z")
_PROBED: Final = items.key("probe", "probe")


class DynamoDbDriver:
    """Documents as items of one table, with the key ``pk`` and ``sk``; see ``items`` for the attributes.

    Reads are consistent. A commit of one write is one conditional request, of several a transaction, which costs twice
    as much. ``create_table`` makes a table that is missing, and sets its time to live; without it the table must be
    there. Without keys the vendor's own chain finds credentials, and nothing else. At most ``threads_max`` requests
    are under way at a time.
    """

    def __init__(
        self,
        *,
        table_name: str,
        region: str,
        clock: Clock,
        endpoint_url: str | None = None,
        access_key_id: Secret | None = None,
        secret_access_key: Secret | None = None,
        session_token: Secret | None = None,
        create_table: bool = False,
        threads_max: int = 16,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        if not _TABLE_NAME.match(table_name):
            raise Invalid(f"the table_name is {table_name!r}; expected 3 to 255 letters, digits and _ . -")
        self._settings = ConnectionSettings(
            region=region,
            endpoint_url=endpoint_url,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            connections_max=threads_max,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
        )
        self._table = table_name
        self._create_table = create_table
        self._clock = clock
        self._threads: Threads | None = None
        self._client: Any = None

    def __repr__(self) -> str:
        return f"DynamoDbDriver(table_name={self._table!r}, region={self._settings.region!r})"

    @property
    def capabilities(self) -> Capabilities:
        """The limits that the vendor documents."""
        return CAPABILITIES

    async def open(self) -> None:
        """Connect and look at the table, or make it (``create_table``).

        Raises ``Invalid`` for a table that is missing or has another key.
        """
        self._threads = Threads(threads_max=self._settings.connections_max)
        try:
            call, request = functools.partial(connect, self._settings), Request(operation="Connect", table=self._table)
            self._client = await self._run(call, request, timeout_s=OPEN_TIMEOUT_S)
            await tables.prepare(self._ask, table=self._table, create=self._create_table, clock=self._clock)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Wait for the requests under way and let go of threads and connections."""
        threads, self._threads = self._threads, None
        client, self._client = self._client, None
        try:
            if threads is not None:
                await threads.close()
        finally:
            if client is not None:
                client.close()

    async def probe(self, *, timeout_s: float) -> None:
        """Read an item, which need not be there."""
        await self._get_item(_PROBED, timeout_s=timeout_s)

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """One request, unless the answer is larger than the engine gives at once."""
        check_get(partition, sorts)
        self._opened()
        if not sorts:
            return {}
        if len(sorts) > 1:
            return await self._get_batch(partition, sorts, timeout_s=timeout_s)
        answer = await self._get_item(items.key(partition, sorts[0]), timeout_s=timeout_s)
        return {sorts[0]: items.to_document(answer["Item"])} if "Item" in answer else {}

    async def scan(
        self,
        partition: str,
        *,
        start: str,
        end: str,
        limit: int,
        reverse: bool = False,
        timeout_s: float,
    ) -> Page:
        """One query, unless the page is larger than the engine reads at once."""
        check_scan(partition, start, end, limit)
        self._opened()
        if start == end:
            return Page(documents=(), more=False)
        deadline = self._clock.monotonic() + timeout_s
        query = items.query(self._table, partition, start=start, end=end, reverse=reverse)
        documents: list[Document] = []
        scanned_bytes = 0
        while True:
            # One more than is returned: that it was found is what ``more`` says.
            full = len(documents) == limit or scanned_bytes >= SCAN_BYTES_MAX
            query["Limit"] = 1 if full else limit - len(documents) + 1
            answer = await self._ask("Query", timeout_s=deadline - self._clock.monotonic(), **query)
            for item in answer["Items"]:
                if item["sk"]["S"] == end:
                    continue  # the engine's range includes its end
                if len(documents) == limit or scanned_bytes >= SCAN_BYTES_MAX:
                    return Page(documents=documents, more=True)
                documents.append(items.to_document(item))
                scanned_bytes += len(documents[-1].body)
            if "LastEvaluatedKey" not in answer:
                return Page(documents=documents, more=False)
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """One request. No tokens are needed: the version is the condition."""
        check_commit(partition, writes)
        operation, parameters = items.commit(self._table, partition, writes, commit_id)
        await self._ask(operation, timeout_s=timeout_s, writes=writes, **parameters)
        return [None] * len(writes)

    async def _get_item(self, key: Mapping[str, Any], *, timeout_s: float) -> Mapping[str, Any]:
        return await self._ask("GetItem", timeout_s=timeout_s, TableName=self._table, Key=key, ConsistentRead=True)

    async def _get_batch(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        deadline = self._clock.monotonic() + timeout_s
        left: Sequence[Mapping[str, Any]] = [items.key(partition, sort) for sort in sorts]
        found: dict[str, Document] = {}
        while left:
            asked = {self._table: {"Keys": left, "ConsistentRead": True}}
            answer = await self._ask("BatchGetItem", timeout_s=deadline - self._clock.monotonic(), RequestItems=asked)
            for item in answer.get("Responses", {}).get(self._table, ()):
                document = items.to_document(item)
                found[document.sort] = document
            # An answer ends at 16 MB, and where the table is throttled; if it brought nothing it is the latter.
            unprocessed = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
            if len(unprocessed) >= len(left):
                raise throttled(Request(operation="BatchGetItem", table=self._table))
            left = unprocessed
        return found

    async def _ask(
        self,
        operation: str,
        *,
        timeout_s: float = OPEN_TIMEOUT_S,
        writes: Sequence[Write] | None = None,
        **parameters: Any,
    ) -> Mapping[str, Any]:
        """One request of the service. ``writes`` are those of a commit."""
        self._opened()
        call = functools.partial(getattr(self._client, xform_name(operation)), **parameters)
        answer: Mapping[str, Any] = await self._run(
            call, Request(operation=operation, table=self._table, writes=writes), timeout_s=timeout_s
        )
        return answer

    async def _run(self, call: Callable[[], Any], request: Request, *, timeout_s: float) -> Any:
        try:
            return await self._opened().run(call, timeout_s=timeout_s)
        except Exception as exc:
            raise translate(exc, request) from exc

    def _opened(self) -> Threads:
        if self._threads is None:
            raise BackendDown("this driver is not open; open it first, and do not use it after close")
        return self._threads
