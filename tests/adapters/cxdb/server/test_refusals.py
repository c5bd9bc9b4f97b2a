"""Every failure of the improved profile is an ERROR of its own, after which the connection goes on."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
import zstandard

from perdure.adapters.cxdb.server.answering import INLINE_CHECK_BYTES_MAX
from perdure.domain.turn import TURN_PAYLOAD_BYTES_MAX
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
    Client,
    Served,
    append_turn,
    digest,
    get_before,
    get_last,
    item,
    put_blob,
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


def zeros(blocks: int, *, window: int = 0x38) -> bytes:
    """A zstd frame that does not say how long it is: blocks of 128 KiB, each a zero that is repeated.

    The window is as the format writes it: 0x38 are 128 KiB, 0x80 64 MiB, and 0x81 an eighth more.
    """
    block, last = struct.pack("<I", 1 << 1 | 131_072 << 3)[:3], struct.pack("<I", 1 | 1 << 1 | 131_072 << 3)[:3]
    return b"\x28\xb5\x2f\xfd\x00" + bytes([window]) + (block + b"\0") * (blocks - 1) + last + b"\0"


BOMB = zeros(8_192)  # a gigabyte in 32 kilobytes
REFUSED = {
    "unknown message": (RANGE, b"", 422, "unknown msg_type"),
    "error as a request": (255, b"", 422, "unknown msg_type"),
    "hello too short": (HELLO, b"\x01", 422, "hello payload too short"),
    "hello cut": (HELLO, b"\x01\x00\x09\x00", 422, "hello payload truncated"),
    "tag not text": (HELLO, struct.pack("<HH", 1, 1) + b"\xff" + bytes(4), 422, "client_tag not utf8"),
    "create too short": (CREATE, b"\0" * 7, 422, "ctx_create payload too short"),
    "unknown base": (CREATE, struct.pack("<Q", ABSENT), 404, "base turn"),
    "unknown base of a fork": (FORK, struct.pack("<Q", 1), 404, "base turn"),
    "fork too short": (FORK, b"", 422, "ctx_fork payload too short"),
    "head too short": (HEAD, b"", 422, "get_head payload too short"),
    "unknown head": (HEAD, struct.pack("<Q", ABSENT), 404, "context"),
    "head of 0": (HEAD, struct.pack("<Q", 0), 404, "context"),
    "append too short": (APPEND, b"\0" * 19, 422, "append_turn payload too short"),
    "unknown context": (APPEND, append_turn(ABSENT, b"1"), 404, "context"),
    "unknown parent": (APPEND, append_turn(1, b"1", parent=ABSENT), 404, "parent turn"),
    "no type": (APPEND, append_turn(1, b"1", type_id=b""), 422, ""),
    "type not text": (APPEND, append_turn(1, b"1", type_id=b"\xff"), 422, "declared_type_id not utf8"),
    "other encoding": (APPEND, append_turn(1, b"1", encoding=2), 422, "unsupported encoding"),
    "other compression": (APPEND, append_turn(1, b"1", compression=2), 422, "unsupported compression"),
    "wrong length": (APPEND, append_turn(1, b"1", length=2), 422, "uncompressed length mismatch"),
    "wrong hash": (APPEND, append_turn(1, b"1", content_hash=bytes(32)), 422, "content hash mismatch"),
    "not compressed": (APPEND, append_turn(1, b"1" * 9, compression=1), 422, "zstd decode failed"),
    "compressed, with the length of what is sent": (
        APPEND,
        append_turn(1, b"a" * 99, compression=1, sent=zstandard.compress(b"a" * 99), length=20),
        422,
        "uncompressed length mismatch",
    ),
    "compressed, and shorter than declared": (
        APPEND,
        append_turn(1, b"a" * 99, compression=1, sent=zstandard.compress(b"a" * 99), length=100),
        422,
        "uncompressed length mismatch",
    ),
    "a bomb that says it is small": (
        APPEND,
        append_turn(1, b"", compression=1, sent=BOMB, length=10),
        422,
        "uncompressed length mismatch",
    ),
    "a bomb that says it is large": (
        APPEND,
        append_turn(1, b"", compression=1, sent=BOMB, length=2**30),
        422,
        "1073741824 bytes of payload are declared",
    ),
    "a key too long": (APPEND, append_turn(1, b"1", key=b"k" * 1_025), 422, "1025 bytes in an idempotency key"),
    "last too short": (LAST, b"", 422, "get_last payload too short"),
    "last of no context": (LAST, get_last(ABSENT, 1), 404, "context"),
    "before too short": (BEFORE, b"", 422, "get_before payload too short"),
    "before in no context": (BEFORE, get_before(ABSENT, 1, 1), 404, "context"),
    "before an unknown turn": (BEFORE, get_before(1, ABSENT, 1), 422, f"turn {ABSENT} is not in the chain"),
    "hash too short": (BLOB, bytes(31), 422, "invalid blob hash length"),
    "hash too long": (BLOB, bytes(33), 422, "invalid blob hash length"),
    "unknown blob": (BLOB, bytes(32), 404, "blob"),
    "attach too short": (ATTACH, bytes(39), 422, "attach_fs payload too short"),
    "attach to no turn": (ATTACH, struct.pack("<Q", ABSENT) + bytes(32), 404, "turn"),
    "put too short": (PUT, bytes(35), 422, "put_blob payload too short"),
    "put cut": (PUT, put_blob(b"content")[:-1], 422, "put_blob payload too short"),
    "put another content": (PUT, bytes(32) + put_blob(b"content")[32:], 422, "blob hash mismatch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_fails_is_answered_and_the_connection_goes_on(client: Client, case: str):
    message, payload, code, text = REFUSED[case]
    context_id = client.new_context()
    assert context_id == 1

    answered, detail = client.error(message, payload)

    assert answered == code
    assert detail.startswith(text), detail
    assert client.head(context_id) == (0, 0)


def test_attaching_what_is_no_blob_is_refused(client: Client):
    turn_id, _ = client.append(client.new_context(), b"1")

    code, detail = client.error(ATTACH, struct.pack("<Q", turn_id) + digest(b"nowhere"))

    assert (code, detail.partition(":")[0]) == (404, "fs root tree blob")


def test_a_cursor_of_another_chain_is_refused(client: Client):
    context_id, other_id = client.new_context(), client.new_context()
    elsewhere, _ = client.append(other_id, b"elsewhere")

    code, detail = client.error(BEFORE, get_before(context_id, elsewhere, 1))

    assert (code, "not in the chain" in detail) == (422, True)


def test_a_compressed_payload_is_kept_as_what_it_holds(client: Client):
    context_id = client.new_context()
    content = b"again " * 1_000

    turn_id, _ = client.append(context_id, content, compression=1, sent=zstandard.compress(content))

    assert client.answer(LAST, get_last(context_id, 1)) == turn_list(item(turn_id, 0, 0, content))


def test_a_payload_may_be_very_small_when_compressed(client: Client):
    content = bytes(8 * 131_072)

    client.append(client.new_context(), content, compression=1, sent=zeros(8))

    assert client.answer(BLOB, digest(content)) == struct.pack("<I", len(content)) + content


@pytest.mark.parametrize("size", [INLINE_CHECK_BYTES_MAX, INLINE_CHECK_BYTES_MAX + 1])
def test_large_contents_are_checked_as_small_ones(client: Client, size: int):
    context_id = client.new_context()
    content = bytes(size)

    turn_id, _ = client.append(context_id, content)

    assert client.answer(LAST, get_last(context_id, 1)) == turn_list(item(turn_id, 0, 0, content))
    assert client.error(APPEND, append_turn(context_id, content, content_hash=bytes(32)))[1] == "content hash mismatch"
    assert client.put_blob(content + b"other") == 1
    assert client.error(PUT, bytes(32) + put_blob(content)[32:]) == (422, "blob hash mismatch")


def test_a_payload_is_as_large_as_a_turn_may_be_and_no_larger(client: Client):
    context_id = client.new_context()
    largest = bytes(TURN_PAYLOAD_BYTES_MAX)

    client.append(context_id, largest, compression=1, sent=zstandard.compress(largest))

    larger = largest + b"\0"
    for asked in (
        append_turn(context_id, larger, compression=1, sent=zstandard.compress(larger)),
        append_turn(1, larger),
    ):
        code, detail = client.error(APPEND, asked)
        assert (code, f"at most {TURN_PAYLOAD_BYTES_MAX}" in detail) == (422, True)
    assert client.head(context_id)[1] == 0


def test_a_decompressor_looks_back_no_further_than_a_frame_is_long(client: Client):
    context_id = client.new_context()
    content = bytes(131_072)

    client.append(context_id, content, compression=1, sent=zeros(1, window=0x80))

    asked = append_turn(context_id, content, compression=1, sent=zeros(1, window=0x81))
    code, detail = client.error(APPEND, asked)
    assert (code, detail.partition(":")[0]) == (422, "zstd decode failed")
