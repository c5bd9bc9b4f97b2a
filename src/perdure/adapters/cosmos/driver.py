"""The document driver on Azure Cosmos DB's API for NoSQL: one container, a batch for each commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from azure.core.exceptions import AzureError, HttpResponseError
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosBatchOperationError

from perdure.adapters.cosmos.account import Consistency, check_endpoint, check_name, make_client
from perdure.adapters.cosmos.batches import Batch, failed_write, make_batch, needs_etag, tokens_of
from perdure.adapters.cosmos.container import find_container
from perdure.adapters.cosmos.failures import EXPECTATIONS, is_absent, late, translate
from perdure.adapters.cosmos.items import FIELDS, to_document
from perdure.errors import BackendDown, Throttled
from perdure.ports.capabilities import Capabilities
from perdure.ports.document_rules import check_commit, check_get, check_scan, holds, not_as_expected
from perdure.ports.documents import (
    SCAN_BYTES_MAX,
    Document,
    Expect,
    Page,
    Remove,
    Write,
)
from perdure.ports.environment import Clock
from perdure.ports.secrets import Secret

OPEN_TIMEOUT_S: Final = 30.0  # the client asks for the account up to four times before it gives up
REQUEST_BYTES_MAX: Final = 2 * 1_048_576  # of an item and of a batch, as the engine documents them
PAGE_ITEMS_MAX: Final = 1_000  # of one answer of a query; the next one goes on where it ended
REMOVAL_ATTEMPTS_MAX: Final = 8  # of a commit whose removals others are ahead of each time

_T = TypeVar("_T")
_PROBE_SORT: Final = "probe"


class CosmosDriver:
    """A client of one container; ``open`` connects it.

    ``endpoint`` is the account's own address, https (plain http on loopback only), ``key`` one of its keys, used for
    nothing but the client and revealed in ``open``. Nothing is read from the environment, which may name a proxy.

    The container's partition key is ``/p``. For the engine to remove what has expired, its default time to live must be
    on with -1 ("no default"); with another value it would remove everything, which ``open`` refuses, and without one it
    removes nothing. ``create_container`` makes the database and the container so where they are missing, which takes
    an account's key that may; otherwise ``open`` says what to create.

    ``consistency="session"`` reads what this client wrote, and of the writes of other clients whatever has reached the
    replica that answers: after a commit elsewhere a read may still be a moment behind, in the past but never between
    two writes of one commit. A commit compares tokens with the present in either case; a version without its token is
    looked up by such a read first, which at worst fails a commit that would have held. ``"strong"`` reads what anybody
    wrote; it costs twice the request units, and the account itself must be set to it: the engine refuses it otherwise.

    A removal with ``ANY`` removes what is there; of one that finds nothing is only known that nothing was there at some
    moment of the commit.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        key: Secret,
        database: str,
        container: str = "perdure",
        create_container: bool = False,
        consistency: Consistency = "session",
        clock: Clock,
        open_timeout_s: float = OPEN_TIMEOUT_S,
    ) -> None:
        self._endpoint = check_endpoint(endpoint)
        self._key = key
        self._database = check_name("database", database)
        self._container_name = check_name("container", container)
        self._create_container = create_container
        self._consistency: Consistency = consistency
        self._clock = clock
        self._open_timeout_s = open_timeout_s
        self._client: CosmosClient | None = None
        self._container: ContainerProxy | None = None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"CosmosDriver({self._endpoint}, database={self._database!r}, container={self._container_name!r})"

    @property
    def capabilities(self) -> Capabilities:
        """As the engine documents them."""
        return Capabilities(
            consistency=self._consistency,
            durable=True,
            shared=True,
            ttl=True,
            change_feed=True,
            node_local=False,
            document_bytes_max=REQUEST_BYTES_MAX,
            sort_bytes_max=1_023,
            partition_name_bytes_max=2_048,
            batch_writes_max=100,
            batch_bytes_max=REQUEST_BYTES_MAX,
            partition_bytes_max=20 * 1_073_741_824,
        )

    async def open(self) -> None:
        """Connect, and find the container as it must be, or make it.

        Raises ``Invalid`` where it is missing or set up for something else, saying what to create.
        """
        client = make_client(self._endpoint, self._key, self._consistency)
        self._client = client

        async def connect() -> ContainerProxy:
            """The container, found or made by a connected client."""
            await client.__aenter__()
            return await find_container(
                client, database=self._database, container=self._container_name, create=self._create_container
            )

        try:
            self._container = await _ask(connect, when=_in(self._open_timeout_s), writes=False)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Wait for what is under way, then let go of the connections."""
        self._container = None
        await self._idle.wait()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def probe(self, *, timeout_s: float) -> None:
        """Ask for an item that need not be there."""
        async with self._using() as container:
            await _find(container, _PROBE_SORT, _PROBE_SORT, when=_in(timeout_s))

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """One key by a point read, several by one query."""
        check_get(partition, sorts)
        async with self._using() as container:
            return await _get(container, partition, sorts, when=_in(timeout_s)) if sorts else {}

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
        """One query of the partition, of which as many pages are fetched as are needed."""
        check_scan(partition, start, end, limit)
        order = "DESC" if reverse else "ASC"
        query = f"SELECT {FIELDS} FROM c WHERE c.p = @p AND c.id >= @start AND c.id < @end ORDER BY c.id {order}"  # noqa: S608 - names of ours; values are parameters

        async def read(container: ContainerProxy) -> Page:
            """One page, from as many answers as it takes."""
            documents: list[Document] = []
            read_bytes = 0
            # One more than asked for tells whether the range goes on.
            items = _query(container, partition, query, {"start": start, "end": end}, page_items=limit + 1)
            async for item in items:
                if len(documents) == limit or read_bytes >= SCAN_BYTES_MAX:
                    return Page(documents=documents, more=True)
                documents.append(to_document(item))
                read_bytes += len(documents[-1].body)
            return Page(documents=documents, more=False)

        async with self._using() as container:
            return await _ask(lambda: read(container), when=_in(timeout_s), writes=False)

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """One batch. A version that comes without its token costs a read before it."""
        check_commit(partition, writes)
        when = _in(timeout_s)
        async with self._using() as container:
            etags = await _etags(container, partition, writes, when=when)
            absent: set[str] = set()
            for _ in range(REMOVAL_ATTEMPTS_MAX):
                batch = make_batch(
                    partition, writes, etags=etags, absent=absent, commit_id=commit_id, now=self._clock.now()
                )
                try:
                    return tokens_of(batch, writes, await _execute(container, partition, batch, when=when))
                except CosmosBatchOperationError as exc:
                    if exc.status_code not in EXPECTATIONS:
                        raise translate(exc, writes=True) from exc
                    failed = failed_write(batch, writes, exc)
                    if not (isinstance(failed, Remove) and failed.expect is Expect.ANY):
                        found = await _get(container, partition, [failed.sort], when=when)
                        raise not_as_expected(failed, found.get(failed.sort)) from exc
                absent = await _absent(container, partition, writes, when=when)
            raise Throttled(
                f"others removed what this commit was about to remove, {REMOVAL_ATTEMPTS_MAX} times in a row; nothing "
                "was written, try again"
            )

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[ContainerProxy]:
        """The container, which stays connected until the caller has done with it."""
        if self._container is None:
            raise BackendDown("this driver is not open; open it first, and do not use it after close")
        self._under_way += 1
        self._idle.clear()
        try:
            yield self._container
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()


def _in(timeout_s: float) -> float:
    return asyncio.get_running_loop().time() + timeout_s


async def _ask(request: Callable[[], Awaitable[_T]], *, when: float, writes: bool) -> _T:
    """The answer to a request that ends at a moment of the loop's clock, or our error for what came instead."""
    if asyncio.get_running_loop().time() >= when:
        raise late(writes=False)
    try:
        async with asyncio.timeout_at(when):
            return await request()
    except TimeoutError as exc:
        raise late(writes=writes) from exc
    except CosmosBatchOperationError:
        raise  # the engine's answer, for the one who knows the batch
    except AzureError as exc:
        raise translate(exc, writes=writes) from exc


