"""A Firestore that tests own: the part of its API that documents need, in memory, as strict as the official emulator.

``python tests/support/firestore_fake.py`` serves on a free loopback port, prints ``ready PORT`` and ends when its
standard input does. In a test's own process, ``FirestoreFake`` also counts requests and fails on demand.

What it does not know it refuses. ``tests/adapters/firestore/test_fake.py`` asks it and the official emulator the same
questions and says where their answers differ.
"""

from __future__ import annotations

import sys
import threading
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import grpc  # type: ignore[import-untyped]
from google.cloud.firestore_v1 import types

__all__ = ["FirestoreFake"]

Message: TypeAlias = Any

REQUEST_BYTES_MAX = 10 * 1_048_576
DOCUMENT_BYTES_MAX = 1_048_576
VALUE_BYTES_MAX = 1_048_487
ID_BYTES_MAX = 1_500
SECONDS_MIN = -62_135_596_800
SECONDS_MAX = 253_402_300_799
START_S = 1_790_000_000
STOP_GRACE_S = 5  # nothing takes so long, and a server that stops in an orderly way says so to its clients
ASCENDING, DESCENDING = 1, 2

Code = grpc.StatusCode
CommitRequest = types.CommitRequest.pb()
CommitResponse = types.CommitResponse.pb()
BatchGetRequest = types.BatchGetDocumentsRequest.pb()
BatchGetResponse = types.BatchGetDocumentsResponse.pb()
QueryRequest = types.RunQueryRequest.pb()
QueryResponse = types.RunQueryResponse.pb()
Document = types.Document.pb()
WriteResult = types.WriteResult.pb()


