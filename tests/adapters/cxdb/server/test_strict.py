"""The strict profile: numbers, bytes and closed connections as those of the protocol's own servers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard

from perdure.adapters.cxdb.server import Profile, ServerSettings, numbering, serving, writer
from perdure.core.turn_store import StoredTurns
from perdure.domain.turn import NewTurn
from perdure.errors import Invalid, OutcomeUnknown, Throttled
from tests.adapters.cxdb.server.conversing import (
    APPEND,
    ATTACH,
    BEFORE,
    BLOB,
    CREATE,
    FORK,
    HEAD,
    HELLO,
    LAST,
    PUT,
    RANGE,
    SPACE,
    Client,
    Served,
    Storage,
    append_turn,
    digest,
    get_before,
    get_last,
    item,
    put_blob,
    served,
    turn_list,
)
from tests.adapters.cxdb.server.interrupting import Interrupted

STRICT: dict[str, Any] = {"profile": Profile.STRICT}
ABSENT = 99


@pytest.fixture
def running() -> Iterator[Served]:
    with served(**STRICT) as running:
        yield running


@pytest.fixture
def client(running: Served) -> Iterator[Client]:
    with running.client() as client:
        yield client


def test_sessions_contexts_and_turns_count_from_1(running: Served, client: Client):
    with running.client() as other:
        assert other.answer(HELLO) == struct.pack("<QH", 2, 1)
    assert client.answer(HELLO, struct.pack("<HHI", 99, 0, 0)) == struct.pack("<QH", 1, 1)
    assert [client.new_context() for _ in range(3)] == [1, 2, 3]
    assert [client.append(context_id, b"x") for context_id in (3, 1, 3, 2)] == [(1, 0), (2, 0), (3, 1), (4, 0)]
    assert [client.head(context_id) for context_id in (1, 2, 3)] == [(2, 0), (4, 0), (3, 1)]


def test_turns_are_read_back_byte_for_byte(client: Client):
    client.new_context()
    content = b"again " * 100
    client.append(1, b"\x81\x01\x02", encoding=7)
    client.append(1, content, compression=1, sent=zstandard.compress(content), type_id=b"", version=3)
    client.append(1, b"", type_id="lîne\nbreak\0".encode())

    def items(*, sent: bool) -> tuple[bytes, ...]:
        tail = None if sent else b""
        return (
            item(1, 0, 0, b"\x81\x01\x02", encoding=7, tail=tail),
            item(2, 1, 1, content, compression=0 if sent else 1, type_id=b"", version=3, tail=tail),
            item(3, 2, 2, b"", type_id="lîne\nbreak\0".encode(), tail=tail),
        )

    assert client.answer(LAST, get_last(1, 10)) == turn_list(*items(sent=True))
    assert client.answer(LAST, get_last(1, 2, payload=7)) == turn_list(*items(sent=True)[1:])
    assert client.answer(LAST, get_last(1, 10, payload=0)) == turn_list(*items(sent=False))
    assert client.answer(LAST, get_last(1, 0)) == turn_list()


def test_a_key_is_read_and_means_nothing(client: Client):
    client.new_context()

    assert client.append(1, b"same", key=b"k") == (1, 0)
    assert client.append(1, b"same", key=b"k") == (2, 1)
    assert client.append(1, b"other", key=b"k") == (3, 2)


def test_the_parent_may_be_any_turn(client: Client):
    client.new_context()
    client.new_context()
    client.append(1, b"a")
    client.append(1, b"b")
    client.append(2, b"c")

    assert client.append(2, b"d", parent=2) == (4, 2)
    assert client.append(2, b"e", parent=1) == (5, 1)

    assert client.answer(LAST, get_last(2, 9)) == turn_list(item(1, 0, 0, b"a"), item(5, 1, 1, b"e"))
    assert client.head(1) == (2, 1)


@pytest.mark.parametrize("message", [CREATE, FORK])
def test_a_fork_has_a_number_and_begins_where_its_base_is(client: Client, message: int):
    client.new_context()
    client.append(1, b"a")
    client.append(1, b"b")

    assert client.answer(message, struct.pack("<Q", 2)) == struct.pack("<QQI", 2, 2, 1)
    assert client.answer(message, struct.pack("<Q", 0)) == struct.pack("<QQI", 3, 0, 0)
    assert client.append(2, b"c") == (3, 2)


def test_payloads_are_blobs(client: Client):
    client.new_context()
    client.append(1, b"payload")

    assert client.answer(BLOB, digest(b"payload")) == struct.pack("<I", 7) + b"payload"
    assert client.put_blob(b"payload") == 0
    assert client.put_blob(b"other") == 1


def test_a_refused_append_leaves_its_payload_as_a_blob_and_takes_no_number(running: Served, client: Client):
    client.new_context()
    with running.client() as other:
        assert other.ask(APPEND, append_turn(ABSENT, b"orphan")) is None
    with running.client() as other:
        assert other.ask(APPEND, append_turn(1, b"other orphan", parent=ABSENT)) is None

    assert client.answer(BLOB, digest(b"orphan")) == struct.pack("<I", 6) + b"orphan"
    assert client.answer(BLOB, digest(b"other orphan")) == struct.pack("<I", 12) + b"other orphan"
    assert client.append(1, b"a") == (1, 0)


def test_a_turn_stays_whose_tree_is_refused(running: Served, client: Client):
    client.new_context()
    with running.client() as other:
        assert other.ask(APPEND, append_turn(1, b"a", root=digest(b"nowhere")), flags=1) is None

    assert client.head(1) == (1, 0)
    client.put_blob(b"tree")
    assert client.append(1, b"b", root=digest(b"tree")) == (2, 1)
    asked = struct.pack("<Q", 1) + digest(b"tree")
    assert client.answer(ATTACH, asked) == asked
    assert client.answer(ATTACH, asked + b"more") == asked


def test_extensions_are_unknown(client: Client):
    client.new_context()
    client.append(1, b"a")

    assert client.error(BEFORE, get_before(1, 1, 1)) == (422, "unknown msg_type")
    assert client.append_again(1, b"a", key=b"k", flags=2) == (2, 1, False)
    assert client.append_again(1, b"a", key=b"k", flags=0xFFFE) == (3, 2, False)


ANSWERED = {
    "message 0": (0, b"", 422, "unknown msg_type"),
    "GET_BEFORE": (BEFORE, b"", 422, "unknown msg_type"),
    "GET_RANGE_BY_DEPTH": (RANGE, b"", 422, "unknown msg_type"),
    "message 12": (12, b"", 422, "unknown msg_type"),
    "ERROR": (255, b"", 422, "unknown msg_type"),
    "message 65535": (65_535, b"", 422, "unknown msg_type"),
    "head of an unknown context": (HEAD, struct.pack("<Q", ABSENT), 404, "context"),
    "head of context 0": (HEAD, struct.pack("<Q", 0), 404, "context"),
    "unknown blob": (BLOB, bytes(32), 404, "blob"),
    "blob with another hash": (PUT, bytes(32) + put_blob(b"x")[32:], 422, "blob hash mismatch"),
}
CLOSED = {
    "hello too short": (HELLO, b"\x01"),
    "hello cut": (HELLO, b"\x01\x00\x09\x00"),
    "hello with a tag that is not text": (HELLO, struct.pack("<HH", 1, 1) + b"\xff" + bytes(4)),
    "create too short": (CREATE, bytes(7)),
    "create at an unknown turn": (CREATE, struct.pack("<Q", ABSENT)),
    "fork too short": (FORK, b""),
    "fork of an unknown turn": (FORK, struct.pack("<Q", ABSENT)),
    "head too short": (HEAD, bytes(7)),
    "append too short": (APPEND, bytes(19)),
    "append to an unknown context": (APPEND, append_turn(ABSENT, b"x")),
    "append to an unknown parent": (APPEND, append_turn(1, b"x", parent=ABSENT)),
    "append of a type that is not text": (APPEND, append_turn(1, b"x", type_id=b"\xff")),
    "append with another compression": (APPEND, append_turn(1, b"x", compression=2)),
    "append that does not decompress": (APPEND, append_turn(1, b"x" * 9, compression=1)),
    "append with another length": (APPEND, append_turn(1, b"x", length=2)),
    "append with another hash": (APPEND, append_turn(1, b"x", content_hash=bytes(32))),
    "append of the length of what is compressed": (
        APPEND,
        append_turn(1, b"x" * 99, compression=1, sent=zstandard.compress(b"x" * 99), length=13),
    ),
    "last too short": (LAST, bytes(15)),
    "last of an unknown context": (LAST, get_last(ABSENT, 1)),
    "blob with a short hash": (BLOB, bytes(31)),
    "blob with a long hash": (BLOB, bytes(33)),
    "attach too short": (ATTACH, bytes(39)),
    "attach to an unknown turn": (ATTACH, struct.pack("<Q", ABSENT) + digest(b"")),
    "attach what is no blob": (ATTACH, struct.pack("<Q", 1) + digest(b"nowhere")),
    "put too short": (PUT, bytes(35)),
    "put cut": (PUT, put_blob(b"content")[:-1]),
}


@pytest.mark.parametrize("case", ANSWERED)
def test_these_failures_are_answered_and_the_connection_goes_on(client: Client, case: str):
    message, payload, code, text = ANSWERED[case]
    client.new_context()

    assert client.error(message, payload) == (code, text)
    assert client.head(1) == (0, 0)


@pytest.mark.parametrize("case", CLOSED)
def test_all_others_close_the_connection_without_a_byte(running: Served, client: Client, case: str):
    message, payload = CLOSED[case]
    client.new_context()
    client.append(1, b"a")

    with running.client() as other:
        assert other.ask(message, payload) is None

    assert client.head(1) == (1, 0)
    assert client.append(1, b"b") == (2, 1)


def test_a_frame_that_is_too_large_closes_the_connection_without_a_byte(running: Served):
    with running.client() as client:
        client.socket.sendall(struct.pack("<I", 64 * 1_048_576 + 1))

        assert client.closed()


def test_numbers_go_on_in_the_next_process():
    storage = Storage()
    with served(storage, **STRICT) as running, running.client() as client:
        client.new_context()
        client.append(1, b"a")
        client.append(1, b"b", encoding=0)

    for n in range(2):
        with served(storage, **STRICT) as running, running.client() as client:
            assert client.head(1) == (2 + n, 1 + n)
            assert client.new_context() == 2 + 2 * n
            assert client.answer(FORK, struct.pack("<Q", 1)) == struct.pack("<QQI", 3 + 2 * n, 1, 0)
            assert client.append(1, b"c%d" % n) == (3 + n, 2 + n)

    with served(storage, **STRICT) as running, running.client() as client:
        expected = (
            item(1, 0, 0, b"a"),
            item(2, 1, 1, b"b", encoding=0),
            item(3, 2, 2, b"c0"),
            item(4, 3, 3, b"c1"),
        )
        assert client.answer(LAST, get_last(1, 9)) == turn_list(*expected)


@pytest.mark.parametrize("again", ["in the same process", "in the next process"])
@pytest.mark.parametrize("done", [True, False])
def test_an_append_of_which_nothing_is_known_is_one_turn_with_one_number(*, done: bool, again: str):
    storage = Storage()
    with served(storage, wrap=Interrupted, **STRICT) as running:
        store: Any = running.store
        with running.client() as client:
            client.new_context()
            client.new_context()
            client.append(1, b"a")
            (store.fail_after if done else store.fail)["append"] = OutcomeUnknown("the connection was lost")
            assert client.ask(APPEND, append_turn(1, b"b", encoding=5)) is None
        if again == "in the same process":
            with running.client() as client:
                assert client.append(2, b"c") == (3, 0)
                assert client.head(1) == (2, 1)
    with served(storage, **STRICT) as running, running.client() as client:
        if again == "in the next process":
            assert client.append(2, b"c") == (3, 0)
        assert client.answer(LAST, get_last(1, 9)) == turn_list(item(1, 0, 0, b"a"), item(2, 1, 1, b"b", encoding=5))
        assert client.answer(FORK, struct.pack("<Q", 2)) == struct.pack("<QQI", 3, 2, 1)
        assert client.append(1, b"d") == (4, 2)


@pytest.mark.parametrize("failing", ["list", "find_blob", "append"])
def test_what_cannot_be_settled_yet_is_settled_later(failing: str):
    with served(wrap=Interrupted, **STRICT) as running:
        store: Any = running.store
        with running.client() as client:
            client.new_context()
            store.fail["append"] = OutcomeUnknown("the connection was lost")
            assert client.ask(APPEND, append_turn(1, b"a")) is None
        with running.client() as client:
            store.fail[failing] = Throttled("too much")
            assert client.ask(APPEND, append_turn(1, b"b")) is None
        with running.client() as client:
            assert client.append(1, b"c") == (2, 1)
            assert client.answer(LAST, get_last(1, 9)) == turn_list(item(1, 0, 0, b"a"), item(2, 1, 1, b"c"))


def test_an_append_that_was_refused_leaves_its_number_to_the_next():
    with served(wrap=Interrupted, **STRICT) as running:
        store: Any = running.store
        with running.client() as client:
            client.new_context()
            store.fail["append"] = Throttled("too much")
            assert client.ask(APPEND, append_turn(1, b"a")) is None
        with running.client() as client:
            assert client.head(1) == (0, 0)
            assert client.append(1, b"b") == (1, 0)


def test_a_turn_whose_payload_is_gone_was_never_acknowledged_and_gives_its_number_back(
    caplog: pytest.LogCaptureFixture,
):
    storage = Storage()
    with served(storage, wrap=Interrupted, **STRICT) as running:
        store: Any = running.store
        with running.client() as client:
            client.new_context()
            store.fail["append"] = OutcomeUnknown("the connection was lost")
            assert client.ask(APPEND, append_turn(1, b"a")) is None
    storage.blobs._blobs.clear()

    with served(storage, **STRICT) as running, running.client() as client:
        assert client.append(1, b"b") == (1, 0)
    assert "its number is free" in caplog.text


def test_a_turn_of_another_writer_has_no_number(running: Served):
    with running.client() as client:
        client.new_context()
        client.append(1, b"a")
        turn = NewTurn(type_id="x", type_version=1, payload=b"x")
        running.run(running.store.append(running.space, "1", turn, timeout_s=1))

        assert client.ask(LAST, get_last(1, 9)) is None


def test_what_is_not_remembered_is_looked_up(monkeypatch: pytest.MonkeyPatch, running: Served, client: Client):
    monkeypatch.setattr(numbering, "REMEMBERED_MAX", 2)
    monkeypatch.setattr(writer, "HEADS_MAX", 2)
    for n in range(1, 6):
        assert client.new_context() == n
        assert client.append(n, b"%d" % n) == (n, 0)
    answers: Any = running.server._answers
    assert (len(answers._writer._heads), len(answers._numbering._known)) == (2, 2)

    assert [client.head(n) for n in range(1, 6)] == [(n, 0) for n in range(1, 6)]
    assert [client.append(n, b"more", parent=n)[1] for n in range(1, 6)] == [1] * 5
    assert (len(answers._writer._heads), len(answers._numbering._known)) == (2, 2)


def test_the_strict_profile_needs_rows_for_its_numbers():
    async def serve() -> None:
        async with serving(StoredTurns.__new__(StoredTurns), SPACE, settings=ServerSettings(**STRICT)):
            pass

    with pytest.raises(Invalid, match="rows"):
        asyncio.run(serve())
