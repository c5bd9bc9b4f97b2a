"""What is said to Firestore, in the messages of its own API: where documents lie, and what they look like.

A document is ``{collection}/{partition}/d/{sort}`` and has these fields:

=====  =========  ===============================================================================================
``k``  string     its sort key once more: scans that go backwards are ordered by it, see below
``v``  integer    its version
``b``  bytes      its body
``c``  string     the id of the commit that wrote it
``x``  timestamp  when it expires, to the microsecond; only if it does
``t``  timestamp  when the engine may remove it: ``TTL_GRACE`` after ``x``; only if it expires
=====  =========  ===============================================================================================

Firestore indexes every field by itself, and each index is paid for in every write. Only ``k`` is needed: documents are
ordered by their ids without one, but never backwards. Exempt the others, and let the engine remove what has expired::

    for field in v b c x; do
      gcloud firestore indexes fields update $field --collection-group=d --disable-indexes
    done
    gcloud firestore indexes fields update t --collection-group=d --disable-indexes
    gcloud firestore fields ttls update t --collection-group=d --enable-ttl
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, assert_never

from google.cloud.firestore_v1 import types

from perdure.errors import Corrupt, Invalid
from perdure.ports.documents import Document, Expect, Expectation, Put, Remove, Require, Write

TTL_GRACE: Final = timedelta(days=1)  # clocks differ, and whoever reads a document judges its time by their own
TIMESTAMP_MAX: Final = datetime.max.replace(tzinfo=UTC)  # the last moment that the engine can keep

Message: TypeAlias = Any
"""A protocol buffer message; their classes have no types."""

# The plain classes behind the SDK's wrappers: a page of a thousand documents is read several times as fast.
CommitRequest: Final = types.CommitRequest.pb()
CommitResponse: Final = types.CommitResponse.pb()
BatchGetRequest: Final = types.BatchGetDocumentsRequest.pb()
BatchGetResponse: Final = types.BatchGetDocumentsResponse.pb()
QueryRequest: Final = types.RunQueryRequest.pb()
QueryResponse: Final = types.RunQueryResponse.pb()
_Write: Final = types.Write.pb()
_Document: Final = types.Document.pb()
_DocumentMask: Final = types.DocumentMask.pb()
_Precondition: Final = types.Precondition.pb()
_Value: Final = types.Value.pb()

_DESCENDANTS: Final = "d"
_ASCENDING: Final = 1
_DESCENDING: Final = 2
_FIRST_SORT: Final = "A"  # sort keys begin with a letter; bounds need not, and "." would be no legal id
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS: Final = 1_000_000_000
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the documents of one driver lie."""

    project: str
    database: str
    collection: str

    @property
    def database_name(self) -> str:
        """The database, as requests name it."""
        return f"projects/{self.project}/databases/{self.database}"

    def parent(self, partition: str) -> str:
        """What the documents of a partition lie under."""
        return f"{self.database_name}/documents/{self.collection}/{partition}"

    def name(self, partition: str, sort: str) -> str:
        """The full name of a document."""
        return f"{self.parent(partition)}/{_DESCENDANTS}/{sort}"

    def commit(self, partition: str, writes: Sequence[Write], tokens: Sequence[object], commit_id: str) -> Message:
        """One commit. ``tokens`` are those to compare with, one for each write that expects a version."""
        return CommitRequest(
            database=self.database_name,
            writes=[
                _write(self.name(partition, write.sort), write, token, commit_id)
                for write, token in zip(writes, tokens, strict=True)
            ],
        )

    def get(self, partition: str, sorts: Sequence[str]) -> Message:
        """The request for documents by their keys."""
        return BatchGetRequest(database=self.database_name, documents=[self.name(partition, sort) for sort in sorts])

    def scan(self, partition: str, *, start: str, end: str, limit: int, reverse: bool) -> Message:
        """The request for a range: by ids, or by the field that repeats them where it goes backwards."""
        query = types.StructuredQuery.pb()()
        query.from_.add(collection_id=_DESCENDANTS)
        order = query.order_by.add(direction=_DESCENDING if reverse else _ASCENDING)
        order.field.field_path = "k" if reverse else "__name__"
        first, last = (end, start) if reverse else (start, end)
        for cursor, bound in ((query.start_at, first), (query.end_at, last)):
            sort = max(bound, _FIRST_SORT)
            cursor.values.append(
                _Value(string_value=sort) if reverse else _Value(reference_value=self.name(partition, sort))
            )
            # The start belongs to the range and its end does not, whichever of them the engine comes upon first.
            cursor.before = not reverse
        query.limit.value = limit
        return QueryRequest(parent=self.parent(partition), structured_query=query)