class Refusal(Exception):
    """The engine says no."""

    def __init__(self, code: Any, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How the next request of a method fails: instead of being carried out, or after it was (``done``)."""

    code: Any
    details: str = "injected"
    done: bool = False
    metadata: tuple[tuple[str, bytes], ...] = ()


class Collection:
    """The documents of one collection by name, and in the orders that somebody asked for."""

    def __init__(self) -> None:
        self.documents: dict[str, Message] = {}
        self._orders: dict[str, list[tuple[bytes, str]]] = {}

    def put(self, name: str, document: Message) -> None:
        """Keep a document, instead of the one of that name."""
        self.remove(name)
        self.documents[name] = document
        for path, order in self._orders.items():
            if (key := order_key(document, path)) is not None:
                insort(order, (key, name))

    def remove(self, name: str) -> None:
        """Keep it no more."""
        document = self.documents.pop(name, None)
        for path, order in self._orders.items() if document is not None else ():
            if (key := order_key(document, path)) is not None:
                del order[bisect_left(order, (key, name))]

    def ordered(self, path: str) -> list[tuple[bytes, str]]:
        """Keys and names in the order of one field; documents without it are left out."""
        if path not in self._orders:
            keys = ((order_key(document, path), name) for name, document in self.documents.items())
            self._orders[path] = sorted((key, name) for key, name in keys if key is not None)
        return self._orders[path]

    def forget_orders(self) -> None:
        """Somebody may change a document behind our back."""
        self._orders.clear()


class FirestoreFake:
    """The service, listening on a loopback port (a free one unless it is named) as long as the ``with`` block lasts."""

    def __init__(self, port: int = 0) -> None:
        self.requests: Counter[str] = Counter()
        self.failures: dict[str, list[Failure]] = {}
        self._collections: defaultdict[str, Collection] = defaultdict(Collection)
        self._handed_out = False
        self._left_out = ""
        self._micros = 0
        self._lock = threading.Lock()
        self._server = grpc.server(
            ThreadPoolExecutor(16),
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        methods = {
            "Commit": grpc.unary_unary_rpc_method_handler(
                self._unary("Commit", self._commit), CommitRequest.FromString, CommitResponse.SerializeToString
            ),
            "BatchGetDocuments": grpc.unary_stream_rpc_method_handler(
                self._stream("BatchGetDocuments", self._batch_get),
                BatchGetRequest.FromString,
                BatchGetResponse.SerializeToString,
            ),
            "RunQuery": grpc.unary_stream_rpc_method_handler(
                self._stream("RunQuery", self._run_query), QueryRequest.FromString, QueryResponse.SerializeToString
            ),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("google.firestore.v1.Firestore", methods),)
        )
        self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(STOP_GRACE_S).wait()

    def __repr__(self) -> str:
        return f"FirestoreFake(port={self.port})"

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def fail(self, method: str, failure: Failure) -> None:
        """Let the next request of a method fail that no earlier failure waits for."""
        self.failures.setdefault(method, []).append(failure)

    def leave_out(self, sort: str) -> None:
        """Answer about this document no more, neither that it is there nor that it is not."""
        self._left_out = f"/{sort}"

    def stored(self, name: str) -> Message:
        """The document whose name ends like this, as it is kept; a test may spoil it."""
        self._handed_out = True
        all_documents = (pair for one in self._collections.values() for pair in one.documents.items())
        (found,) = (document for key, document in all_documents if key.endswith(name))
        return found

    def _collection(self, name: str) -> Collection:
        return self._collections[name.rpartition("/")[0]]

    def _unary(self, method: str, answer: Callable[[Message], Message]) -> Callable[..., Message]:
        def handle(request: Message, context: Any) -> Message:
            return next(iter(self._answers(method, lambda asked: iter([answer(asked)]), request, context)))

        return handle

    def _stream(self, method: str, answer: Callable[[Message], Iterator[Message]]) -> Callable[..., Iterator[Message]]:
        def handle(request: Message, context: Any) -> Iterator[Message]:
            yield from self._answers(method, answer, request, context)

        return handle

    def _answers(
        self, method: str, answer: Callable[[Message], Iterator[Message]], request: Message, context: Any
    ) -> list[Message]:
        with self._lock:
            self.requests[method] += 1
            waiting = self.failures.get(method)
            failure = waiting.pop(0) if waiting else None
            try:
                return carried_out(answer, request, failure)
            except Refusal as refusal:
                if failure is not None:
                    context.set_trailing_metadata(failure.metadata)
                context.abort(refusal.code, refusal.details)
                raise  # abort has raised already

    def _now(self) -> dict[str, int]:
        # Counted, not read: no two commits have the same time, and every run of a test has the same times.
        self._micros += 1
        seconds, micros = divmod(self._micros, 1_000_000)
        return {"seconds": START_S + seconds, "nanos": micros * 1_000}

    def _commit(self, request: Message) -> Message:
        now = self._now()
        view: dict[str, Message | None] = {}
        results = [self._apply(request.database, write, view, now) for write in request.writes]
        for name, document in view.items():
            if document is None:
                self._collection(name).remove(name)
            else:
                self._collection(name).put(name, document)
        return CommitResponse(write_results=results, commit_time=now)

    def _apply(self, database: str, write: Message, view: dict[str, Message | None], now: dict[str, int]) -> Message:
        operation = write.WhichOneof("operation")
        if operation not in {"update", "delete"} or write.update_transforms:
            raise Refusal(Code.UNIMPLEMENTED, "transforms")
        name = write.delete if operation == "delete" else write.update.name
        check_name(database, name)
        current = view[name] if name in view else self._collection(name).documents.get(name)
        check_precondition(write, current, name)
        if operation == "delete":
            view[name] = None
            return WriteResult()
        fields = {field: normal(value) for field, value in write.update.fields.items()}
        if write.HasField("update_mask"):
            kept = {} if current is None else dict(current.fields.items())
            for field in write.update_mask.field_paths:
                kept.pop(field, None)
                if field in fields:
                    kept[field] = fields[field]
            fields = kept
        check_size(name, fields)
        unchanged = current is not None and dict(current.fields.items()) == fields
        updated = current.update_time if unchanged and current is not None else now
        created = now if current is None else current.create_time
        view[name] = Document(name=name, fields=fields, create_time=created, update_time=updated)
        return WriteResult(update_time=updated)

    def _batch_get(self, request: Message) -> Iterator[Message]:
        now = self._now()
        for name in dict.fromkeys(request.documents):
            check_name(request.database, name)
            if self._left_out and name.endswith(self._left_out):
                continue
            found = self._collection(name).documents.get(name)
            if found is None:
                yield BatchGetResponse(missing=name, read_time=now)
            else:
                yield BatchGetResponse(found=found, read_time=now)

    def _run_query(self, request: Message) -> Iterator[Message]:
        query = request.structured_query
        path, direction, collection_id = check_query(query)
        collection = self._collections[f"{request.parent}/{collection_id}"]
        if self._handed_out:
            collection.forget_orders()
        order = collection.ordered(path)
        low, high = slice_of(query, order, descending=direction == DESCENDING)
        if query.HasField("limit") and direction == DESCENDING:
            low = max(low, high - query.limit.value)
        elif query.HasField("limit"):
            high = min(high, low + query.limit.value)
        found = [name for _, name in order[low:high]]
        now = self._now()
        for name in reversed(found) if direction == DESCENDING else found:
            yield QueryResponse(document=collection.documents[name], read_time=now)
        if not found:
            yield QueryResponse(read_time=now)


def carried_out(
    answer: Callable[[Message], Iterator[Message]], request: Message, failure: Failure | None
) -> list[Message]:
    """The answers to a request, unless it is to fail or too large."""
    if failure is not None and not failure.done:
        raise Refusal(failure.code, failure.details)
    if request.ByteSize() > REQUEST_BYTES_MAX:
        raise Refusal(Code.INVALID_ARGUMENT, "Request payload size exceeds the limit: 10485760 bytes.")
    answers = list(answer(request))
    if failure is not None:
        raise Refusal(failure.code, failure.details)
    return answers


def check_name(database: str, name: str) -> None:
    """Refuses what is no name of a document in this database."""
    root = f"{database}/documents/"
    if not name.startswith(root):
        raise Refusal(Code.INVALID_ARGUMENT, f'Document name "{name}" is not in the database')
    ids = name.removeprefix(root).split("/")
    if len(ids) % 2:
        raise Refusal(Code.INVALID_ARGUMENT, f'Document name "{name}" has an odd number of ids')
    for part in ids:
        if part in {"", ".", ".."} or (part.startswith("__") and part.endswith("__")):
            raise Refusal(Code.INVALID_ARGUMENT, f'Resource id "{part}" is invalid')
        if len(part.encode()) > ID_BYTES_MAX:
            raise Refusal(Code.INVALID_ARGUMENT, "The key path element name is longer than 1500 bytes.")


def check_precondition(write: Message, current: Message | None, name: str) -> None:
    """Refuses a write that does not find what it expects."""
    match write.current_document.WhichOneof("condition_type"):
        case "exists" if write.current_document.exists and current is None:
            raise Refusal(Code.NOT_FOUND, f"No document to update: {name}")
        case "exists" if not write.current_document.exists and current is not None:
            raise Refusal(Code.ALREADY_EXISTS, f"Document already exists: {name}")
        case "update_time" if current is None or current.update_time != write.current_document.update_time:
            raise Refusal(Code.FAILED_PRECONDITION, "the stored version does not match the required base version")
        case _:
            pass


def check_size(name: str, fields: dict[str, Message]) -> None:
    """Refuses what is larger than the documented limits, counted as they say."""
    total = 32 + 16 + sum(len(part.encode()) + 1 for part in name.partition("/documents/")[2].split("/"))
    for field, value in fields.items():
        size = value_bytes(value)
        if size > VALUE_BYTES_MAX:
            raise Refusal(Code.INVALID_ARGUMENT, f'The value of property "{field}" is longer than 1048487 bytes.')
        total += len(field.encode()) + 1 + size
    if total > DOCUMENT_BYTES_MAX:
        raise Refusal(Code.INVALID_ARGUMENT, "The document exceeds the maximum allowed size of 1048576 bytes.")


def value_bytes(value: Message) -> int:
    """The documented size of a value."""
    match value.WhichOneof("value_type"):
        case "bytes_value":
            return len(value.bytes_value)
        case "string_value":
            return len(value.string_value.encode()) + 1
        case "integer_value" | "timestamp_value":
            return 8
        case kind:
            raise Refusal(Code.UNIMPLEMENTED, f"values of the kind {kind}")


def normal(value: Message) -> Message:
    """The value as it is kept: moments to the microsecond, within the years 1 to 9999."""
    if value.WhichOneof("value_type") != "timestamp_value":
        return value
    moment = value.timestamp_value
    if not SECONDS_MIN <= moment.seconds <= SECONDS_MAX or not 0 <= moment.nanos < 1_000_000_000:
        raise Refusal(Code.INVALID_ARGUMENT, "Timestamp seconds exceeds limit for field.")
    kept = {"seconds": moment.seconds, "nanos": moment.nanos // 1_000 * 1_000}
    return types.Value.pb()(timestamp_value=kept)


def check_query(query: Message) -> tuple[str, int, str]:
    """The one field it is ordered by, the direction and the collection; refuses every other kind of query."""
    unknown = {field.name for field, _ in query.ListFields()} - {"from_", "order_by", "start_at", "end_at", "limit"}
    if unknown or len(query.from_) != 1 or len(query.order_by) != 1 or query.from_[0].all_descendants:
        raise Refusal(Code.UNIMPLEMENTED, f"queries with more than a range of one collection: {sorted(unknown)}")
    if query.limit.value < 0:
        raise Refusal(Code.INVALID_ARGUMENT, "limit is negative")
    order = query.order_by[0]
    if order.field.field_path == "__name__" and order.direction == DESCENDING:
        raise Refusal(Code.FAILED_PRECONDITION, "Firestore does not support descending key scans")
    return order.field.field_path, order.direction, query.from_[0].collection_id


def order_key(document: Message, path: str) -> bytes | None:
    """What a document is ordered by; None if it is in no such index."""
    if path == "__name__":
        return bytes(document.name.encode())
    if path in document.fields and document.fields[path].WhichOneof("value_type") == "string_value":
        return bytes(document.fields[path].string_value.encode())
    return None


def slice_of(query: Message, order: list[tuple[bytes, str]], *, descending: bool) -> tuple[int, int]:
    """Where the documents between the cursors begin and end; ``before`` is about where they stand in the answer."""
    low, high = 0, len(order)
    for cursor, is_start in ((query.start_at, True), (query.end_at, False)):
        for value in cursor.values:
            bound = (value.reference_value or value.string_value).encode()
            find = bisect_left if cursor.before != descending else bisect_right
            place = find(order, bound, key=lambda pair: pair[0])
            low, high = (max(low, place), high) if is_start != descending else (low, min(high, place))
    return low, max(low, high)


def main() -> None:
    """Serve until standard input ends, so that no server outlives the test process."""
    with FirestoreFake() as fake:
        print(f"ready {fake.port}", flush=True)  # noqa: T201 - the parent reads it
        sys.stdin.read()


if __name__ == "__main__":
    main()