async def _get(
    container: ContainerProxy, partition: str, sorts: Sequence[str], *, when: float
) -> Mapping[str, Document]:
    if len(sorts) == 1:
        found = await _find(container, partition, sorts[0], when=when)
        return {} if found is None else {found.sort: found}
    names = {f"s{number}": sort for number, sort in enumerate(sorts)}
    query = f"SELECT {FIELDS} FROM c WHERE c.p = @p AND c.id IN ({', '.join('@' + name for name in names)})"  # noqa: S608 - names of ours; values are parameters

    async def read() -> dict[str, Document]:
        items = _query(container, partition, query, names, page_items=len(sorts))
        return {document.sort: document async for document in (to_document(item) async for item in items)}

    return await _ask(read, when=when, writes=False)


async def _find(container: ContainerProxy, partition: str, sort: str, *, when: float) -> Document | None:
    async def read() -> Document | None:
        try:
            return to_document(await container.read_item(sort, partition))
        except HttpResponseError as exc:
            if is_absent(exc):
                return None
            raise

    return await _ask(read, when=when, writes=False)


def _query(
    container: ContainerProxy, partition: str, query: str, values: Mapping[str, str], *, page_items: int
) -> AsyncIterator[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [{"name": "@p", "value": partition}]
    parameters += [{"name": f"@{name}", "value": value} for name, value in values.items()]
    items: AsyncIterator[dict[str, Any]] = container.query_items(
        query,
        parameters=parameters,
        partition_key=partition,
        max_item_count=min(page_items, PAGE_ITEMS_MAX),
    )
    return items


async def _etags(
    container: ContainerProxy, partition: str, writes: Sequence[Write], *, when: float
) -> Mapping[str, object]:
    """The etags of versions that came without a token. Raises ``ExpectationFailed`` if one is not there."""
    unknown = [write for write in writes if needs_etag(write)]
    if not unknown:
        return {}
    found = await _get(container, partition, [write.sort for write in unknown], when=when)
    for write in unknown:
        document = found.get(write.sort)
        if not holds(write, None if document is None else document.version):
            raise not_as_expected(write, document)
    return {sort: document.token for sort, document in found.items()}


async def _absent(container: ContainerProxy, partition: str, writes: Sequence[Write], *, when: float) -> set[str]:
    """Which of the removals that expect nothing have nothing to remove."""
    sorts = [write.sort for write in writes if isinstance(write, Remove) and write.expect is Expect.ANY]
    return set(sorts) - (await _get(container, partition, sorts, when=when)).keys()


async def _execute(
    container: ContainerProxy, partition: str, batch: Batch, *, when: float
) -> Sequence[Mapping[str, Any]]:
    if not batch.operations:
        return []
    # Even a single write is a batch: it is a POST, which the connection pool below never sends again by itself, as it
    # does with a PUT or a DELETE on a connection that turns out to be dead, whether it was carried out or not.
    answers: Sequence[Mapping[str, Any]] = await _ask(
        lambda: container.execute_item_batch(list(batch.operations), partition), when=when, writes=True
    )
    return answers
