"""Our fake and the official emulator, asked the same questions in the words of the API.

``EMULATOR_DIFFERS`` is the whole list of what they answer differently, each with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc  # type: ignore[import-untyped]
import pytest
from google.cloud.firestore_v1 import types

from perdure.adapters.firestore import messages
from tests.support import firestore
from tests.support.firestore import EmulatorServer, FirestoreServer

API = "/google.firestore.v1.Firestore/"
ASCENDING, DESCENDING = 1, 2
TIMEOUT_S = 60
Write = types.Write.pb()
Document = types.Document.pb()
Precondition = types.Precondition.pb()
Value = types.Value.pb()
StructuredQuery = types.StructuredQuery.pb()

ABSENT = Precondition(exists=False)
PRESENT = Precondition(exists=True)
ELSEWHERE = "projects/elsewhere/databases/(default)/documents/c/d"
SORTS = ("a", "a-", "a.", "a~", "b", "B", "a0", "aa", "Z")


class Wire:
    """A project of one test, and what is asked about it. A refusal is its code's name."""

    def __init__(self, channel: Any, project: str) -> None:
        self.database = f"projects/{project}/databases/(default)"
        self._commit = channel.unary_unary(
            f"{API}Commit",
            request_serializer=messages.CommitRequest.SerializeToString,
            response_deserializer=messages.CommitResponse.FromString,
        )
        self._get = channel.unary_stream(
            f"{API}BatchGetDocuments",
            request_serializer=messages.BatchGetRequest.SerializeToString,
            response_deserializer=messages.BatchGetResponse.FromString,
        )
        self._query = channel.unary_stream(
            f"{API}RunQuery",
            request_serializer=messages.QueryRequest.SerializeToString,
            response_deserializer=messages.QueryResponse.FromString,
        )

    def name(self, sort: str) -> str:
        return f"{self.database}/documents/c/p/d/{sort}"

    def put(self, sort: str, *, version: int = 1, expect: Any = None, **fields: Any) -> Any:
        values = {"k": Value(string_value=sort), "v": Value(integer_value=version), **fields}
        return Write(update=Document(name=self.name(sort), fields=values), current_document=expect)

    def large(self, sort: str, *lengths: int) -> Any:
        values = {f"b{number}": Value(bytes_value=b"x" * length) for number, length in enumerate(lengths)}
        return self.put(sort, **values)

    def require(self, sort: str) -> Any:
        mask = types.DocumentMask.pb()()
        return Write(update=Document(name=self.name(sort)), update_mask=mask, current_document=PRESENT)

    def remove(self, sort: str, expect: Any = None) -> Any:
        return Write(delete=self.name(sort), current_document=expect)

    def commit(self, *writes: Any) -> Any:
        return self._commit(messages.CommitRequest(database=self.database, writes=writes), timeout=TIMEOUT_S)

    def time(self, *writes: Any) -> Any:
        """Commit, and give back what expects the state that the first write left."""
        return Precondition(update_time=self.commit(*writes).write_results[0].update_time)

    def get(self, *sorts: str) -> dict[str, Any]:
        request = messages.BatchGetRequest(database=self.database, documents=[self.name(sort) for sort in sorts])
        answers = list(self._get(request, timeout=TIMEOUT_S))
        return {
            (answer.found.name or answer.missing).rpartition("/")[2]: answer.found if answer.found.name else None
            for answer in answers
        }

    def query(self, path: str, direction: int, first: str | None, last: str | None, limit: int | None = None) -> Any:
        query = StructuredQuery()
        query.from_.add(collection_id="d")
        query.order_by.add(direction=direction).field.field_path = path
        for cursor, bound in ((query.start_at, first), (query.end_at, last)):
            if bound is not None:
                by_name = path == "__name__"
                cursor.values.append(Value(reference_value=self.name(bound)) if by_name else Value(string_value=bound))
                cursor.before = direction == ASCENDING
        if limit is not None:
            query.limit.value = limit
        request = messages.QueryRequest(parent=f"{self.database}/documents/c/p", structured_query=query)
        answers = self._query(request, timeout=TIMEOUT_S)
        return [messages.sort_of(answer.document.name) for answer in answers if answer.HasField("document")]

    def seeded_query(self, *arguments: Any) -> Any:
        self.commit(*(self.put(sort) for sort in SORTS))
        self.commit(Write(update=Document(name=f"{self.name('a')}/d/deeper", fields={"k": Value(string_value="a5")})))
        return self.query(*arguments)


Probe: TypeAlias = Callable[[Wire], Any]


def ok(*_: Any) -> str:
    return "ok"


def moment(wire: Wire, seconds: int, nanos: int) -> Any:
    wire.commit(wire.put("a", x=Value(timestamp_value={"seconds": seconds, "nanos": nanos})))
    found = wire.get("a")["a"].fields["x"].timestamp_value
    return (found.seconds, found.nanos)


