"""The document driver for Firestore."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import grpc  # type: ignore[import-untyped]

from perdure.adapters.firestore.connection import Connection, Deadline, connection
from perdure.adapters.firestore.errors import EXPECTATION_CODES, from_commit, from_read
from perdure.adapters.firestore.messages import Layout, decoded, sort_of, token_of
from perdure.errors import BackendDown, Invalid, PersistenceError, Unavailable
from perdure.ports.capabilities import Capabilities
from perdure.ports.document_rules import check_commit, check_get, check_scan, holds, not_as_expected
from perdure.ports.documents import (
    SCAN_BYTES_MAX,
    Document,
    Expect,
    ExpectationFailed,
    Page,
    Put,
    Remove,
    Require,
    Write,
)
from perdure.ports.environment import Clock
from perdure.ports.secrets import Secret

DATABASE_DEFAULT: Final = "(default)"
COLLECTION_DEFAULT: Final = "perdure"

CAPABILITIES: Final = Capabilities(
    consistency="strong",
    durable=True,
    shared=True,
    ttl=True,
    change_feed=True,
    node_local=False,
    document_bytes_max=1_048_576,
    sort_bytes_max=1_500,
    partition_name_bytes_max=1_500,
    batch_writes_max=500,
    batch_bytes_max=10 * 1_048_576,
    partition_bytes_max=None,
)

_PROJECT: Final = re.compile(r"[a-z][a-z0-9.:-]{0,98}[a-z0-9]")
_DATABASE: Final = re.compile(r"\(default\)|[a-z][a-z0-9-]{0,61}[a-z0-9]")
_COLLECTION: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
_ENDPOINT: Final = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5}")


class FirestoreDriver:
    """Documents in a Firestore database in native mode; ``messages`` says where they lie and what to leave unindexed.

    ``endpoint`` is ``host:port`` of an emulator or of a private endpoint, spoken to in plaintext and without
    credentials; without one, Google's own service is used. ``credentials`` is the JSON of a service account's key;
    without one, the application-default credentials are used. Nothing else is taken from the environment.

    A commit is one request. Where a write expects a version and brings no token, the documents are read first, in one
    more request: the engine compares update times only. When an expectation fails, the documents are read once to see
    which, because the engine does not say.
    """

    def __init__(
        self,
        *,
        project: str,
        clock: Clock,
        database: str = DATABASE_DEFAULT,
        collection: str = COLLECTION_DEFAULT,
        endpoint: str | None = None,
        credentials: Secret | None = None,
    ) -> None:
        _check_name("project", project, _PROJECT)
        _check_name("database", database, _DATABASE)
        _check_name("collection", collection, _COLLECTION)
        if endpoint is not None:
            _check_name("endpoint", endpoint, _ENDPOINT)
            if credentials is not None:
                raise Invalid("credentials do not travel in plaintext; leave out the endpoint, or the credentials")
        self._layout = Layout(project=project, database=database, collection=collection)
        self._endpoint = endpoint
        self._credentials = credentials
        self._clock = clock
        self._connection: Connection | None = None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        layout = self._layout
        return (
            f"FirestoreDriver(project={layout.project!r}, database={layout.database!r}, "
            f"collection={layout.collection!r}, endpoint={self._endpoint!r})"
        )

    @property
    def capabilities(self) -> Capabilities:
        """See ``DocumentDriver``."""
        return CAPABILITIES

    async def open(self) -> None:
        """See ``DocumentDriver``. Nothing has to be there but the database; ``probe`` says whether it is."""
        assert self._connection is None, "open once"
        self._connection = await connection(
            database=self._layout.database_name, endpoint=self._endpoint, credentials=self._credentials
        )

    async def close(self) -> None:
        """See ``DocumentDriver``."""
        closing, self._connection = self._connection, None
        if closing is not None:
            await self._idle.wait()  # what is under way ends by itself: all of it has a deadline
            await closing.close()

    async def probe(self, *, timeout_s: float) -> None:
        """See ``DocumentDriver``. Looks backwards through a partition where nothing is, so it finds a missing index."""
        await self._scan("probe", start="a", end="b", limit=1, reverse=True, timeout_s=timeout_s)

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """See ``DocumentDriver``."""
        check_get(partition, sorts)
        if not sorts:
            return {}
        deadline = Deadline(self._clock, timeout_s)
        async with self._call(deadline) as open_connection:
            return await self._fetch(open_connection, partition, sorts, deadline)

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
        """See ``DocumentDriver``."""
        check_scan(partition, start, end, limit)
        return await self._scan(partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=timeout_s)

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """See ``DocumentDriver``."""
        check_commit(partition, writes)
        deadline = Deadline(self._clock, timeout_s)
        async with self._call(deadline) as open_connection:
            tokens = await self._tokens(open_connection, partition, writes, deadline)
            request = self._layout.commit(partition, writes, tokens, commit_id)
            try:
                response = await open_connection.commit(request, deadline)
            except grpc.aio.AioRpcError as exc:
                if exc.code() in EXPECTATION_CODES and any(_expects(write) for write in writes):
                    raise await self._failed(open_connection, partition, writes, tokens, deadline) from exc
                raise from_commit(exc) from exc
        return [
            token_of(result.update_time) if isinstance(write, Put) else None
            for write, result in zip(writes, response.write_results, strict=True)
        ]

    @contextlib.asynccontextmanager
    async def _call(self, deadline: Deadline) -> AsyncIterator[Connection]:
        entered = self._connection
        if entered is None:
            raise BackendDown("the driver is not open, so nothing was sent; open it first, and not after it was closed")
        self._under_way += 1
        self._idle.clear()
        try:
            await entered.ready(deadline)
            yield entered
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _scan(self, partition: str, *, start: str, end: str, limit: int, reverse: bool, timeout_s: float) -> Page:
        # One more than asked for says whether there are more.
        request = self._layout.scan(partition, start=start, end=end, limit=limit + 1, reverse=reverse)
        deadline = Deadline(self._clock, timeout_s)
        documents: list[Document] = []
        body_bytes = 0
        async with self._call(deadline) as open_connection:
            try:
                async with open_connection.run_query(request, deadline) as answers:
                    async for answer in answers:
                        if not answer.HasField("document"):
                            continue  # an answer may be about progress only
                        if len(documents) == limit or body_bytes >= SCAN_BYTES_MAX:
                            return Page(documents=documents, more=True)
                        documents.append(decoded(answer.document))
                        body_bytes += len(documents[-1].body)
            except grpc.aio.AioRpcError as exc:
                raise from_read(exc) from exc
        return Page(documents=documents, more=False)

    async def _fetch(
        self, open_connection: Connection, partition: str, sorts: Sequence[str], deadline: Deadline
    ) -> dict[str, Document]:
        request = self._layout.get(partition, sorts)
        found: dict[str, Document] = {}
        unanswered = set(sorts)
        try:
            async with open_connection.batch_get(request, deadline) as answers:
                async for answer in answers:
                    match answer.WhichOneof("result"):
                        case "found":
                            document = decoded(answer.found)
                            found[document.sort] = document
                            unanswered.discard(document.sort)
                        case "missing":
                            unanswered.discard(sort_of(answer.missing))
                        case _:
                            pass  # an answer may be about progress only
        except grpc.aio.AioRpcError as exc:
            raise from_read(exc) from exc
        if unanswered:
            # Not knowing is not the same as knowing that nothing is there.
            raise PersistenceError(f"the database left out {len(unanswered)} of {len(sorts)} documents; try again")
        return found

    async def _tokens(
        self, open_connection: Connection, partition: str, writes: Sequence[Write], deadline: Deadline
    ) -> list[object]:
        """The token to compare with for each write that expects a version; fails where another version is there."""
        unread = [write for write in writes if _expects_version(write) and _token(write) is None]
        if not unread:
            return [_token(write) for write in writes]
        found = await self._fetch(open_connection, partition, [write.sort for write in unread], deadline)
        for write in unread:
            document = found.get(write.sort)
            if not holds(write, None if document is None else document.version):
                raise not_as_expected(write, document)
        read = {sort: document.token for sort, document in found.items()}
        return [read.get(write.sort, _token(write)) for write in writes]

    async def _failed(
        self,
        open_connection: Connection,
        partition: str,
        writes: Sequence[Write],
        tokens: Sequence[object],
        deadline: Deadline,
    ) -> ExpectationFailed:
        """The error of a commit whose expectations did not hold; raises what is wrong if it was something else."""
        asked = {write.sort: (write, token) for write, token in zip(writes, tokens, strict=True) if _expects(write)}
        vague = ExpectationFailed("a write did not find what it expected; nothing of the commit was written")
        try:
            found = await self._fetch(open_connection, partition, list(asked), deadline)
        except Unavailable:
            return vague  # it is known that nothing was written; which write it was would only have helped
        for sort, (write, token) in asked.items():
            document = found.get(sort)
            if not holds(write, None if document is None else document.version):
                return not_as_expected(write, document)
            if document is not None and _expects_version(write) and document.token != token:
                return ExpectationFailed(
                    "a write expected a document that was rewritten meanwhile under the same version; nothing of the "
                    "commit was written",
                    sort=sort,
                    found=document,
                )
        return vague  # it was changed again since


def _expects(write: Write) -> bool:
    return isinstance(write, Require) or write.expect is not Expect.ANY


def _token(write: Write) -> object:
    return None if isinstance(write, Require) else write.token


def _expects_version(write: Write) -> bool:
    return isinstance(write, Put | Remove) and not isinstance(write.expect, Expect)


def _check_name(what: str, name: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(name):
        raise Invalid(f"{what} is {name!r}; expected something like {pattern.pattern}")
