"""What the improved profile answers, byte for byte, to clients that write every byte by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.adapters.cxdb.server.conversing import (
    APPEND,
    ATTACH,
    BEFORE,
    BLOB,
    CREATE,
    FORK,
    HELLO,
    LAST,
    Client,
    Served,
    append_turn,
    digest,
    get_before,
    get_last,
    item,
    served,
    turn_list,
)

ABSENT = 2**63


@pytest.fixture
def running() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture
def client(running: Served) -> Iterator[Client]:
    with running.client() as client:
        yield client


def test_hello_is_answered_by_the_session_and_version_1(running: Served):
    said = struct.pack("<HH", 7, 3) + b"cli" + struct.pack("<I", 2) + b"{}"
    with running.client() as first, running.client() as second:
        assert first.answer(HELLO, said) == struct.pack("<QH", 1, 1)
        assert second.answer(HELLO) == struct.pack("<QH", 2, 1)
        assert first.answer(HELLO) == struct.pack("<QH", 1, 1)


def test_an_empty_context_has_no_head_and_depth_0(client: Client):
    context_id = client.new_context()

    assert client.head(context_id) == (0, 0)
    assert client.answer(LAST, get_last(context_id, 10)) == turn_list()


def test_turns_are_appended_and_read_back_byte_for_byte(client: Client):
    context_id = client.new_context()

    first, first_depth = client.append(context_id, b"\x81\xa1a\x01")
    second, second_depth = client.append(context_id, b"", type_id="é".encode(), version=2**32 - 1)

    assert (first_depth, second_depth) == (0, 1)
    assert client.head(context_id) == (second, 1)
    items = (
        item(first, 0, 0, b"\x81\xa1a\x01"),
        item(second, first, 1, b"", type_id="é".encode(), version=2**32 - 1),
    )
    assert client.answer(LAST, get_last(context_id, 10)) == turn_list(*items)
    assert client.answer(LAST, get_last(context_id, 2**32 - 1)) == turn_list(*items)
    assert client.answer(LAST, get_last(context_id, 1)) == turn_list(items[1])
    assert client.answer(LAST, get_last(context_id, 0)) == turn_list()


def test_a_list_without_payloads_has_empty_ones_where_official_clients_read_them(client: Client):
    context_id = client.new_context()
    first, _ = client.append(context_id, b"one")

    answer = client.answer(LAST, get_last(context_id, 10, payload=0))

    assert answer == turn_list(item(first, 0, 0, b"one", tail=struct.pack("<I", 0)))


def test_older_turns_are_asked_for_by_the_oldest_known(client: Client):
    context_id = client.new_context()
    ids = [client.append(context_id, b"%d" % n)[0] for n in range(4)]

    older = client.answer(BEFORE, get_before(context_id, ids[3], 2))

    assert older == turn_list(item(ids[1], ids[0], 1, b"1"), item(ids[2], ids[1], 2, b"2"))
    assert client.answer(BEFORE, get_before(context_id, ids[0], 2)) == turn_list()
    bare = client.answer(BEFORE, get_before(context_id, ids[1], 2, payload=0))
    assert bare == turn_list(item(ids[0], 0, 0, b"0", tail=struct.pack("<I", 0)))


def test_a_single_turn_is_asked_for_without_its_context(client: Client):
    context_id = client.new_context()
    first, _ = client.append(context_id, b"1")
    second, _ = client.append(context_id, b"2")

    assert client.answer(BEFORE, get_before(0, second, 1)) == turn_list(item(second, first, 1, b"2"))
    bare = turn_list(item(first, 0, 0, b"1", tail=struct.pack("<I", 0)))
    assert client.answer(BEFORE, get_before(0, first, 1, payload=0)) == bare
    for absent in (0, ABSENT):
        code, detail = client.error(BEFORE, get_before(0, absent, 1))
        assert (code, detail.partition(":")[0]) == (404, "before turn")


@pytest.mark.parametrize("message", [CREATE, FORK])
def test_a_fork_begins_where_its_base_is_and_leaves_it_alone(client: Client, message: int):
    context_id = client.new_context()
    first, _ = client.append(context_id, b"1")
    second, _ = client.append(context_id, b"2")

    fork_id, head, depth = struct.unpack("<QQI", client.answer(message, struct.pack("<Q", first)))

    assert (head, depth) == (first, 0)
    assert client.head(fork_id) == (first, 0)
    other, other_depth = client.append(fork_id, b"3")
    assert other_depth == 1
    assert client.head(context_id) == (second, 1)
    assert client.answer(LAST, get_last(fork_id, 9)) == turn_list(item(first, 0, 0, b"1"), item(other, first, 1, b"3"))


def test_a_fork_of_nothing_is_an_empty_context(client: Client):
    fork_id, head, depth = struct.unpack("<QQI", client.answer(FORK, struct.pack("<Q", 0)))

    assert (head, depth) == (0, 0)
    assert client.append(fork_id, b"1")[1] == 0


@pytest.mark.parametrize(
    ("key", "other"),
    [
        (b"k", b"K"),
        (b"\xff\x00", b"hex:ff00"),
        (b"hex:ff00", b"hex:6865783a66663030"),
        (b"\x00", b"\x00\x00"),
        ("é".encode(), "é".encode("latin-1")),
    ],
)
def test_a_key_means_one_turn_and_no_other_key_means_it(client: Client, key: bytes, other: bytes):
    context_id = client.new_context()

    first = client.append(context_id, b"same", key=key)
    client.append(context_id, b"next")

    assert client.append_again(context_id, b"same", key=key) == (*first, True)
    assert client.append(context_id, b"same", key=other) != first
    assert client.head(context_id)[1] == 2
    code, detail = client.error(APPEND, append_turn(context_id, b"changed", key=key))
    assert code == 409
    assert "idempotency key" in detail
    assert client.head(context_id)[1] == 2


def test_a_key_belongs_to_its_context(client: Client):
    one, other = client.new_context(), client.new_context()

    assert client.append(one, b"same", key=b"k")[0] != client.append(other, b"same", key=b"k")[0]


def test_without_a_key_the_same_content_is_two_turns(client: Client):
    context_id = client.new_context()

    assert client.append(context_id, b"same")[0] != client.append(context_id, b"same")[0]


def test_the_parent_may_be_named(client: Client):
    context_id = client.new_context()
    first, _ = client.append(context_id, b"1")
    client.append(context_id, b"2", parent=first)

    third, depth = client.append(context_id, b"3", parent=first)

    assert depth == 1
    assert client.answer(LAST, get_last(context_id, 9)) == turn_list(
        item(first, 0, 0, b"1"), item(third, first, 1, b"3")
    )


def test_a_parent_of_another_chain_is_refused(client: Client):
    context_id, other_id = client.new_context(), client.new_context()
    elsewhere, _ = client.append(other_id, b"elsewhere")
    first, _ = client.append(context_id, b"1")

    code, detail = client.error(APPEND, append_turn(context_id, b"2", parent=elsewhere))

    assert (code, "not in the chain" in detail) == (422, True)
    assert client.head(context_id) == (first, 0)


def test_a_parent_of_another_chain_is_taken_if_the_client_says_so(client: Client):
    context_id, other_id = client.new_context(), client.new_context()
    elsewhere, _ = client.append(other_id, b"elsewhere")
    client.append(context_id, b"1")

    turn_id, depth = client.append(context_id, b"2", parent=elsewhere, flags=2)

    assert client.head(context_id) == (turn_id, depth) == (turn_id, 1)


def test_blobs_are_kept_and_new_once(client: Client):
    assert client.put_blob(b"content") == 1
    assert client.put_blob(b"content") == 0
    assert client.put_blob(b"") == 1
    assert client.answer(BLOB, digest(b"content")) == struct.pack("<I", 7) + b"content"
    assert client.answer(BLOB, digest(b"")) == struct.pack("<I", 0)


def test_a_large_payload_is_a_blob_too(client: Client):
    content = b"x" * 65_537
    client.append(client.new_context(), content)

    assert client.answer(BLOB, digest(content)) == struct.pack("<I", 65_537) + content


def test_every_payload_is_a_blob_if_the_server_keeps_them():
    with served(payload_blobs=True) as running, running.client() as client:
        client.append(client.new_context(), b"small")

        assert client.answer(BLOB, digest(b"small")) == struct.pack("<I", 5) + b"small"


def test_a_tree_is_attached_to_a_turn(running: Served, client: Client):
    context_id = client.new_context()
    client.put_blob(b"\x90")
    client.put_blob(b"\x91")
    first, _ = client.append(context_id, b"1")
    asked = struct.pack("<Q", first) + digest(b"\x90")

    assert client.answer(ATTACH, asked) == asked
    assert running.run(running.store.snapshot(running.space, str(first), timeout_s=1)) == digest(b"\x90").hex()

    second, _ = client.append(context_id, b"2", root=digest(b"\x91"))
    assert running.run(running.store.snapshot(running.space, str(second), timeout_s=1)) == digest(b"\x91").hex()


def test_an_append_whose_tree_is_not_there_appends_nothing(client: Client):
    context_id = client.new_context()
    asked = append_turn(context_id, b"1", root=digest(b"nowhere"))

    code, detail = client.error(APPEND, asked, flags=1)

    assert (code, detail.partition(":")[0]) == (404, "fs root tree blob")
    assert client.head(context_id) == (0, 0)