def after(wire: Wire, *writes: Any) -> Any:
    """The update time, content and presence of "a" and "b" after commits that may be refused."""
    try:
        wire.commit(*writes)
        code = "ok"
    except grpc.RpcError as exc:
        code = exc.code().name
    found = wire.get("a", "b")
    versions = {sort: None if doc is None else doc.fields["v"].integer_value for sort, doc in found.items()}
    return (code, versions["a"], versions["b"])


def requirement(wire: Wire) -> Any:
    wire.commit(wire.put("a", version=5))
    before = wire.get("a")["a"]
    token = wire.commit(wire.require("a")).write_results[0].update_time
    return (wire.get("a")["a"] == before, token == before.update_time)


def repeated(wire: Wire) -> Any:
    first = wire.time(wire.put("a"))
    return (wire.time(wire.put("a")) == first, wire.time(wire.put("a", version=2)) == first)


def stale(wire: Wire, write: Callable[[Any], Any]) -> Any:
    token = wire.time(wire.put("a"))
    wire.commit(wire.put("a", version=2))
    return after(wire, write(token))


def rewritten(wire: Wire, *writes: Any) -> Any:
    wire.commit(wire.put("a"))
    return after(wire, *writes)


REFUSED = "INVALID_ARGUMENT"

PROBES: dict[str, tuple[Probe, Any]] = {
    "create": (lambda w: after(w, w.put("a", expect=ABSENT)), ("ok", 1, None)),
    "create twice": (lambda w: rewritten(w, w.put("a", expect=ABSENT)), ("ALREADY_EXISTS", 1, None)),
    "put nothing": (lambda w: after(w, w.put("a", expect=PRESENT)), ("NOT_FOUND", None, None)),
    "put something": (lambda w: rewritten(w, w.put("a", version=2, expect=PRESENT)), ("ok", 2, None)),
    "remove nothing": (lambda w: after(w, w.remove("a")), ("ok", None, None)),
    "remove what must be": (lambda w: after(w, w.remove("a", PRESENT)), ("NOT_FOUND", None, None)),
    "removal result": (lambda w: w.commit(w.remove("a")).write_results[0].HasField("update_time"), False),
    "swap": (lambda w: after(w, w.put("a", version=2, expect=w.time(w.put("a")))), ("ok", 2, None)),
    "swap stale": (lambda w: stale(w, lambda t: w.put("a", version=3, expect=t)), ("FAILED_PRECONDITION", 2, None)),
    "remove stale": (lambda w: stale(w, lambda t: w.remove("a", t)), ("FAILED_PRECONDITION", 2, None)),
    "swap nothing": (lambda w: stale(w, lambda t: w.put("b", expect=t)), ("FAILED_PRECONDITION", 2, None)),
    "remove nothing by time": (lambda w: stale(w, lambda t: w.remove("b", t)), ("FAILED_PRECONDITION", 2, None)),
    "require": (requirement, (True, True)),
    "require nothing": (lambda w: after(w, w.put("b"), w.require("a")), ("NOT_FOUND", None, None)),
    "same content": (repeated, (True, False)),
    "all or nothing": (lambda w: rewritten(w, w.put("b"), w.put("a", expect=ABSENT)), ("ALREADY_EXISTS", 1, None)),
    "twice in one commit": (lambda w: after(w, w.put("a"), w.put("a", version=2)), ("ok", 2, None)),
    "nothing to commit": (lambda w: ok(w.commit()), "ok"),
    "501 writes": (lambda w: ok(w.commit(*(w.put(f"k{n}") for n in range(501)))), "ok"),
    "id of 1500": (lambda w: ok(w.commit(w.put("a" * 1_500))), "ok"),
    "id of 1501": (lambda w: ok(w.commit(w.put("a" * 1_501))), REFUSED),
    "id of 1501 bytes": (lambda w: ok(w.commit(w.put("é" * 750 + "a"))), REFUSED),
    "id .": (lambda w: ok(w.commit(w.put("."))), REFUSED),
    "id ..": (lambda w: ok(w.commit(w.put(".."))), REFUSED),
    "id reserved": (lambda w: ok(w.commit(w.put("__x__"))), REFUSED),
    "id empty": (lambda w: ok(w.commit(w.put("a//b"))), REFUSED),
    "name of a collection": (lambda w: ok(w.commit(w.put("a/b"))), REFUSED),
    "another database": (lambda w: ok(w.commit(Write(update=Document(name=ELSEWHERE)))), REFUSED),
    "document of 1 MB": (lambda w: ok(w.commit(w.large("a", 1_048_000))), "ok"),
    "value too large": (lambda w: ok(w.commit(w.large("a", 1_048_488))), REFUSED),
    "document too large": (lambda w: ok(w.commit(w.large("a", 600_000, 600_000))), REFUSED),
    "request of 3 MB": (lambda w: ok(w.commit(*(w.large(f"k{n}", 750_000) for n in range(4)))), "ok"),
    "request of 8 MB": (lambda w: ok(w.commit(*(w.large(f"k{n}", 900_000) for n in range(9)))), "ok"),
    "request of 12 MB": (lambda w: ok(w.commit(*(w.large(f"k{n}", 900_000) for n in range(13)))), REFUSED),
    "last moment": (lambda w: moment(w, 253_402_300_799, 999_999_000), (253_402_300_799, 999_999_000)),
    "first moment": (lambda w: moment(w, -62_135_596_800, 0), (-62_135_596_800, 0)),
    "moment too late": (lambda w: moment(w, 253_402_300_800, 0), REFUSED),
    "moment too early": (lambda w: moment(w, -62_135_596_801, 0), REFUSED),
    "moment too exact": (lambda w: moment(w, 0, 1_999), (0, 1_000)),
    "get": (lambda w: (ok(w.commit(w.put("a"))), [*map(bool, w.get("a", "b", "a").values())]), ("ok", [True, False])),
    "get nothing": (lambda w: w.get(), {}),
    "by name": (lambda w: w.seeded_query("__name__", ASCENDING, None, None), sorted(SORTS)),
    "by name, range": (lambda w: w.seeded_query("__name__", ASCENDING, "a", "b"), ["a", "a-", "a.", "a0", "aa", "a~"]),
    "by name, limit": (lambda w: w.seeded_query("__name__", ASCENDING, "a-", "b", 2), ["a-", "a."]),
    "by name, backwards": (lambda w: w.seeded_query("__name__", DESCENDING, "b", "a"), "FAILED_PRECONDITION"),
    "by field": (lambda w: w.seeded_query("k", ASCENDING, "a", "b"), ["a", "a-", "a.", "a0", "aa", "a~"]),
    "by field, backwards": (lambda w: w.seeded_query("k", DESCENDING, "b", "a"), ["a~", "aa", "a0", "a.", "a-", "a"]),
    "by field, backwards, limit": (lambda w: w.seeded_query("k", DESCENDING, "b", "a", 2), ["a~", "aa"]),
    "by field, all backwards": (lambda w: w.seeded_query("k", DESCENDING, None, None), sorted(SORTS, reverse=True)),
    "by a field that nothing has": (lambda w: w.seeded_query("nope", ASCENDING, None, None), []),
    "empty range": (lambda w: w.seeded_query("__name__", ASCENDING, "x", "y"), []),
    "range inside out": (lambda w: w.seeded_query("__name__", ASCENDING, "b", "a"), []),
    "limit below none": (lambda w: w.seeded_query("__name__", ASCENDING, None, None, -1), REFUSED),
}