def sort_of(name: str) -> str:
    """The sort key in a document's full name."""
    return name.rpartition("/")[2]


def decoded(stored: Message) -> Document:
    """A document as it was put; raises ``Corrupt`` for one that no driver has written."""
    sort = sort_of(stored.name)
    if _field(stored, "k", "string_value") != sort:
        raise Corrupt(f"document {sort!r} says that it is another one; was it copied by hand?", sort=sort)
    return Document(
        sort=sort,
        version=_field(stored, "v", "integer_value"),
        body=_field(stored, "b", "bytes_value"),
        commit_id=_field(stored, "c", "string_value"),
        expires_at=_moment(_field(stored, "x", "timestamp_value")) if "x" in stored.fields else None,
        token=token_of(stored.update_time),
    )


def token_of(update_time: Message) -> int:
    """The token of a state: its update time in nanoseconds."""
    nanos: int = update_time.seconds * _NANOS + update_time.nanos
    return nanos


def _write(name: str, write: Write, token: object, commit_id: str) -> Message:
    match write:
        case Put():
            return _Write(
                update=_Document(name=name, fields=_fields(write, commit_id)),
                current_document=_precondition(write.expect, token),
            )
        case Remove():
            return _Write(delete=name, current_document=_precondition(write.expect, token))
        case Require():
            # A mask without fields updates none of them, and an update without effect leaves the update time too.
            return _Write(
                update=_Document(name=name),
                update_mask=_DocumentMask(),
                current_document=_precondition(Expect.PRESENT, None),
            )
        case _:
            assert_never(write)


def _precondition(expect: Expectation, token: object) -> Message:
    match expect:
        case Expect.ANY:
            return None
        case Expect.ABSENT | Expect.PRESENT:
            return _Precondition(exists=expect is Expect.PRESENT)
        case _:
            if not isinstance(token, int):
                raise Invalid("a token is not one of this backend; hand back the one of the document expected, or none")
            seconds, nanos = divmod(token, _NANOS)
            return _Precondition(update_time={"seconds": seconds, "nanos": nanos})


def _fields(put: Put, commit_id: str) -> dict[str, Message]:
    fields = {
        "k": _Value(string_value=put.sort),
        "v": _Value(integer_value=put.version),
        "b": _Value(bytes_value=put.body),
        "c": _Value(string_value=commit_id),
    }
    if put.expires_at is not None:
        last = TIMESTAMP_MAX - TTL_GRACE
        fields["x"] = _timestamp(put.expires_at)
        fields["t"] = _timestamp(min(put.expires_at, last) + TTL_GRACE)
    return fields


def _timestamp(moment: datetime) -> Message:
    # Whole microseconds, because a float of seconds is not exact.
    seconds, micros = divmod((moment - _EPOCH) // _MICROSECOND, 1_000_000)
    return _Value(timestamp_value={"seconds": seconds, "nanos": micros * 1_000})


def _moment(timestamp: Message) -> datetime:
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1_000)


def _field(stored: Message, field: str, kind: str) -> Any:
    value = stored.fields.get(field, None)
    if value is None or value.WhichOneof("value_type") != kind:
        raise Corrupt(
            f"document {sort_of(stored.name)!r} has no {kind.removesuffix('_value')} in its field {field}; "
            "was it written by something else?",
            sort=sort_of(stored.name),
        )
    return getattr(value, kind)
