"""Whatever comes over a socket, the server answers or hangs up, and the next client is served."""

from __future__ import annotations

import random
import resource
import struct
from collections.abc import Iterator

import pytest
import zstandard

from perdure.adapters.cxdb.server import Profile
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
    Client,
    append_turn,
    digest,
    frame,
    get_before,
    get_last,
    put_blob,
    served,
)

ROUNDS = 400
KIBIBYTES_MAX = 300_000  # that the process may grow by, whatever lengths are declared

CONTENT = b"content " * 40
WHOLE = (
    frame(HELLO, struct.pack("<HH", 1, 3) + b"cli" + struct.pack("<I", 2) + b"{}"),
    frame(CREATE, struct.pack("<Q", 0)),
    frame(FORK, struct.pack("<Q", 1)),
    frame(HEAD, struct.pack("<Q", 1)),
    frame(APPEND, append_turn(1, CONTENT, key=b"key")),
    frame(APPEND, append_turn(1, CONTENT, compression=1, sent=zstandard.compress(CONTENT))),
    frame(APPEND, append_turn(1, CONTENT, root=digest(b"")), flags=1),
    frame(LAST, get_last(1, 10)),
    frame(LAST, get_last(1, 10, payload=0)),
    frame(BEFORE, get_before(1, 1, 10)),
    frame(BLOB, digest(CONTENT)),
    frame(ATTACH, struct.pack("<Q", 1) + digest(b"")),
    frame(PUT, put_blob(b"")),
)
LENGTHS = (0, 1, 2**16, 2**26 - 1, 2**26, 2**26 + 1, 2**31, 2**32 - 1)


def damaged(chance: random.Random) -> Iterator[bytes]:
    """Streams of a few frames, in each of which something is wrong."""
    for _ in range(ROUNDS):
        stream = bytearray(b"".join(chance.choices(WHOLE, k=chance.randint(1, 4))))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(stream))
            match chance.randrange(5):
                case 0:
                    stream[at] ^= 1 << chance.randrange(8)
                case 1:
                    del stream[at : at + chance.randint(1, 40)]
                case 2:
                    stream[at:at] = chance.randbytes(chance.randint(1, 40))
                case 3:
                    stream[at : at + 4] = struct.pack("<I", chance.choice(LENGTHS))
                case _:
                    stream[:4] = struct.pack("<I", chance.choice(LENGTHS))
            stream = stream or bytearray(b"\0")
        yield bytes(stream)


def converse(client: Client, stream: bytes) -> None:
    """Send it, end, and read what comes to its end."""
    try:
        client.socket.sendall(stream)
        client.socket.shutdown(1)
        while client.receive() is not None:
            pass
    except ConnectionError:
        return


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("seed", range(3))
def test_damaged_requests_end_nothing_but_their_connection(profile: Profile, seed: int):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with served(profile=profile) as running:
        with running.client() as client:
            context_id = client.new_context()
            client.append(context_id, CONTENT)
        for stream in damaged(random.Random(seed)):  # noqa: S311 - repeatable on purpose
            with running.client() as client:
                converse(client, stream)
        with running.client() as client:
            turn_id, depth = client.append(context_id, b"last")
            assert client.head(context_id) == (turn_id, depth)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KIBIBYTES_MAX


@pytest.mark.parametrize("profile", list(Profile))
def test_declared_lengths_make_no_room_for_what_does_not_come(profile: Profile):
    with served(profile=profile) as running:
        clients = [running.client() for _ in range(40)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for client in clients:
            client.socket.sendall(struct.pack("<IHHQ", 2**26, APPEND, 0, 1) + b"a few bytes")
        with running.client() as client:
            client.answer(HELLO)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KIBIBYTES_MAX
        for client in clients:
            client.socket.close()