EMULATOR_DIFFERS: dict[str, Any] = {
    "another database": "ok",  # the service refuses it, so the fake does
    "request of 8 MB": "RESOURCE_EXHAUSTED",  # it takes 4 MiB, the service 10 MiB
    "request of 12 MB": "RESOURCE_EXHAUSTED",  # the same
}


@pytest.fixture(params=["firestore_server", "firestore_emulator"])
def server(request: pytest.FixtureRequest) -> FirestoreServer:
    found: FirestoreServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def wire(server: FirestoreServer) -> Iterator[Wire]:
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.endpoint, options=options) as channel:
        yield Wire(channel, server.new_project())


@pytest.mark.parametrize("question", PROBES)
def test_the_fake_and_the_emulator_answer_the_same(server: FirestoreServer, wire: Wire, question: str) -> None:
    probe, expected = PROBES[question]
    if isinstance(server, EmulatorServer):
        expected = EMULATOR_DIFFERS.get(question, expected)
    try:
        answer = probe(wire)
    except grpc.RpcError as exc:
        answer = exc.code().name
    assert answer == expected


def test_every_difference_is_one() -> None:
    assert all(PROBES[question][1] != answer for question, answer in EMULATOR_DIFFERS.items())


def test_update_times_only_grow(wire: Wire) -> None:
    times = [wire.commit(wire.put("a", version=n)).write_results[0].update_time for n in range(50)]
    nanos = [messages.token_of(time) for time in times]
    assert nanos == sorted(set(nanos))


def test_a_machine_without_the_emulator_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(firestore, "EMULATOR", tmp_path / "emulator.jar")
    assert EmulatorServer.missing() == str(tmp_path / "emulator.jar")
    (tmp_path / "emulator.jar").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert EmulatorServer.missing() == "java"


def test_a_server_that_does_not_start_says_what_it_said() -> None:
    with pytest.raises(AssertionError, match="no emulator here"):
        firestore.FirestoreServer(["sh", "-c", "echo no emulator here"]).wait_for("ready")
